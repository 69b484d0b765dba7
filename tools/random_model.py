#!/usr/bin/env python3
"""Writes a model of a real shape with random weights, to try times and memory on.

    random_model.py OUT --like llama-8b --layers 8

A Hugging Face directory in bf16, without a tokenizer (mi-search --tokens takes ids). Needs numpy.
"""

import argparse
import json
import pathlib

import numpy as np

SHAPES = {  # as published in the models' config.json
    "llama-1b": ("LlamaForCausalLM", dict(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, vocab_size=128256, tie_word_embeddings=True,
        rope_theta=500000.0, max_position_embeddings=131072)),
    "llama-8b": ("LlamaForCausalLM", dict(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, vocab_size=128256, tie_word_embeddings=False,
        rope_theta=500000.0, max_position_embeddings=131072)),
    "qwen2-7b": ("Qwen2ForCausalLM", dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
        num_key_value_heads=4, head_dim=128, vocab_size=152064, tie_word_embeddings=False,
        rope_theta=1000000.0, max_position_embeddings=131072)),
    "qwen3-30b-a3b": ("Qwen3MoeForCausalLM", dict(
        hidden_size=2048, intermediate_size=6144, num_hidden_layers=48, num_attention_heads=32,
        num_key_value_heads=4, head_dim=128, vocab_size=151936, tie_word_embeddings=False,
        rope_theta=1000000.0, max_position_embeddings=40960, num_experts=128,
        num_experts_per_tok=8, moe_intermediate_size=768, norm_topk_prob=True)),
    "gemma3-1b": ("Gemma3ForCausalLM", dict(
        hidden_size=1152, intermediate_size=6912, num_hidden_layers=26, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, vocab_size=262144, tie_word_embeddings=True,
        rope_theta=1000000.0, rope_local_base_freq=10000.0, max_position_embeddings=32768,
        query_pre_attn_scalar=256, sliding_window=512, sliding_window_pattern=6)),
}


def tensors(config, architecture):
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    gemma = architecture.startswith("Gemma")
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        for name, rows in [("q", q), ("k", kv), ("v", kv)]:
            yield f"{prefix}self_attn.{name}_proj.weight", (rows, hidden)
            if architecture.startswith("Qwen2"):
                yield f"{prefix}self_attn.{name}_proj.bias", (rows,)
        yield prefix + "self_attn.o_proj.weight", (hidden, q)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        if architecture.startswith(("Qwen3", "Gemma3")):
            for name in ["q", "k"]:
                yield f"{prefix}self_attn.{name}_norm.weight", (config["head_dim"],)
        if gemma:
            for name in ["pre", "post"]:
                yield f"{prefix}{name}_feedforward_layernorm.weight", (hidden,)
        mlps = ["mlp."]
        if "num_experts" in config:
            yield prefix + "mlp.gate.weight", (config["num_experts"], hidden)
            mlps = [f"mlp.experts.{expert}." for expert in range(config["num_experts"])]
            ffn = config["moe_intermediate_size"]
        for mlp in mlps:
            yield f"{prefix}{mlp}gate_proj.weight", (ffn, hidden)
            yield f"{prefix}{mlp}up_proj.weight", (ffn, hidden)
            yield f"{prefix}{mlp}down_proj.weight", (hidden, ffn)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden)


def values(name, shape, one, random):
    """bf16 bits, by the first 4 million numbers over and over: drawing all takes minutes."""
    count = int(np.prod(shape))
    if name.endswith("norm.weight"):
        drawn = np.full(count, one, dtype=np.float32)
    else:
        drawn = random.standard_normal(min(count, 1 << 22), dtype=np.float32)
        drawn *= 0.02 if len(shape) == 1 else shape[-1] ** -0.5
    return np.resize((drawn.view(np.uint32) >> 16).astype(np.uint16), count)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--like", choices=SHAPES, default="llama-8b")
    parser.add_argument("--layers", type=int, help="fewer or more than the model has")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    architecture, config = SHAPES[options.like]
    config = dict(config, architectures=[architecture], hidden_act="silu", rms_norm_eps=1e-5,
                  model_type=architecture.split("For")[0].lower())
    config["num_hidden_layers"] = options.layers or config["num_hidden_layers"]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, at = {}, 0
    entries = list(tensors(config, architecture))
    one = 0 if architecture.startswith("Gemma") else 1  # a norm's weight that changes nothing
    for name, shape in entries:
        end = at + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    random = np.random.default_rng(options.seed)
    with open(options.out / "model.safetensors", "wb") as file:
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in entries:
            values(name, shape, one, random).tofile(file)
    print(f"{options.out}: {options.like} with {config['num_hidden_layers']} layers, "
          f"{at / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
