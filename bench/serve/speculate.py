#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What guessing tokens from the text brings: two servers of one model, one that speculates and one that does not, asked the same in turn.

    python3 bench/serve/speculate.py MODEL [--heddle build/release/bin/heddle] [--runs 9] [-- options of both servers]

A line for each workload: tokens a second of both (medians over the runs), the median of the pairs' ratios; time that the workers' threads
computed for a token, which says more than the clock on a machine that others use (with --threads 1); tokens a step, and the share of
guesses that came true. It fails when an answer differs by one token.
"""
import argparse
import contextlib
import glob
import json
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request

# Asked of the bundled model these are: its own kind of chat; an edit of a text that stands before it; a loop; and text without repetition.
TABLE = "".join(f'user\nSpell "{w}".\nassistant\n{"-".join(w)}\n' for w in ("table", "house", "garden", "table", "house"))
CODE = "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n\n"
WORKLOADS = {
    "code after code": {"prompt": CODE * 3 + "def mul(a, b):\n", "temperature": 0},
    "answers like those before": {"prompt": TABLE + 'user\nSpell "garden".\nassistant\n', "temperature": 0},
    "the same, sampled": {"prompt": TABLE + 'user\nSpell "garden".\nassistant\n', "temperature": 0.8, "seed": 3},
    "a copied list": {"prompt": "1, 22, 3, 47, 5, 66, 7, 81, 9, 12, 4\n" * 4 + "1, 22,", "temperature": 0},
    "nothing repeats": {"prompt": "user\nWhat is", "temperature": 1.3, "seed": 5},
}


class Server:
    def __init__(self, heddle, model, speculate, more):
        command = [heddle, "serve", model, "--port", "0", "--speculate", speculate, *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.url = None
        for line in self.process.stdout:
            at = line.find("http://")
            if at >= 0:
                self.url = line[at:].split()[0].rstrip("/.,;").removesuffix("/v1")
                break
        if not self.url:
            sys.exit(f"{' '.join(command)} did not start")
        self.name = json.loads(self.get("/v1/models"))["data"][0]["id"]

    def get(self, path, body=None):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.read().decode()

    def count(self, name):
        return sum(float(line.split()[-1]) for line in self.get("/metrics").splitlines() if line.startswith(name))

    def counts(self):
        names = "heddle_generation_tokens_total", "heddle_step_seconds_count", "heddle_spec_decode_draft_tokens_total", \
            "heddle_spec_decode_accepted_tokens_total"
        return [self.count(name) for name in names]

    def cpu_s(self):
        """Of all threads of the server's workers."""
        ns = 0
        for stat in glob.glob("/proc/[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it may have ended
                name, rest = pathlib.Path(stat).read_text().split("(", 1)[1].rsplit(")", 1)
                if name == "heddle-worker" and int(rest.split()[1]) == self.process.pid:
                    for task in glob.glob(stat.removesuffix("stat") + "task/*/schedstat"):
                        ns += int(pathlib.Path(task).read_text().split()[0])
        return ns / 1e9

    def ask(self, work, args):
        """All prompts at once; the texts, and tokens a second."""
        body = dict(work, model=self.name, ignore_eos=True, max_tokens=args.tokens, prompt=[work["prompt"]] * args.prompts)
        start = time.monotonic()
        answer = json.loads(self.get("/v1/completions", body))
        took = time.monotonic() - start
        return [choice["text"] for choice in answer["choices"]], answer["usage"]["completion_tokens"] / took

    def stop(self):
        self.process.terminate()
        self.process.wait()


def measure(plain, guessing, work, args):
    speeds, ratios = {plain: [], guessing: []}, []
    for server in speeds:
        server.ask(work, args)  # the prompt is in the cache now
    before, cpu = guessing.counts(), {server: server.cpu_s() for server in speeds}
    for run in range(args.runs):
        texts = {}
        for server in (plain, guessing) if run % 2 else (guessing, plain):
            texts[server], speed = server.ask(work, args)
            speeds[server].append(speed)
        if texts[plain] != texts[guessing]:
            sys.exit(f"other text with guesses than without: {work}")
        ratios.append(speeds[guessing][-1] / speeds[plain][-1])
    tokens, steps, guesses, held = (after - b for after, b in zip(guessing.counts(), before))
    ms = [1e3 * (server.cpu_s() - cpu[server]) / tokens for server in (plain, guessing)]
    share = f"{held / guesses:.0%} of {guesses / args.runs:.0f}" if guesses else "none made"
    return [statistics.median(speeds[plain]), statistics.median(speeds[guessing]), statistics.median(ratios), *ms, tokens / steps, share]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--heddle", default="build/release/bin/heddle")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=200, help="of an answer")
    parser.add_argument("--prompts", type=int, default=1, help="the same prompt so many times at once")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:at])
    with contextlib.ExitStack() as stack:
        servers = []
        for speculate in "off", "ngram":
            servers.append(Server(args.heddle, args.model, speculate, sys.argv[at + 1 :]))
            stack.callback(servers[-1].stop)
        print("| workload | plain, tok/s | guessing, tok/s | ratio | plain, CPU ms a token | guessing | ratio | tokens a step | "
              "guesses that came true |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
        for name, work in WORKLOADS.items():
            plain, guessing, ratio, ms, guessing_ms, per_step, share = measure(*servers, work, args)
            print(f"| {name} | {plain:.0f} | {guessing:.0f} | {ratio:.2f} | {ms:.2f} | {guessing_ms:.2f} | {ms / guessing_ms:.2f} | "
                  f"{per_step:.2f} | {share} |", flush=True)


if __name__ == "__main__":
    main()
