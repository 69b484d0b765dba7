#!/usr/bin/env python3
"""Makes tests/data/families: tiny random models of every supported family and rotary scaling, as
Hugging Face directories and GGUF files, and what transformers says about them.

    make_family_goldens.py           write everything (seconds)
    make_family_goldens.py --check   compare with what is there instead, for drift

Needs torch, transformers, safetensors, gguf, h5py, numpy. The reference is transformers in float64
throughout: where its code says float32 (norms, softmax, rotary angles) it is made to mean float64.
Beside it stands how far its own float32 run is from that.
"""

import contextlib
import json
import pathlib
import sys

import gguf
import h5py
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

import make_goldens as goldens

FAMILIES = goldens.DATA / "families"
TOKENS, VOCAB = 96, 64
POSITIONS = list(range(0, TOKENS, 4)) + [TOKENS - 1]

COMMON = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, vocab_size=VOCAB, max_position_embeddings=128,
              rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=False,
              bos_token_id=None, eos_token_id=None, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
LONGROPE = dict(type="longrope", short_factor=[1.0, 1.25, 1.5], long_factor=[1.5, 3.0, 6.0])
GEMMA = dict(head_dim=16, hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True)

# name: (config class, what differs). Prompts are 96 tokens.
MODELS = {
    "llama-bias-linear": (transformers.LlamaConfig, dict(
        attention_bias=True, rope_theta=10000.0, rope_scaling=dict(type="linear", factor=2.0))),
    "llama-llama3": (transformers.LlamaConfig, dict(
        rope_theta=500.0, rope_scaling=LLAMA3, tie_word_embeddings=True)),
    "llama-dynamic": (transformers.LlamaConfig, dict(  # past its context
        max_position_embeddings=64, rope_theta=1000.0,
        rope_scaling=dict(rope_type="dynamic", factor=2.0))),
    "llama-yarn": (transformers.LlamaConfig, dict(
        rope_theta=1000.0, rope_scaling=dict(YARN, beta_fast=16, beta_slow=2,
                                             attention_factor=0.9))),
    "mistral": (transformers.MistralConfig, dict(
        head_dim=16, sliding_window=None, rope_theta=10000.0)),
    "qwen2": (transformers.Qwen2Config, dict(
        rope_theta=1000.0, rope_scaling=YARN, use_sliding_window=False, sliding_window=32)),
    "qwen3": (transformers.Qwen3Config, dict(head_dim=16, rope_theta=1000.0)),
    "phi3-short": (transformers.Phi3Config, dict(
        rope_theta=1000.0, partial_rotary_factor=0.75, rope_scaling=LONGROPE,
        original_max_position_embeddings=96, max_position_embeddings=512, sliding_window=96)),
    "phi3-long": (transformers.Phi3Config, dict(
        rope_theta=1000.0, partial_rotary_factor=0.75, rope_scaling=LONGROPE,
        original_max_position_embeddings=64, max_position_embeddings=512, sliding_window=None)),
    "glm4": (transformers.Glm4Config, dict(
        head_dim=16, attention_bias=True, rope_theta=1000.0, partial_rotary_factor=0.5)),
    "qwen2-window": (transformers.Qwen2Config, dict(
        num_hidden_layers=3, rope_theta=1000.0, use_sliding_window=True, sliding_window=32,
        max_window_layers=1)),
    "qwen3moe": (transformers.Qwen3MoeConfig, dict(
        head_dim=16, rope_theta=1000.0, num_experts=5, num_experts_per_tok=2,
        moe_intermediate_size=24, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        use_sliding_window=False, sliding_window=None, max_window_layers=2)),
    "qwen3moe-raw": (transformers.Qwen3MoeConfig, dict(
        head_dim=16, rope_theta=1000.0, num_experts=4, num_experts_per_tok=3,
        moe_intermediate_size=24, norm_topk_prob=False)),
    "gemma2": (transformers.Gemma2Config, dict(
        GEMMA, num_hidden_layers=4, rope_theta=1000.0, query_pre_attn_scalar=16,
        sliding_window=32, attn_logit_softcapping=5.0, final_logit_softcapping=3.0)),
    "gemma3": (transformers.Gemma3TextConfig, dict(
        GEMMA, num_hidden_layers=6, rope_theta=1000.0, rope_local_base_freq=10000.0,
        query_pre_attn_scalar=16, sliding_window=32, sliding_window_pattern=6,
        rope_scaling=dict(rope_type="linear", factor=4.0))),
    "gemma2-scale": (transformers.Gemma2Config, dict(  # which GGUF has no place for
        GEMMA, rope_theta=1000.0, query_pre_attn_scalar=24, sliding_window=32,
        attn_logit_softcapping=5.0, final_logit_softcapping=3.0)),
}


@contextlib.contextmanager
def all_float64():
    """Names of float32 mean float64."""
    saved = torch.float, torch.float32, torch.Tensor.float
    default = torch.get_default_dtype()
    torch.float = torch.float32 = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.float, torch.float32, torch.Tensor.float = saved
        torch.set_default_dtype(default)


def raw_config(kind, changes):
    """As a checkpoint's config.json has it, in the spelling of its time."""
    names = {transformers.LlamaConfig: ("LlamaForCausalLM", "llama"),
             transformers.MistralConfig: ("MistralForCausalLM", "mistral"),
             transformers.Qwen2Config: ("Qwen2ForCausalLM", "qwen2"),
             transformers.Qwen3Config: ("Qwen3ForCausalLM", "qwen3"),
             transformers.Phi3Config: ("Phi3ForCausalLM", "phi3"),
             transformers.Glm4Config: ("Glm4ForCausalLM", "glm4"),
             transformers.Qwen3MoeConfig: ("Qwen3MoeForCausalLM", "qwen3_moe"),
             transformers.Gemma2Config: ("Gemma2ForCausalLM", "gemma2"),
             transformers.Gemma3TextConfig: ("Gemma3ForCausalLM", "gemma3_text")}[kind]
    return dict(COMMON, architectures=[names[0]], model_type=names[1], **changes)


def norm_offset(config):
    """What a Gemma adds to the weights of its norms."""
    return 1 if config.model_type.startswith("gemma") else 0


def as_stored(name, value):
    """transformers has a layer's experts in one tensor, checkpoints each by itself."""
    before, experts, kind = name.partition(".mlp.experts.")
    if not experts:
        return {name: value}
    parts = ["gate_proj", "up_proj"] if kind == "gate_up_proj" else ["down_proj"]
    return {f"{before}.mlp.experts.{e}.{part}.weight": piece.contiguous()
            for e, expert in enumerate(value)
            for part, piece in zip(parts, expert.chunk(len(parts)))}


def make_weights(directory, seed):
    """Multiples of 2^-9 (norms: 2^-7), exact in F16 and BF16 alike."""
    config = transformers.AutoConfig.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    random = np.random.default_rng(seed)
    weights = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if value.ndim == 1 and not name.endswith("bias"):
            made = random.integers(50, 200, tuple(value.shape)) / 128 - norm_offset(config)
        else:
            made = np.clip(np.rint(random.normal(0, 120, tuple(value.shape))), -255, 255) / 512
        weights.update(as_stored(name, torch.tensor(made.astype(np.float32))))
    save_file({k: v.to(torch.bfloat16) for k, v in weights.items()},
              directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)
    return weights


def load(directory, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager",
        experts_implementation="eager").eval()


def write_goldens(directory, seed):
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, VOCAB, TOKENS)]
    vocab_ids = list(range(VOCAB))
    model = load(directory, torch.float32)
    stream32, hidden32 = goldens.run(model, ids)
    logits32, _, loss32 = goldens.head(model, hidden32, ids, POSITIONS, vocab_ids)
    with all_float64():
        model = load(directory, torch.float64)
        stream, hidden = goldens.run(model, ids)
        logits, lse, loss = goldens.head(model, hidden, ids, POSITIONS, vocab_ids)
    assert hidden.dtype == torch.float64
    with h5py.File(directory / "golden.h5", "w", libver="earliest") as file:
        norms = torch.stack([s[POSITIONS].norm(dim=-1) for s in stream])
        norms32 = torch.stack([s[POSITIONS].double().norm(dim=-1) for s in stream32])
        for name, value in {"ids": np.array(ids, dtype=np.int32),
                            "positions": np.array(POSITIONS, dtype=np.int32),
                            "vocab_ids": np.array(vocab_ids, dtype=np.int32),
                            "logits": logits.numpy().astype(np.float32),
                            "logsumexp": lse.numpy().astype(np.float32),
                            "stream_norms": norms.numpy().astype(np.float32),
                            "hidden": hidden[POSITIONS[::8]].numpy().astype(np.float32)}.items():
            file.create_dataset(name, data=np.ascontiguousarray(value), compression="gzip",
                                compression_opts=9, shuffle=True, track_times=False)
        file.attrs["mean_loss"] = loss
        file.attrs["float32_logits_rms_error"] = goldens.rms(logits32.double() - logits)
        file.attrs["float32_norms_rms_relative_error"] = goldens.rms(norms32 / norms - 1)
        file.attrs["float32_loss_error"] = abs(loss32 - loss)
        file.attrs["float32_hidden_rms_error"] = goldens.rms(hidden32.double() - hidden)
        print(directory.name, "loss", loss, "float32 rms error",
              file.attrs["float32_logits_rms_error"])


# ---------------------------------------------------------------- GGUF

GGUF_LAYER = {
    "input_layernorm.weight": "attn_norm.weight", "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.q_proj.bias": "attn_q.bias", "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias", "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight", "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.qkv_proj.weight": "attn_qkv.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.gate_up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight", "mlp.experts.gate_proj": "ffn_gate_exps.weight",
    "mlp.experts.up_proj": "ffn_up_exps.weight", "mlp.experts.down_proj": "ffn_down_exps.weight",
    "post_self_attn_layernorm.weight": "post_attention_norm.weight",
    "post_mlp_layernorm.weight": "post_ffw_norm.weight"}
GGUF_MODEL = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight":
              "output_norm.weight", "lm_head.weight": "output.weight"}


GGUF_GEMMA = {"post_attention_layernorm.weight": "post_attention_norm.weight",
              "pre_feedforward_layernorm.weight": "ffn_norm.weight",
              "post_feedforward_layernorm.weight": "post_ffw_norm.weight"}


def gguf_name(name, architecture):
    if name in GGUF_MODEL:
        return GGUF_MODEL[name]
    layer, rest = name[len("model.layers."):].split(".", 1)
    own = dict(GGUF_LAYER, **GGUF_GEMMA) if architecture.startswith("gemma") else GGUF_LAYER
    return f"blk.{layer}.{own[rest]}"


def with_experts_joined(weights):
    """GGUF has one tensor for each matrix of all experts of a layer."""
    joined = {}
    for name, value in weights.items():
        before, experts, rest = name.partition(".mlp.experts.")
        if experts:
            name = f"{before}.mlp.experts.{rest.split('.')[1]}"
            value = torch.cat([joined[name], value[None]]) if name in joined else value[None]
        joined[name] = value
    return joined


def write_gguf(directory, architecture, weights):
    config = json.loads((directory / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rotary = int(head_dim * config.get("partial_rotary_factor", 1.0))
    writer = gguf.GGUFWriter(directory / "model.gguf", architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(rotary)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if config.get("num_experts"):
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        writer.add_sliding_window(config["sliding_window"])
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    elif kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif kind == "longrope":
        original = config["original_max_position_embeddings"]
        stretch = config["max_position_embeddings"] / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(
            float(np.sqrt(1 + np.log(stretch) / np.log(original))))
        for name in ["long", "short"]:
            writer.add_tensor(f"rope_factors_{name}.weight",
                              np.array(scaling[f"{name}_factor"], dtype=np.float32))
    elif kind == "llama3":
        # What transformers' frequencies are to the unscaled ones, as the converter stores them.
        model = load(directory, torch.float32)
        plain = config["rope_theta"] ** -(torch.arange(0, rotary, 2).double() / rotary)
        writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.double())
                          .numpy().astype(np.float32))
    for name, value in with_experts_joined(weights).items():
        value = value.numpy()
        if architecture.startswith("gemma") and value.ndim == 1:
            value = value + 1
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            value = goldens.interleave(value, heads if ".q_proj." in name else kv_heads)
        writer.add_tensor(gguf_name(name, architecture), value if value.ndim == 1 else value.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


GGUFS = {"llama-llama3": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "phi3-long": "phi3",
         "glm4": "glm4", "qwen3moe": "qwen3moe", "gemma2": "gemma2", "gemma3": "gemma3"}


def make():
    for seed, (name, (kind, changes)) in enumerate(MODELS.items()):
        directory = FAMILIES / name
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(
            json.dumps(raw_config(kind, changes), indent=2, sort_keys=True) + "\n")
        weights = make_weights(directory, seed)
        write_goldens(directory, seed)
        if name in GGUFS:
            write_gguf(directory, GGUFS[name], weights)


def check():
    """Whether transformers still says what the files say."""
    for seed, name in enumerate(MODELS):
        path = FAMILIES / name / "golden.h5"
        with h5py.File(path) as file:
            before = {key: file[key][()] for key in file}
        saved = path.read_bytes()
        write_goldens(FAMILIES / name, seed)
        with h5py.File(path) as file:
            for key, value in before.items():
                drift = np.abs(file[key][()].astype(np.float64) - value).max()
                if drift > 1e-5:
                    sys.exit(f"{name}: {key} drifted by {drift}")
        path.write_bytes(saved)


if __name__ == "__main__":
    if sys.argv[1:] == []:
        make()
    elif sys.argv[1:] == ["--check"]:
        check()
    else:
        sys.exit(__doc__)
