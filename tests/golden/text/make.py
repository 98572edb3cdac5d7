#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains small tokenizers in the published configurations and writes what Hugging Face's tokenizers says about them.

    python3 tests/golden/text/make.py        (needs the packages tokenizers, sentencepiece and protobuf)

Per configuration NAME: NAME.json (the tokenizer) and NAME.ids: for each line of lines.json, or of family_lines.json for
the configurations of families.py and the later patterns, an object with "ids" (with post-processing, special tokens read
as such), "plain" where special tokens as plain text give other ids, and "text" where decoding ids gives other text than
the line.
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from families import CL100K, FAMILIES, QWEN35, TEKKEN, UNIGRAM
from lines import CODE, SENTENCES, lines

HERE = Path(__file__).parent
LINES = 400
FAMILY_LINES = 150
# What byte fallback, metaspaces and their special tokens might trip over.
MARKED = ("<s>Hello</s>", "a<unk>b <s> c", "<0x41><0x0A>", "▁", "▁▁a▁ b", " a", "  a  ", "a ", "</s>", "<pad> <eos><bos>",
          "<start_of_turn>user\nHi<end_of_turn>\n", "<|user|>   \nHi <|end|>  x", "\n\n\n\n\n", "<table>", "ＡＢＣｂ　Å", "ﬁé e\u0301 Δ", "x\u0001y\u00adz",
          "Ωmega 😀", "ᄒ\u1161\u11ab", "<UNK>", "Å\u0323")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"
            r"\s*[\r\n]+|\s+(?!\S)|\s+")


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def byte_level(use_regex=False, prefix=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=use_regex)


# name: normalizer, pre-tokeniser, vocabulary size, BPE options, id of bos put in front
CONFIGS = {
    "gpt2": (None, byte_level(True), 2000, {}, None),
    "gpt2_prefix": (None, byte_level(True, True), 900, {}, None),
    "qwen2": (normalizers.NFC(), pre_tokenizers.Sequence([split(QWEN2), byte_level()]), 2000, {}, None),
    "llama3": (None, pre_tokenizers.Sequence([split(LLAMA3), byte_level()]), 2000, {"ignore_merges": True}, "<|begin_of_text|>"),
    "o200k": (None, pre_tokenizers.Sequence([split(O200K), byte_level()]), 1200, {}, None),
    "deepseek": (normalizers.Sequence([]), pre_tokenizers.Sequence([
        split(r"\p{N}{1,3}"), split(r"[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK), byte_level()]), 1200, {}, "<|begin_of_text|>"),
    "starcoder": (None, pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level(True)]), 900, {}, None),
    "han": (normalizers.NFD(), pre_tokenizers.Sequence([
        split(r"\p{Han}+", "merged_with_previous"), split(r"\w+\b|\S", "contiguous"), byte_level()]), 900, {}, None),
    "mixed": (normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), "▂"), normalizers.Lowercase(),
                                    normalizers.Prepend("_")]),
              pre_tokenizers.Sequence([pre_tokenizers.Punctuation("merged_with_next"), pre_tokenizers.WhitespaceSplit(),
                                       pre_tokenizers.Digits(), split("a", "removed"), split("[^e]", "isolated", True), byte_level()]),
              900, {}, None),
    "cl100k": (normalizers.NFC(), pre_tokenizers.Sequence([split(CL100K), byte_level()]), 900, {}, None),
    "qwen35": (normalizers.NFC(), pre_tokenizers.Sequence([split(QWEN35), byte_level()]), 900, {}, None),
    "tekken": (None, pre_tokenizers.Sequence([split(TEKKEN), byte_level()]), 900, {"ignore_merges": True}, "<|begin_of_text|>"),
}
SHORT = ("cl100k", "qwen35", "tekken", *FAMILIES)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>")


def corpus():
    text = list(SENTENCES.values()) * 3 + CODE.splitlines() * 3
    return text + lines(1500, seed=7)


def build(name):
    if name in FAMILIES:
        tokenizer = FAMILIES[name](corpus())
        tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<wide>", lstrip=True, rstrip=True, normalized=False),
                              AddedToken("<word>", single_word=True, normalized=True)])
        return tokenizer
    normalizer, pretok, size, options, bos = CONFIGS[name]
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pretok
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(SPECIAL), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<wide>", lstrip=True, rstrip=True, normalized=False),
                          AddedToken("<word>", single_word=True, normalized=True), AddedToken("[INST]", normalized=True, lstrip=True),
                          AddedToken("größere", normalized=True)])
    post = processors.ByteLevel(trim_offsets=False)
    if bos:
        post = processors.Sequence([post, processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))])])
    tokenizer.post_processor = post
    return tokenizer


def expected(tokenizer, text):
    """(ids with special tokens parsed, ids as plain text, decoded ids)."""
    tokenizer.encode_special_tokens = False
    full = tokenizer.encode(text, add_special_tokens=True).ids
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text, add_special_tokens=True).ids
    return full, plain, tokenizer.decode(full, skip_special_tokens=False)


def pairs_as_lists(config):
    """Half of the files in the wild write merges as "a b", half as ["a", "b"]; both are kept here."""
    config["model"]["merges"] = [" ".join(m) if isinstance(m, list) else m for m in config["model"]["merges"]]


def main():
    texts = lines(LINES)
    family_texts = [*MARKED, *lines(FAMILY_LINES, seed=5)]
    for name, content in (("lines", texts), ("family_lines", family_texts)):
        (HERE / f"{name}.json").write_text(json.dumps(content, ensure_ascii=True, indent=0) + "\n")
    for name in (*CONFIGS, *FAMILIES):
        path = HERE / f"{name}.json"
        # What Unigram learns depends on the order in which threads sum: trained anew only where the file was deleted.
        if name not in UNIGRAM or not path.exists():
            build(name).save(str(path), pretty=False)
        config = json.loads(path.read_text())
        if name in ("gpt2", "llama3"):
            pairs_as_lists(config)
        path.write_text(json.dumps(config, ensure_ascii=False, separators=(",", ":")) + "\n")
        tokenizer = Tokenizer.from_file(str(path))
        rows = []
        for text in family_texts if name in SHORT else texts:
            full, plain, decoded = expected(tokenizer, text)
            row = {"ids": full}
            if plain != full:
                row["plain"] = plain
            if decoded != text:
                row["text"] = decoded
            rows.append(row)
        (HERE / f"{name}.ids").write_text("[" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "]\n")
        print(f"{name}: {tokenizer.get_vocab_size()} tokens, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
