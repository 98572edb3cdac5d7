#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Many requests of every kind, some of which leave early, and then no block is missing.

    tests/fault/mixed_requests.py --bin build/release/bin [--requests 10000] [--clients 64] [--seed N] [--device cuda]

Starts `heddle serve` and sends whole answers, streams, several choices, stop strings, log-probabilities, penalties,
chat, requests that the API refuses (structured output, too long prompts) and clients that leave before the first byte or
within a stream. Every answer is held against what it must be; greedy requests that come again must get the same text.
Then no request runs, /metrics shows as many KV blocks in use as before the first one, and every request that was
accepted has ended once. Standard library only. Exit status 0 when all held.
"""
import argparse
import collections
import http.client
import json
import os
import random
import socket
import sys
import threading
import time

from kill_workers import ROOT, SUBJECTS, TIMEOUT_S, Server

SETTLE_S = 60
FINISHES = {"stop", "length"}


def prompt_of(rng):
    """Few prompts, so that prefixes are shared and greedy texts come again; a third is long."""
    words = "Once upon a time. " * rng.choice([0, 0, 1, 2, 9, 40])
    return f"{words}Tell me about {rng.choice(SUBJECTS)}."


class Kinds:
    """One method for each kind of request: sends it, checks the answer, returns what else it saw."""

    def __init__(self, server, args):
        self.server, self.tokens = server, args.tokens
        self.model = os.path.basename(os.path.normpath(args.model))
        self.texts, self.lock = {}, threading.Lock()

    def body(self, rng, **more):
        return {"model": self.model, "prompt": prompt_of(rng), "max_tokens": rng.randint(1, self.tokens), "temperature": 0} | more

    def ask(self, path, body):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def same_as_before(self, body, text):
        """A greedy request has one answer, whatever runs beside it."""
        key = (body["prompt"], body["max_tokens"])
        with self.lock:
            before = self.texts.setdefault(key, text)
        if before != text:
            raise AssertionError(f"{key} had {before!r} and now has {text!r}")

    def choices(self, body, n=1, path="/v1/completions"):
        status, answer = self.ask(path, body)
        if status != 200:
            raise AssertionError(f"status {status}: {answer}")
        got = answer["choices"]
        if sorted(c["index"] for c in got) != list(range(n)) or any(c["finish_reason"] not in FINISHES for c in got):
            raise AssertionError(f"choices {got}")
        if answer["usage"]["completion_tokens"] > n * body["max_tokens"]:
            raise AssertionError(f"usage {answer['usage']}")
        return got

    def whole(self, rng):
        body = self.body(rng)
        self.same_as_before(body, self.choices(body)[0]["text"])

    def sampled(self, rng):
        self.choices(self.body(rng, temperature=rng.choice([0.3, 1.0, 1.7]), top_p=rng.choice([0.5, 1.0]), top_k=rng.choice([-1, 5]),
                               min_p=rng.choice([0, 0.05]), seed=rng.randrange(1 << 30)))

    def penalised(self, rng):
        self.choices(self.body(rng, temperature=1.0, frequency_penalty=0.7, presence_penalty=-0.3, repetition_penalty=1.2,
                               logit_bias={str(rng.randrange(5, 500)): 3}))

    def several(self, rng):
        n = rng.randint(2, 4)
        self.choices(self.body(rng, n=n, temperature=1.0, seed=rng.randrange(1 << 30)), n)

    def stopped(self, rng):
        stop = rng.choice([" the", ".", "a", "\n"])
        text = self.choices(self.body(rng, stop=[stop, "zq"], ignore_eos=True))[0]["text"]
        if stop in text:
            raise AssertionError(f"{text!r} goes on behind {stop!r}")

    def logprobs(self, rng):
        choice = self.choices(self.body(rng, logprobs=rng.randint(0, 5), ignore_eos=True))[0]
        if any(p > 0 for p in choice["logprobs"]["token_logprobs"]):
            raise AssertionError(f"probabilities {choice['logprobs']}")

    def chat(self, rng):
        body = self.body(rng)
        body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
        self.choices(body, path="/v1/chat/completions")

    def refused(self, rng):
        more = rng.choice([{"guided_json": {"type": "object"}}, {"response_format": {"type": "json_object"}}, {"top_p": 2},
                           {"prompt": "word " * 40000}, {"max_tokens": -1}])
        status, answer = self.ask("/v1/completions", self.body(rng) | more)
        if status not in (400, 413) or "error" not in answer:
            raise AssertionError(f"{list(more)} got {status}: {answer}")
        return "refused"

    def open_stream(self, body):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=TIMEOUT_S)
        connection.request("POST", "/v1/completions", json.dumps(body | {"stream": True}), {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    def stream(self, rng):
        body = self.body(rng)
        connection, answer = self.open_stream(body)
        text, finish, done = "", None, False
        for line in answer:
            if line.strip() == b"data: [DONE]":
                done = True
            elif line.startswith(b"data: "):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["text"]
                    finish = choice["finish_reason"] or finish
        connection.close()
        if answer.status != 200 or not done or finish not in FINISHES:
            raise AssertionError(f"status {answer.status}, done {done}, finish {finish}")
        self.same_as_before(body, text)

    def leaves_stream(self, rng):
        connection, answer = self.open_stream(self.body(rng, max_tokens=8 * self.tokens, ignore_eos=True, n=rng.choice([1, 1, 3])))
        for _ in range(rng.randint(0, 6)):
            answer.readline()
        connection.sock and connection.sock.shutdown(socket.SHUT_RDWR)
        answer.close()
        connection.close()
        return "left"

    def leaves_at_once(self, rng):
        text = json.dumps(self.body(rng, max_tokens=8 * self.tokens, ignore_eos=True, stream=rng.random() < 0.5)).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        with socket.create_connection((self.server.host, self.server.port), timeout=TIMEOUT_S) as s:
            s.sendall(head.encode() + (text if rng.random() < 0.8 else text[:len(text) // 2]))
        return "left"


WEIGHTS = {"whole": 20, "stream": 20, "sampled": 10, "penalised": 6, "several": 6, "stopped": 8, "logprobs": 5, "chat": 7, "refused": 4,
           "leaves_stream": 9, "leaves_at_once": 5}


def metrics(server):
    """{series: value} of /metrics."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT_S)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}


def blocks(now):
    return {k: v for k, v in now.items() if k.startswith(("heddle_kv_blocks{", "heddle_kv_blocks_used{"))}


def is_idle(now):
    return now["heddle_requests_running"] == 0 and now["heddle_requests_waiting"] == 0


def settled(server):
    """What /metrics says once nothing runs; None when something does for too long."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        now = metrics(server)
        if is_idle(now) and sum(v for k, v in now.items() if k.startswith("heddle_kv_blocks_used{")) == 0:
            return now
        time.sleep(0.02)
    return None


class Crowd:
    """Clients that take the next request until all are sent."""

    def __init__(self, server, args, seed):
        self.kinds = Kinds(server, args)
        self.left, self.seed, self.lock = args.requests, seed, threading.Lock()
        self.counts, self.faults = collections.Counter(), []

    def client(self):
        while not self.faults:
            with self.lock:
                if self.left == 0:
                    return
                self.left -= 1
                rng = random.Random(self.seed * 1000003 + self.left)
            kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            try:
                getattr(self.kinds, kind)(rng)
            except (AssertionError, OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as why:
                self.faults.append(f"{kind}: {type(why).__name__} {why}")
            with self.lock:
                self.counts[kind] += 1

    def run(self, n):
        threads = [threading.Thread(target=self.client) for _ in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def compare(before, after):
    """What is wrong with the books."""
    if after is None:
        return [f"requests or blocks were still in use {SETTLE_S} s after the last one"]
    faults = []
    if blocks(before) != blocks(after):
        faults.append(f"blocks were {blocks(before)} and are {blocks(after)}")
    if after.get('heddle_requests_total{outcome="failed"}', 0) != 0:
        faults.append("requests failed within the server")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/release/bin"))
    parser.add_argument("--model", default=os.path.join(ROOT, "deploy/demo-model"))
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--ep", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plugin", help="with --device cuda: the library, such as the one of fibers")
    parser.add_argument("--config", help="a configuration file that names the device instead")
    parser.add_argument("--requests", type=int, default=10000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=24, help="of an answer at most; of one that is left, eight times that")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--log", help="file for the server's log")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}: {args.requests} requests of {args.clients} clients, tp {args.tp}, ep {args.ep}, {args.config or args.device}", flush=True)
    server = Server(args)
    crowd = Crowd(server, args, seed)
    faults = ["it did not come to the end"]
    try:
        before = settled(server)
        begin = time.monotonic()
        crowd.run(args.clients)
        took = time.monotonic() - begin
        after = settled(server)
        faults = crowd.faults + compare(before, after)
    finally:
        status = server.stop()
    if status != 0:
        faults.append(f"heddle serve ended with status {status}")
    for fault in faults[:5]:
        print(f"FAULT {fault}")
    ended = {k.split('"')[1]: int(v) for k, v in (after or {}).items() if k.startswith("heddle_requests_total{")}
    print(" ".join(f"{k} {crowd.counts[k]}" for k in WEIGHTS))
    print(f"ended in {took:.0f} s: {ended}; {len(crowd.kinds.texts)} greedy texts, each the same whenever it came")
    print("held: blocks as at the beginning" if not faults else f"did not hold; again with --seed {seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
