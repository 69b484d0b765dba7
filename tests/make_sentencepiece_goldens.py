#!/usr/bin/env python3
"""Makes tests/data/sentencepiece: small tokenizers of the kinds that SentencePiece trains, and what
the packages sentencepiece and tokenizers make of hostile text with them.

    make_sentencepiece_goldens.py           trains them and writes their goldens (seconds)
    make_sentencepiece_goldens.py --check   whether the packages still say what the goldens say

Needs sentencepiece, tokenizers, and what make_goldens.py needs.
"""

import json
import pathlib
import sys
import tempfile

import sentencepiece
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

import make_goldens as goldens

DATA = goldens.DATA / "sentencepiece"
TEXTS = goldens.TEXTS[:3]
HOSTILE = [text for text in goldens.HOSTILE if len(text) <= 90]

MODELS = {
    "llama": dict(model_type="bpe", vocab_size=480, byte_fallback=True, split_digits=True,
                  normalization_rule_name="identity", remove_extra_whitespaces=False),
    "gemma": dict(model_type="bpe", vocab_size=480, byte_fallback=True, split_digits=True,
                  normalization_rule_name="identity", remove_extra_whitespaces=False,
                  add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                  control_symbols=["<start_of_turn>"],
                  user_defined_symbols=["\n\n", "\u2581\u2581", "\u2581\u2581\u2581", "<table>"]),
    "unigram": dict(model_type="unigram", vocab_size=480, byte_fallback=True,
                    normalization_rule_name="identity", remove_extra_whitespaces=False),
    # T5's treatment of spaces; RULES in place of NFKC, whose table has 240 KB.
    "rules": dict(model_type="unigram", vocab_size=300, bos_id=-1),
}
RULES = {"\ufb01": "fi", "\u212b": "\u00c5", "e\u0301": "\u00e9", "\u00a0": " ", "\t": " ",
         "\u200b": "", "\uff11": "1", "\u00bd": "1/2", "...": "\u2026"}


def train(name, options):
    with tempfile.TemporaryDirectory() as folder:
        if name == "rules":
            rules = pathlib.Path(folder) / "rules.tsv"
            rules.write_text("".join(
                " ".join(f"{ord(c):X}" for c in key) + "\t" +
                " ".join(f"{ord(c):X}" for c in value) + "\n" for key, value in RULES.items()))
            options = dict(options, normalization_rule_tsv=str(rules))
        prefix = pathlib.Path(folder) / name
        sentencepiece.SentencePieceTrainer.train(
            input=",".join(map(str, TEXTS)), model_prefix=str(prefix), character_coverage=0.995,
            num_threads=1, minloglevel=2, **options)
        (DATA / f"{name}.model").write_bytes(prefix.with_suffix(".model").read_bytes())


def gemma_json():
    """BPE by characters in the shape of Gemma 2's and 3's tokenizer.json."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True,
                                                byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer.train_from_iterator(
        [text.read_text() for text in TEXTS],
        trainers.BpeTrainer(vocab_size=480, show_progress=False, max_token_length=16,
                            special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)]))
    value = json.loads(tokenizer.to_str())
    value["added_tokens"] = [token for token in value["added_tokens"] if token["id"] < 4]
    vocab = value["model"]["vocab"]
    for content in ["<start_of_turn>", "\n\n", "\u2581\u2581", "<table>"]:
        vocab.setdefault(content, len(vocab))
        value["added_tokens"].append(dict(value["added_tokens"][0], id=vocab[content],
                                          content=content, normalized=False,
                                          special=content == "<start_of_turn>"))
    value["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}}
    return value


def unigram_json():
    """Unigram as transformers converts SentencePiece's models."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "unigram.model"))
    vocab = [[model.id_to_piece(i), round(model.get_score(i), 4)] for i in range(len(model))]
    special = [{"id": i, "content": vocab[i][0], "special": True, "normalized": False,
                "single_word": False, "lstrip": False, "rstrip": False} for i in range(3)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
            "normalizer": None, "pre_tokenizer": metaspace("always", True), "post_processor": None,
            "decoder": None,
            "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": True}}


def metaspace(scheme, split):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}


def unigram_patches():
    def replace(pattern, content):
        return {"type": "Replace", "pattern": pattern, "content": content}
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    return {
        "unigram": {},
        "first": {"pre_tokenizer": metaspace("first", False)},
        "unknown": {"model": {"byte_fallback": False}},
        "t5": {"normalizer": {"type": "Sequence", "normalizers": [
            strip, replace({"Regex": " {2,}"}, "\u2581")]}},
        "words": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "WhitespaceSplit"}, metaspace("first", True)]}},
        "prepend": {"pre_tokenizer": None, "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "\u2581"}, replace({"String": " "}, "\u2581")]}},
        "normalized": {"normalizer": replace({"String": "a"}, "\u00e4"), "added_tokens": [
            {"id": 480, "content": "brown", "special": False, "normalized": True,
             "single_word": False, "lstrip": False, "rstrip": False}]},
    }


def say(bases):
    """What the packages make of the texts."""
    def sentencepiece_says(name):
        model = sentencepiece.SentencePieceProcessor(model_file=str(DATA / f"{name}.model"))
        return [model.encode(text) for text in HOSTILE]

    def tokenizers_say(value):
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(value))
        return [tokenizer.encode(text, add_special_tokens=False).ids for text in HOSTILE]

    variants = [{"name": "gemma", "base": "gemma", "patch": {}}] + [
        {"name": name, "base": "unigram", "patch": patch}
        for name, patch in unigram_patches().items()]
    for variant in variants:
        variant["ids"] = tokenizers_say(goldens.merge_patch(bases[variant["base"]],
                                                            variant["patch"]))
    return {"texts": HOSTILE, "models": {name: sentencepiece_says(name) for name in MODELS},
            "bases": bases, "variants": variants}


def make():
    DATA.mkdir(exist_ok=True)
    for name, options in MODELS.items():
        train(name, options)
    goldens.write_json(DATA / "golden.json", say({"gemma": gemma_json(),
                                                  "unigram": unigram_json()}))


def check():
    before = json.loads((DATA / "golden.json").read_text())
    if say(before["bases"]) != before:
        sys.exit("the packages say something else than golden.json")


if __name__ == "__main__":
    if sys.argv[1:] == []:
        make()
    elif sys.argv[1:] == ["--check"]:
        check()
    else:
        sys.exit(__doc__)
