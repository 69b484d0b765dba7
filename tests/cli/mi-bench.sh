#!/bin/bash
# mi-bench prefill on the tiny model: the JSON that others read, and bad input with its exit code.
# usage: mi-bench.sh TOOL DATA_FOLDER
set -euo pipefail
tool=$1
data=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for ((i = 0; i < 300; ++i)); do echo $((i * 7 % 320)); done >ids.txt

prefill=("$tool" prefill --model "$data/tiny-llama.gguf" --tokens-file ids.txt --rounds 1)
"${prefill[@]}" --tokens 300 --threads 2 --json >out 2>err
python3 - out <<'END'
import json, sys
got = json.load(open(sys.argv[1]))
assert got["tokens"] == 300 and got["threads"] == 2 and got["backend"], got
names = [run["name"] for run in got["runs"]]
assert names in (["dense f32", "dense bf16"], ["dense f32"]), names
for run in got["runs"]:
    assert 0 < run["least"] <= run["seconds"] <= run["most"], run
    assert abs(run["tokens_per_second"] * run["seconds"] - 300) < 1e-6, run
    assert run["executed"] is None, run
END
code=0
"${prefill[@]}" --tokens 301 >out 2>err || code=$?
[[ $code == 3 ]]
grep -qF 'found 300 token ids, expected at least 301' err
code=0
"$tool" prefill --model "$data/tiny-llama.gguf" --tokens 0 >out 2>err || code=$?
[[ $code == 2 ]]
