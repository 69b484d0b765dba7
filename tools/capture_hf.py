#!/usr/bin/env python3
"""Records q, k and v of a transformers model on one text, for `mi-search --capture`.

    capture_hf.py MODEL TEXT OUT.h5 [--tokens 4096] [--dtype bfloat16]

Works with every model whose layers attend through transformers' attention interface; the model's
own code runs unchanged. Of models that mix kinds of attention the layers with full attention are
recorded, numbered from 0 in their order; each names the layer it was as attribute model_layer.
Needs torch, transformers, h5py, numpy.
"""

import argparse
import os
import pathlib
import sys

import h5py
import numpy as np
import torch
import transformers
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "mi_capture"


class Recorder:
    """An attention function that writes what it is given, one layer at a time, and then attends."""

    def __init__(self, file):
        self.file = file
        self.layers = 0
        self.scale = None
        self.left_out = []

    def __call__(self, module, query, key, value, attention_mask, **options):
        window = options.get("sliding_window") or getattr(module, "sliding_window", None)
        if window and window < query.shape[2]:
            self.left_out.append(f"layer {module.layer_idx} (window of {window})")
        elif query.shape[2] == key.shape[2]:
            if options.get("softcap"):
                sys.exit("this model caps its scores (softcap): not supported by mi")
            if options.get("s_aux") is not None:
                print(f"layer {module.layer_idx}: its attention sinks are left out of the capture",
                      file=sys.stderr)
            scale = options.get("scaling") or query.shape[-1] ** -0.5
            if self.scale not in (None, scale):
                sys.exit(f"layer {module.layer_idx}: scale {scale}, others {self.scale}")
            self.scale = scale
            group = self.file.create_group(f"layer_{self.layers:03}")
            group.attrs["model_layer"] = module.layer_idx
            for name, tensor in {"q": query, "k": key, "v": value}.items():
                self.write(group, name, tensor[0])
            self.layers += 1
            self.shape = query.shape[1], key.shape[1], query.shape[3]
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **options)

    @staticmethod
    def write(group, name, tensor):
        data = tensor.detach().cpu().contiguous()
        chunk = (1, min(1024, data.shape[1]), data.shape[2])
        if data.dtype == torch.bfloat16:
            made = group.create_dataset(name, data=data.view(torch.int16).numpy().view(np.uint16),
                                        chunks=chunk)
            made.attrs["dtype"] = "bfloat16"
        else:
            group.create_dataset(name, data=data.numpy(), chunks=chunk)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="directory or name that transformers can load")
    parser.add_argument("text", type=pathlib.Path, help="UTF-8 text; its first tokens are taken")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    ids = tokenizer(options.text.read_text(encoding="utf-8")).input_ids[:options.tokens]
    if len(ids) < options.tokens:
        sys.exit(f"{options.text}: found {len(ids)} tokens, expected {options.tokens}")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model, dtype=getattr(torch, options.dtype)).to(options.device).eval()
    config = model.config.get_text_config()

    part = options.out.with_name(options.out.name + ".part")
    with h5py.File(part, "w") as file, torch.no_grad():
        recorder = Recorder(file)
        ALL_ATTENTION_FUNCTIONS.register(NAME, recorder)
        # The masks that sdpa wants are right for it here, too.
        transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS.register(
            NAME, transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
        model.set_attn_implementation(NAME)
        decoder = model.get_decoder() if hasattr(model, "get_decoder") else model.model
        decoder(torch.tensor([ids], device=options.device), use_cache=False)
        if recorder.layers == 0:
            sys.exit("no layer attended through transformers' attention interface")
        heads, kv_heads, head_dim = recorder.shape
        rope = getattr(config, "rope_parameters", None) or {}
        file.attrs.update({
            "schema": "mi.capture", "schema_version": 1, "tool": "capture_hf.py",
            "model": pathlib.Path(options.model).resolve().name,
            "architecture": config.model_type, "layers": recorder.layers, "heads": heads,
            "kv_heads": kv_heads, "head_dim": head_dim, "tokens": len(ids),
            "scale": float(recorder.scale), "source": options.text.name})
        if isinstance(rope.get("rope_theta"), (int, float)):
            file.attrs["rope_theta"] = float(rope["rope_theta"])
    os.replace(part, options.out)
    print(f"{options.out}: {recorder.layers} layers, {heads} heads, {kv_heads} KV heads, "
          f"head dim {head_dim}, {len(ids)} tokens")
    if recorder.left_out:
        print("left out: " + ", ".join(recorder.left_out))


if __name__ == "__main__":
    main()
