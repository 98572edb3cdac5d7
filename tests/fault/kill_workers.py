#!/usr/bin/env python3
"""Promise 2: a worker can die.

    tests/fault/kill_workers.py --bin build/release/bin [--kills 20] [--streams 16] [--seed N]

Starts `heddle serve` on two workers, runs the same streams first undisturbed, then again and again
while each worker in turn is killed (SIGKILL) at random moments. Every stream must end with the text
and the token count of the undisturbed run, and no other request may fail. Prints how long the
streams paused. Standard library only. Exit status 0 when all held.
"""
import argparse
import http.client
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SUBJECTS = ["rain", "a key", "seven", "the moon", "paper", "a small dog", "salt", "Tuesday"]
TIMEOUT_S = 120


class Server:
    """`heddle serve` and its worker processes."""

    def __init__(self, args):
        cmd = [os.path.join(args.bin, "heddle"), "serve", args.model, "--tp", str(args.tp), "--ep",
               str(args.ep), "--port", "0", "--threads", "1"]
        cmd += ["--config", args.config] if getattr(args, "config", None) else ["--device", args.device]
        self.config = None
        if getattr(args, "plugin", None):
            self.config = tempfile.NamedTemporaryFile("w", suffix=".yaml")
            self.config.write(f"worker:\n  cuda_plugin: {os.path.abspath(args.plugin)}\n")
            self.config.flush()
            cmd += ["--config", self.config.name]
        self.log = open(args.log, "wb") if args.log else subprocess.DEVNULL
        self.process = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.n_workers = max(args.tp, args.ep)
        self.host, self.port = self.wait_url()
        self.slots = sorted(self.worker_pids())

    def wait_url(self):
        for line in self.process.stdout:
            found = re.search(r"https?://([^:/]+):(\d+)", line)
            if found and "ready" in line:
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return found.group(1), int(found.group(2))
        raise SystemExit("heddle serve ended before it was ready")

    def worker_pids(self):
        pids = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat") as stat:
                    comm, rest = re.match(r"\d+ \((.*)\) (.*)", stat.read()).groups()
            except (OSError, AttributeError):
                continue
            state, parent = rest.split()[0:2]
            if comm == "heddle-worker" and int(parent) == self.process.pid and state != "Z":
                pids.append(int(name))
        return pids

    def kill(self, turn):
        """Kills the worker of one slot, once its last successor is there; returns when it did."""
        turn %= len(self.slots)
        while True:
            now = self.worker_pids()
            new = [pid for pid in now if pid not in self.slots]
            gone = [i for i, pid in enumerate(self.slots) if pid not in now]
            for i, pid in zip(gone, new):
                self.slots[i] = pid
            if self.slots[turn] in now:
                break
            time.sleep(0.01)
        at = time.monotonic()
        os.kill(self.slots[turn], signal.SIGKILL)
        return at

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return -1


def body_of(i, args):
    """Half of the streams greedy, half sampled with a seed; lengths and prompts differ."""
    subject = SUBJECTS[i % len(SUBJECTS)]
    body = {"model": os.path.basename(os.path.normpath(args.model)),
            "prompt": f"{'Once upon a time. ' * (i % 4)}Tell me about {subject}.",
            "max_tokens": args.tokens - 3 * i, "stream": True, "ignore_eos": True,
            "stream_options": {"include_usage": True}, "temperature": 0}
    if i % 2:
        body.update(temperature=1.0, top_p=0.95, seed=1000 + i)
    if i % 4 == 3:
        body.update(frequency_penalty=0.5, repetition_penalty=1.1)
    return body


def run_stream(server, body):
    """-> (text, completion tokens, arrival times). Raises on anything but a complete answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT_S)
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {answer.read()[:300]!r}")
    text, times, usage, done = "", [], None, False
    for line in answer:
        if not line.startswith(b"data: "):
            continue
        if line.strip() == b"data: [DONE]":
            done = True
            break
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(f"error in the stream: {event['error']}")
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            text += choice.get("text") or ""
            times.append(time.monotonic())
    connection.close()
    if not done or not usage:
        raise RuntimeError("the stream ended without its end")
    return text, usage["completion_tokens"], times


class Crowd:
    """Streams that run again and again until told to stop, each compared with its own first run."""

    def __init__(self, server, args):
        self.server = server
        self.bodies = [body_of(i, args) for i in range(args.streams)]
        self.expected = [None] * args.streams
        self.times = [[] for _ in range(args.streams)]
        self.faults = []
        self.runs = 0
        self.stopping = threading.Event()

    def undisturbed(self):
        def once(i):
            try:
                self.expected[i] = run_stream(self.server, self.bodies[i])[:2]
            except (RuntimeError, OSError, http.client.HTTPException, ValueError) as why:
                self.faults.append(f"stream {i}, undisturbed: {why}")
        threads = [threading.Thread(target=once, args=(i,)) for i in range(len(self.bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if None in self.expected:
            raise SystemExit(f"the undisturbed run failed: {self.faults[0]}")

    def again_and_again(self, i):
        while not self.stopping.is_set():
            try:
                text, tokens, times = run_stream(self.server, self.bodies[i])
            except (RuntimeError, OSError, http.client.HTTPException, ValueError) as why:
                self.faults.append(f"stream {i}: {why}")
                return
            self.times[i].extend(times)
            self.runs += 1
            if (text, tokens) != self.expected[i]:
                at = len(os.path.commonprefix([text, self.expected[i][0]]))
                self.faults.append(f"stream {i}: other tokens from character {at} of {len(text)}: "
                                   f"{text[at:at + 40]!r}, not {self.expected[i][0][at:at + 40]!r}")
                return

    def start(self):
        self.threads = [threading.Thread(target=self.again_and_again, args=(i,))
                        for i in range(len(self.bodies))]
        for thread in self.threads:
            thread.start()

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def pauses(self, killed_at, until):
        """Per stream: from the kill to the token that ended the longest gap after it."""
        out = []
        for times in self.times:
            mine = [t for t in sorted(times) if killed_at - 5 < t < until]
            after = [(b - a, b) for a, b in zip(mine, mine[1:]) if b > killed_at]
            if after:
                out.append(max(after)[1] - killed_at)
        return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--model", default=os.path.join(ROOT, "deploy/demo-model"))
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--ep", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plugin", help="with --device cuda: the library, such as the one of fibers")
    parser.add_argument("--config", help="a configuration file that names the device instead")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--log", help="file for the server's log")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    rng = random.Random(seed)
    print(f"seed {seed}: {args.streams} streams, {args.kills} kills, tp {args.tp}, ep {args.ep}")
    server = Server(args)
    crowd = Crowd(server, args)
    kills = []
    try:
        crowd.undisturbed()
        crowd.start()
        for turn in range(args.kills):
            time.sleep(rng.uniform(0.3, 1.5))
            kills.append(server.kill(turn))
        time.sleep(1.0)
        crowd.finish()
    finally:
        crowd.stopping.set()
        status = server.stop()
    pauses = []
    for i, at in enumerate(kills):
        pauses += crowd.pauses(at, kills[i + 1] if i + 1 < len(kills) else time.monotonic())
    for fault in crowd.faults:
        print(f"FAULT {fault}")
    if status != 0:
        print(f"FAULT heddle serve ended with status {status}")
    if pauses:
        print(f"{len(kills)} kills, {crowd.runs} complete streams; next token after a kill: median "
              f"{statistics.median(pauses) * 1e3:.0f} ms, max {max(pauses) * 1e3:.0f} ms")
    held = not crowd.faults and status == 0 and len(kills) == args.kills
    print("held" if held else f"did not hold; again with --seed {seed}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
