#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks an OpenAI-compatible server the held-out questions and counts exact answers.

  score.py http://127.0.0.1:8000 [--file eval.jsonl] [--concurrency 16] [--threshold 0.95] [--json]

An answer is right when it equals the expected one after stripping white space.  Exit code 0 when
the share of right answers reaches the threshold, 1 when not, 2 when the server cannot be asked.
Needs nothing but the standard library.
"""

import argparse
import http.client
import json
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def read_items(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines() if line]


def report(items, answers, threshold=0.95, as_json=False, show=20):
    """Prints the table of each task and the first wrong answers; returns the exit code."""
    tasks, wrong = {}, []
    for item, answer in zip(items, answers):
        right = answer.strip() == item["answer"].strip()
        row = tasks.setdefault(item["task"], [0, 0])
        row[0] += right
        row[1] += 1
        if not right:
            wrong.append({"task": item["task"], "question": item["messages"][-1]["content"],
                          "expected": item["answer"],
                          "answer": answer})
    right, total = len(items) - len(wrong), len(items)
    if as_json:
        print(json.dumps({"right": right, "total": total, "tasks": tasks, "wrong": wrong}))
    else:
        for name, (good, asked) in tasks.items():
            print(f"{name:22} {good:4} of {asked:4}  {100 * good / asked:5.1f} %")
        for w in wrong[:show]:
            print(f"  {w['task']}: {w['question']!r}: "
                  f"expected {w['expected']!r}, got {w['answer']!r}")
        print(f"{right} of {total} right, {100 * right / max(total, 1):.2f} %")
    return 0 if right >= threshold * total else 1


class Server:
    """One chat completion per call, each on a connection of its own."""

    def __init__(self, url, model, key):
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme == "https"
        self.connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self.host, self.port = parts.hostname, parts.port or (443 if secure else 80)
        self.prefix = parts.path.rstrip("/").removesuffix("/v1")
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = "Bearer " + key
        self.model = model or self.request("GET", "/v1/models")["data"][0]["id"]

    def request(self, method, path, body=None):
        connection = self.connect(self.host, self.port, timeout=300)
        try:
            connection.request(method, self.prefix + path, json.dumps(body) if body else None,
                               self.headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"{method} {path}: status {response.status}: {text[:300]}")
        return json.loads(text)

    def ask(self, messages):
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 96}
        return self.request("POST", "/v1/chat/completions",
                            body)["choices"][0]["message"]["content"] or ""


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where the server listens, with or without /v1")
    parser.add_argument("--file", type=Path, default=Path(__file__).resolve().parent / "eval.jsonl")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--threshold", type=float, default=0.95)
    parser.add_argument("--limit", type=int, help="ask only the first so many questions")
    parser.add_argument("--model", help="name of the model (the server's first by default)")
    parser.add_argument("--key", help="API key")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    items = read_items(args.file)[:args.limit]
    try:
        server = Server(args.url, args.model, args.key)
        with ThreadPoolExecutor(args.concurrency) as pool:
            answers = list(pool.map(server.ask, [item["messages"] for item in items]))
    except (OSError, http.client.HTTPException, KeyError, IndexError, ValueError) as error:
        print(f"score.py: cannot ask {args.url}; {error!r}; "
              "start the server or correct the address", file=sys.stderr)
        return 2
    return report(items, answers, args.threshold, args.json)


if __name__ == "__main__":
    sys.exit(main())
