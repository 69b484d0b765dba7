#!/bin/bash
# mi-eval as a user meets it, on the tiny model with random weights: what it prints and every kind of
# bad input with its exit code.
# usage: mi-eval.sh TOOL DATA_FOLDER MI_SEARCH MI_INSPECT
set -euo pipefail
tool=$1
data=$(cd "$2" && pwd)
search=$3
inspect=$4
model=$data/tiny-llama.gguf
texts=$data/../../calib_data/texts
# shellcheck source=tests/cli/expect.sh
source "$(dirname "$0")/expect.sh"

# refused CODE TEXT ARGS...: one line that says TEXT, and nothing on stdout.
refused() {
  local code=$1 text=$2
  shift 2
  expect "$code" "$@"
  has err "$text"
  is_empty out
  # The parser's own refusals of usage have more lines.
  if [[ $code != 2 ]]; then [[ $(grep -vc 'note: ' err) == 1 ]]; fi
}

for ((i = 0; i < 2048; ++i)); do echo $(((i * i + 7 * i) % 200)); done >ids.txt
"$search" --model "$model" --tokens ids.txt --lengths 832 --budget 60% -o c.yaml >/dev/null 2>&1
eval=(c.yaml --model "$model" --lengths 832 --count 2 --depths 2)

# In chunks, dense attention is the same.
expect 0 "${eval[@]}" --tasks ppl --chunk 200
has out 'every prompt dense and sparse in turn, 200 tokens at a time'
cp out chunked
expect 0 "${eval[@]}" --tasks ppl
[[ $(awk '/ all /{print $2}' out) == $(awk '/ all /{print $2}' chunked) ]]

# mi-inspect verify: the certificate on given texts, as a gate.
verify=("$inspect" verify c.yaml --model "$model" --text "$texts/text-07.txt" "$texts/text-08.txt")
"${verify[@]}" --lengths 512 --min-recall 0.01 --max-kl 50 >out 2>err
for text in 'text-07.txt' 'text-08.txt' 'certificate' 'same top'; do has out "$text"; done
"${verify[@]}" --lengths 512 --json >out 2>err
python3 -c 'import json; assert len(json.load(open("out"))["samples"]) == 2'
"${verify[@]}" --lengths 512 --chunk 100 >out 2>err
# What the runtime did otherwise than calibrated is said once; a gate that judged nothing says so.
"${verify[@]}" --lengths 700 >out 2>err
[[ $(grep -c 'note: 700 tokens lie outside the calibrated lengths' err) == 1 ]]
"${verify[@]}" --lengths 128 --min-recall 0.99 --json >out 2>err
has err 'mi-inspect: note: 128 tokens are few beside dense_below'
has err 'mi-inspect: note: every prompt ran dense: nothing sparse was judged'
python3 -c 'import json; assert "ran dense" in json.load(open("out"))["notes"][-1]'
cp "$texts/text-07.txt" $'\e[31mred.txt'
"$inspect" verify c.yaml --model "$model" --text $'\e[31mred.txt' --lengths 512 >out 2>err
has out '?[31mred.txt'
if grep -q $'\x1b' out err; then echo 'a file name drives the terminal'; exit 1; fi
for bound in '--min-recall 1' '--max-kl 0'; do
  got=0
  # shellcheck disable=SC2086
  "${verify[@]}" --lengths 512 $bound >out 2>err || got=$?
  [[ $got == 1 ]]
  grep -q 'mi-inspect: [a-zA-Z]*: found .*, expected at' err
done

# The main job: every task, a table and the same as JSON.
expect 0 "${eval[@]}" --decode
for text in 'config   c.yaml, limit 60 % of dense attention' 'Perplexity by position' '2 x 832' \
  '208-255' 'past the trained positions' 'Answers (teacher-forced' 'needle        832 dense' \
  'kv            832 dense' 'multikey      832 dense' 'multiquery    832 dense' \
  'vt            832 dense' 'Decoded greedily' \
  'needle by depth' '100 %  '; do has out "$text"; done
has err 'note: prompts of 832 tokens are past the 256 that'
has err 'eval 100%'
if grep -q $'\x1b' out err; then echo 'colours without a terminal'; exit 1; fi
expect 0 "${eval[@]}" --decode --json --threads 1 --precision f32
python3 - <<'END'
import json
got = json.load(open("out"))
assert got["config"] == "c.yaml" and got["precision"] == "f32" and got["threads"] == 1, got
assert [t["task"] for t in got["tasks"]] == ["needle", "kv", "multikey", "multiquery", "vt"]
for task in got["tasks"]:
    assert task["tokens"] == 832 and task["questions"] == 2 == len(task["answers"]), task
    difference = task["right"]["difference"]
    assert difference["interval"][0] <= difference["value"] <= difference["interval"][1]
    assert 0 < task["prefill"]["executed"] < 1 and task["prefill"]["speed_up"] > 0
    assert all(a["dense"]["decoded"] for a in task["answers"])
window = got["perplexity"][0]
assert window["tokens"] == 832 and window["windows"] == 2
assert [p["begin"] for p in window["positions"]] == [0, 104, 208, 256, 416]
assert [p["verdict"] == "not judged" for p in window["positions"]] == [False] * 3 + [True] * 2
END
cp out one
# The same questions again, the same answers; other ones for another seed.
answers() { grep -E '"(logp|source|tokens_right)"' "$1"; }
expect 0 "${eval[@]}" --decode --json --threads 2 --precision f32
diff <(answers one) <(answers out)
expect 0 "${eval[@]}" --decode --json --precision f32 --seed 5
if diff <(answers one) <(answers out) >/dev/null; then echo 'a seed changes nothing'; exit 1; fi

# The config's own lengths, one task, texts of one's own.
expect 0 c.yaml --model "$model" --tasks ppl --count 1 --text "$texts/text-08.txt"
has out '1 x 832'
has out '(text-08.txt)'
if grep -q 'Answers' out; then echo 'a task that was not asked for'; exit 1; fi
expect 0 c.yaml --model "$model" --tasks needle,needle,vt --count 1 --lengths 832,700,832
[[ $(grep -cE '(needle|vt) +[0-9]+ dense' out) == 4 ]]
sed 's/- {source: tokens ids.txt, /- {source: text text-08.txt, /' c.yaml >seen.yaml
expect 0 seen.yaml --model "$model" --tasks ppl --count 1 --text "$texts/text-08.txt"
has err 'note: text-08.txt is one of the texts that seen.yaml was calibrated on'

# Questions of InfiniteBench alone, or with others.
cp "$data/../fuzz/corpus/infinitebench/passkey.jsonl" key.jsonl
expect 0 c.yaml --model "$model" --infinitebench key.jsonl --decode
has out 'key '
if grep -qE 'needle|Perplexity' out; then echo 'a task that was not asked for'; exit 1; fi
expect 0 c.yaml --model "$model" --infinitebench key.jsonl --tasks vt --count 1 --lengths 600
has out 'vt '
python3 -c 'print("{\"context\": \"" + "word " * 3000 + "\", \"input\": \"?\", \"answer\": \"a\"}")' >long.jsonl
expect 0 c.yaml --model "$model" --infinitebench long.jsonl
has out '1 of 1 contexts were cut in the middle to 256 tokens'

# Bad files.
refused 3 'absent.yaml: cannot be opened' absent.yaml --model "$model"
echo 'schema: mi.head_config' >bad.yaml
refused 3 'bad.yaml:' bad.yaml --model "$model"
sed 's/fingerprint: sha256:./fingerprint: sha256:x/' c.yaml >other.yaml
refused 3 'other.yaml: made for another model' other.yaml --model "$model"
refused 3 "$work/absent" c.yaml --model "$work/absent"
head -c 3000 "$model" >truncated.gguf
refused 3 'truncated.gguf' c.yaml --model truncated.gguf
refused 3 'absent.txt' "${eval[@]}" --text absent.txt
printf 'caf\xe9' >latin.txt
refused 3 'latin.txt: not valid UTF-8 at byte 3' "${eval[@]}" --text latin.txt
echo short >short.txt
refused 3 'short.txt: found 5 tokens, expected at least 832' "${eval[@]}" --text short.txt
expect 3 c.yaml --model "$model" --lengths 1000000
has err 'tokens, expected at least 1000000 for a text sample; --text FILE... gives other texts'
expect 2 c.yaml --model "$model" --tasks kv --lengths 128
has err 'length 128: a kv_retrieval sample needs at least'
refused 3 'absent.jsonl: cannot be opened' c.yaml --model "$model" --infinitebench absent.jsonl
: >empty.jsonl
refused 3 'empty.jsonl: found no question' c.yaml --model "$model" --infinitebench empty.jsonl
printf '{"context": "c", "input": "i", "answer": "a"}\n{"context": 1}\n' >wrong.jsonl
refused 3 'wrong.jsonl:2: context: got 1, expected a string' c.yaml --model "$model" \
  --infinitebench wrong.jsonl
refused 3 'absent.yaml: cannot be opened' "${eval[@]}" --recipe absent.yaml
cp -r "$data/tiny-llama" words
chmod -R u+w words
rm words/tokenizer.json
expect 3 c.yaml --model words
has err 'words'

# Bad requests.
refused 2 'is required' c.yaml
refused 2 'is required' --model "$model"
for wrong in '--tasks poem' '--lengths 0' '--lengths 12' '--lengths x' '--count 0' '--depths 0' \
  '--seed -1' '--precision f16' '--frobnicate' '--text a --recipe b'; do
  read -ra words <<<"$wrong"
  expect 2 "${eval[@]}" "${words[@]}"
done
refused 2 'frob' "${eval[@]}" --backend frob
ONEDNN_MAX_CPU_ISA=AVX2 refused 1 'precision bf16: oneDNN has no bf16' "${eval[@]}" --precision bf16
