#!/bin/bash
# mi-bench prefill on the tiny model and mi-bench tensors: what others read, and bad input with its
# exit code.
# usage: mi-bench.sh TOOL DATA_FOLDER
set -euo pipefail
tool=$1
data=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# expect CODE ARGS...: runs the tool, keeps stdout and stderr.
expect() {
  local want=$1 got=0
  shift
  "$tool" "$@" >out 2>err || got=$?
  if [[ $got != "$want" ]]; then
    echo "mi-bench $*: exit code $got, expected $want"
    cat out err
    exit 1
  fi
}
has() {
  if ! grep -qF -- "$2" "$1"; then
    echo "$1 lacks: $2"
    cat "$1"
    exit 1
  fi
}

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
expect 3 "${prefill[@]}" --tokens 301
has err 'found 300 token ids, expected at least 301'
expect 2 prefill --model "$data/tiny-llama.gguf" --tokens 0

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
