#!/bin/bash
# mi-bench on the tiny model and on few tokens: what others read, and bad input with its exit code.
# Times are only looked at for being numbers above 0.
# usage: mi-bench.sh TOOL DATA_FOLDER
set -euo pipefail
tool=$1
data=$(cd "$2" && pwd)
# shellcheck source=tests/cli/expect.sh
source "$(dirname "$0")/expect.sh"

for ((i = 0; i < 300; ++i)); do echo $((i * 7 % 320)); done >ids.txt

prefill=(prefill --model "$data/tiny-llama.gguf" --tokens-file ids.txt --rounds 1)
expect 0 "${prefill[@]}" --tokens 300 --threads 2 --json --logits logits.bin
python3 - out <<'END'
import json, os, sys
got = json.load(open(sys.argv[1]))
assert got["tokens"] == 300 and got["threads"] == 2 and got["backend"], got
names = [run["name"] for run in got["runs"]]
assert names in (["dense f32", "dense bf16"], ["dense f32"]), names
for run in got["runs"]:
    assert 0 < run["least"] <= run["seconds"] <= run["most"], run
    assert abs(run["tokens_per_second"] * run["seconds"] - 300) < 1e-6, run
    assert run["executed"] is None, run
assert os.path.getsize("logits.bin") == 4 * 320 * len(names)
END
expect 2 "${prefill[@]}" --tokens 300 --logits ids.txt
has err 'output: ids.txt is also an input'
expect 3 "${prefill[@]}" --tokens 301
has err 'found 300 token ids, expected at least 301'
expect 2 prefill --model "$data/tiny-llama.gguf" --tokens 0

search=(search --model "$data/tiny-llama.gguf" --tokens-file ids.txt --rounds 1)
expect 0 "${search[@]}" --lengths 128,200 --json
python3 - out <<'END'
import json, sys
rows = json.load(open(sys.argv[1]))
assert [(row["element"], row["tokens"]) for row in rows] in (
    [("f32", 128), ("bf16", 128), ("f32", 200), ("bf16", 200)], [("f32", 128), ("f32", 200)]), rows
for row in rows:
    assert 0 < row["dense_ms_least"] <= row["dense_ms"] <= row["dense_ms_most"], row
    assert row["forward_ms"] > 0 and row["score_ms"] > 0, row
    assert abs(row["ratio"] - row["search_ms"] / row["dense_ms"]) < 1e-6 * row["ratio"], row
END
expect 0 "${search[@]}" --lengths 128
has out 'search / dense'
expect 3 "${search[@]}" --lengths 301
expect 2 search

expect 0 roof --rounds 1 --threads 1 --json
python3 - out <<'END'
import json, sys
got = json.load(open(sys.argv[1]))
assert got["threads"] == 1 and got["f32_gemm_gflops"] > 0 and isinstance(got["warnings"], list), got
assert list(got["units"]) == ["amx_bf16", "avx512_bf16", "avx512_fma", "avx2_fma"], got
for unit in got["units"].values():
    assert (unit["gflops"] > 0) == (unit["ghz"] > 0) == (unit["of_clock"] > 0), unit
assert list(got["softmax"]) == ["amx", "avx512", "avx2"], got
for softmax in got["softmax"].values():
    assert (softmax["tile_ns"] > 0) == (softmax["gexp"] > 0), softmax
assert min(got["l2_read_gbs"], got["l3_read_gbs"], got["dram_read_gbs"]) > 0, got
END

tiny=(--head-dim "16,80" --rounds 1 --threads 2)
for backend in cpu_generic ''; do
  expect 0 attention "${tiny[@]}" --lengths 130 ${backend:+--backend "$backend"} --json
  python3 - out "$backend" <<'END'
import json, sys
rows = json.load(open(sys.argv[1]))
assert [(row["head_dim"], row["element"], row["threads"]) for row in rows] == [
    (dim, element, threads) for dim in (16, 80) for element in ("bf16", "f32") for threads in (1, 2)]
for row in rows:
    assert row["tokens"] == 130 and row["gflops"] > 0, row
    assert 0 < row["ms_least"] <= row["ms"] <= row["ms_most"], row
    assert row["threads"] == 2 or row["scaling"] is None, row
    if row["scaling"] is not None:
        assert min(row["scaling"].values()) > 0, row
    if sys.argv[2] == "cpu_generic":
        assert row["roof_gflops"] == 0 and row["scaling"] is None, row
END
done

patterns='["a_shape", "vertical_slash", "block_sparse", "antidiagonal_8", "antidiagonal_16", "stripe",
    "stripe+vertical_slash"]'
expect 0 estimate "${tiny[@]}" --lengths 300 --json
python3 - out "$patterns" <<'END'
import json, sys
rows = json.load(open(sys.argv[1]))
assert [row["name"] for row in rows] == 2 * json.loads(sys.argv[2]), rows
for row in rows:
    assert row["tokens"] == 300 and 0 < row["executed"] and min(row["ms"], row["part"], row["gkeys"]) > 0, row
    assert (row["gflops"] > 0) == (row["name"] != "a_shape"), row
END
expect 0 sweep "${tiny[@]}" --lengths 1,65 --dense-below 64 --json
python3 - out "$patterns" <<'END'
import json, sys
rows = json.load(open(sys.argv[1]))
assert [(row["tokens"], row["name"]) for row in rows] == 2 * [
    (tokens, name) for tokens in (1, 65) for name in json.loads(sys.argv[2])], rows
for row in rows:
    assert min(row["dense_ms"], row["plan_ms"], row["sparse_ms"], row["executed"]) > 0, row
    assert row["of_best"] >= row["of_dense"] > 0, row
    assert row["flagged"] == (row["of_dense"] > 1.03 or row["of_best"] > 1.05), row
END
expect 0 sweep "${tiny[@]}" --lengths 1
has out 'of 14 rows flagged'
expect 2 sweep --lengths 0

# Of the GPU's own checks is tools/gpu-check.
if ! ldconfig -p | grep -q 'libcuda\.so\.1'; then
  expect 1 cuda
  grep -qE 'CUDA device: .*\(cuda|this build has no CUDA kernels' err
fi
expect 2 cuda --lengths 64
expect 2 cuda --rounds 0

# With q = 0 a row is the mean of all values so far: v = 2, 4, 6, ... gives row + 2.
python3 - <<'END_PYTHON'
import struct
def bf16(x):
    return struct.pack("<f", x)[2:]
open("shape.json", "w").write('{"heads": 2, "kv_heads": 1, "tokens": 100, "head_dim": 16}')
open("q.bin", "wb").write(bf16(0) * 2 * 100 * 16)
open("k.bin", "wb").write(bf16(1) * 100 * 16)
open("v.bin", "wb").write(b"".join(bf16(2 * row + 2) * 16 for row in range(100)))
END_PYTHON
for element in bf16 f32; do
  expect 0 tensors . --element "$element" --rounds 2 --json
  python3 - "$element" <<'END_PYTHON'
import json, struct, sys
assert len(json.load(open("out"))["ms"]) == 2
raw = open("o.bin", "rb").read()
if sys.argv[1] == "bf16":
    raw = b"".join(b"\0\0" + raw[i:i + 2] for i in range(0, len(raw), 2))
got = struct.unpack(f"<{len(raw) // 4}f", raw)
assert len(got) == 2 * 100 * 16
for i, value in enumerate(got):
    assert abs(value - (i // 16 % 100 + 2)) <= 2 ** -7 * value, (i, value)
END_PYTHON
done
expect 0 tensors . --stripe 0.5
has out '% of dense tiles'

expect 2 tensors
expect 2 tensors . --stripe 2
expect 2 tensors . --element f16
expect 3 tensors absent
truncate -s -1 v.bin
expect 3 tensors .
has err 'v.bin: found 3199 bytes, expected 3200 (bf16 [1, 100, 16])'
for shape in '' '[]' '{"heads": 2}' '{"heads": 2, "kv_heads": -1, "tokens": 100, "head_dim": 16}'; do
  echo "$shape" >shape.json
  expect 3 tensors .
  has err 'expected an object with heads'
done
