#!/bin/bash
# mi-search as a user meets it, on the tiny model with random weights: what it writes, the same
# bytes for any number of threads, and every kind of bad input with its exit code.
# usage: mi-search.sh TOOL DATA_FOLDER MI-INSPECT
set -euo pipefail
tool=$1
data=$(cd "$2" && pwd)
inspect=$3
model=$data/tiny-llama.gguf
# shellcheck source=tests/cli/expect.sh
source "$(dirname "$0")/expect.sh"
for ((i = 0; i < 2048; ++i)); do echo $(((i * i + 7 * i) % 200)); done >ids.txt

search=(--model "$model" --tokens ids.txt --lengths 1024)

# The main job, and the same bytes again.
expect 0 "${search[@]}" --budget 50% -o one.yaml --threads 1
has out 'Heads by pattern'
has out 'Worst heads by recall'
has out 'Certificate (held-out samples, run sparse)'
has out 'wrote one.yaml and one.report.h5'
if grep -q $'\x1b' out err; then echo 'colours without a terminal'; exit 1; fi
if grep -q ' left' err; then echo 'a time left, of seconds of work'; exit 1; fi
expect 0 "${search[@]}" --budget 0.5 -o two.yaml --threads 2
sed 's/--budget 0.5/--budget 50%/' two.yaml | cmp - one.yaml
expect 0 "${search[@]}" --budget 50% -o one-again.yaml --threads 2
cmp one.yaml one-again.yaml
# Its heads are narrower than the CUDA kernels take: this CPU, with or without a device.
expect 0 "${search[@]}" --budget 50% -o auto.yaml --backend auto
has err 'backend of this CPU: '
cmp one.yaml auto.yaml
if grep -qF "$work" one.yaml; then echo 'a path in the config'; exit 1; fi

# The score report beside it: configs of any limit come from it, without their certificates.
[[ ! -e one.report.h5.part ]]
uncertified() { sed 's/, held_out: {.*}}$/}/' "$1"; }
"$inspect" pareto one.report.h5 --budget 50% -o pareto.yaml >out 2>err
cmp pareto.yaml <(uncertified one.yaml)
expect 0 "${search[@]}" --budget 60% -o sixty.yaml --report elsewhere.h5
[[ -e elsewhere.h5 && ! -e sixty.report.h5 ]]
"$inspect" pareto one.report.h5 --budget 60% -o pareto.yaml >out 2>err
cmp pareto.yaml <(uncertified sixty.yaml)
"$inspect" head one.report.h5 one.yaml 0.1 1.0 >out 2>err
has out 'layer 1 head 0 of'
has out '@ chosen'
got=0
"$inspect" head one.report.h5 one.yaml 99.0 >out 2>err || got=$?
[[ $got == 2 ]]
has err 'heads: found 99.0, expected LAYER.HEAD from 0.0 to'
"$inspect" head one.report.h5 one.yaml 0 1 >out 2>err || got=$?
[[ $got == 2 ]]
has err 'heads: found 0 1, expected LAYER.HEAD: write 0.1'
"$inspect" head one.report.h5 one.yaml 0.1 --length 1000 >out 2>err || got=$?
[[ $got == 2 ]]
has err 'length: found 1000, expected 1024, as one.yaml is calibrated at'
sed 's/last: 64/last: 128/' one.yaml >last.yaml
got=0
"$inspect" head one.report.h5 last.yaml 0.1 >out 2>err || got=$?
[[ $got == 3 ]]
has err 'last.yaml: kernel.last: found 128, expected 64 as in one.report.h5'
"$inspect" pareto one.report.h5 >out 2>err
has out ' 50 % '
# Budgets below the cheapest assignment are left out, in one line; other errors are errors.
expect 0 --model "$model" --tokens ids.txt --lengths 256 --budget 100% -o short.yaml
for more in '' --json; do
  # shellcheck disable=SC2086
  "$inspect" pareto short.report.h5 $more >out 2>err
  has err 'note: 10 of 10 budgets are left out: the cheapest assignment of these candidates takes '
  [[ $(wc -l <err) == 1 ]]
done
got=0
"$inspect" pareto one.report.h5 --strict >out 2>err || got=$?
[[ $got == 1 ]]
has err 'mi-inspect: strict: found '
# Killed at whatever moment and resumed, a search ends in the same bytes.
killed=(--model "$model" --tokens ids.txt --budget 90% --lengths "256,512,768,1024")
expect 0 "${killed[@]}" -o whole.yaml
for ((i = 1; i <= 30; ++i)); do
  { timeout -s KILL "0.0$((RANDOM % 90 + 10))" "$tool" "${killed[@]}" -o killed.yaml --resume; } \
    >out 2>&1 || continue
  rm -f killed.yaml killed.report.h5
done 2>/dev/null  # the shell's own words on what was killed
expect 0 "${killed[@]}" -o killed.yaml --resume
cmp whole.yaml killed.yaml
expect 0 "${search[@]}" --budget 50% -o killed.yaml --report killed.h5
expect 0 "${search[@]}" --budget 50% -o killed.yaml --report killed.h5 --resume
has err '1 of 1 samples are scored in killed.h5'
cmp one.yaml killed.yaml
cp one.report.h5 anew.report.h5.part
expect 0 "${search[@]}" --budget 50% -o anew.yaml
has err '1 of 1 samples are scored in anew.report.h5.part: --resume goes on from them'
# A search that scores and then fails leaves the report of an earlier one.
cp anew.report.h5 earlier.h5
expect 2 "${search[@]}" --min-recall 0.9999 --budget 50% --seed 3 -o anew.yaml
cmp earlier.h5 anew.report.h5

expect 0 "${search[@]}" --budget 50% -o json.yaml --json
has out '"output": "json.yaml"'
python3 -c 'import json; json.load(open("out"))'
expect 0 "${search[@]}" --budget 50% -o dry.yaml --dry-run
has out 'would write dry.yaml and dry.report.h5'
[[ ! -e dry.yaml && ! -e dry.report.h5 ]]
for objective in square mass; do
  expect 0 "${search[@]}" --budget 50% -o other.yaml --objective "$objective"
done
expect 0 "${search[@]}" --budget 60% -o other.yaml --allocate per-head
expect 0 "${search[@]}" --min-recall 0.5 -o other.yaml
has other.yaml 'allocation: min-recall'

# oneDNN without AVX-512 has no bf16: that is one error, and auto is f32.
expect 0 "${search[@]}" --budget 50% -o f32.yaml --precision f32
if grep -qF -- --precision f32.yaml; then echo 'f32 needs no mention'; exit 1; fi
ONEDNN_MAX_CPU_ISA=AVX2 expect 0 "${search[@]}" --budget 50% -o auto.yaml
if grep -qF -- --precision auto.yaml; then echo 'auto chose bf16 without oneDNN'; exit 1; fi
ONEDNN_MAX_CPU_ISA=AVX2 expect 1 "${search[@]}" --budget 50% -o kept.yaml --precision bf16
has err 'mi-search: --precision bf16: oneDNN has no bf16 matrix products for this CPU; expected f32'
[[ ! -e kept.yaml ]]
if grep -q avx512bw /proc/cpuinfo; then
  expect 0 "${search[@]}" --budget 50% -o bf16.yaml --precision bf16
  has bf16.yaml '--precision bf16'
fi

# Ids that come again every 200 and lengths without held-out samples: lines in the table, the file
# and the JSON; with --strict one error.
has one.yaml 'sample \"tokens ids.txt\" of 1024 tokens repeats itself: 80 % of it was there before'
has one.yaml 'samples of 1024 tokens are too short'
has out 'Warnings'
expect 0 "${search[@]}" --budget 50% -o json.yaml --json
python3 -c 'import json; assert "repeats itself" in json.load(open("out"))["warnings"][0]'
expect 0 "${search[@]}" --budget 50% -o dry.yaml --dry-run
has out 'warning     sample "tokens ids.txt" of 1024 tokens repeats itself'
RANDOM=1
for ((i = 0; i < 2560; ++i)); do echo $((RANDOM % 200)); done >fresh-ids.txt
fresh=(--model "$model" --tokens fresh-ids.txt --lengths 1280 --strict)
expect 0 "${fresh[@]}" --budget 100% -o strict.yaml
if grep -q warnings: strict.yaml; then echo 'a dense config with warnings'; exit 1; fi

# The same id everywhere: every mass is spread evenly, and KL is 0 but for rounding.
for ((i = 0; i < 4096; ++i)); do echo 5; done >const-ids.txt
expect 0 --model "$model" --tokens const-ids.txt --lengths 1024 --budget 50% -o const.yaml
has const.yaml 'logit_kl: '

# A device profile: times beside shares, or a budget of time.
profile() {
  printf 'schema: mi.device_profile\nschema_version: 1\n'
  printf 'device: {cpu: test, backend: %s, element: f32, threads: 1}\nhead_dims:\n' "$1"
  printf -- '- head_dim: %s\n  dense_below: 300\n  dense: {call: 0.5, tile: 0.1}\n  patterns:\n' "$2"
  for pattern in a_shape vertical_slash block_sparse antidiagonal_8 antidiagonal_16 stripe \
    stripe+vertical_slash; do
    printf '    %s: {tile: 1.2, keys: 0, rows: 0.001}\n' "$pattern"
  done
}
head_dim=$(sed -n 's/.*head_dim: \([0-9]*\).*/\1/p' one.yaml | head -n1)
grep -qF 'last: 64, dense_below: 640}' one.yaml
profile cpu_generic "$head_dim" >device.yaml
timed=("${search[@]}" --backend cpu_generic --device device.yaml)
expect 0 "${timed[@]}" --budget 50% -o share.yaml
has out 'predicted attention of one prefill, cpu_generic and 1 threads'
has share.yaml 'dense_below: 300}'
expect 0 "${timed[@]}" --budget 75ms -o time.yaml
has out ' ms at 1024 (dense '
has time.yaml '--budget 75ms --device device.yaml'
expect 0 "${timed[@]}" --budget 0.075s -o other.yaml --json
sed 's/--budget 0.075s/--budget 75ms/' other.yaml | cmp - time.yaml
python3 -c 'import json; assert 0 < json.load(open("out"))["predicted_ms"]["1024"]["sparse"] <= 75'

# The certificate is on ids that no length has calibrated on.
expect 0 --model "$model" --tokens ids.txt --lengths 256,512 --budget 95% -o held.yaml
python3 - held.yaml <<'END'
import hashlib, re, struct, sys
ids = [int(x) for x in open("ids.txt").read().split()]
text = open(sys.argv[1]).read()
digest = lambda x: hashlib.sha256(struct.pack(f"<{len(x)}i", *x)).hexdigest()
held_out = text[text.index("held_out:"):]
for n in (256, 512):
    assert digest(ids[512:512 + n]) in held_out, n
END

# What cannot be written is said before the search, in one line.
ln -s /dev/full link-to-device
mkfifo fifo
for target in link-to-device fifo /dev/null "$(printf 'x%.0s' {1..250})" "$work" absent/x.yaml; do
  expect 3 "${search[@]}" --budget 50% -o "$target"
  [[ $(wc -l <err) == 1 ]]
done
expect 3 "${search[@]}" --budget 50% -o x.yaml --report link-to-device
expect 2 "${search[@]}" --budget 50% -o x.yaml --report ./x.yaml
has err 'expected another file than the head-config'
ln -s x.yaml x-link.yaml
for report in x-link.yaml "$work/x.yaml"; do
  expect 2 "${search[@]}" --budget 50% -o x.yaml --report "$report"
done
expect 2 "${search[@]}" --budget 50% -o q.h5.part --report q.h5
expect 2 "${search[@]}" --budget 50% --seed 1 -o one.yaml --resume
has err 'report of another search: seed: found 0, expected 1'
head -c 1000 one.report.h5 >short.report.h5
expect 3 "${search[@]}" --budget 50% -o short.yaml --resume
has err 'short.report.h5: found bytes that were cut short or changed, expected a score report'
# An output that is also an input is refused before any work, and the input stays.
cp "$model" own.gguf
cp -r "$data/tiny-llama" own
chmod -R u+w own.gguf own
cp ids.txt own-ids.txt
echo words >own.txt
printf 'schema: mi.recipe\nschema_version: 1\nname: own\nlengths: [256]\n' >own-recipe.yaml
printf '%s:\n- {kind: text, texts: [own.txt], part: [%s]}\n' \
  calibration '0, 0.5' held_out '0.5, 1' >>own-recipe.yaml
ln -s own.txt own-link.txt
cp one.report.h5 own.h5
cp one.yaml own.yaml
"$inspect" convert one.yaml -o own.json 2>err
before=$(find own* -type f -exec sha256sum {} + | sort)
also_input() {
  expect 2 "$@"
  has err 'is also an input'
  [[ $(wc -l <err) == 1 ]]
}
own=(--tokens own-ids.txt --lengths 1024 --budget 50%)
also_input --model own.gguf "${own[@]}" -o own.gguf
also_input --model own.gguf "${own[@]}" -o x.yaml --report "$work/own.gguf"
also_input --model own "${own[@]}" -o own/config.json
also_input --model own "${own[@]}" -o own-ids.txt --dry-run
also_input --model own.gguf --text own.txt --budget 50% -o own-link.txt
also_input --model own.gguf --recipe own-recipe.yaml --budget 50% -o own-recipe.yaml
also_input --model own.gguf --recipe own-recipe.yaml --budget 50% -o own.txt
expect 0 --model own "${own[@]}" -o own/sparse.yaml
expect 0 --model own "${own[@]}" -o own/sparse.yaml
rm own/sparse.yaml own/sparse.report.h5
tool=$inspect
also_input pareto own.h5 --budget 50% -o ./own.h5
also_input html own.h5 own.yaml -o own.h5
also_input html own.h5 own.yaml -o own.yaml
also_input convert own.yaml -o own.yaml
also_input convert own.json --model own.gguf -o own.gguf
tool=$1
[[ $(find own* -type f -exec sha256sum {} + | sort) == "$before" ]]

# stderr that is full or closed is no reason to lose a search.
if [[ -w /dev/full ]]; then
  "$tool" "${search[@]}" --budget 50% -o one-again.yaml >out 2>/dev/full
  cmp one.yaml one-again.yaml
  "$tool" "${search[@]}" --budget 50% -o one-again.yaml >out 2>&-
fi
# A link to a file that is not there yet leads to that file.
ln -s target.yaml link.yaml
expect 0 "${search[@]}" --budget 50% -o link.yaml
[[ -L link.yaml ]] && cmp one.yaml target.yaml

# From here on nothing may be written: an earlier output stays as it was.
echo earlier >kept.yaml
refused() {
  expect "$@" -o kept.yaml
  [[ $(cat kept.yaml) == earlier ]]
}
for budget in 0 0% -5% 101% 1.5 much 15%% ''; do refused 2 "${search[@]}" --budget "$budget"; done
for empty in -o --budget --report --candidates --backend; do
  expect 2 "${search[@]}" --min-recall 0.5 "$empty" ''
  has err 'found an empty value'
  is_empty out
done
refused 2 "${search[@]}" --budget 50% --backend cuda --precision f32
has err 'dense passes on a CUDA device are bf16'
refused 2 "${search[@]}" --budget 1%
has err 'smallest feasible'
refused 2 "${search[@]}" --budget 1% --dry-run
refused 2 "${search[@]}" --budget 75ms
has err 'needs a device profile'
for budget in 0ms xms -1s nans; do refused 2 "${timed[@]}" --budget "$budget"; done
refused 2 "${timed[@]}" --budget 1ms --dry-run
has err 'smallest feasible budget is at least'
profile cpu_amx "$head_dim" >other-backend.yaml
refused 2 "${search[@]}" --budget 75ms --backend cpu_generic --device other-backend.yaml
has err 'other-backend.yaml: measured on backend cpu_amx, this search is for cpu_generic'
tool=$inspect
expect 0 pareto share.report.h5 --budget 50% --device device.yaml
expect 2 pareto share.report.h5 --budget 75ms --device other-backend.yaml
has err 'other-backend.yaml: measured on backend cpu_amx, share.report.h5 is for cpu_generic'
expect 2 html share.report.h5 --budget 75ms --device other-backend.yaml -o other.html
tool=$1
profile cpu_generic 8 >other-dim.yaml
refused 2 "${search[@]}" --budget 75ms --backend cpu_generic --device other-dim.yaml
has err "it has no head_dim $head_dim"
sed 's/tile: 0.1/tile: .nan/' device.yaml >bad.yaml
refused 3 "${search[@]}" --budget 75ms --backend cpu_generic --device bad.yaml
has err "bad.yaml:7:28: found '.nan', expected a number in (0, 1"
[[ $(wc -l <err) == 1 ]]
refused 3 "${search[@]}" --budget 75ms --device absent.yaml
has err 'absent.yaml: cannot be opened'
for more in --budget\ 50% --budget\ 50%\ --dry-run --budget\ 50%\ --json; do
  # shellcheck disable=SC2086
  refused 1 "${search[@]}" $more --strict
  [[ $(grep -c '^mi-search: strict: found . warnings, expected none: ' err) == 1 ]]
done
# What only the scores tell is told before anything is written, too.
refused 1 "${fresh[@]}" --budget 50%
has err 'strict: found 2 warnings, expected none: hardly better than uniform attention'
for recall in nan -0.1 1.1 much; do refused 2 "${search[@]}" --min-recall "$recall"; done
for seed in -1 18446744073709551616; do refused 2 "${search[@]}" --budget 50% --seed "$seed"; done
refused 2 --budget 15%
refused 2 --model "$model"
refused 2 "${search[@]}" --budget 50% --frobnicate
refused 2 "${search[@]}" --budget 50% --recipe r.yaml
refused 2 "${search[@]}" --budget 50% --objective loss
refused 2 "${search[@]}" --budget 50% --precision f16
refused 2 "${search[@]}" --budget 50% --dry-run --json
refused 2 "${search[@]}" --min-recall 0.5 --allocate per-head

# A name that no file of ours can hold.
cp ids.txt $'ids-\xff.txt'
for more in --budget\ 50% --budget\ 50%\ --dry-run; do
  for what in --tokens --text; do
    # shellcheck disable=SC2086
    refused 2 --model "$model" --lengths 1024 $more "$what" $'ids-\xff.txt'
    has err "$what ids-?.txt: its name is not valid UTF-8 at byte 4"
    [[ $(wc -l <err) == 1 ]]
  done
done

# Weights that are numbers but overflow.
cp -r "$data/tiny-llama" huge
chmod -R u+w huge
python3 - huge/model.safetensors <<'END'
import json, struct, sys
blob = bytearray(open(sys.argv[1], "rb").read())
size = struct.unpack("<Q", blob[:8])[0]
tensor = json.loads(blob[8:8 + size])["model.layers.1.input_layernorm.weight"]
begin, end = (8 + size + x for x in tensor["data_offsets"])
assert tensor["dtype"] == "F32"
blob[begin:end] = struct.pack("<f", 1e30) * ((end - begin) // 4)
open(sys.argv[1], "wb").write(blob)
END
refused 1 --model huge --tokens ids.txt --lengths 1024 --budget 50%
has err 'layer 1 head 0: the attention output is not finite'
refused 3 --model "$work/absent" --budget 50%
has err "$work/absent"
head -c 3000 "$model" >truncated.gguf
refused 3 --model truncated.gguf --budget 50%
has err 'truncated.gguf'
mkdir empty
refused 3 --model empty --budget 50%
echo '1 2 99999' >bad-ids.txt
refused 3 --model "$model" --budget 50% --tokens bad-ids.txt
has err "bad-ids.txt:1: found '99999'"
refused 3 --model "$model" --budget 50% --tokens ids.txt --lengths 4096
has err 'found 2048 token ids, expected at least 4096'
: >empty.txt
refused 3 --model "$model" --budget 50% --text empty.txt --lengths 1024
has err 'empty.txt: found 0 tokens'
printf 'schema: mi.recipe\nschema_version: 9\n' >newer.yaml
refused 3 --model "$model" --budget 50% --recipe newer.yaml
has err 'newer.yaml:2:17: found schema_version 9, expected at most 1'

expect 3 "${search[@]}" --budget 50% -o "$work/absent/x.yaml"
expect 3 "${search[@]}" --budget 50% -o "$work/empty"
has err "$work/empty"
