#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The matrix of what the tests covered, from the notes that they leave (rig_covered of tests/unit/worker/rig.h).

  matrix.py --build build/dev            prints the table as `heddle matrix` will know it
  matrix.py --build build/dev --write    writes cli/matrix.tsv and the table of README.md anew
  matrix.py --build build/dev --check    exit 1 when either of them says something else than the notes

A note is a line "kind TAB name TAB check". cli/matrix.tsv has one line for each kind and name: kind, name, its checks in
order, separated by commas. What ran on a GPU is in bench/results/<gpu>-<date>.json, which tests/gpu.sh wrote there. Nothing in
the matrix is typed by hand.
"""
import argparse
import glob
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TABLE = os.path.join(ROOT, "cli", "matrix.tsv")
README = os.path.join(ROOT, "README.md")
GOLDENS = os.path.join(ROOT, "tests", "golden", "models")
RESULTS = os.path.join(ROOT, "bench", "results")
BEGIN, END = "<!-- matrix: made by tests/golden/matrix.py -->", "<!-- matrix ends -->"


def order(check):
    """Checks in the order of a reader's questions, layouts by size."""
    layout = re.fullmatch(r"layout tp(\d+) ep(\d+)", check)
    if layout:
        return (1, int(layout[1]), int(layout[2]), check)
    return (0, 0, 0, check)


def gpu_runs(folder=RESULTS):
    """What tests/gpu.sh wrote on machines with a GPU, oldest first."""
    runs = []
    for path in glob.glob(os.path.join(folder, "*.json")):
        with open(path, encoding="utf-8") as f:
            run = json.load(f)
        if isinstance(run, dict) and "gpu" in run and "suites" in run:
            runs.append(run)
    return sorted(runs, key=lambda run: (run["date"], run["gpu"]))


def gpu_of_architectures(runs):
    """{architecture: "GPU date"}: the newest run in which all of its golden configurations passed."""
    names = {}
    for path in glob.glob(os.path.join(GOLDENS, "*.json")):
        with open(path, encoding="utf-8") as f:
            for architecture in json.load(f).get("architectures", []):
                names.setdefault(architecture, set()).add(os.path.basename(path)[:-len(".json")])
    return {a: f"{run['gpu']} {run['date']}" for run in runs for a, goldens in names.items() if goldens <= set(run["goldens"])}


def gpu_note(run):
    """Suites that passed, and those that did not with their state."""
    return ",".join(s["suite"] if s["state"] == "passed" else f"{s['suite']} {s['state']}" for s in run["suites"])


def collect(build, runs):
    notes = {}
    for path in sorted(glob.glob(os.path.join(build, "covered", "*.tsv"))):
        with open(path, encoding="utf-8") as f:
            for line in f:
                kind, name, check = line.rstrip("\n").split("\t")
                notes.setdefault((kind, name), set()).add(check)
    if not notes:
        sys.exit(f"{build} has no notes; the tests have not run there; run ctest --test-dir {build} -L worker first")
    lines = [f"{kind}\t{name}\t{','.join(sorted(checks, key=order))}\n" for (kind, name), checks in sorted(notes.items())]
    lines += [f"gpu\t{run['gpu']} {run['date']} {run['commit']}\t{gpu_note(run)}\n" for run in runs]
    return "".join(lines)


def layouts(checks):
    found = [re.fullmatch(r"layout tp(\d+) ep(\d+)", c) for c in checks]
    return ", ".join(f"{m[1]}x{m[2]}" for m in found if m) or "-"


def markdown(text, runs):
    """README's form: architectures, then formats of weights, then GPUs."""
    on_gpu = gpu_of_architectures(runs)
    rows = [line.split("\t") for line in text.splitlines()]
    out = ["| architecture | against transformers, CPU | same bits on tp x ep | GPU |", "|---|---|---|---|"]
    for kind, name, checks in rows:
        if kind == "arch":
            checks = checks.split(",")
            against = ", ".join(c for c in checks if not c.startswith("layout")) or "-"
            out.append(f"| {name} | {against} | {layouts(checks)} | {on_gpu.get(name, 'not yet')} |")
    for kind, title in (("weights", "weights in safetensors"), ("gguf", "GGUF")):
        if any(k == kind for k, _, _ in rows):
            out += ["", f"| {title} | covered |", "|---|---|"]
            out += [f"| {name} | {checks.replace(',', ', ')} |" for k, name, checks in rows if k == kind]
    out += ["", "| GPU, date, commit | suites of tests/gpu.sh |", "|---|---|"]
    out += [f"| {name} | {checks.replace(',', ', ')} |" for k, name, checks in rows if k == "gpu"] or ["| none yet | - |"]
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
    runs = gpu_runs()
    table = collect(args.build, runs)
    wanted = {TABLE: table, README: readme_with(markdown(table, runs))}
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
        print(markdown(table, runs), end="")


if __name__ == "__main__":
    main()
