#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The matrix of what the tests covered, from the notes that they leave (rig_covered of tests/unit/worker/rig.h).

  matrix.py --build build/dev            prints the table as `heddle matrix` will know it
  matrix.py --build build/dev --write    writes cli/matrix.tsv and the table of README.md anew
  matrix.py --build build/dev --check    exit 1 when either of them says something else than the notes

A note is a line "kind TAB name TAB check". cli/matrix.tsv has one line for each kind and name: kind, name, its checks in
order, separated by commas. Nothing in it is typed by hand.
"""
import argparse
import glob
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TABLE = os.path.join(ROOT, "cli", "matrix.tsv")
README = os.path.join(ROOT, "README.md")
BEGIN, END = "<!-- matrix: made by tests/golden/matrix.py -->", "<!-- matrix ends -->"


def order(check):
    """Checks in the order of a reader's questions, layouts by size."""
    layout = re.fullmatch(r"layout tp(\d+) ep(\d+)", check)
    if layout:
        return (1, int(layout[1]), int(layout[2]), check)
    return (0, 0, 0, check)


def collect(build):
    notes = {}
    for path in sorted(glob.glob(os.path.join(build, "covered", "*.tsv"))):
        with open(path, encoding="utf-8") as f:
            for line in f:
                kind, name, check = line.rstrip("\n").split("\t")
                notes.setdefault((kind, name), set()).add(check)
    if not notes:
        sys.exit(f"{build} has no notes; the tests have not run there; run ctest --test-dir {build} -L worker first")
    return "".join(f"{kind}\t{name}\t{','.join(sorted(checks, key=order))}\n"
                   for (kind, name), checks in sorted(notes.items()))


def layouts(checks):
    found = [re.fullmatch(r"layout tp(\d+) ep(\d+)", c) for c in checks]
    return ", ".join(f"{m[1]}x{m[2]}" for m in found if m) or "-"


def markdown(text):
    """README's form: architectures, then formats of weights."""
    rows = [line.split("\t") for line in text.splitlines()]
    out = ["| architecture | against transformers, CPU | same bits on tp x ep | GPU |", "|---|---|---|---|"]
    for kind, name, checks in rows:
        if kind == "arch":
            checks = checks.split(",")
            against = ", ".join(c for c in checks if not c.startswith("layout")) or "-"
            out.append(f"| {name} | {against} | {layouts(checks)} | not yet |")
    for kind, title in (("weights", "weights in safetensors"), ("gguf", "GGUF")):
        if any(k == kind for k, _, _ in rows):
            out += ["", f"| {title} | covered |", "|---|---|"]
            out += [f"| {name} | {checks.replace(',', ', ')} |" for k, name, checks in rows if k == kind]
    return "\n".join(out) + "\n"


def readme_with(table):
    with open(README, encoding="utf-8") as f:
        text = f.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        sys.exit("README.md lacks the marks of the matrix")
    head, rest = text.split(BEGIN)
    return head + BEGIN + "\n" + table + END + rest.split(END)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/dev")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    table = collect(args.build)
    wanted = {TABLE: table, README: readme_with(markdown(table))}
    if args.write:
        for path, text in wanted.items():
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    elif args.check:
        stale = []
        for path, text in wanted.items():
            with open(path, encoding="utf-8") as f:
                if f.read() != text:
                    stale.append(os.path.relpath(path, ROOT))
        if stale:
            sys.exit(f"{', '.join(stale)} does not say what the tests covered; run tests/golden/matrix.py "
                     f"--build {args.build} --write and look at the difference")
    else:
        print(markdown(table), end="")


if __name__ == "__main__":
    main()
