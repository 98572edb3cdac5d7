# SPDX-License-Identifier: Apache-2.0
"""A GGUF file wherever the command line takes a model: the bundled model's own numbers under another container."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

import gguf_file
from test_cli import BIN, MODEL, heddle

IDS = " ".join(str((i * 37 + i * i * 5 + 11) % 2048) for i in range(60))


def setUpModule():
    global folder, whole, split
    folder = tempfile.TemporaryDirectory()
    whole = gguf_file.write(MODEL, os.path.join(folder.name, "demo"))
    split = gguf_file.write(MODEL, os.path.join(folder.name, "parts"), 3)


def tearDownModule():
    folder.cleanup()


class Gguf(unittest.TestCase):
    def logits(self, model, *args):
        ids, out = os.path.join(folder.name, "ids"), os.path.join(folder.name, "out.npy")
        with open(ids, "w", encoding="utf-8") as f:
            f.write(IDS)
        done = heddle("logits", model, "--ids-file", ids, "--out", out, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(out, "rb") as f:
            return f.read()

    def test_logits_are_the_safetensors(self):
        want = self.logits(MODEL)
        self.assertEqual(want, self.logits(whole))
        self.assertEqual(want, self.logits(split, "--tp", "2", "--ep", "2", "--chunk", "7"))

    def test_inspect(self):
        want, got = (json.loads(heddle("inspect", m, "--json").stdout) for m in (MODEL, split))
        for key in "architecture", "params_total", "params_active", "layers", "max_len", "stored_bytes", "ranks":
            self.assertEqual(want[key], got[key], key)

    def test_text(self):
        line = "What is 3 plus 4? <|im_end|>"
        ids = heddle("tokenize", whole, "--special", stdin=line).stdout
        self.assertEqual(ids.split()[-1], "2")
        self.assertEqual(heddle("tokenize", whole, "--decode", "--special", stdin=ids).stdout, line)

    def test_template(self):
        messages = os.path.join(folder.name, "messages.json")
        with open(messages, "w", encoding="utf-8") as f:
            json.dump([{"role": "user", "content": "hi"}], f)
        want, got = (heddle("template", m, messages) for m in (MODEL, whole))
        self.assertEqual(got.returncode, 0, got.stderr)
        self.assertEqual(want.stdout, got.stdout)

    def test_generate_and_perplexity(self):
        ids = os.path.join(folder.name, "ids")
        with open(ids, "w", encoding="utf-8") as f:
            f.write(IDS)
        for command in ("generate", "--ids-file", ids, "--ids", "--max-tokens", "8"), ("perplexity", ids, "--ids", "--json"):
            want, got = (heddle(command[0], m, *command[1:]) for m in (MODEL, whole))
            self.assertEqual(got.returncode, 0, got.stderr)
            self.assertEqual(want.stdout, got.stdout)

    def test_serve_names_it_by_its_file(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        server = subprocess.Popen([os.path.join(BIN, "heddle"), "serve", whole, "--port", str(port)],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            body = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "What is 3 plus 4?"}],
                               "max_tokens": 12}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", body,
                                             {"content-type": "application/json"})
            for _ in range(240):  # until it is ready; a refused connection is no answer
                try:
                    answer = json.load(urllib.request.urlopen(request, timeout=60))
                    break
                except OSError:
                    self.assertIsNone(server.poll(), "the server ended")
                    time.sleep(0.25)
            self.assertIn("7", answer["choices"][0]["message"]["content"])
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)

    def test_a_part_that_is_missing(self):
        done = heddle("inspect", split.replace("00001-of", "00002-of"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("part 2 of 3", done.stderr)


if __name__ == "__main__":
    unittest.main()
