# SPDX-License-Identifier: Apache-2.0
"""A tensor parallel group over two hosts: two network namespaces joined by a cable, each with a host name and a /dev/shm of its
own. The scheduler and a worker on one, a worker on the other that joins with a certificate and a token and is started again by a
plain loop, as a supervisor does. The tokens are those of one host, and stay so when the remote worker is killed in mid-stream."""
import contextlib
import ctypes
import http.client
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WAIT_SECONDS = 60
KILLS = 3
STREAMS = 4
CLONE_NEWNET = 0x40000000
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
HTTP_PORT, RPC_PORT, COLL_PORT = 8080, 7070, 7100
ADDRESSES = {"left": "10.77.0.1", "right": "10.77.0.2"}
NAMES = {name: f"IP:{address},DNS:{name}" for name, address in ADDRESSES.items()}  # of their certificates


def program(name):
    return str(pathlib.Path(os.environ.get("HEDDLE_BIN", ROOT / "build/release/bin")).resolve() / name)


def why_not():
    """Why this machine cannot play two hosts; None: it can."""
    with open("/proc/self/status", encoding="ascii") as f:
        caps = int(next(line for line in f if line.startswith("CapEff")).split()[1], 16)
    if not (caps >> CAP_NET_ADMIN & 1 and caps >> CAP_SYS_ADMIN & 1):
        return "namespaces need CAP_NET_ADMIN and CAP_SYS_ADMIN"
    for tool in ("ip", "unshare", "nsenter", "openssl"):
        if not shutil.which(tool):
            return f"{tool} is not installed"
    if subprocess.run(["unshare", "--net", "--mount", "--uts", "true"], capture_output=True, check=False).returncode != 0:
        return "the kernel gives no namespaces here"
    told = subprocess.run([program("heddle"), "version", "--json"], capture_output=True, text=True, check=False).stdout
    if not json.loads(told).get("ucx"):
        return "this build or machine has no UCX"
    return None


class Host:
    """Namespaces that last as long as this process holds the pipe."""

    def __init__(self, name, address):
        self.name, self.address = name, address
        script = f"mount -t tmpfs tmpfs /dev/shm && mount -t sysfs sysfs /sys && hostname {name} && ip link set lo up && echo up && exec cat"
        self.holder = subprocess.Popen(["unshare", "--net", "--mount", "--uts", "sh", "-c", script],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "up\n":
            raise AssertionError(f"no namespaces for {name}")

    def command(self, *args):
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--mount", "--uts", *map(str, args)]

    def run(self, *args):
        subprocess.run(self.command(*args), check=True, capture_output=True)

    @contextlib.contextmanager
    def inside(self):
        """Sockets that this thread makes are on this host."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net", "rb") as home, open(f"/proc/{self.holder.pid}/ns/net", "rb") as there:
            if libc.setns(there.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                libc.setns(home.fileno(), CLONE_NEWNET)

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()


def plug(left, right):
    left.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", right.holder.pid)
    for host in (left, right):
        host.run("ip", "address", "add", f"{host.address}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
    deadline = time.monotonic() + WAIT_SECONDS
    for host in (left, right):  # the kernel says so up to a second later, and UCX takes no other
        while subprocess.run(host.command("grep", "-q", "up", "/sys/class/net/eth0/operstate"), check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise AssertionError("the cable between the hosts never was up")
            time.sleep(0.05)


def make_certificates(folder, hosts):
    """An authority, and a certificate for each host, good for what stands beside its name."""
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=folder)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name, good_for in hosts.items():
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / f"{name}.ext").write_text(f"subjectAltName={good_for}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", f"{name}.ext", "-out", f"{name}.pem")
    (folder / "token").write_text("a token of this test\n")


def body_of(i, tokens):
    body = {"model": "demo-model", "prompt": f"{'Once upon a time. ' * i}Tell me about rain.", "max_tokens": tokens - 3 * i,
            "stream": True, "ignore_eos": True, "temperature": 0}
    if i % 2:
        body.update(temperature=1.0, top_p=0.95, seed=1000 + i)
    return body


class TwoHosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = why_not()
        if reason:
            raise unittest.SkipTest(reason)
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="heddle-hosts-"))
        cls.processes = []
        make_certificates(cls.dir, NAMES)
        cls.left, cls.right = (Host(name, address) for name, address in ADDRESSES.items())
        plug(cls.left, cls.right)
        cls.start_scheduler()

    @classmethod
    def tearDownClass(cls):
        for p in reversed(cls.processes):
            cls.end(p)
        cls.left.close()
        cls.right.close()
        shutil.rmtree(cls.dir, ignore_errors=True)

    @classmethod
    def end(cls, process):
        """A process and what it started."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @classmethod
    def start(cls, host, *command):
        with open(cls.dir / f"{len(cls.processes)}.log", "wb") as log:
            process = subprocess.Popen(host.command(*command), stdout=log, stderr=log, start_new_session=True)
        cls.processes.append(process)
        return process

    def logs(self):
        return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in sorted(self.dir.glob("*.log")))

    @classmethod
    def tls(cls, host):
        return [f"rpc.tls_ca={cls.dir}/ca.pem", f"rpc.tls_cert={cls.dir}/{host.name}.pem", f"rpc.tls_key={cls.dir}/{host.name}.key",
                f"rpc.token_file={cls.dir}/token"]

    @staticmethod
    def settings(pairs):
        return [word for pair in pairs for word in ("--set", pair)]

    @classmethod
    def start_scheduler(cls):
        pairs = [f"model.path={ROOT}/deploy/demo-model", "parallel.tp=2", "parallel.ep=2", f"http.host={cls.left.address}",
                 f"http.port={HTTP_PORT}", f"rpc.listen={cls.left.address}:{RPC_PORT}", *cls.tls(cls.left)]
        return cls.start(cls.left, program("heddle-scheduler"), *cls.settings(pairs))

    def worker(self, host, *extra):
        pairs = [f"worker.scheduler={self.left.address}:{RPC_PORT}", "worker.threads=1", "worker.redial=3s",
                 f"worker.coll_port={COLL_PORT}", *self.tls(host), *extra]
        return [program("heddle-worker"), *self.settings(pairs)]

    def start_worker(self, host):
        """Again and again, as systemd would."""
        loop = 'while ! "$@"; do sleep 0.05; done'
        return self.start(host, "sh", "-c", loop, "worker", *self.worker(host))

    def status(self):
        tls = [x for k, f in (("ca", "ca.pem"), ("cert", "left.pem"), ("key", "left.key")) for x in (f"--tls-{k}", self.dir / f)]
        done = subprocess.run(self.left.command(program("heddle"), "cluster", "status", "--scheduler",
                                                f"{self.left.address}:{RPC_PORT}", *tls, "--json"),
                              capture_output=True, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {"ranks": []}

    def wait_hosts(self, hosts):
        """Until the ranks run on these."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            ranks = self.status()["ranks"]
            if sorted(r["host"] for r in ranks if r["state"] == "running") == sorted(hosts):
                return ranks
            if time.monotonic() > deadline:
                self.fail(f"the group never formed on {hosts}: {ranks}\n{self.logs()}")
            time.sleep(0.05)

    def stream(self, i, tokens):
        """-> text, arrival times."""
        text, times, done = "", [], False
        with self.left.inside():
            connection = http.client.HTTPConnection(self.left.address, HTTP_PORT, timeout=WAIT_SECONDS)
            connection.request("POST", "/v1/completions", json.dumps(body_of(i, tokens)), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise AssertionError(f"{answer.status}: {answer.read()[:300]!r}")
            for line in answer:
                if line.strip() == b"data: [DONE]":
                    done = True
                    break
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise AssertionError(event["error"])
                    text += "".join(choice.get("text") or "" for choice in event["choices"])
                    times.append(time.monotonic())
            connection.close()
        if not done:
            raise AssertionError("the stream broke off")
        return text, times

    def streams(self, tokens, meanwhile=None):
        """All of them at once. -> their texts and times; meanwhile: run while they run."""
        out = [None] * STREAMS

        def one(i):
            try:
                out[i] = self.stream(i, tokens)
            except (AssertionError, OSError, http.client.HTTPException, ValueError) as why:
                out[i] = (f"failed: {why}", [])

        threads = [threading.Thread(target=one, args=(i,)) for i in range(STREAMS)]
        for t in threads:
            t.start()
        if meanwhile:
            meanwhile()
        for t in threads:
            t.join()
        return [o[0] for o in out], [o[1] for o in out]

    @staticmethod
    def rate(times):
        return sum(len(t) for t in times) / (max(t[-1] for t in times) - min(t[0] for t in times))

    def test_group_over_two_hosts(self):
        tokens = 200
        self.start_worker(self.left)
        second = self.start_worker(self.left)
        self.wait_hosts(["left", "left"])
        expected, times = self.streams(tokens)
        figures = [f"one host {self.rate(times):.0f} tokens/s"]
        self.assertTrue(all(len(t) > 0 for t in times), expected)

        self.end(second)
        self.start_worker(self.right)
        ranks = self.wait_hosts(["left", "right"])
        texts, times = self.streams(tokens)
        self.assertEqual(texts, expected, self.logs())
        figures.append(f"two hosts {self.rate(times):.0f} tokens/s")

        pauses = []
        for _ in range(KILLS):
            remote = next(r["pid"] for r in ranks if r["host"] == "right")
            killed = []

            def kill(pid=remote, at=killed):
                time.sleep(0.3)
                at.append(time.monotonic())
                os.kill(pid, signal.SIGKILL)

            texts, times = self.streams(3 * tokens, kill)
            self.assertTrue(all(t and t[0] < killed[0] < t[-1] for t in times), "the kill met no stream; lengthen them")
            self.assertEqual([t[:len(e)] for t, e in zip(texts, expected)], expected, self.logs())
            self.assertEqual(texts, getattr(self, "long", texts), self.logs())
            self.long = texts
            pauses += [next(x for x in t if x > killed[0] + 0.02) - killed[0] for t in times]
            ranks = self.wait_hosts(["left", "right"])
            self.assertNotEqual(next(r["pid"] for r in ranks if r["host"] == "right"), remote)
        figures.append(f"next token {statistics.median(pauses) * 1e3:.0f} ms after a kill of the remote worker, at most "
                       f"{max(pauses) * 1e3:.0f} ms")
        texts, _ = self.streams(3 * tokens)
        self.assertEqual(texts, self.long, self.logs())
        print("; ".join(figures), flush=True)

    def test_strangers(self):
        """Without the token, or with another authority's certificate, nobody joins."""
        wrong, other = self.dir / "wrong", self.dir / "other"
        wrong.write_text("another token\n")
        other.mkdir()
        make_certificates(other, NAMES)
        for extra, says in (([f"rpc.token_file={wrong}"], "the token is wrong"),
                            ([f"rpc.tls_cert={other}/right.pem", f"rpc.tls_key={other}/right.key"], "no scheduler answers")):
            done = subprocess.run(self.right.command(*self.worker(self.right, *extra)), capture_output=True, text=True,
                                  timeout=WAIT_SECONDS, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(says, done.stderr)
        self.assertEqual({r["state"] for r in self.status()["ranks"]} - {"missing", "running"}, set())
