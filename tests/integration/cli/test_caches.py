# SPDX-License-Identifier: Apache-2.0
"""Models with windows and with recurrent states: scheduler and workers together give blocks back, keep states and take prefixes
up again, and nobody can tell from the answers."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

import tiny_model
from test_cli import BIN, heddle
from tiny_model import BLOCK, WINDOW

IDS = [(i * 37 + i * i * 5 + 11) % 2000 + 10 for i in range(400)]


def setUpModule():
    global folder, windows, states
    folder = tempfile.TemporaryDirectory()
    windows = tiny_model.write(os.path.join(folder.name, "windows"), tiny_model.WINDOWS)
    states = tiny_model.write(os.path.join(folder.name, "states"), tiny_model.STATES)


def tearDownModule():
    folder.cleanup()


def write_ids(ids):
    path = os.path.join(folder.name, "ids")
    with open(path, "w", encoding="utf-8") as f:
        f.write(" ".join(map(str, ids)))
    return path


class Alone(unittest.TestCase):
    """One command at a time."""

    def run_ids(self, command, model, *args, ids=IDS):
        done = heddle(command, model, "--ids-file", write_ids(ids), *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def logits(self, model, *args):
        out = os.path.join(folder.name, "out.npy")
        self.run_ids("logits", model, "--out", out, *args)
        with open(out, "rb") as f:
            return f.read()

    def test_inspect_counts_windows_apart(self):
        said = json.loads(heddle("inspect", windows, "--json").stdout)
        self.assertEqual(said["kv_bytes_per_token"], BLOCK // 32)
        self.assertEqual(said["kv_bytes_fixed"], 2 * WINDOW * BLOCK // 32)
        self.assertEqual(said["ranks"][0]["kv_bytes"], (1024 + 2 * WINDOW) * BLOCK // 32)

    def test_inspect_counts_states_apart(self):
        said = json.loads(heddle("inspect", states, "--json").stdout)
        self.assertEqual(said["kv_bytes_per_token"], BLOCK // 32)
        self.assertEqual(said["kv_bytes_fixed"], 2 * 4 * (4 * 32 * 32 + 3 * 3 * 128))

    def test_logits_do_not_know_of_the_cache(self):
        others = os.path.join(folder.name, "others")
        with open(others, "w", encoding="utf-8") as f:
            f.writelines(" ".join(str(k + i) for i in range(90)) + "\n" for k in range(6))
        for model in windows, states:
            want = self.logits(model)
            # 13 blocks of all 400 positions and seven of the windows, with little to spare.
            tight = str(28 * BLOCK)
            for args in (["--chunk", "7"], ["--kv-bytes", tight, "--max-seqs", "2"], ["--tp", "2", "--kv-bytes", tight],
                         ["--chunk", "50", "--batch-with", others]):
                self.assertEqual(want, self.logits(model, *args), (model, args))

    def test_generation_goes_on_beyond_the_window(self):
        want = self.run_ids("generate", windows, "--ids", "--max-tokens", "200")
        self.assertEqual(want, self.run_ids("generate", windows, "--ids", "--max-tokens", "200", "--kv-bytes", str(38 * BLOCK)))

    def test_too_small_a_cache_says_why(self):
        done = heddle("generate", windows, "--ids-file", write_ids(IDS), "--kv-bytes", str(4 * BLOCK))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--kv-bytes", done.stderr)


class Served(unittest.TestCase):
    """Requests that share beginnings get the answer that each gets alone, from what is cached."""

    def setUp(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]

    def serve(self, model):
        server = subprocess.Popen([os.path.join(BIN, "heddle"), "serve", model, "--port", str(self.port), "--tp", "2"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        self.addCleanup(server.communicate, timeout=60)
        self.addCleanup(server.send_signal, signal.SIGINT)
        return server

    def complete(self, server, model, ids):
        body = json.dumps({"model": os.path.basename(model), "prompt": ids, "max_tokens": 40, "temperature": 0, "ignore_eos": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", body,
                                         {"content-type": "application/json"})
        for _ in range(240):  # until it is ready
            try:
                answer = json.load(urllib.request.urlopen(request, timeout=60))
                return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            except urllib.error.HTTPError as e:
                if e.code != 503:
                    raise AssertionError(e.read()) from e
            except OSError:
                pass
            self.assertIsNone(server.poll(), "the server ended")
            time.sleep(0.25)
        raise AssertionError("the server does not get ready")

    def alone(self, model, ids):
        done = heddle("generate", model, "--ids-file", write_ids(ids), "--max-tokens", "40", "--ignore-eos")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.rstrip("\n")

    def check(self, model):
        """A prompt, again, and its continuation; another that begins alike, and the next one that does."""
        first, other, third = IDS[:200], IDS[:150] + IDS[300:380], IDS[:150] + IDS[250:330]
        server = self.serve(model)
        for ids, least in (first, 0), (first, 192), (first + IDS[200:260], 192), (other, 0), (third, 128):
            text, cached = self.complete(server, model, ids)
            self.assertEqual(text.rstrip("\n"), self.alone(model, ids))
            self.assertGreaterEqual(cached, least)
            self.assertLess(cached, len(ids))

    def test_windows(self):
        self.check(windows)

    def test_states(self):
        self.check(states)


if __name__ == "__main__":
    unittest.main()
