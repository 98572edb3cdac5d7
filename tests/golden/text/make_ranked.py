#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small vocabularies of ranked byte strings and what mistral-common and tiktoken say about family_lines.json.

    python3 tests/golden/text/make_ranked.py        (needs the packages mistral_common, tiktoken and tokenizers)

mistral/tekken.json is in Mistral's format, kimi/ has Kimi's tiktoken.model and tokenizer_config.json.  NAME.ranked.ids: for
each line "ids" of the text as plain text and "text" where decoding gives other text than the line; for Kimi "special"
too where special tokens in the text give other ids.
"""

import base64
import json
from pathlib import Path

import tiktoken
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from families import TEKKEN
from make import corpus

HERE = Path(__file__).parent
# tokenization_kimi.py of moonshotai/Kimi-K2-Instruct.
KIMI = "|".join((
    r"[\p{Han}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"))
SPECIALS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
            "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")


def learn(size, pattern):
    """Byte strings in the order in which BPE learns them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                       pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet))
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in prints]
    byte_of = {chr(b): b for b in prints} | {chr(256 + i): b for i, b in enumerate(others)}
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return sorted((bytes(byte_of[c] for c in text) for text, _ in vocab), key=lambda t: (len(t) > 1, t if len(t) == 1 else b""))


def tekken_config(version, ranks, specials=SPECIALS, n_special=40, spare=10):
    """As Mistral writes it; the vocabulary has some tokens more than the model uses."""
    def shown(token):
        try:
            return token.decode()
        except UnicodeDecodeError:
            return None
    return {
        "config": {"pattern": TEKKEN, "num_vocab_tokens": len(ranks), "default_vocab_size": len(ranks) - spare + n_special,
                   "default_num_special_tokens": n_special, "version": version},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": shown(t)} for i, t in enumerate(ranks)],
        "special_tokens": [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(specials)],
    }


def mistral(folder):
    folder.mkdir(exist_ok=True)
    path = folder / "tekken.json"
    path.write_text(json.dumps(tekken_config("v3", learn(900, TEKKEN)), indent=None, separators=(",", ":")))
    tekken = Tekkenizer.from_file(path)
    return (lambda text: tekken.encode(text, bos=False, eos=False), None,
            lambda ids: tekken.decode(ids, special_token_policy=SpecialTokenPolicy.KEEP))


def kimi(folder):
    folder.mkdir(exist_ok=True)
    ranks = {t: i for i, t in enumerate(learn(900, TEKKEN))}
    (folder / "tiktoken.model").write_text("".join(f"{base64.b64encode(t).decode()} {i}\n" for t, i in ranks.items()))
    first = len(ranks)
    named = {first: "[BOS]", first + 1: "[EOS]", first + 2: "<|im_end|>", first + 3: "<|im_start|>", first + 255: "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "added_tokens_decoder": {str(i): {"content": t, "special": True} for i, t in named.items()},
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]}, "bos_token": "[BOS]", "eos_token": "[EOS]"}))
    specials = {named.get(i, f"<|reserved_token_{i}|>"): i for i in range(first, first + 256)}
    encoding = tiktoken.Encoding("kimi", pat_str=KIMI, mergeable_ranks=ranks, special_tokens=specials)
    return encoding.encode_ordinary, lambda text: encoding.encode(text, allowed_special="all"), encoding.decode


def build(folder):
    """name -> (encode as plain text, encode with special tokens or None, decode) of folders written into one."""
    return {"mistral": mistral(folder / "mistral"), "kimi": kimi(folder / "kimi")}


def main():
    texts = json.loads((HERE / "family_lines.json").read_text())
    for name, (plain, special, decode) in build(HERE).items():
        rows = []
        for text in texts:
            row = {"ids": plain(text)}
            if special and special(text) != row["ids"]:
                row["special"] = special(text)
            if decode(row["ids"]) != text:
                row["text"] = decode(row["ids"])
            rows.append(row)
        (HERE / f"{name}.ranked.ids").write_text("[" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "]\n")
        print(f"{name}: {sum(f.stat().st_size for f in (HERE / name).iterdir())} bytes")


if __name__ == "__main__":
    main()
