#!/usr/bin/env python3
"""Records q, k and v of a transformers model on one text, for `mi-search --capture`.

    capture_hf.py MODEL TEXT OUT.h5 [--tokens 4096] [--dtype bfloat16]
    capture_hf.py MODEL --ids FILE OUT.h5

Works with every model whose layers attend through transformers' attention interface; the model's
own code runs unchanged. Of models that mix kinds of attention the layers with full attention are
recorded, numbered from 0 in their order (attribute attention_layers names the model's own).
Recorded too, where the layers' modules have them under the usual names: the residual stream and
the output projection, so that errors are a model's own; and attention sinks.
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
        self.layers = []
        self.scale = self.softcap = None
        self.left_out = []
        self.stream = {}  # of the layer that runs
        self.with_stream = True

    def watch(self, decoder):
        """Sees what goes into every layer: its residual stream."""
        for index, layer in enumerate(getattr(decoder, "layers", [])):
            layer.register_forward_pre_hook(
                lambda module, args, kwargs, index=index: self.stream.update(
                    {"layer": index, "hidden": args[0] if args else kwargs["hidden_states"]}),
                with_kwargs=True)

    def __call__(self, module, query, key, value, attention_mask, **options):
        window = options.get("sliding_window") or getattr(module, "sliding_window", None)
        sinks = options.get("s_aux")
        softcap = options.get("softcap") or 0.0
        scale = options.get("scaling") or query.shape[-1] ** -0.5
        if window and window < query.shape[2]:
            self.left_out.append(f"layer {module.layer_idx} (window of {window})")
        elif query.shape[2] == key.shape[2]:
            if (self.scale, self.softcap) not in ((None, None), (scale, softcap)):
                sys.exit(f"layer {module.layer_idx}: scale {scale} and soft cap {softcap}, others "
                         f"{self.scale} and {self.softcap}")
            self.scale, self.softcap = scale, softcap
            group = self.file.create_group(f"layer_{len(self.layers):03}")
            for name, tensor in {"q": query, "k": key, "v": value}.items():
                self.write(group, name, tensor[0])
            if sinks is not None:
                group.create_dataset("sinks", data=sinks.detach().float().cpu().numpy())
            self.write_stream(module, group)
            self.layers.append(module.layer_idx)
            self.shape = query.shape[1], key.shape[1], query.shape[3]
        if sinks is not None or softcap:
            return attend(query, key, value, attention_mask, scale, softcap, sinks), None
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **options)

    def write_stream(self, module, group):
        projection = getattr(module, "o_proj", None)
        weight = getattr(projection, "weight", None)
        if weight is None or self.stream.get("layer") != module.layer_idx:
            self.with_stream = False
        if self.with_stream:
            self.write(group, "residual", self.stream["hidden"][0])
            self.write(group, "wo", weight)
            self.hidden = weight.shape[0]

    @staticmethod
    def write(group, name, tensor):
        data = tensor.detach().cpu().contiguous()
        chunk = (1,) * (data.ndim - 2) + (min(1024, data.shape[-2]), data.shape[-1])
        if data.dtype == torch.bfloat16:
            made = group.create_dataset(name, data=data.view(torch.int16).numpy().view(np.uint16),
                                        chunks=chunk)
            made.attrs["dtype"] = "bfloat16"
        else:
            group.create_dataset(name, data=data.numpy(), chunks=chunk)


def attend(query, key, value, mask, scale, softcap, sinks):
    """Attention as transformers' eager functions have it, for what its sdpa leaves out."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    tokens, out = query.shape[2], []
    for begin in range(0, tokens, 256):
        end = min(begin + 256, tokens)
        scores = (query[:, :, begin:end] @ key.transpose(2, 3)).float() * scale
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        if mask is None:
            rows = torch.arange(begin, end, device=scores.device)[:, None]
            keep = torch.arange(tokens, device=scores.device)[None] <= rows
            scores = scores.masked_fill(~keep, -torch.inf)
        elif mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask[:, :, begin:end, :tokens], -torch.inf)
        else:
            scores = scores + mask[:, :, begin:end, :tokens]
        if sinks is not None:  # a column that takes mass and gives nothing
            column = sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, column], -1)
        out.append(scores.softmax(-1)[..., :tokens].to(value.dtype) @ value)
    return torch.cat(out, 2).transpose(1, 2).contiguous()


def read_ids(options):
    if options.ids is not None:
        if options.out is not None:
            sys.exit("expected TEXT or --ids FILE, not both")
        options.out = options.text
        return [int(word) for word in options.ids.read_text().split()], options.ids.name
    if options.out is None:
        sys.exit("expected MODEL TEXT OUT, or MODEL --ids FILE OUT")
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    return tokenizer(options.text.read_text(encoding="utf-8")).input_ids, options.text.name


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="directory or name that transformers can load")
    parser.add_argument("text", type=pathlib.Path, help="UTF-8 text; its first tokens are taken")
    parser.add_argument("out", type=pathlib.Path, nargs="?", help="capture file to write")
    parser.add_argument("--ids", type=pathlib.Path, help="instead of TEXT: token ids")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    ids, source = read_ids(options)
    if len(ids) < options.tokens:
        sys.exit(f"{source}: found {len(ids)} tokens, expected {options.tokens}")
    ids = ids[:options.tokens]
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
        recorder.watch(decoder)
        decoder(torch.tensor([ids], device=options.device), use_cache=False)
        if not recorder.layers:
            sys.exit("no layer attended through transformers' attention interface")
        heads, kv_heads, head_dim = recorder.shape
        rope = getattr(config, "rope_parameters", None) or {}
        file.attrs.update({
            "schema": "mi.capture", "schema_version": 1, "tool": "capture_hf.py",
            "model": pathlib.Path(options.model).resolve().name,
            "architecture": config.model_type, "layers": len(recorder.layers), "heads": heads,
            "kv_heads": kv_heads, "head_dim": head_dim, "tokens": len(ids),
            "scale": float(recorder.scale), "softcap": float(recorder.softcap), "source": source})
        if recorder.layers != list(range(config.num_hidden_layers)):
            file.attrs["attention_layers"] = ",".join(map(str, recorder.layers))
        if recorder.with_stream:
            file.attrs["hidden"] = recorder.hidden
        if isinstance(rope.get("rope_theta"), (int, float)):
            file.attrs["rope_theta"] = float(rope["rope_theta"])
    os.replace(part, options.out)
    print(f"{options.out}: {len(recorder.layers)} layers, {heads} heads, {kv_heads} KV heads, "
          f"head dim {head_dim}, {len(ids)} tokens")
    if recorder.left_out:
        print("left out: " + ", ".join(recorder.left_out))


if __name__ == "__main__":
    main()
