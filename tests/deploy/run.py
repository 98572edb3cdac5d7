#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an operator installs: the configuration files, the systemd units, the install target, a life from the units' own
command lines (ready, healthy to its watchdog, a request, a drain, a clean end), the Kubernetes overlays (overlays.py,
agree.py, pods.py), a real Prometheus (monitoring.py), autoscaling (scaling.py), and a group over two hosts (two_hosts.py).

    tests/deploy/run.py [--bin build/release/bin] [TEST ...]

The last line counts. Checks of units need systemd-analyze (package systemd), those of overlays kubectl and kubernetes-validate; they are skipped without.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from monitoring import Files, Monitoring  # noqa: E402, F401: their tests are found here
from agree import Agreement  # noqa: E402, F401
from overlays import Kubernetes  # noqa: E402, F401
from pods import Pods  # noqa: E402, F401
from scaling import Day, Keda  # noqa: E402, F401
from two_hosts import TwoHosts  # noqa: E402, F401

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
UNITS = ["heddle-scheduler.service", "heddle-worker@.service"]
EXPOSURE_MAX = 2.0
WAIT_SECONDS = 60
BIN = ROOT / "build/release/bin"


def run(*args, **kwargs):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, check=False, **kwargs)


class Configuration(unittest.TestCase):
    """deploy/config says what the key table says."""

    def test_reference_is_the_key_table(self):
        printed = run(BIN / "heddle", "config").stdout
        self.assertEqual((DEPLOY / "config/heddle.yaml").read_text(), printed,
                         "deploy/config/heddle.yaml is not what `heddle config` prints; write it anew")

    def test_examples_are_accepted(self):
        for name in ("heddle.yaml", "scheduler.yaml", "worker.yaml"):
            done = run(BIN / "heddle", "config", "--file", DEPLOY / "config" / name)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_broken_file_is_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write((DEPLOY / "config/worker.yaml").read_text().replace("redial:", "redail:"))
            f.flush()
            done = run(BIN / "heddle", "config", "--file", f.name)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("redial", done.stderr)


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
class Units(unittest.TestCase):
    def test_exposure(self):
        for unit in UNITS:
            done = run("systemd-analyze", "security", "--offline=true", "--no-pager", DEPLOY / "systemd" / unit)
            found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
            self.assertIsNotNone(found, done.stdout + done.stderr)
            self.assertLess(float(found[1]), EXPOSURE_MAX, f"{unit} is more exposed than it need be")

    def test_verify(self):
        """Nothing to say but that this machine has no manual pages."""
        with tempfile.TemporaryDirectory() as folder:
            programs = pathlib.Path(folder) / "bin"
            programs.mkdir()
            paths = []
            for unit in UNITS:
                text = (DEPLOY / "systemd" / unit).read_text().replace("/usr/bin/heddle", f"{programs}/heddle")
                path = pathlib.Path(folder) / unit.replace("@.", "@0.")
                path.write_text(text)
                paths.append(path)
            for name in ("heddle-scheduler", "heddle-worker"):
                shutil.copy("/bin/true", programs / name)
            done = run("systemd-analyze", "verify", "--man=no", *paths)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))


class Supervisor:
    """Holds NOTIFY_SOCKET as systemd does, and remembers what each service said."""

    def __init__(self, folder):
        self.path = str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.said = {}
        self.changed = threading.Condition()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            data, control, _, _ = self.socket.recvmsg(4096, 256)
            pid = int.from_bytes(control[0][2][:4], "little")
            with self.changed:
                self.said.setdefault(pid, []).append(data.decode())
                self.changed.notify_all()

    def wait_for(self, pid, text):
        deadline = time.monotonic() + WAIT_SECONDS
        with self.changed:
            while not any(text in line for line in self.said.get(pid, [])):
                left = deadline - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    raise AssertionError(f"process {pid} never said {text!r}; it said {self.said.get(pid)}")


class Life(unittest.TestCase):
    """Installed into a folder of its own, started as the units start it."""

    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="heddle-deploy-"))
        done = run("cmake", "--install", BIN.parent, "--prefix", cls.dir / "usr")
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)
        cls.etc = cls.dir / "etc"
        cls.etc.mkdir()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            cls.port = s.getsockname()[1]
        moved = {"/usr/share/heddle": str(cls.dir / "usr/share/heddle"), "/run/heddle": str(cls.dir),
                 "port: 8080": f"port: {cls.port}"}
        for name in ("scheduler.yaml", "worker.yaml"):
            text = (cls.dir / "usr/share/doc/heddle" / name).read_text()
            for old, new in moved.items():
                text = text.replace(old, new)
            (cls.etc / name).write_text(text)
        cls.supervisor = Supervisor(cls.dir)
        cls.processes = []

    @classmethod
    def tearDownClass(cls):
        for p in cls.processes:
            if p.poll() is None:
                p.kill()
            p.wait()
        shutil.rmtree(cls.dir, ignore_errors=True)

    def start(self, unit):
        """ExecStart of an installed unit, with systemd's environment."""
        text = (self.dir / "usr/lib/systemd/system" / unit).read_text()
        line = re.search(r"^ExecStart=(.*)$", text, re.M)[1].replace("/etc/heddle", str(self.etc))
        watchdog = int(re.search(r"^WatchdogSec=(\d+)s$", text, re.M)[1])
        args = [a for a in shlex.split(line) if a != "$WORKER_ARGS"]
        self.assertTrue(args[0].startswith(str(self.dir / "usr/bin/")))
        # Pings come at a third of it; three seconds keep the test short.
        env = dict(os.environ, NOTIFY_SOCKET=self.supervisor.path, WATCHDOG_USEC=str(min(watchdog, 3) * 1000000))
        log = open(self.dir / f"{unit}-{len(self.processes)}.log", "wb")
        process = subprocess.Popen(args, env=env, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def ask(self, max_tokens, result, started=threading.Event()):
        """Appends the last chunk of a stream, which has the usage; sets `started` at the first."""
        body = json.dumps({"model": "demo-model", "prompt": "What is 2 plus 3?", "max_tokens": max_tokens, "ignore_eos": True,
                           "stream": True, "stream_options": {"include_usage": True}})
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", body.encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
            last = None
            for line in answer:
                if line.startswith(b"data: {"):
                    started.set()
                    last = json.loads(line[len(b"data: "):])
            result.append(last)

    def wait_ready(self):
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        self.fail("the scheduler never was ready")

    def test_life(self):
        doctor = run(self.dir / "usr/bin/heddle", "doctor", "--config", self.etc / "scheduler.yaml", "--json")
        findings = json.loads(doctor.stdout)
        self.assertEqual(findings["failures"], 0, findings)
        self.assertIn("model", [f["what"] for f in findings["findings"]])

        scheduler = self.start("heddle-scheduler.service")
        workers = [self.start("heddle-worker@.service") for _ in range(2)]
        for process in [scheduler, *workers]:
            self.supervisor.wait_for(process.pid, "READY=1")
        self.wait_ready()
        self.supervisor.wait_for(scheduler.pid, "STATUS=ready; 2 of 2 ranks ready")
        for worker in workers:
            self.supervisor.wait_for(worker.pid, "holds its shard")
        for process in [scheduler, *workers]:
            self.supervisor.wait_for(process.pid, "WATCHDOG=1")

        address = f"unix:{self.dir}/workers.sock"
        status = json.loads(run(self.dir / "usr/bin/heddle", "cluster", "status", "--scheduler", address, "--json").stdout)
        self.assertEqual([(r["rank"], r["state"]) for r in status["ranks"]], [(0, "running"), (1, "running")])
        self.assertEqual({r["pid"] for r in status["ranks"]}, {w.pid for w in workers})
        self.ask(4, []) # a rank that has not stepped has no times
        top = json.loads(run(self.dir / "usr/bin/heddle", "top", f"http://127.0.0.1:{self.port}", "--json").stdout)
        self.assertEqual((top["state"], top["workers_ready"], len(top["ranks"])), ("ready", 2, 2))

        # A drain in the middle of a request: it is answered in full, then all end well.
        answers, started = [], threading.Event()
        asking = threading.Thread(target=self.ask, args=(150, answers, started))
        asking.start()
        self.assertTrue(started.wait(WAIT_SECONDS))
        scheduler.send_signal(signal.SIGTERM)
        self.supervisor.wait_for(scheduler.pid, "STOPPING=1")
        asking.join(WAIT_SECONDS)
        self.assertEqual(answers[0]["usage"]["completion_tokens"], 150)
        self.assertEqual(scheduler.wait(WAIT_SECONDS), 0)
        for worker in workers: # dismissed by the scheduler, or told as systemd tells them
            worker.send_signal(signal.SIGTERM)
            self.assertEqual(worker.wait(WAIT_SECONDS), 0)


class Doctor(unittest.TestCase):
    def doctor(self, settings):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write(settings)
            f.flush()
            done = run(BIN / "heddle", "doctor", "--config", f.name, "--json")
        return done.returncode, {x["what"]: x for x in json.loads(done.stdout)["findings"]}

    def test_finds_what_is_wrong(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            keys = pathlib.Path(folder) / "keys"
            keys.write_text("a:secret\n")
            keys.chmod(0o644)
            run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3",
                "-subj", "/CN=x", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem")
            code, found = self.doctor(
                f"model:\n  path: \"{folder}/none\"\nhttp:\n  port: {taken.getsockname()[1]}\n"
                f"  api_key_file: \"{keys}\"\n  tls_cert: \"{folder}/cert.pem\"\nrpc:\n  tls_ca: \"{keys}\"\n")
        self.assertEqual(code, 1)
        levels = {what: f["level"] for what, f in found.items()}
        self.assertEqual(levels["model"], "fail")
        self.assertEqual(levels["HTTP port"], "warn")
        self.assertEqual(levels["API keys"], "fail") # open to other users
        self.assertEqual(levels["HTTPS"], "warn") # three days left
        self.assertEqual(levels["mTLS authority"], "fail") # no certificate
        for f in found.values():
            self.assertTrue(f["level"] == "ok" or f["advice"], f)


class Count(unittest.TextTestResult):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def main():
    global BIN
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(BIN))
    parser.add_argument("tests", nargs="*")
    args = parser.parse_args()
    BIN = pathlib.Path(args.bin).resolve()
    os.environ["HEDDLE_BIN"] = str(BIN)
    loader = unittest.TestLoader()
    module = sys.modules["__main__"]
    suite = loader.loadTestsFromNames(args.tests, module) if args.tests else loader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(verbosity=2, resultclass=Count).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.passed} passed, {failed} failed, {len(result.skipped)} skipped")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
