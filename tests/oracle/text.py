#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares heddle's tokenizer with Hugging Face's tokenizers, live, on many lines.

    python3 tests/oracle/text.py [--probe PROGRAM] [--lines 20000] [--seed 2] [tokenizer.json|FOLDER ...]

Without files: makes tests/golden/text anew and compares with its tokenizers and the bundled model's.
"""

import argparse
import struct
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden/text"))
from lines import lines  # noqa: E402

ADD, PARSE, SKIP = 1, 2, 4


class Probe:
    def __init__(self, program, path):
        self.process = subprocess.Popen([program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, text, flags):
        data = text.encode()
        self.process.stdin.write(struct.pack("<II", flags, len(data)) + data)
        self.process.stdin.flush()
        n, = struct.unpack("<I", self.process.stdout.read(4))
        ids = list(struct.unpack(f"<{n}i", self.process.stdout.read(4 * n)))
        length, = struct.unpack("<I", self.process.stdout.read(4))
        return ids, self.process.stdout.read(length).decode()

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def compare(program, path, texts):
    file = path / "tokenizer.json" if path.is_dir() else path
    reference, probe = Tokenizer.from_file(str(file)), Probe(program, path)
    wrong = 0
    for text in texts:
        for flags in (ADD | PARSE, PARSE | SKIP, 0):
            reference.encode_special_tokens = not flags & PARSE
            want = reference.encode(text, add_special_tokens=bool(flags & ADD)).ids
            decoded = reference.decode(want, skip_special_tokens=bool(flags & SKIP))
            got, back = probe.ask(text, flags)
            if (want, decoded) != (got, back):
                wrong += 1
                if wrong <= 5:
                    print(f"{file}: flags {flags} text {text!r}\n  want {want}\n  got  {got}\n  want {decoded!r}\n  got  {back!r}")
    if probe.close() != 0:
        wrong += 1
    print(f"{file}: {len(texts)} lines, {wrong} wrong")
    return wrong


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
        subprocess.run([sys.executable, ROOT / "tests/golden/text/make.py"], check=True)
    files = args.files or sorted((ROOT / "tests/golden/text").glob("*.json")) + [ROOT / "deploy/demo-model"]
    files = [f for f in files if f.name not in ("lines.json", "templates.json")]
    texts = lines(args.lines, args.seed)
    sys.exit(1 if sum(compare(args.probe, f, texts) for f in files) else 0)


if __name__ == "__main__":
    main()
