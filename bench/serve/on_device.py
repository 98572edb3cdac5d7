#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`heddle serve` on the device that a configuration file names, and `heddle bench serve` against it with that device's energy.

    bench/serve/on_device.py --config FILE --out RESULT.json [--bin build/release/bin] [--model deploy/demo-model]
                             [--requests 400] [--clients 64] [--prompt 256] [--answer 64]

First `heddle bench model` says how many tokens a second one rank makes of as many sequences at that length, without scheduler,
sampling of clients and prompts: the roof that the served rate is a share of. The server has to leave the bench some memory:
let the file say kv.bytes. Standard library only.
"""
import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def url_of(server):
    """Waits until it is ready."""
    for line in server.stdout:
        found = re.search(r"https?://[^ ]+:\d+", line)
        if found and "ready" in line:
            threading.Thread(target=server.stdout.read, daemon=True).start()
            return found.group(0)
    sys.exit("heddle serve ended before it was ready; its words are above")


def run(args, *words):
    done = subprocess.run([os.path.join(args.bin, "heddle"), *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"heddle {' '.join(words)} ended with {done.returncode}")
    return json.loads(done.stdout)


def alone(args):
    """Tokens per second of a rank that decodes for all clients at once."""
    rows = run(args, "bench", "model", args.model, "--config", args.config, "--pp", "1", "--batch", str(args.clients), "--ctx", str(args.prompt),
               "--tg", str(args.answer), "--json")["rows"]
    return next(row for row in rows if row["phase"] == "decode").get("tokens_per_s", 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--model", default=os.path.join(ROOT, "deploy/demo-model"))
    parser.add_argument("--config", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--answer", type=int, default=64)
    args = parser.parse_args()
    heddle = os.path.join(args.bin, "heddle")
    roof = alone(args)
    name = os.path.basename(os.path.normpath(args.model))
    with subprocess.Popen([heddle, "serve", args.model, "--port", "0", "--config", args.config], stdout=subprocess.PIPE, text=True) as server:
        try:
            result = run(args, "bench", "serve", url_of(server), "--model", name, "--config", args.config, "--ignore-eos", "--json",
                         "--num-prompts", str(args.requests), "--max-concurrency", str(args.clients),
                         "--random-input-len", str(args.prompt), "--random-output-len", str(args.answer))
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
    result["rank_alone_tokens_per_s"] = roof
    result["rank_alone_share"] = result["output_throughput"] / roof if roof else 0
    with open(args.out, "w", encoding="utf-8") as f:
        json.dump(result, f)
    print(f"{result['output_throughput']:.1f} tokens/s served, {result['rank_alone_share']:.2f} of a rank alone; {result['failed']} failed")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
