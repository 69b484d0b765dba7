#!/bin/bash
# mi-inspect as a user meets it: what it prints, where, and with which exit code.
# usage: mi-inspect.sh TOOL DATA_FOLDER
set -euo pipefail
tool=$1
data=$(cd "$2" && pwd)
# shellcheck source=tests/cli/expect.sh
source "$(dirname "$0")/expect.sh"

expect 0 show "$data/config_v1.yaml"
has out 'Worst heads by recall'
has out 'Certificate (held-out samples, run sparse)'
is_empty err
if grep -q $'\x1b' "$work/out"; then echo 'colours without a terminal'; exit 1; fi

expect 0 heads "$data/config_v1.yaml"
[[ $(wc -l <"$work/out") == 14 ]]

expect 0 show --json "$data/config_v1.yaml"
has out '"logit_kl": 0.018'
expect 0 heads --json "$data/config_v1.yaml"
has out '"pattern": "stripe+vertical_slash"'

expect 0 heads --csv "$data/config_v1.yaml"
has out 'layer,head,pattern,recall'
expect 2 heads --csv --json "$data/config_v1.yaml"
expect 0 heads --sort recall --below 0.5 "$data/config_v1.yaml"
[[ $(sed -n 2p "$work/out") == '   1.3  0.0000 '* ]]
expect 0 heads --pattern dense "$data/config_v1.yaml"
if grep -q stripe "$work/out"; then echo 'other patterns than asked for'; exit 1; fi
expect 2 heads --pattern strip "$data/config_v1.yaml"
has err 'pattern: found strip, expected one of dense'

expect 0 diff "$data/config_v1.yaml" "$data/config_v1.yaml"
has out 'Heads that run otherwise: 0 of 12'
sed '0,/sink: 16/s//sink: 32/' "$data/config_v1.yaml" >"$work/other.yaml"
expect 1 diff "$data/config_v1.yaml" "$work/other.yaml"
has out 'Heads that run otherwise: 1 of 12'
is_empty err
expect 1 diff --json "$data/config_v1.yaml" "$work/other.yaml"
has out '"sink": 32'
expect 1 diff "$data/config_v1.yaml" "$work/other.yaml" --heads 0.0,L1H3 --sort gain
[[ $(grep -c '+0.0000' out) == 2 ]]
expect 2 diff "$data/config_v1.yaml" "$work/other.yaml" --heads 2.0
has err 'heads: found 2.0, expected LAYER.HEAD from 0.0 to 1.5'
printf 'mi.report sha256:\n\x89HDF' >"$work/scores.h5"
for command in show heads validate "diff $data/config_v1.yaml" 'convert -o x.json'; do
  # shellcheck disable=SC2086
  expect 3 $command "$work/scores.h5"
  has err 'scores.h5: found a score report, expected a head-config (YAML); head, pareto and html'
done
expect 3 diff "$data/config_v1.yaml" "$work/absent.yaml"
sed 's/last: 64/last: 128/' "$data/config_v1.yaml" >"$work/other-kernel.yaml"
expect 1 diff "$data/config_v1.yaml" "$work/other-kernel.yaml"
has out 'last 128'
sed 's/sha256:8f3a09c1/sha256:8f3a09c2/' "$data/config_v1.yaml" >"$work/other-model.yaml"
expect 3 diff "$data/config_v1.yaml" "$work/other-model.yaml"
has err 'other-model.yaml: model: found SmolLM2-135M-Instruct (sha256:8f3a09c2)'
expect 2 heads --below nan "$data/config_v1.yaml"

expect 0 validate "$data/config_v1.yaml" "$work/other.yaml"
has out 'other.yaml: valid, 2 layers x 6 heads'
sed 's/share: 0.15/share: 1.5/' "$data/config_v1.yaml" >"$work/bad.yaml"
expect 3 validate "$work/bad.yaml" "$data/config_v1.yaml"
has out 'config_v1.yaml: valid'
has err "bad.yaml:12:16: found '1.5'"
expect 3 validate "$data/config_v1.yaml" --model "$data/tiny-llama.gguf"

sed 's/^kernel:/warnings: ["one head is odd"]\nkernel:/' "$data/config_v1.yaml" >"$work/warned.yaml"
expect 0 show "$work/warned.yaml"
has out 'one head is odd'
expect 0 show --json "$work/warned.yaml"
has out '"one head is odd"'

expect 0 --help
has out 'show'
expect 0 --version
has out 'mi-inspect '

expect 2
is_empty out
expect 2 show
expect 2 draw "$data/config_v1.yaml"
has err 'mi-inspect: found draw, expected a subcommand'
expect 3 pareto "$work/absent.h5"
has err "$work/absent.h5: cannot be opened"
expect 3 pareto "$data/config_v1.yaml"
has err 'config_v1.yaml: found another kind of file, expected a score report (written by mi-search)'
expect 2 show --yaml "$data/config_v1.yaml"

expect 3 show "$work/absent.yaml"
has err "$work/absent.yaml: cannot be opened"
is_empty out
expect 3 show "$work"
has err 'found a folder, expected a file'
sed 's/share: 0.15/share: 1.5/' "$data/config_v1.yaml" >"$work/bad.yaml"
expect 3 heads "$work/bad.yaml"
has err "bad.yaml:12:16: found '1.5', expected a number in (0, 1]"
[[ $(wc -l <"$work/err") == 1 ]]

# The published implementation's files, there and back.
echo '[{"0": ["vertical_and_slash", 1000, 6096, 0.7]}, {"3": ["stream_llm", 4, 64, 0.5]}]' >"$work/ref.json"
expect 0 convert "$work/ref.json" --model "$data/tiny-llama" -o "$work/ref.yaml"
expect 0 validate "$work/ref.yaml" --model "$data/tiny-llama"
expect 0 show "$work/ref.yaml"
has out 'heads are not in the file'
expect 0 convert "$work/ref.yaml" -o "$work/back.json"
is_empty err
grep -qF '"3":["stream_llm",4,64,0.5]' "$work/back.json"
{ printf '\xef\xbb\xbf'; cat "$work/ref.json"; } >"$work/marked.json"
expect 0 convert "$work/marked.json" --model "$data/tiny-llama" -o "$work/marked.yaml"
sed 's/marked.json/ref.json/' "$work/marked.yaml" | cmp - "$work/ref.yaml"
expect 2 convert "$work/ref.json" -o "$work/no.yaml"
has err 'expected --model'
expect 2 convert "$work/ref.json" --model "$data/tiny-llama" --length 4096 -o "$work/no.yaml"
has err 'length: found 4096, expected none'
expect 2 convert "$work/ref.yaml" --model "$data/tiny-llama" -o "$work/no.json"
has err "model: found $data/tiny-llama, expected none"
expect 2 convert "$data/config_v1.yaml" --length 5000 -o "$work/no.json"
has err 'length: found 5000, expected 2048, 8192, as'
expect 0 convert "$data/config_v1.yaml" --length 2048 -o "$work/v1.json"
expect 2 convert "$work/ref.yaml" --length 4096 -o "$work/no.json"
has err 'length: found 4096, expected none'
[[ ! -e $work/no.json ]]
# Into a redirected stdout, which goes on from there and is no other file afterwards.
{ echo before; "$tool" convert "$work/ref.yaml" -o /dev/stdout 2>err; echo after; } >all
cmp all <(echo before; cat "$work/back.json"; echo after)
cp "$work/ref.yaml" "$work/kept.yaml"
sed 's/stream_llm/streaming/' "$work/ref.json" >"$work/bad.json"
expect 3 convert "$work/bad.json" --model "$data/tiny-llama" -o "$work/ref.yaml"
has err 'layer 1, head 3: found "streaming", expected vertical_and_slash'
cmp "$work/ref.yaml" "$work/kept.yaml"
expect 0 convert "$data/config_v1.yaml" -o "$work/v1.json"
has err 'mi-inspect: not carried: '

for empty in --budget -o --device; do
  expect 2 pareto absent.h5 "$empty" ''
  has err 'found an empty value'
done
expect 2 show ''

# A limit on the size of files is a full disk, not a death: a message, and nothing left behind.
mkdir limited
got=0
# Messages go through a pipe: the limit holds for files.
(ulimit -f 0; "$tool" convert "$work/ref.yaml" -o limited/x.json 2>&1) | cat >err || got=$?
[[ $got == 3 ]]
has err 'limited/x.json: cannot write: File too large'
[[ -z $(ls -A limited) ]]

# A full disk behind a redirection is a failure, not silence.
if [[ -w /dev/full ]]; then
  got=0
  "$tool" show "$data/config_v1.yaml" >/dev/full 2>"$work/err" || got=$?
  [[ $got == 1 ]]
  has err 'cannot write to stdout'
fi

# On a terminal it has colours, unless NO_COLOR is set.
if command -v script >/dev/null; then
  TERM=xterm script -qec "'$tool' show '$data/config_v1.yaml'" /dev/null >"$work/out"
  has out $'\x1b[31m'
  NO_COLOR=1 TERM=xterm script -qec "'$tool' show '$data/config_v1.yaml'" /dev/null >"$work/out"
  if grep -q $'\x1b' "$work/out"; then echo 'colours despite NO_COLOR'; exit 1; fi
fi
