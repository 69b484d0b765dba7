#!/usr/bin/env python3
"""Makes tests/data: what PyTorch, transformers and tokenizers say about the models of the tests.

    make_goldens.py tiny              the tiny models and their goldens (seconds)
    make_goldens.py seeds             seeds of the fuzz targets that tests/data has none for
    make_goldens.py smollm2 GGUF      goldens of SmolLM2-135M-Instruct (half an hour on two cores)

Needs torch, transformers, accelerate, tokenizers, sentencepiece, safetensors, gguf, h5py, numpy. The reference is float64 with
rotary angles in float64: the exact answer, for the purpose. Beside it stands how far PyTorch's own
float32 run is from that, which is the yardstick that the C++ tests hold the decoder to.
"""

import hashlib
import json
import pathlib
import sys

import gguf
import h5py
import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "data"
TEXTS = sorted((HERE.parent / "calib_data" / "texts").glob("text-*.txt"))

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

HOSTILE = [
    "",
    " ",
    "Hello, world!",
    "  leading and trailing  ",
    "tabs\tand\nnewlines\r\nand \n\n\n many   spaces     here",
    "don't can't I'll we've you're he'd I'm DON'T CAN'T I'LL WE'VE it\u2019s 's 'S",
    "0123456789 3.14159 1,000,000 -273.15 1e-9 0xDEADBEEF 2024-02-29T23:59:60Z",
    "\u0661\u0662\u0663 \u096a\u096b \u216b \u00bd \u00b2 \u2460 \U0001d7d8\U0001d7d9 x\u00b2+y\u00b3",
    "caf\u00e9 cafe\u0301 \u212b \u00c5 A\u030a \ufb01 \u1e9b\u0323 \uac00 \u1100\u1161",
    "na\u00efve fa\u00e7ade \u0141\u00f3d\u017a Stra\u00dfe \u0130stanbul \u0131\u015f\u0131k",
    "\u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u0442\u0435\u043a\u0441\u0442, \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac, \u05e2\u05d1\u05e8\u05d9\u05ea, \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3001\u4e2d\u6587\u5b57\u7b26\uff0c\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8\u3002\uff11\uff12\uff13",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940 \u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u1019\u103c\u1014\u103a\u1019\u102c",
    "\U0001f600\U0001f602 \U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f #\ufe0f\u20e3",
    "".join(chr(c) for c in range(0x00, 0x20)),
    "".join(chr(c) for c in range(0x7f, 0xa1)),
    "a\u00a0b\u1680c\u2000d\u2003e\u2028f\u2029g\u202fh\u205fi\u3000j\u0085k\u180el\u200bm\ufeffn",
    "\u00a0 \u3000\u3000x \u2003 \u0085\u0085 \u180e\u180e y\u180e z",
    "zero\u200bwidth\u200cjoiners\u200d\u2060 bidi \u202eabc\u202c soft\u00adhyphen",
    "\ue000 private \U000f0000 \U0010ffff non\ufffe characters \uffff end",
    "\U00010400\U00010428 \U0001d49c\U0001d4b6 \U00020000\U0002a6d6 \U000e0041",
    "for (int i = 0; i < n; ++i) {\n\tx[i] += a*b[i]; // comment\n}\n\n\n    return x;",
    "def f(x):\n    return {'a': x**2, \"b\": [1, 2, 3]}\n\n\nif __name__ == '__main__':\n    print(f(3))",
    "<html><body class=\"x\">&nbsp;&amp;</body></html> https://example.org/a?b=c&d=%20#e",
    "$\\frac{1}{2}\\sum_{i=0}^{n} x_i^2$ \u2200x\u2208\u211d: \u221ax \u2260 \u00b1\u221e \u2192 \u2207\u00d7E",
    "!!!??? ... --- ___ *** ((())) [[[]]] {{{}}} \"'\"' `` ~~ ^^ || \\\\ // ;;::",
    "a" * 100,
    " " * 70 + "x" + " " * 69,
    "\n" * 30 + "\t" * 30 + "\r\n" * 15,
    "ab" * 40 + "the" * 30 + "\u00e9" * 30,
    "1" * 40 + " " + "9" * 7,
    "'" * 20 + "s" * 3 + "'s't're've'm'll'd",
    "aAbBcC XMLHttpRequest camelCase snake_case kebab-case SCREAMING_CASE",
    "e\u0301\u0301\u0301 q\u0307\u0323 q\u0323\u0307 \u1e69 s\u0323\u0307 \u03a9 \u2126 \u037e",
    "<|endoftext|>",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "a<|im_start|>b<|im_end|><|im_end|> <|im_start |> <|im_start <|im_start|>",
    "<|endoftext|><|endoftext|> x<|endoftext|>",
    " <|im_end|> x",
    "<|im_<|im_end|>start|> <repo_name>r<file_sep>f <jupyter_start> <|unknown|>",
    "\u017f \u212a 'ſ \u2019s I\u2019ll 'LL 'Ve 'RE 'M 'D",
    "mixed\u4e2d1\u65872a\u30423 x1y22z333w4444 v1.2.3 10km 5\u20ac \u00a37 9%",
    "\x00\x01\x02 nul\x00inside\x00 \x04\x06\x13\x14\x16\x1d \U00040000 \U00080000",
    "The quick brown fox jumps over the lazy dog. " * 2,
]


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


# ---------------------------------------------------------------- the reference forward pass


class ExactRotary(torch.nn.Module):
    """cos and sin of float64 angles; transformers computes the angles in float32."""

    def __init__(self, theta, head_dim):
        super().__init__()
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
        self.frequency = theta ** -exponent

    def forward(self, x, position_ids):
        angle = position_ids[..., None].double() * self.frequency
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


def exact(model, config):
    model = model.double()
    model.model.rotary_emb = ExactRotary(rope_theta(config), config.head_dim)
    return model


def rope_theta(config):
    return getattr(config, "rope_parameters", None)["rope_theta"]


@torch.no_grad()
def run(model, ids):
    """Residual stream after the embedding and after every layer, final hidden states."""
    stream = []
    hooks = [layer.register_forward_pre_hook(
        lambda module, args, kwargs=None: stream.append(args[0][0].clone()))
        for layer in model.model.layers]
    hidden = model.model(torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    for hook in hooks:
        hook.remove()
    return stream, hidden


@torch.no_grad()
def head(model, hidden, ids, positions, vocab_ids):
    """Logits at positions x vocab_ids, log-sum-exp at positions, mean loss over all tokens."""
    cap = getattr(model.config, "final_logit_softcapping", None)

    def logits_of(rows):  # as Gemma2ForCausalLM.forward
        raw = model.lm_head(rows)
        return torch.tanh(raw / cap) * cap if cap else raw

    logits = logits_of(hidden[positions])
    loss = 0.0
    for first in range(0, len(ids) - 1, 256):
        rows = logits_of(hidden[first:min(first + 256, len(ids) - 1)])
        target = torch.tensor(ids[first + 1:first + 1 + len(rows)])
        loss += torch.nn.functional.cross_entropy(rows, target, reduction="sum").item()
    return logits[:, vocab_ids], torch.logsumexp(logits, -1), loss / (len(ids) - 1)


def rms(x):
    return float(x.double().pow(2).mean().sqrt())


def write_forward_goldens(path, make_model, ids, positions, vocab_ids):
    model = make_model()
    stream32, hidden32 = run(model, ids)
    logits32, _, loss32 = head(model, hidden32, ids, positions, vocab_ids)
    print("float32 loss", loss32, flush=True)
    model = exact(model, model.config)
    stream, hidden = run(model, ids)
    logits, lse, loss = head(model, hidden, ids, positions, vocab_ids)
    print("float64 loss", loss, flush=True)
    norms = torch.stack([s[positions].norm(dim=-1) for s in stream])
    norms32 = torch.stack([s[positions].double().norm(dim=-1) for s in stream32])
    with h5py.File(path, "w", libver="earliest") as file:
        def put(name, value):
            value = np.ascontiguousarray(value)
            file.create_dataset(name, data=value, compression="gzip", compression_opts=9,
                                shuffle=True, track_times=False)
        put("ids", np.array(ids, dtype=np.int32))
        put("positions", np.array(positions, dtype=np.int32))
        put("vocab_ids", np.array(vocab_ids, dtype=np.int32))
        put("logits", logits.numpy().astype(np.float32))
        put("logsumexp", lse.numpy().astype(np.float32))
        put("stream_norms", norms.numpy().astype(np.float32))  # [layers, positions], before a layer
        put("hidden", hidden[positions[::8]].numpy().astype(np.float32))
        file.attrs["mean_loss"] = loss
        file.attrs["float32_logits_rms_error"] = rms(logits32.double() - logits)
        file.attrs["float32_norms_rms_relative_error"] = rms(norms32 / norms - 1)
        file.attrs["float32_loss_error"] = abs(loss32 - loss)
        file.attrs["float32_hidden_rms_error"] = rms(hidden32.double() - hidden)
        print({k: v for k, v in file.attrs.items()}, path.stat().st_size)


# ---------------------------------------------------------------- tiny models

HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, VOCAB = 64, 64, 2, 4, 2, 16, 320


def tiny_tokenizer():
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        [text.read_text() for text in TEXTS],
        trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=special, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    assert tokenizer.get_vocab_size() == VOCAB
    return tokenizer


def tiny_weights():
    """Multiples of 2^-9 up to 127, the greatest in every 32: exact in F16, BF16 and Q8_0 alike."""
    random = np.random.default_rng(7)

    def matrix(rows, columns, sigma):
        value = np.clip(np.rint(random.normal(0, sigma, (rows, columns))), -126, 126)
        value[:, ::32] = 127 * np.sign(value[:, ::32] + 0.5)
        return (value / 512).astype(np.float32)

    def vector():
        return (random.integers(50, 200, HIDDEN) / 128).astype(np.float32)

    weights = {"model.embed_tokens.weight": matrix(VOCAB, HIDDEN, 60),
               "model.norm.weight": vector()}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name, rows, columns in [("self_attn.q_proj", HEADS * HEAD_DIM, HIDDEN),
                                    ("self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
                                    ("self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN),
                                    ("self_attn.o_proj", HIDDEN, HEADS * HEAD_DIM),
                                    ("mlp.gate_proj", FFN, HIDDEN), ("mlp.up_proj", FFN, HIDDEN),
                                    ("mlp.down_proj", HIDDEN, FFN)]:
            weights[prefix + name + ".weight"] = matrix(rows, columns, 60)
        weights[prefix + "input_layernorm.weight"] = vector()
        weights[prefix + "post_attention_layernorm.weight"] = vector()
    return weights


def tiny_config(**changes):
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=HIDDEN,
                  intermediate_size=FFN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                  num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM, vocab_size=VOCAB,
                  max_position_embeddings=256, rms_norm_eps=1e-5, hidden_act="silu",
                  rope_theta=10000.0, tie_word_embeddings=True, attention_bias=False,
                  mlp_bias=False, rope_scaling=None)
    config.update(changes)
    return config


def write_hf(directory, config, shards, tokenizer):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if len(shards) == 1:
        save_file(shards[0], directory / "model.safetensors", metadata={"format": "pt"})
        (directory / "model.safetensors").chmod(0o644)
    else:
        index = {"metadata": {}, "weight_map": {}}
        for i, shard in enumerate(shards):
            name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
            save_file(shard, directory / name, metadata={"format": "pt"})
            (directory / name).chmod(0o644)
            index["weight_map"].update({tensor: name for tensor in shard})
        index["weight_map"] = dict(sorted(index["weight_map"].items()))
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    if tokenizer is not None:
        write_json(directory / "tokenizer.json", json.loads(tokenizer.to_str()))


GGUF_NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
              "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    if name.startswith("model.layers."):
        layer, rest = name[len("model.layers."):].split(".", 1)
        return f"blk.{layer}.{GGUF_NAMES[rest[:-len('.weight')]]}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight"}[name]


def interleave(weight, heads):
    """Rows i and i + head_dim/2 of a head side by side, as llama.cpp's rotary wants them."""
    rows, columns = weight.shape
    return (weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2)
            .reshape(rows, columns))


def write_tiny_gguf(path, weights, tokenizer):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    q8_0 = gguf.GGMLQuantizationType.Q8_0
    for name, weight in weights.items():
        if weight.ndim == 1:
            writer.add_tensor(gguf_name(name), weight)
            continue
        if "q_proj" in name:
            weight = interleave(weight, HEADS)
        if "k_proj" in name:
            weight = interleave(weight, KV_HEADS)
        quantised = gguf.quants.quantize(weight, q8_0)
        assert (gguf.quants.dequantize(quantised, q8_0) == weight).all()
        writer.add_tensor(gguf_name(name), quantised, raw_dtype=q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_weight_types():
    """A tensor of every type, and what gguf's own converter makes of it."""
    random = np.random.default_rng(11)
    types = gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(DATA / "weight_types.gguf", "none")
    with h5py.File(DATA / "weight_types.h5", "w", libver="earliest") as file:
        for kind in [types.F32, types.F16, types.BF16, types.Q4_0, types.Q4_1, types.Q5_0,
                     types.Q5_1, types.Q8_0, types.Q4_K, types.Q5_K, types.Q6_K]:
            if kind.name.endswith("_K"):  # gguf cannot make them: any bytes, with finite scales
                size = gguf.GGML_QUANT_SIZES[kind][1]
                data = random.integers(0, 256, (3, size), dtype=np.uint8)
                at = [208] if kind == types.Q6_K else [0, 2]
                for place in at:
                    data[:, place:place + 2] = (random.uniform(-1, 1, (3, 1)).astype(np.float16)
                                                .view(np.uint8))
            else:
                value = random.normal(0, 1, (3, 64)).astype(np.float32)
                value[0, :8] = [0, -0.0, 1e-5, -1e-5, 3e-7, 6e-8, 1000, -65000]
                data = gguf.quants.quantize(value, kind)
            writer.add_tensor(kind.name, data, raw_dtype=kind)
            file.create_dataset(kind.name, data=gguf.quants.dequantize(data, kind),
                                compression="gzip", track_times=False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokenizer_variants():
    """Changes of tiny-llama/tokenizer.json, as JSON merge patches."""
    def split(pattern, behavior="Isolated", invert=False):
        return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}

    def byte_level(prefix=False, regex=True):
        return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True,
                "use_regex": regex}

    def sequence(*parts):
        return {"type": "Sequence", "pretokenizers": list(parts)}

    added = {"special": False, "single_word": False, "lstrip": False, "rstrip": False}
    return {
        "smollm": {},
        "byte_level": {"pre_tokenizer": byte_level()},
        "no_regex": {"pre_tokenizer": byte_level(regex=False)},
        "prefix_space": {"pre_tokenizer": byte_level(prefix=True)},
        "digits_prefix_space": {"pre_tokenizer": sequence(
            {"type": "Digits", "individual_digits": False}, byte_level(prefix=True))},
        "llama3": {"pre_tokenizer": sequence(split({"Regex": LLAMA3}), byte_level(regex=False)),
                   "model": {"ignore_merges": True}},
        "qwen2": {"normalizer": {"type": "NFC"},
                  "pre_tokenizer": sequence(split({"Regex": QWEN2}), byte_level(regex=False))},
        "string": {"pre_tokenizer": sequence(split({"String": "the"}), byte_level(regex=False))},
        "keep_matches": {"pre_tokenizer": sequence(
            split({"Regex": r"\p{L}+|\s+"}, "Removed", True), byte_level(regex=False))},
        "added_tokens": {"normalizer": {"type": "NFC"}, "added_tokens": [
            dict(added, id=0, content="<|endoftext|>", special=True, normalized=False),
            dict(added, id=320, content="cafe\u0301", normalized=True),
            dict(added, id=321, content="the", normalized=True),
            dict(added, id=322, content="the lazy", normalized=False),
            dict(added, id=323, content="\u4e2d", normalized=True)]},
        "unknown": {"model": {"unk_token": "<|endoftext|>", "vocab": {"a": None}}},
        "dropped": {"model": {"vocab": {"x": None, "\u00c3": None}}},
    }


def merge_patch(target, patch):
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def drop_merges(config):
    vocab = config["model"]["vocab"]
    config["model"]["merges"] = [pair for pair in config["model"]["merges"]
                                 if all(p in vocab for p in pair) and "".join(pair) in vocab]
    return config


def write_tokenizer_goldens(tokenizer):
    base = json.loads(tokenizer.to_str())
    variants = []
    for name, patch in tokenizer_variants().items():
        config = drop_merges(merge_patch(base, patch))
        if config["model"]["merges"] != base["model"]["merges"]:
            patch["model"]["merges"] = config["model"]["merges"]
        variant = tokenizers.Tokenizer.from_str(json.dumps(config))
        variants.append({"name": name, "patch": patch,
                         "ids": [variant.encode(text).ids for text in HOSTILE]})
    write_json(DATA / "tokenizer_variants.json", {"texts": HOSTILE, "variants": variants})


def write_character_goldens():
    """BPE by characters: what SentencePiece itself and its conversions to tokenizer.json say."""
    import sentencepiece
    prefix = DATA / "sentencepiece"
    sentencepiece.SentencePieceTrainer.train(
        input=",".join(str(text) for text in TEXTS[:3]), model_prefix=str(prefix), vocab_size=480,
        model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=True, character_coverage=0.995,
        split_digits=True, num_threads=1, minloglevel=2)
    model = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    tokens = [model.id_to_piece(i) for i in range(len(model))]
    writer = gguf.GGUFWriter(DATA / "sentencepiece.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_scores([model.get_score(i) for i in range(len(model))])
    writer.add_token_types([2 if model.is_unknown(i) else 3 if model.is_control(i) else
                            6 if model.is_byte(i) else 1 for i in range(len(model))])
    writer.add_bos_token_id(model.bos_id())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    # Of texts without NUL, which SentencePiece drops.
    own = [None if "\0" in text else model.encode(text) for text in HOSTILE]
    for suffix in ["model", "vocab"]:
        pathlib.Path(f"{prefix}.{suffix}").unlink()

    # tokenizer.json, trained anew: tokenizers has no converter without transformers' classes.
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True,
                                                byte_fallback=True))
    special = ["<unk>", "<s>", "</s>"]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"),
                                                 normalizers.Replace(" ", "\u2581")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    tokenizer.train_from_iterator(
        [text.read_text() for text in TEXTS[:3]],
        trainers.BpeTrainer(vocab_size=480, show_progress=False, special_tokens=special +
                            [f"<0x{byte:02X}>" for byte in range(256)]))
    base = json.loads(tokenizer.to_str())
    base["added_tokens"] = [token for token in base["added_tokens"] if token["id"] < 3]
    base["pre_tokenizer"] = None
    base["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}

    def metaspace(scheme, split):
        return {"normalizer": None, "pre_tokenizer": {
            "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme,
            "split": split}}
    strip = dict(base["added_tokens"][0], id=480, special=True, normalized=False)
    patches = {
        "llama2": {},
        "metaspace_first": metaspace("first", False),
        "metaspace_always_split": metaspace("always", True),
        "metaspace_never": metaspace("never", False),
        "unknown": {"model": {"byte_fallback": False}},
        "unknown_each": {"model": {"byte_fallback": False, "fuse_unk": False}},
        "no_prefix": {"normalizer": base["normalizer"]["normalizers"][1]},
        "strip": {"added_tokens": base["added_tokens"] + [
            dict(strip, content="<|im_start|>", rstrip=True),
            dict(strip, content="<|im_end|>", id=481, lstrip=True, rstrip=True)]},
    }
    variants = []
    for name, patch in patches.items():
        variant = tokenizers.Tokenizer.from_str(json.dumps(merge_patch(base, patch)))
        variants.append({"name": name, "patch": patch, "ids": [
            variant.encode(text, add_special_tokens=False).ids for text in HOSTILE]})
    write_json(DATA / "tokenizer_characters.json",
               {"texts": HOSTILE, "base": base, "variants": variants, "sentencepiece": own})


def make_tiny():
    tokenizer = tiny_tokenizer()
    weights = tiny_weights()
    half = {name: torch.tensor(value).to(torch.float16 if value.ndim == 2 else torch.float32)
            for name, value in weights.items()}
    write_hf(DATA / "tiny-llama", tiny_config(), [half], tokenizer)
    write_tiny_gguf(DATA / "tiny-llama.gguf", weights, tokenizer)
    # Shards, BF16, newer rope keys, and an output matrix of its own: the embedding's negative.
    brain = {name: torch.tensor(value).to(torch.bfloat16) for name, value in weights.items()}
    brain["lm_head.weight"] = -brain["model.embed_tokens.weight"]
    first = {name: value for name, value in brain.items() if ".layers." not in name}
    second = {name: value for name, value in brain.items() if ".layers." in name}
    config = tiny_config(tie_word_embeddings=False)
    for key in ["rope_theta", "rope_scaling", "head_dim"]:
        del config[key]
    config["rope_parameters"] = {"rope_theta": 10000.0, "rope_type": "default"}
    write_hf(DATA / "tiny-llama-shards", config, [first, second], None)

    def make_model():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            DATA / "tiny-llama", dtype=torch.float32)
        return model.eval()

    ids = tokenizer.encode(TEXTS[0].read_text()).ids[:100]
    write_forward_goldens(DATA / "tiny_llama.h5", make_model, ids, list(range(100)),
                          [int(v) for v in np.linspace(0, VOCAB - 1, 64)])
    write_tokenizer_goldens(tokenizer)
    write_character_goldens()
    write_weight_types()


# ---------------------------------------------------------------- seeds of the fuzz targets


def write_seed_gguf(path):
    """The smallest whole model: one layer, hidden 4, three tokens."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(8)
    writer.add_embedding_length(4)
    writer.add_feed_forward_length(4)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["a", "b", "ab"])
    writer.add_token_types([1, 1, 3])
    writer.add_token_merges(["a b"])
    shapes = {"token_embd": (3, 4), "output_norm": (4,), "blk.0.attn_norm": (4,),
              "blk.0.attn_q": (4, 4), "blk.0.attn_k": (2, 4), "blk.0.attn_v": (2, 4),
              "blk.0.attn_output": (4, 4), "blk.0.ffn_norm": (4,), "blk.0.ffn_gate": (4, 4),
              "blk.0.ffn_up": (4, 4), "blk.0.ffn_down": (4, 4)}
    for name, shape in shapes.items():
        writer.add_tensor(name + ".weight", np.full(shape, 0.25, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_seeds():
    corpus = HERE / "fuzz" / "corpus"
    for name in ["gguf", "safetensors", "hf_config", "tokenizer"]:
        (corpus / name).mkdir(parents=True, exist_ok=True)
    write_seed_gguf(corpus / "gguf" / "whole.gguf")
    (corpus / "gguf" / "types.gguf").write_bytes((DATA / "weight_types.gguf").read_bytes())
    for name, dtype in [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)]:
        save_file({"a": torch.ones(2, 3, dtype=dtype), "b": torch.ones(4, dtype=dtype)},
                  corpus / "safetensors" / f"{name}.safetensors", metadata={"format": "pt"})
        (corpus / "safetensors" / f"{name}.safetensors").chmod(0o644)
    write_json(corpus / "hf_config" / "old.json", tiny_config())
    write_json(corpus / "hf_config" / "new.json", tiny_config(
        rope_parameters={"rope_theta": 1e4, "rope_type": "default"}, head_dim=None))
    small = {"version": "1.0", "normalizer": None, "added_tokens": [
        {"id": 5, "content": "<|endoftext|>", "special": True, "normalized": False,
         "single_word": False, "lstrip": False, "rstrip": False}],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "cab": 4},
                  "merges": [["a", "b"], "c ab"]}}
    for name, patch in tokenizer_variants().items():
        if "model" in patch and "vocab" in patch["model"]:
            continue
        value = merge_patch(small, patch)
        value.setdefault("pre_tokenizer", {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]})
        write_json(corpus / "tokenizer" / f"{name}.json", value)


# ---------------------------------------------------------------- SmolLM2


def smollm2_tokenizer(path):
    """The published tokenizer.json, rebuilt from the tokens and merges in the GGUF."""
    reader = gguf.GGUFReader(path)
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = reader.fields["tokenizer.ggml.token_type"].contents()
    merges = reader.fields["tokenizer.ggml.merges"].contents()
    tokenizer = tokenizers.Tokenizer(models.BPE(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)
                                  for token, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def make_smollm2(path):
    path = pathlib.Path(path).resolve()
    tokenizer = smollm2_tokenizer(path)
    digests = {}
    for text in TEXTS:
        ids = np.array(tokenizer.encode(text.read_text()).ids, dtype="<i4")
        digests[text.name] = {"tokens": len(ids), "sha256": hashlib.sha256(ids).hexdigest()}
    write_json(DATA / "tokenizer_smollm2.json", {
        "texts": HOSTILE, "ids": [tokenizer.encode(text).ids for text in HOSTILE],
        "files": digests})

    def make_model():
        model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32)
        return model.eval()

    ids = tokenizer.encode(TEXTS[0].read_text() + TEXTS[1].read_text()).ids[:8000]
    assert len(ids) == 8000
    random = np.random.default_rng(3)
    positions = sorted({0, 1, 63, 64, 7999} | {int(p) for p in np.linspace(2, 7998, 59)})
    vocab_ids = sorted(int(v) for v in random.choice(49152, 64, replace=False))
    write_forward_goldens(DATA / "smollm2.h5", make_model, ids, positions, vocab_ids)


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    if sys.argv[1:] == ["tiny"]:
        make_tiny()
    elif sys.argv[1:] == ["seeds"]:
        make_seeds()
    elif len(sys.argv) == 3 and sys.argv[1] == "smollm2":
        make_smollm2(sys.argv[2])
    else:
        sys.exit(__doc__)
