#!/bin/bash
# tools/compare without the network: its help, and its tables from given numbers.
# usage: compare.sh SCRIPT
set -euo pipefail
script=$1

help=$(python3 -B "$script" --help)
[[ $help == *'--only {attention,prefill}'* ]]
if python3 -B "$script" --only nothing 2>/dev/null; then exit 1; fi

python3 -B - "$script" <<'END_PYTHON'
import importlib.machinery
import importlib.util
import sys

loader = importlib.machinery.SourceFileLoader("compare", sys.argv[1])
compare = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
loader.exec_module(compare)

assert compare.table(["", "ms", ""], [["a", 1, "x"], ["bcd", "10.5", ""]]) == (
    "       ms\na       1  x\nbcd  10.5\n")
assert compare.first_line("\n  no such op \nmore") == "no such op"
assert compare.first_line(ValueError()) == "ValueError"


def fails(entry):
    raise RuntimeError("out of luck\nand more")


times = iter([[4.0, 2.0], [3.0]])
rows = compare.take_turns([compare.Entry("mi dense bf16", lambda entry: next(times)),
                           compare.Entry("other", fails)], 2)
assert rows[0]["median"] == 3 and rows[0]["least"] == 2 and rows[0]["most"] == 4
assert rows[1]["failed"] == "out of luck" and "median" not in rows[1]
rows[0].update(error=0.01, relative=0.001)
text = compare.attention_text({"head_dim": 64, "tokens": 1024, "rows": rows})
assert "2.0-4.0" in text and "1.00" in text and "failed" in text and "out of luck" in text, text
text = compare.prefill_text({"tokens": 1024, "rows": rows, "notes": ["a note"]})
assert "512" in text and "out of luck" in text and text.endswith("a note\n"), text
text = compare.report({"machine": compare.machine(), "versions": {"torch": None}, "others": 0.25,
                       "steal": 0, "attention": [], "prefill": []})
assert "torch not installed" in text and "25 % went to other programs" in text, text
END_PYTHON
