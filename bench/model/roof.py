#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every figure that the CPU backend is held to, in one run, beside what is asked: what a new machine is measured with.

  roof.py --models DIR [--llama DIR] [--ik DIR] [--rounds 3] [--only WORD] [--bin build/release/bin] [--threads N] [--run "chrt -f 10"]

The models are DIR/{dense-bf16,dense-Q8_0,dense-Q4_0,dense-Q4_K_M,dense-TQ2_0,moe-Q4_0}.gguf; those that are not there are left out. --llama
and --ik are folders of llama-bench and llama-batched-bench of llama.cpp and ik_llama.cpp (Release, native flags; the latter repacks
at run time). Each round measures a model with heddle and right after it with the others; figures are medians over the rounds, of
ratios within a round. `share` is of the read stream (decode) or of the arithmetic peak (prefill) next to each sample.
"""
import argparse
import json
import os
import re
import statistics

from compare import ROOT, run

PROMPT, TOKENS, LONG = 512, 16, 16384
BATCHES = [1, 4, 8, 32]
MODELS = ["dense-bf16", "dense-Q8_0", "dense-Q4_0", "dense-Q4_K_M", "dense-TQ2_0", "moe-Q4_0"]

# What is measured: a value of heddle's, or its ratio to the same of another; of which model; at least, on two cores with AVX-512.
FLOORS = [
    ("decode share, 1", "dense-bf16", 0.90), ("decode share, 1", "dense-Q8_0", 0.88), ("decode share, 1", "dense-Q4_0", 0.85),
    ("decode share, 1", "moe-Q4_0", 0.80), ("decode share, 1", "dense-TQ2_0", 0.70), ("decode share, 1, at 16k", "dense-Q4_0", 0.75),
    ("prefill share", "dense-bf16", 0.80), ("prefill share", "dense-Q8_0", 0.60), ("prefill share", "dense-Q4_0", 0.60),
    ("prefill share", "moe-Q4_0", 0.45),
    ("decode, 4 over 1", "dense-Q4_0", 3.2), ("decode, 8 over 1", "dense-Q4_0", 4.5),
    ("prefill over llama.cpp", "dense-bf16", 1.6), ("prefill over llama.cpp", "dense-Q8_0", 3.5),
    ("prefill over llama.cpp", "dense-Q4_0", 2.3), ("prefill over llama.cpp", "dense-Q4_K_M", 2.3),
    ("prefill over llama.cpp", "moe-Q4_0", 3.0), ("prefill over llama.cpp", "dense-TQ2_0", 3.0),
    *[("decode, 1, over llama.cpp", m, 1.1) for m in MODELS],
    *[(f"decode, {n}, over llama.cpp", m, 2.0) for m in ("dense-Q4_0", "moe-Q4_0") for n in (8, 32)],
    *[("prefill over ik_llama.cpp", m, 1.0) for m in MODELS],
    *[("decode, 1, over ik_llama.cpp", m, 1.0) for m in MODELS],
    *[(f"decode, {n}, over ik_llama.cpp", m, 1.5) for m in ("dense-Q4_0", "moe-Q4_0") for n in (8, 32)],
]


def heddle_rows(args, model, prompts, contexts):
    command = [os.path.join(args.bin, "heddle"), "bench", "model", model, "--json", "--threads", str(args.threads), "--tg", str(TOKENS),
               "--pp", prompts, "--batch", ",".join(map(str, BATCHES if contexts == "16" else [1])), "--ctx", contexts]
    return [r for r in json.loads(run(args, command))["rows"] if "tokens_per_s" in r]


def heddle(args, model, long_too):
    """{what: tokens per second or share} of one round."""
    out = {}
    for row in heddle_rows(args, model, str(PROMPT), "16"):
        if row["phase"] == "prefill":
            out["prefill"], out["prefill share"] = row["tokens_per_s"], row["peak_share"]
        else:
            out[f"decode, {row['batch']}"] = row["tokens_per_s"]
            if row["batch"] == 1:
                out["decode share, 1"] = row["stream_share"]
    for n in (4, 8):
        out[f"decode, {n} over 1"] = out[f"decode, {n}"] / out["decode, 1"]
    if long_too:
        for row in heddle_rows(args, model, "1", str(LONG)):
            if row["phase"] == "decode":
                out["decode share, 1, at 16k"] = row["stream_share"]
    return out


def table(args, command):
    """Rows of the table that both programs print, one of them on stderr."""
    text = run(args, command, and_stderr=True)
    return [[c.strip() for c in line.strip().strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def peer(args, folder, model, repack):
    """The same of one of the others; they print tables, in which the last column, or that of S_TG, is tokens per second."""
    out = {}
    common = ["-m", model, "-t", str(args.threads)]
    bench = [os.path.join(folder, "llama-bench"), *common, "-p", str(PROMPT), "-n", str(TOKENS), "-r", "1", *(["-rtr", "1"] if repack else [])]
    for row in table(args, bench):
        if row[-2] in (f"pp{PROMPT}", f"tg{TOKENS}"):
            out["prefill" if row[-2].startswith("pp") else "decode, 1"] = float(re.match(r"[\d.]+", row[-1]).group())
    many = [n for n in BATCHES if n > 4]
    batched = [os.path.join(folder, "llama-batched-bench"), *common, "-c", str(64 * max(many)), "-npp", "16", "-ntg", str(TOKENS),
               "-npl", ",".join(map(str, many)), *(["-rtr"] if repack else [])]
    for row in table(args, batched):
        if row[0] == "16":
            out[f"decode, {row[2]}"] = float(row[7])
    return out


def measure(args, name):
    """{what: [value of each round]} of one model."""
    model, out = os.path.join(args.models, name + ".gguf"), {}
    for _ in range(args.rounds):
        ours = heddle(args, model, name == "dense-Q4_0")
        values = {k: v for k, v in ours.items() if "share" in k or "over" in k}
        for title, folder, repack in (("llama.cpp", args.llama, False), ("ik_llama.cpp", args.ik, True)):
            for what, theirs in (peer(args, folder, model, repack) if folder else {}).items():
                values[f"{what}{',' if ',' in what else ''} over {title}"] = ours[what] / theirs
        for what, value in values.items():
            out.setdefault(what, []).append(value)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True)
    parser.add_argument("--llama", help="folder of llama.cpp's programs")
    parser.add_argument("--ik", help="folder of ik_llama.cpp's programs")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="models whose name contains it")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--run", default="", help="put before every command")
    args = parser.parse_args()
    print("| | | at least | here | |\n|---|---|--:|--:|---|")
    for name in MODELS:
        if args.only not in name or not os.path.exists(os.path.join(args.models, name + ".gguf")):
            continue
        seen = measure(args, name)
        for what, model, floor in FLOORS:
            if model == name and what in seen:
                value = statistics.median(seen[what])
                print(f"| {name} | {what} | {floor} | {value:.2f} | {'' if value >= floor else 'short'} |", flush=True)


if __name__ == "__main__":
    main()
