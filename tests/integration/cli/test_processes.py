# SPDX-License-Identifier: Apache-2.0
"""The command line and its processes on a terminal: signals, models that cannot be run, what is left behind."""
import http.client
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import tempfile
import time
import unittest
import unittest.mock
import urllib.request

from test_cli import BIN, MODEL, heddle

WAIT_SECONDS = 120


class Terminal:
    """`heddle ...` as the leader of a terminal, as a person starts it."""

    def __init__(self, *args):
        self.text = ""
        self.code = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(os.path.join(BIN, "heddle"), ["heddle", *args])

    def read_until(self, pattern):
        """Everything up to the pattern's first match, which is taken; the match."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end() :]
                return found
            if not self.read_some(deadline):
                raise AssertionError(f"no {pattern!r} came; there is {self.text!r}")

    def read_some(self, deadline):
        ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
        try:
            piece = os.read(self.fd, 65536) if ready else b""
        except OSError:
            return False
        self.text += piece.decode("utf-8", "replace")
        return piece != b""

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self):
        """Exit code; a signal's is negative."""
        deadline = time.monotonic() + WAIT_SECONDS
        while self.read_some(deadline):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class OnTerminal(unittest.TestCase):
    def start(self, *args):
        terminal = Terminal(*args)
        self.addCleanup(terminal.close)
        return terminal

    def serve(self, *args):
        """-> the terminal, the host and port of the API."""
        terminal = self.start("serve", MODEL, "--port", "0", "--tp", "2", "--ep", "2", *args)
        found = terminal.read_until(r"ready after .* API at http://([0-9.]+):(\d+)/v1")
        return terminal, found.group(1), int(found.group(2))


def open_stream(host, port, n_tokens):
    """A stream whose first line has been read."""
    body = {"model": "demo-model", "prompt": "Once", "max_tokens": n_tokens, "ignore_eos": True, "stream": True}
    connection = http.client.HTTPConnection(host, port, timeout=WAIT_SECONDS)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.readline()
    return answer


class Ready(OnTerminal):
    def test_with_a_proxy_in_the_environment(self):
        proxies = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy")}
        with unittest.mock.patch.dict(os.environ, proxies):
            _, host, port = self.serve()
            self.assertEqual(heddle("run", f"http://{host}:{port}", "Hello!").returncode, 0)

    def test_on_ipv6(self):
        try:
            with socket.create_server(("::1", 0), family=socket.AF_INET6):
                pass
        except OSError:
            self.skipTest("this machine has no IPv6")
        terminal = self.start("serve", MODEL, "--port", "0", "--host", "::1")
        url = terminal.read_until(r"API at (http://\[::1\]:\d+)/v1").group(1)
        self.assertEqual(heddle("run", url, "Hello!").returncode, 0)


class Signals(OnTerminal):
    def test_ctrl_c_lets_streams_finish(self):
        terminal, host, port = self.serve()
        stream = open_stream(host, port, 1500)
        terminal.type("\x03")
        text = stream.read().decode()
        self.assertIn('"finish_reason":"length"', text)
        self.assertTrue(text.rstrip().endswith("data: [DONE]"))
        self.assertEqual(terminal.wait(), 0)

    def test_ctrl_c_twice_ends_at_once(self):
        terminal, host, port = self.serve("--log-level", "info")
        stream = open_stream(host, port, 4000)
        for worker in children(terminal.pid, "heddle-worker"):
            os.kill(worker, signal.SIGSTOP)  # so that nothing finishes by itself
        terminal.type("\x03")
        terminal.read_until("drain again=0")
        terminal.type("\x03")
        self.assertEqual(terminal.wait(), 0)
        self.assertIn("error", stream.read().decode())

    def test_a_frozen_worker_is_replaced(self):
        terminal, host, port = self.serve()
        undisturbed = open_stream(host, port, 300).read()
        stream = open_stream(host, port, 300)
        frozen = children(terminal.pid, "heddle-worker")[0]
        os.kill(frozen, signal.SIGSTOP)
        self.assertEqual(words_of(stream.read()), words_of(undisturbed))
        until(lambda: frozen not in children(terminal.pid), f"the end of {frozen}")
        until_metric(host, port, "heddle_workers_ready", 2)

    def test_children_die_with_a_killed_serve(self):
        terminal, host, port = self.serve()
        pids = children(terminal.pid)
        stream = open_stream(host, port, 4000)
        os.kill(pids[0], signal.SIGSTOP)  # not even a frozen one stays
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), f"the end of {pids}")
        stream.close()

    def test_a_closed_terminal_ends_serve(self):
        terminal, _, _ = self.serve()
        pids = children(terminal.pid)
        self.assertEqual(len(pids), 3)
        os.close(terminal.fd)
        terminal.fd = os.open(os.devnull, os.O_RDONLY)
        os.waitpid(terminal.pid, 0)
        terminal.pid = 0
        self.assertEqual([pid for pid in pids if os.path.exists(f"/proc/{pid}")], [])

    def test_ctrl_c_while_a_model_loads(self):
        terminal = self.start("generate", MODEL, "--prompt", "Hi", "-n", "4000", "--ignore-eos", "--tp", "2")
        terminal.read_until("waiting for workers")
        terminal.type("\x03")
        self.assertEqual(terminal.wait(), 1)
        self.assertIn("interrupted", terminal.text)

    def test_ctrl_c_stops_the_answer_alone(self):
        server, host, port = self.serve()
        chat = self.start("run", f"http://{host}:{port}")
        chat.read_until(">>> ")
        workers = children(server.pid, "heddle-worker")
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)  # so that the answer does not come first
        chat.type("What is 12 plus 30?\n")
        chat.read_until("30\\?\r\n")
        until_metric(host, port, "heddle_requests_running", 1)
        chat.type("\x03")
        chat.read_until(">>> ")
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        chat.type("What is 12 plus 31?\n")
        chat.read_until("43")
        chat.type("\x04")
        self.assertEqual(chat.wait(), 0)


def words_of(events):
    """The text of a stream's events."""
    data = [line[6:] for line in events.decode().splitlines() if line.startswith("data: {")]
    return "".join(choice["text"] for event in map(json.loads, data) for choice in event["choices"])


def until(is_so, what):
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


def until_metric(host, port, name, value):
    def is_so():
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=WAIT_SECONDS) as answer:
            return f"\n{name} {value}\n" in answer.read().decode()

    until(is_so, f"{name} {value}")


def children(parent, name=""):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, comm, state, ppid = re.match(r"(\d+) \((.*)\) (\S) (\d+)", stat.read_text()).groups()
        except OSError:
            continue
        if int(ppid) == parent and state != "Z" and name in comm:
            found.append(int(pid))
    return found


class CannotRun(unittest.TestCase):
    """A model or an option that no new start would cure ends the command, with the reason."""

    def copy_model(self):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return pathlib.Path(shutil.copytree(MODEL, os.path.join(folder, "model")))

    def refused(self, reason, *args):
        done = heddle(*args)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(reason, done.stderr)
        self.assertNotIn("child_ended", done.stderr)  # the last line says it, for people

    def test_cut_weights(self):
        folder = self.copy_model()
        os.truncate(next(iter(folder.glob("*.safetensors"))), 100000)
        self.refused("cut short", "serve", str(folder), "--port", "0")
        self.refused("cut short", "generate", str(folder), "--prompt", "Hi")

    def test_no_weights(self):
        folder = self.copy_model()
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        self.refused("no weights", "serve", str(folder), "--port", "0", "--tp", "2")

    def test_no_tokenizer(self):
        folder = self.copy_model()
        (folder / "tokenizer.json").unlink()
        self.refused("tokenizer.json", "serve", str(folder), "--port", "0")

    def test_kv_cache_of_no_block(self):
        self.refused("--kv-bytes", "serve", MODEL, "--port", "0", "--kv-bytes", "1")

    def test_kv_cache_beyond_memory(self):
        self.refused("--kv-bytes", "serve", MODEL, "--port", "0", "--kv-bytes", "99999TiB")

    def test_longer_than_the_model(self):
        self.refused("--max-len", "serve", MODEL, "--port", "0", "--max-len", "1000000")

    def test_missing_key_file(self):
        self.refused("/nowhere/keys", "serve", MODEL, "--port", "0", "--api-key-file", "/nowhere/keys")


class Run(OnTerminal):
    def test_options_of_the_model_are_not_for_a_server(self):
        done = heddle("run", "http://127.0.0.1:1", "Hi", "--tp", "2")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--tp", done.stderr)

    def test_url_without_scheme(self):
        done = heddle("run", "127.0.0.1:1", "Hi")
        self.assertEqual(done.returncode, 1)
        self.assertIn("http://127.0.0.1:1", done.stderr)

    def test_bad_setting_is_usage(self):
        for option in (["--temperature", "x"], ["--max-tokens", "0"], ["--seed", "-5"]):
            self.assertEqual(heddle("run", "http://127.0.0.1:1", "Hi", *option).returncode, 2, option)

    def test_commands(self):
        chat = self.start("run", MODEL)
        chat.read_until(">>> ")
        for typed, answer in (
            ("/set seed 12345678901234567890", "seed needs an integer"),
            ("/set max_tokens 1.5", "max_tokens needs an integer"),
            ("/set seed 9007199254740993", ">>> "),
            ("/show", "seed: 9007199254740993"),
            ("/set colour 1", "there is no setting colour"),
            ("/undo", "nothing has been said"),
            ("/nonsense", "there is no command /nonsense"),
            ("   ", ">>> "),
            ("/set temperature 0", ">>> "),
            ('"""', r"\.\.\. "),
            ("What is", r"\.\.\. "),
            ("12 plus 30?", r"\.\.\. "),
            ('"""', "42"),
            ("/show", "2 messages"),
            ("/bye", "/bye"),
        ):
            chat.type(typed + "\n")
            chat.read_until(answer)
        self.assertEqual(chat.wait(), 0)


if __name__ == "__main__":
    unittest.main()
