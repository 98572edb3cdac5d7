# SPDX-License-Identifier: Apache-2.0
"""A cluster as its operator sees it: the ranks of every replica on /metrics and in `heddle top`, status and drain."""
import concurrent.futures
import json
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request

import test_processes as processes
from test_cli import BIN, MODEL, ROOT, heddle


def ask(url, prompt, n_tokens):
    body = {"model": "demo-model", "prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=processes.WAIT_SECONDS) as answer:
        return json.load(answer)["usage"]["completion_tokens"]


def get(url):
    with urllib.request.urlopen(url, timeout=processes.WAIT_SECONDS) as answer:
        return answer.read().decode()


def busy_ranks(url, name):
    """The ranks with observations in a histogram."""
    return set(re.findall(name + r'_count\{rank="(\d+)"\} [1-9]', get(url + "/metrics")))


class Replicas(processes.OnTerminal):
    def test_each_rank_of_each_has_its_times(self):
        terminal = self.start("serve", MODEL, "--port", "0", "--dp", "2", "--tp", "2", "--threads", "1")
        url = terminal.read_until(r"API at (http://[0-9.:]+)/v1").group(1)
        processes.until(lambda: '"state":"ready"' in get(url + "/readyz"), "both replicas")
        for _ in range(50):  # which replica gets a request is not said; soon both have had some
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                self.assertEqual(set(pool.map(lambda i: ask(url, f"{i} tales", 20), range(8))), {20})
            if len(busy_ranks(url, "heddle_step_seconds")) == 4:
                break
        for name in "heddle_step_seconds", "heddle_collective_seconds":
            self.assertEqual(busy_ranks(url, name), {"0", "1", "2", "3"}, name)
        top = json.loads(heddle("top", url, "--json", "--interval", "0.1").stdout)
        self.assertEqual([r["rank"] for r in top["ranks"]], [0, 1, 2, 3])
        self.assertEqual(top["workers_ready"], 4)


class Control(processes.unittest.TestCase):
    """heddle cluster status and drain, against a scheduler and against none."""

    def spawn(self, program, *args):
        process = subprocess.Popen([os.path.join(BIN, program), *args], stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_drain_lets_the_running_request_finish(self):
        with tempfile.TemporaryDirectory() as folder:
            address = f"unix:{folder}/workers.sock"
            settings = pathlib.Path(folder, "heddle.yaml")
            settings.write_text(f'model:\n  path: "{MODEL}"\nhttp:\n  port: 0\nrpc:\n  listen: "{address}"\n')
            scheduler = self.spawn("heddle-scheduler", "--config", str(settings))
            host, port = re.search(r"http://([0-9.]+):(\d+)", scheduler.stdout.readline()).groups()
            self.spawn("heddle-worker", "--scheduler", address)
            processes.until_metric(host, port, "heddle_replicas", 1)
            status = json.loads(heddle("cluster", "status", "--scheduler", address, "--json").stdout)
            self.assertEqual([status["state"], [r["rank"] for r in status["ranks"]]], ["ready", [0]])
            stream = processes.open_stream(host, int(port), 1500)
            done = heddle("cluster", "drain", "--scheduler", address)
            self.assertEqual(done.returncode, 0, done.stderr)
            with self.assertRaises(urllib.error.HTTPError) as refused:
                ask(f"http://{host}:{port}", "no more", 5)
            self.assertEqual(refused.exception.code, 503)
            self.assertIn('"finish_reason":"length"', stream.read().decode())

    def test_tls_on_one_side_alone(self):
        certs = pathlib.Path(ROOT, "tests/unit/proto/certs")
        ours = [f"--tls-ca={certs}/ca.pem", f"--tls-cert={certs}/worker.pem", f"--tls-key={certs}/worker.key"]
        theirs = "".join(f'  tls_{k}: "{certs}/{f}"\n' for k, f in (("ca", "ca.pem"), ("cert", "scheduler.pem"), ("key", "scheduler.key")))
        for settings, right, wrong in ("", [], ours), (theirs, ours, []):
            with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                address = f"127.0.0.1:{free.getsockname()[1]}"
                free.close()
                config = pathlib.Path(folder, "heddle.yaml")
                config.write_text(f'model:\n  path: "{MODEL}"\nhttp:\n  port: 0\nrpc:\n  listen: "{address}"\n{settings}')
                self.spawn("heddle-scheduler", "--config", str(config)).stdout.readline()
                self.assertEqual(heddle("cluster", "status", "--scheduler", address, *right).returncode, 0)
                done = heddle("cluster", "status", "--scheduler", address, *wrong)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"no scheduler answers at {address}; ", done.stderr)
                self.assertIn("rpc.tls_*", done.stderr)

    def test_nobody_listens(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
            addresses = [f"127.0.0.1:{taken.getsockname()[1]}", "unix:/nowhere/workers.sock"]
            causes = ["refused", "No such file"]
            for address, cause in zip(addresses, causes):
                for command in "status", "drain":
                    done = heddle("cluster", command, "--scheduler", address)
                    self.assertEqual(done.returncode, 1)
                    self.assertIn(f"no scheduler answers at {address}; ", done.stderr)
                    self.assertIn(cause, done.stderr)
                    self.assertIn("rpc.listen", done.stderr)
                    self.assertNotIn("10 s", done.stderr)  # the refusal, not the deadline, ended it


if __name__ == "__main__":
    processes.unittest.main()
