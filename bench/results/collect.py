#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tests/gpu.sh found, as one file; called by it.

    bench/results/collect.py LOGS --gpu NAME --driver VERSION --out FILE

LOGS holds suites.tsv (name, state, seconds), the suites' logs and the JSON documents of the benches. Prints the short table:
speeds beside their roofs, and energy per token. tests/golden/matrix.py reads the file. Standard library only.
"""
import argparse
import datetime
import glob
import json
import os
import re
import subprocess


def commit():
    def git(*words):
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def read_json(path):
    """None when it is not there or was cut short."""
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


def suites(logs):
    with open(os.path.join(logs, "suites.tsv"), encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f]
    return [{"suite": name, "state": state, "seconds": int(seconds)} for name, state, seconds in rows]


def goldens(logs):
    """Golden configurations that passed on the device; some stand there twice, in two formats: both have to."""
    try:
        with open(os.path.join(logs, "models.log"), encoding="utf-8", errors="replace") as f:
            text = f.read()
    except OSError:
        return []
    ran = set(re.findall(r"^\[ RUN      \] (\S+)$", text, re.M))
    passed = re.findall(r"^\[       OK \] (\S+)$", text, re.M)
    failed = set(re.findall(r"^\[  FAILED  \] (\S+)$", text, re.M))
    return sorted((set(passed) & ran) - failed)


def models(logs):
    out = {}
    for path in sorted(glob.glob(os.path.join(logs, "model-*.json"))):
        document = read_json(path)
        if document:
            out[os.path.basename(path)[len("model-"):-len(".json")]] = document
    return out


def energy(row):
    joule = row.get("joule_per_token")
    return f"{joule:.4f} J" if joule else "unmeasured"


def share(value):
    return f"{value:.2f}" if value else "-"


def print_table(result):
    if result["kernels"]:
        print(f"\n{'kernels':<44} {'GB/s':>9} {'of read':>8} {'TFLOP/s':>9} {'of best':>8}")
    for row in (result["kernels"] or {"rows": []})["rows"]:
        print(f"{row['name']:<44} {row['bytes_per_s'] / 1e9:>9.1f} {share(row['stream_share']):>8} {row['flop_per_s'] / 1e12:>9.2f}"
              f" {share(row['peak_share']):>8}")
    if result["models"]:
        print(f"\n{'model':<24} {'phase':<8} {'batch':>5} {'tokens/s':>10} {'of read':>8} {'of best':>8} {'host idle':>10} {'per token':>11}")
    for name, document in result["models"].items():
        for row in document["rows"]:
            if "skipped" in row:
                print(f"{name:<24} {row['phase']:<8} {row['batch']:>5} skipped: {row['skipped']}")
                continue
            idle = row.get("host_idle_share")
            print(f"{name:<24} {row['phase']:<8} {row['batch']:>5} {row['tokens_per_s']:>10.1f} {share(row['stream_share']):>8}"
                  f" {share(row['peak_share']):>8} {'-' if idle is None else f'{100 * idle:.1f} %':>10} {energy(row):>11}")
    serve = result["serve"]
    if serve:
        print(f"\nserved: {serve['output_throughput']:.1f} tokens/s of {serve['max_concurrency']} clients, {share(serve['rank_alone_share'])} of a rank"
              f" alone, {energy(serve)} a token")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs")
    parser.add_argument("--gpu", required=True)
    parser.add_argument("--driver", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    def document(name):
        return read_json(os.path.join(args.logs, name + ".json"))

    result = {"gpu": args.gpu, "driver": args.driver, "commit": commit(), "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
              "suites": suites(args.logs), "goldens": goldens(args.logs), "kernels": document("kernels"), "models": models(args.logs),
              "serve": document("serve"), "compare": {"transformers": document("compare-transformers"), "llama.cpp": document("compare-llama")}}
    with open(args.out, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    print_table(result)
    print(args.out)


if __name__ == "__main__":
    main()
