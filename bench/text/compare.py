#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""heddle's tokenizers and Hugging Face's `tokenizers` in turn, on one core, with the same texts.

    heddle bench text --tokenizers PYTHON [--rounds 5] [--text FILE ...] [--json] MODEL...
    compare.py [--heddle build/release/bin/heddle] ...     the same

MODEL: a folder with tokenizer.json or tekken.json, or a .gguf file (pre gpt-2, or llama). Where there is no tokenizer.json, one
with the same vocabulary, ranks and pattern is made for `tokenizers`; the ids of both must be equal. Each round measures
heddle (`heddle bench text`), then `tokenizers`: the machine's mood is shared. Printed are medians over the rounds. "first"
is a tokenizer that has remembered no words yet. Needs the package tokenizers, for .gguf files also gguf.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")

try:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
except ImportError:
    sys.exit(f"{sys.executable} has no package tokenizers; heddle is compared with it; install it (pip install tokenizers), or name a "
             "Python that has it")

SPACE = "▁"


def byte_chars():
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


def byte_level(vocab, merges, before, **options):
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, **options))
    tokenizer.pre_tokenizer = before
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def of_tekken(path):
    config = json.loads(path.read_text())
    n_special, size = config["config"]["default_num_special_tokens"], config["config"]["default_vocab_size"]
    chars = byte_chars()
    rank = {"".join(chars[b] for b in base64.b64decode(v["token_bytes"])): v["rank"] for v in config["vocab"][:size - n_special]}
    split = pre_tokenizers.Split(Regex(config["config"]["pattern"]), "isolated")
    return byte_level({t: r + n_special for t, r in rank.items()}, merges_of(rank),
                      pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                      ignore_merges=True)


def of_gguf(path):
    try:
        import gguf
    except ImportError:
        sys.exit(f"{sys.executable} has no package gguf; it reads .gguf files; install it (pip install gguf)")
    fields = {k.removeprefix("tokenizer.ggml."): f.contents() for k, f in gguf.GGUFReader(path).fields.items()
              if k.startswith("tokenizer.ggml.")}
    vocab = {t: i for i, t in enumerate(fields["tokens"])}
    if fields["model"] == "gpt2" and fields.get("pre") == "gpt-2":
        return byte_level(vocab, [tuple(m.split(" ")) for m in fields["merges"]], pre_tokenizers.ByteLevel(add_prefix_space=False))
    if fields["model"] != "llama":
        sys.exit(f"{path}: no tokenizer.json can be made of this one; give a folder that has one")
    normal = {t: -fields["scores"][i] for t, i in vocab.items() if fields["token_type"][i] == 1}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges_of(normal), byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    return tokenizer


def reference(model):
    path = Path(model)
    if not path.exists():
        sys.exit(f"{model}: there is no such folder or file; give a model's folder or a .gguf file")
    if path.is_dir() and (path / "tokenizer.json").exists():
        return Tokenizer.from_file(str(path / "tokenizer.json"))
    return of_tekken(path / "tekken.json") if path.is_dir() else of_gguf(path)


def seconds(fn):
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def measure(source, text):
    """MB/s of Hugging Face's package; offsets are not asked for."""
    size, tokenizer = len(text.encode()) / 1e6, Tokenizer.from_str(source)
    first = seconds(lambda: tokenizer.encode_batch_fast([text], add_special_tokens=False))
    warm = statistics.median(seconds(lambda: tokenizer.encode_batch_fast([text], add_special_tokens=False)) for _ in range(7))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decode = statistics.median(seconds(lambda: tokenizer.decode(ids, skip_special_tokens=False)) for _ in range(7))
    return {"encode_mb_s": size / warm, "first_mb_s": size / first, "decode_mb_s": size / decode, "tokens": len(ids)}


def same_ids(heddle, model, text, tokenizer):
    run = subprocess.run([heddle, "tokenize", model], input=text.encode(), capture_output=True, check=True)
    return [int(line) for line in run.stdout.split()] == tokenizer.encode(text, add_special_tokens=False).ids


def compare(args, model, texts):
    tokenizer = reference(model)
    source, rounds = tokenizer.to_str(), []
    for path in texts:
        if not same_ids(args.heddle, model, path.read_text(), tokenizer):
            sys.exit(f"{model}: ids of {path} differ; this is no comparison")
    for _ in range(args.rounds):
        command = [args.heddle, "bench", "text", model, "--json", "--samples", args.samples] + [a for p in texts for a in ("--text", str(p))]
        ours = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["rows"]
        rounds.append([(o, measure(source, p.read_text())) for o, p in zip(ours, texts)])
    for i, path in enumerate(texts):
        row = {"model": Path(model).name, "text": path.stem, "tokens": rounds[0][i][0]["tokens"],
               "encode_ms": statistics.median(r[i][0]["encode_ms"] for r in rounds)}
        for key in ("encode_mb_s", "first_mb_s", "decode_mb_s"):
            row[key] = [statistics.median(r[i][k][key] for r in rounds) for k in (0, 1)]
            row[key].append(statistics.median(r[i][0][key] / r[i][1][key] for r in rounds))
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__, prog="compare.py",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--heddle", default="build/release/bin/heddle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", default="30", help="of heddle, in each round")
    parser.add_argument("--text", action="append", type=Path)
    parser.add_argument("--json", action="store_true")
    args, rows = parser.parse_args(), []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([args.heddle, "bench", "text", "--save", folder], check=True, stdout=subprocess.DEVNULL)
        texts = args.text or [Path(folder) / "mixed.txt", Path(folder) / "rare.txt"]
        for model in args.models:
            rows += compare(args, model, texts)
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    print("| model | text | tokens | 100 kB, warm | encode MB/s: heddle, tokenizers, ratio | first | decode |\n|---|---|--:|--:|--:|--:|--:|")
    for row in rows:
        cells = ["{:.1f}, {:.1f}, {:.1f}x".format(*row[k]) for k in ("encode_mb_s", "first_mb_s", "decode_mb_s")]
        print(f"| {row['model']} | {row['text']} | {row['tokens']} | {row['encode_ms']:.2f} ms | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
