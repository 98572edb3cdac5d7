#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""heddle and llama-server in turn, on the same GGUF, under the same load.

  compare.py --gguf MODEL.gguf --llama-server PATH [--bin build/release/bin] [--rounds 3] [--clients 1,8,32,64]
             [--input-len 128] [--output-len 64] [--num-prompts 128] [--threads N] [--slots 16] [--plot-dir DIR] [--json]

Each round starts one server, loads it with `heddle bench serve --sweep-concurrency`, stops it, and does the same with the
other: the machine's mood is shared. Printed are the medians over the rounds and the medians of the per-round ratios.
llama-server runs with --slots parallel slots and continuous batching, its defaults otherwise; both use the same threads.
"""
import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_ready(url, process, log):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode}; its words are in {log}")
        try:
            with urllib.request.urlopen(url + "/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"the server was not ready within ten minutes; its words are in {log}")


def commands(args, port):
    """How each server is started."""
    context = args.slots * (args.input_len + args.output_len + 64)
    heddle = [os.path.join(args.bin, "heddle"), "serve", args.gguf, "--port", str(port), "--threads", str(args.threads),
              "--max-seqs", str(max(args.clients))]
    llama = [args.llama_server, "-m", args.gguf, "--port", str(port), "-t", str(args.threads), "-np", str(args.slots),
             "-c", str(context), "-cb"]
    return {"heddle": heddle, "llama-server": llama}


def measure(name, args, round_no):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = os.path.join(args.log_dir, f"{name}-{round_no}.log")
    with open(log, "w", encoding="utf-8") as out:
        server = subprocess.Popen(commands(args, port)[name], stdout=out, stderr=out, start_new_session=True)
    try:
        wait_ready(url, server, log)
        with urllib.request.urlopen(url + "/v1/models", timeout=10) as answer:
            model = json.load(answer)["data"][0]["id"]
        bench = [os.path.join(args.bin, "heddle"), "bench", "serve", url, "--model", model, "--ignore-eos", "--json",
                 "--sweep-concurrency", ",".join(map(str, args.clients)), "--num-prompts", str(args.num_prompts),
                 "--random-input-len", str(args.input_len), "--random-output-len", str(args.output_len),
                 "--vocab", str(args.vocab), "--seed", str(round_no), "--title", f"{name}, {os.path.basename(args.gguf)}"]
        if args.plot_dir:
            bench += ["--plot", os.path.join(args.plot_dir, f"{name}.svg")]
        done = subprocess.run(bench, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)["rows"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=60)


FIGURES = [("output_throughput", "tok/s", True), ("median_ttft_ms", "TTFT ms", False), ("median_itl_ms", "ITL ms", False),
           ("p99_itl_ms", "p99 ITL ms", False)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--llama-server", required=True)
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=lambda s: [int(x) for x in s.split(",")], default=[1, 8, 32, 64])
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--num-prompts", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--plot-dir")
    parser.add_argument("--log-dir", default="/tmp")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rounds = {"heddle": [], "llama-server": []}
    for i in range(args.rounds):
        for name in rounds:
            print(f"round {i + 1} of {args.rounds}: {name}", file=sys.stderr)
            rounds[name].append(measure(name, args, i))
    rows = []
    for c, clients in enumerate(args.clients):
        row = {"clients": clients}
        for key, _, _ in FIGURES:
            ours = [r[c][key] for r in rounds["heddle"]]
            theirs = [r[c][key] for r in rounds["llama-server"]]
            row[key] = {"heddle": statistics.median(ours), "llama-server": statistics.median(theirs),
                        "ratio": statistics.median(a / b for a, b in zip(ours, theirs) if b > 0)}
        row["failed"] = {name: sum(r[c]["failed"] for r in rounds[name]) for name in rounds}
        rows.append(row)
    if args.json:
        print(json.dumps({"rows": rows}))
        return
    print(f"{'clients':>7}" + "".join(f"{title:>12} {'theirs':>9} {'ratio':>6}" for _, title, _ in FIGURES))
    for row in rows:
        print(f"{row['clients']:>7}" + "".join(
            f"{row[key]['heddle']:>12.2f} {row[key]['llama-server']:>9.2f} {row[key]['ratio']:>6.2f}" for key, _, _ in FIGURES))


if __name__ == "__main__":
    main()
