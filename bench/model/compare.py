#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""heddle and another engine in turn, on the same files: llama.cpp, or PyTorch transformers (static cache, compiled).

  compare.py --llama DIR MODEL.gguf... [--bin build/release/bin] [--rounds 5] [--pp 512] [--tg 64] [--batch 4,8,32]
             [--threads N] [--run "chrt -f 10"] [--config FILE] [--json]
  compare.py --transformers PYTHON MODEL-FOLDER... [the same] [--eager]

With --config both run on the device: heddle on the one that the file names, the others on the first GPU (llama.cpp's CUDA build,
all layers there; more of its arguments with --llama-args).

DIR holds llama-bench and, for more than one sequence, llama-batched-bench of a Release build with native flags. Each round
measures one thing with heddle (`bench model`, no server) and right after it with llama.cpp, so that both meet the machine in
the same mood; printed are the medians over the rounds and the median of the per-round ratios, with their quartiles. `of
stream` and `of peak` are heddle's own shares of what the machine could do in those moments. Prefill is one prompt without
context, decode starts after CONTEXT tokens in both.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONTEXT = 16


def run(args, command, and_stderr=False):
    done = subprocess.run(shlex.split(args.run) + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout + (done.stderr if and_stderr else "")


def heddle(args, model, phase, n):
    """The row of one measurement. A prompt of one token keeps decode runs from measuring much else, and the reverse."""
    prompt, batch, context = (n, 1, 0) if phase == "prefill" else (1, n, CONTEXT)
    device = ["--config", args.config] if args.config else ["--threads", str(args.threads)]
    command = [os.path.join(args.bin, "heddle"), "bench", "model", model, *device, "--json",
               "--pp", str(prompt), "--batch", str(batch), "--ctx", str(context), "--tg", str(args.tg if phase == "decode" else 1)]
    rows = json.loads(run(args, command))["rows"]
    return next(r for r in rows if r["phase"] == phase)


def llama(args, model, phase, n):
    """Tokens per second of the same measurement."""
    common = ["-m", model, "-t", str(args.threads), *(["-ngl", "99"] if args.config else []), *shlex.split(args.llama_args)]
    if phase == "prefill" or n == 1:
        which = ["-p", str(n), "-n", "0"] if phase == "prefill" else ["-p", "0", "-n", str(args.tg), "-d", str(CONTEXT)]
        out = run(args, [os.path.join(args.llama, "llama-bench"), *common, *which, "-r", "1", "-o", "json"])
        return json.loads(out)[0]["avg_ts"]
    command = [os.path.join(args.llama, "llama-batched-bench"), *common, "-c", str(n * max(256, CONTEXT + args.tg + 1)),
               "-npp", str(CONTEXT), "-ntg", str(args.tg), "-npl", str(n), "--output-format", "jsonl"]
    rows = [json.loads(line) for line in run(args, command).splitlines() if line.startswith("{")]
    if not rows:
        sys.exit(f"{shlex.join(command)} printed no row")
    return rows[-1]["speed_tg"]


def transformers(args, model, phase, n):
    """Tokens per second of the same measurement."""
    command = [args.transformers, os.path.join(os.path.dirname(os.path.abspath(__file__)), "transformers_speed.py"), model, "--phase", phase,
               "--n", str(n), "--context", str(CONTEXT), "--tg", str(args.tg), *(["--eager"] if args.eager else [])]
    command += ["--device", "cuda"] if args.config else ["--device", "cpu", "--threads", str(args.threads)]
    return json.loads(run(args, command).splitlines()[-1])["tokens_per_s"]


def other(args):
    return ("llama.cpp", llama) if args.llama else ("transformers", transformers)


def measure(args, model, phase, n):
    name, theirs_of = other(args)
    ours, theirs, shares = [], [], []
    for _ in range(args.rounds):
        row = heddle(args, model, phase, n)
        ours.append(row["tokens_per_s"])
        shares.append((row["stream_share"], row["peak_share"]))
        theirs.append(theirs_of(args, model, phase, n))
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    return {"model": os.path.basename(model), "phase": phase, "n": n, "heddle": statistics.median(ours),
            name: statistics.median(theirs), "ratio": statistics.median(ratios),
            "quartiles": [ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]],
            "of_stream": statistics.median(s for s, _ in shares), "of_peak": statistics.median(p for _, p in shares)}


def print_row(args, row):
    print(f"{row['model']:<28} {row['phase']:<8} {row['n']:>4} {row['heddle']:>10.1f} {row[other(args)[0]]:>10.1f} {row['ratio']:>6.2f}"
          f"  {row['quartiles'][0]:.2f}-{row['quartiles'][1]:.2f} {row['of_stream']:>9.2f} {row['of_peak']:>8.2f}", flush=True)


def numbers(text):
    return [int(x) for x in text.split(",") if x]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    engine = parser.add_mutually_exclusive_group(required=True)
    engine.add_argument("--llama", help="folder of llama-bench and llama-batched-bench")
    engine.add_argument("--transformers", help="python that has torch and transformers")
    parser.add_argument("--eager", action="store_true", help="transformers without compiling")
    parser.add_argument("--llama-args", default="", help='such as "-fa on"')
    parser.add_argument("--config", help="configuration file that names a device")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pp", type=numbers, default=[512])
    parser.add_argument("--tg", type=int, default=64)
    parser.add_argument("--batch", type=numbers, default=[4, 8, 32])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--run", default="", help="put before every command")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    batches = [1] + args.batch
    if args.llama and not os.path.exists(os.path.join(args.llama, "llama-batched-bench")):
        print(f"no llama-batched-bench in {args.llama}: one sequence only", file=sys.stderr)
        batches = [1]
    if not args.json:
        print(f"{'model':<28} {'phase':<8} {'n':>4} {'heddle t/s':>10} {'theirs':>10} {'ratio':>6}  {'quartiles':<9} {'of stream':>9} {'of peak':>8}")
    rows = []
    for model in args.models:
        for phase, n in [("prefill", n) for n in args.pp] + [("decode", n) for n in batches]:
            rows.append(measure(args, model, phase, n))
            if not args.json:
                print_row(args, rows[-1])
    if args.json:
        print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
