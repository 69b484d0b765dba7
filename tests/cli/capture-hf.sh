#!/bin/bash
# A config from a capture that transformers makes is the one from our own forward pass of the model:
# recall within 2e-3, the same pattern for 95 % of heads. MI_PYTHON names a Python with torch,
# transformers and h5py; skipped without.
# usage: capture-hf.sh MI_INSPECT TEST_DATA MI_SEARCH CAPTURE_HF
set -euo pipefail
mi_inspect=$1 data=$2 mi_search=$3 capture_hf=$4
python=${MI_PYTHON:-python3}
if ! "$python" -c 'import torch, transformers, h5py' 2>/dev/null; then
  echo "SKIPPED: capture_hf.py: $python has no torch, transformers, h5py (MI_PYTHON names another)"
  exit 77
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$python" - <<'END_PYTHON'
import random
random.seed(5)
ids = []
for i in range(1280):  # repetitions, so that attention has something to find
    ids.append(ids[i - 37] if i >= 40 and random.random() < 0.75 else random.randrange(64))
open("ids.txt", "w").write(" ".join(map(str, ids)))
END_PYTHON
for model in llama-bias-linear qwen3 glm4 qwen3moe gemma2 gemma3; do
  "$python" -B "$capture_hf" "$data/families/$model" --ids ids.txt capture.h5 --tokens 640 \
    --dtype float32 2>capture.log || { cat capture.log; exit 1; }
  "$mi_inspect" capture capture.h5
  common=(--budget '60%' --precision f32)
  "$mi_search" --capture capture.h5 "${common[@]}" -o capture.yaml >/dev/null
  "$mi_search" --model "$data/families/$model" --tokens ids.txt --lengths 640 "${common[@]}" \
    -o own.yaml >/dev/null
  for config in capture own; do "$mi_inspect" heads $config.yaml --json >$config.json; done
  "$python" - "$model" <<'END_PYTHON'
import json
import sys

capture, own = (json.load(open(f"{name}.json"))["heads"] for name in ["capture", "own"])
assert len(capture) == len(own) > 0
worst = max(abs(a["recall"] - b["recall"]) for a, b in zip(capture, own))
other = [f"layer {a['layer']} head {a['head']}: {a['pattern']} ({a['recall']}), own "
         f"{b['pattern']} ({b['recall']})" for a, b in zip(capture, own)
         if a["pattern"] != b["pattern"]]
print(f"{sys.argv[1]}: {len(own)} heads, recall differs by {worst:.1e} at most, other patterns: "
      f"{other or 'none'}")
assert worst <= 2e-3, worst
assert len(other) <= 0.05 * len(own), other
END_PYTHON
done
