#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bundled model as quality gauge: asks its held-out questions on every layout, in q8, in q4 and with a cache of int8.

  score.py --bin build/release/bin [--model deploy/demo-model] [--config FILE that names a device] [--limit N]

Passes when one rank answers at least 95 % exactly, every layout gives the same count to within one question, q8 and
a cache of int8 at most 1 % and q4 at most 2 % fewer. On a device the CPU's count is the base, for one rank and a cache
of bf16. With --limit only so many questions are asked, and one more may be wrong. Standard library only. Last line: `N passed, N failed`.
"""
import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUNS = {
    "tp 1": [],
    "tp 2": ["--tp", "2"],
    "tp 4": ["--tp", "4"],
    "ep 2": ["--ep", "2"],
    "tp 2 ep 2": ["--tp", "2", "--ep", "2"],
    "q8": ["--weights", "q8"],
    "q4": ["--weights", "q4"],
    "int8 KV": ["--kv-type", "int8"],
}

ON_GPU = ("tp 1", "q8", "q4")
LOSES = {"q8": 0.01, "q4": 0.02, "int8 KV": 0.01}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_ready(url, server, deadline_s=60):
    end = time.monotonic() + deadline_s
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url + "/readyz", timeout=1):
                return True
        except OSError:
            time.sleep(0.02)
    return False


def score(args, extra):
    """(right, total) of one server; raises RuntimeError with what it said."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [os.path.join(args.bin, "heddle"), "serve", args.model, "--port", url.rsplit(":", 1)[1], *extra]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            if not wait_ready(url, server):
                server.kill()
                raise RuntimeError(" ".join(command) + " did not become ready:\n" + server.stdout.read()[-2000:])
            done = subprocess.run([sys.executable, os.path.join(args.model, "score.py"), url, "--json",
                                   "--threshold", "0", "--concurrency", "32", *(["--limit", str(args.limit)] if args.limit else [])],
                                  capture_output=True, text=True, timeout=600)
            if done.returncode != 0:
                raise RuntimeError(done.stderr[-2000:])
            result = json.loads(done.stdout)
            return result["right"], result["total"]
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                server.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", required=True)
    parser.add_argument("--model", default=os.path.join(ROOT, "deploy", "demo-model"))
    parser.add_argument("--config", help="configuration file that names a device")
    parser.add_argument("--runs", default=",".join(ON_GPU), help="with --config: only these")
    parser.add_argument("--limit", type=int, help="ask only the first so many questions")
    args = parser.parse_args()
    passed = failed = 0
    base = None
    runs = RUNS
    if args.config:
        runs = {"CPU": []} | {name: RUNS[name] + ["--config", args.config] for name in args.runs.split(",")}
    least = 1 if args.limit else 500
    for name, extra in runs.items():
        try:
            right, total = score(args, extra)
        except (RuntimeError, subprocess.TimeoutExpired, ValueError) as e:
            print(f"FAIL {name}: {e}")
            failed += 1
            continue
        if base is None:
            base = right
            ok = total >= least and right >= 0.95 * total - (1 if args.limit else 0)
        elif name in LOSES:
            ok = right >= base - LOSES[name] * total - (1 if args.limit else 0)
        else:
            ok = abs(right - base) <= 1
        passed, failed = passed + ok, failed + (not ok)
        print(f"{'ok  ' if ok else 'FAIL'} {name}: {right} of {total}, {100 * right / total:.2f} %", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
