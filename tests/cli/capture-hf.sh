#!/bin/bash
# A config from a capture that transformers makes is the one from our own forward pass of the model:
# recall within 2e-3, the same pattern for 95 % of heads. Of a model with attention sinks, which has no
# forward pass of ours, recall is that of transformers' own attention. MI_PYTHON names a Python with torch,
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

# gpt-oss: every other layer has a window of 128, and every head a sink.
"$python" -B - <<'END_PYTHON'
import torch, transformers
torch.manual_seed(3)
config = transformers.GptOssConfig(
    hidden_size=64, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, num_local_experts=4, num_experts_per_tok=2, vocab_size=64)
model = transformers.GptOssForCausalLM(config)
for layer in model.model.layers:
    torch.nn.init.normal_(layer.self_attn.sinks, 10, 4)
    for part in (layer.self_attn.q_proj, layer.self_attn.k_proj):
        torch.nn.init.normal_(part.weight, 0, 0.2)
model.save_pretrained("gpt-oss")
END_PYTHON
"$python" -B "$capture_hf" gpt-oss --ids ids.txt capture.h5 --tokens 640 --dtype float32 \
  2>capture.log || { cat capture.log; exit 1; }
"$mi_inspect" capture capture.h5 | tee described.txt
grep -q 'attention sinks' described.txt
grep -q "layers   the model's 1, 3" described.txt
cat >a_shape.yaml <<'END'
schema: mi.candidates
schema_version: 1
families:
- {pattern: a_shape, sink: 4, local: [64, 128, 256]}
END
"$mi_search" --capture capture.h5 --candidates a_shape.yaml --budget '80%' --precision f32 \
  -o capture.yaml >/dev/null
"$mi_inspect" heads capture.yaml --json >capture.json
"$python" -B - <<'END_PYTHON'
import json, torch, transformers
ids = torch.tensor([[int(word) for word in open("ids.txt").read().split()][:640]])
model = transformers.AutoModelForCausalLM.from_pretrained(
    "gpt-oss", dtype=torch.float32, attn_implementation="eager")
with torch.no_grad():
    attentions = model(ids, output_attentions=True, use_cache=False).attentions
tokens = ids.shape[1]


def selection(sink, local):
    """[tokens, tokens]: of every row block, its last tile filled with the nearest of other keys."""
    kept = torch.ones(tokens, tokens, dtype=torch.bool)
    key = torch.arange(tokens)
    for first in range(0, tokens - 64, 64):  # the last rows are dense
        rows = (key < sink) | (key > first - local)
        rows[first + 64:] = False
        missing = -int(rows.sum()) % 64
        for j in [j for j in range(first, -1, -1) if not rows[j]][:missing]:
            rows[j] = True
        kept[first:first + 64] = rows
    return kept


checked = sinks = 0
for head in json.load(open("capture.json"))["heads"]:
    if head["pattern"] != "a_shape":
        continue
    p = attentions[2 * head["layer"] + 1][0, head["head"]].double()
    (local,) = head["local"].values()  # by length
    recall = 1 - (p * ~selection(head["sink"], local)).sum(1).mean().item()
    print(f"layer {head['layer']} head {head['head']}: recall {head['recall']}, of transformers' "
          f"attention {recall:.4f}, its sink takes {1 - p.sum(1).mean().item():.2f}")
    assert abs(head["recall"] - recall) < 2e-4, head
    checked += 1
    sinks += p.sum(1).mean().item() < 0.9
assert checked > 0 and sinks > 0, (checked, sinks)
END_PYTHON
