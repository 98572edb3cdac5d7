# SPDX-License-Identifier: Apache-2.0
"""Autoscaling for real: KEDA's contract as a stock client speaks it, push activation, and a compressed day in which a loop
starts and stops real workers as the scheduler's hook says: to zero and back, no flapping, no request lost."""
import importlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

try:
    import grpc
    from grpc_tools import protoc
except ImportError:  # run by hand, without the environment of tests/run.sh
    grpc = None

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WAIT_SECONDS = 60
# The protocol as KEDA's clients have it: with strings and a map.
PROTO = """
syntax = "proto3";
package externalscaler;
service ExternalScaler {
  rpc IsActive(ScaledObjectRef) returns (IsActiveResponse) {}
  rpc StreamIsActive(ScaledObjectRef) returns (stream IsActiveResponse) {}
  rpc GetMetricSpec(ScaledObjectRef) returns (GetMetricSpecResponse) {}
  rpc GetMetrics(GetMetricsRequest) returns (GetMetricsResponse) {}
  rpc StreamMetricSpec(ScaledObjectRef) returns (stream GetMetricSpecResponse) {}
}
message ScaledObjectRef { string name = 1; string namespace = 2; map<string, string> scalerMetadata = 3; }
message IsActiveResponse { bool result = 1; }
message GetMetricSpecResponse { repeated MetricSpec metricSpecs = 1; }
message MetricSpec { string metricName = 1; int64 targetSize = 2; double targetSizeFloat = 3; }
message GetMetricsRequest { ScaledObjectRef scaledObjectRef = 1; string metricName = 2; }
message GetMetricsResponse { repeated MetricValue metricValues = 1; }
message MetricValue { string metricName = 1; int64 metricValue = 2; double metricValueFloat = 3; }
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def program(name):
    return str(pathlib.Path(os.environ.get("HEDDLE_BIN", "build/release/bin")) / name)


class Cluster:
    """A scheduler, and as many workers as somebody wants."""

    def __init__(self, folder, settings):
        self.dir = pathlib.Path(folder)
        self.port, self.rpc = free_port(), free_port()
        self.workers = []
        args = [program("heddle-scheduler")]
        settings = {"model.path": ROOT / "deploy/demo-model", "http.port": self.port, "rpc.listen": f"127.0.0.1:{self.rpc}",
                    "log.level": "info", **settings}
        for key, value in settings.items():
            args += ["--set", f"{key}={value}"]
        self.log = open(self.dir / "scheduler.log", "wb")
        self.scheduler = subprocess.Popen(args, stdout=self.log, stderr=self.log)
        self.wait(lambda: self.get("/livez")[0] == 200, "the scheduler does not live")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name):
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def wait(self, holds, what):
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}; {(self.dir / 'scheduler.log').read_text()[-2000:]}")
            time.sleep(0.02)

    def scale_to(self, n):
        while len(self.workers) < n:
            log = open(self.dir / f"worker-{time.monotonic_ns()}.log", "wb")
            self.workers.append(subprocess.Popen([program("heddle-worker"), "--scheduler", f"127.0.0.1:{self.rpc}", "--threads", "1"],
                                                 stdout=log, stderr=log))
            log.close()
        while len(self.workers) > n:
            worker = self.workers.pop()
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)

    def ask(self, max_tokens=8):
        """Tokens of an answer; a 503 before the first replica is tried again, as clients do."""
        body = json.dumps({"model": "demo-model", "prompt": "What is 2 plus 3?", "max_tokens": max_tokens, "ignore_eos": True}).encode()
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
                    return json.load(answer)["usage"]["completion_tokens"]
            except urllib.error.HTTPError as e:
                if e.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(min(1, float(e.headers["Retry-After"])))

    def close(self):
        self.scale_to(0)
        self.scheduler.send_signal(signal.SIGTERM)
        self.scheduler.wait(60)
        self.log.close()


@unittest.skipUnless(grpc, "grpcio-tools is not installed")
class Keda(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="heddle-keda-")
        (pathlib.Path(cls.folder.name) / "externalscaler_kedatest.proto").write_text(PROTO)
        protoc.main(["", f"-I{cls.folder.name}", f"--python_out={cls.folder.name}", f"--grpc_python_out={cls.folder.name}",
                     "externalscaler_kedatest.proto"])
        sys.path.insert(0, cls.folder.name)
        cls.pb = importlib.import_module("externalscaler_kedatest_pb2")
        stubs = importlib.import_module("externalscaler_kedatest_pb2_grpc")
        cls.cluster = Cluster(cls.folder.name, {"scale.min": 0, "scale.queued_tokens": 500, "scale.requests": 3})
        cls.channel = grpc.insecure_channel(f"127.0.0.1:{cls.cluster.rpc}")
        cls.scaler = stubs.ExternalScalerStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.cluster.close()
        cls.folder.cleanup()

    def ref(self, signal_name=None):
        return self.pb.ScaledObjectRef(name="moe", namespace="heddle", scalerMetadata={"signal": signal_name} if signal_name else {})

    def test_1_specs_and_metrics(self):
        for name, target in ((None, 1), ("desired_replicas", 1), ("queued_tokens", 500), ("requests", 3), ("kv_tokens_held", 500)):
            spec = self.scaler.GetMetricSpec(self.ref(name)).metricSpecs
            self.assertEqual(len(spec), 1)
            self.assertEqual((spec[0].targetSize, spec[0].targetSizeFloat), (target, target))
            values = self.scaler.GetMetrics(self.pb.GetMetricsRequest(scaledObjectRef=self.ref(name), metricName=spec[0].metricName))
            self.assertEqual(values.metricValues[0].metricName, spec[0].metricName)
            self.assertEqual(values.metricValues[0].metricValue, 0)

    def test_2_unknown_is_refused(self):
        with self.assertRaises(grpc.RpcError) as caught:
            self.scaler.GetMetricSpec(self.ref("moon_phase"))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        with self.assertRaises(grpc.RpcError) as caught: # KEDA falls back without a word
            next(iter(self.scaler.StreamMetricSpec(self.ref())))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_3_activation(self):
        """Idle; a request that nobody can take wakes the scaler; it is held until a worker is there."""
        self.assertFalse(self.scaler.IsActive(self.ref()).result)
        pushed = self.scaler.StreamIsActive(self.ref())
        self.assertFalse(next(pushed).result)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(self.cluster.ask()))
        asking.start()
        self.assertTrue(next(pushed).result)
        self.assertTrue(self.scaler.IsActive(self.ref()).result)
        self.cluster.scale_to(1)
        asking.join(WAIT_SECONDS)
        self.assertEqual(answers, [8])
        # From now on requests wait in the queue while there is no replica.
        self.cluster.wait(lambda: self.cluster.metric("heddle_requests_running") == 0, "the request does not end")
        self.cluster.scale_to(0)
        late = []
        waiting = [threading.Thread(target=lambda: late.append(self.cluster.ask())) for _ in range(5)]
        for t in waiting:
            t.start()
        self.cluster.wait(lambda: self.cluster.metric("heddle_requests_waiting") == 5, "requests are not held")
        wanted = self.scaler.GetMetrics(self.pb.GetMetricsRequest(scaledObjectRef=self.ref("requests"), metricName="requests"))
        self.assertEqual(wanted.metricValues[0].metricValueFloat, 5)
        self.cluster.scale_to(1)
        for t in waiting:
            t.join(WAIT_SECONDS)
        self.assertEqual(late, [8] * 5)


class Day(unittest.TestCase):
    """A day in half a minute: night, morning, noon, evening, night. The scheduler's hook writes what is wanted into a file."""

    HOURS = [(4, 0), (4, 1), (6, 12), (5, 2), (11, 0)]  # seconds, clients that ask one request after the other

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="heddle-day-")
        hook = pathlib.Path(self.folder.name) / "hook"
        hook.write_text(f"#!/bin/sh\necho \"$1 $2 $3\" >> {self.folder.name}/wishes\n")
        hook.chmod(0o755)
        self.cluster = Cluster(self.folder.name, {"parallel.dp": 2, "scale.min": 0, "scale.requests": 6, "scale.up_after": "500ms",
                                                  "scale.down_after": "2s", "scale.zero_after": "4s", "scale.exec": hook})
        self.over = threading.Event()
        self.seen = []  # how many workers there were
        self.loop = threading.Thread(target=self.follow)
        self.loop.start()

    def tearDown(self):
        self.over.set()
        self.loop.join(60)
        self.cluster.close()
        self.folder.cleanup()

    def wishes(self):
        path = pathlib.Path(self.folder.name) / "wishes"
        return [line.split(" ", 2) for line in path.read_text().splitlines()] if path.exists() else []

    def follow(self):
        while not self.over.is_set():
            wishes = self.wishes()
            self.cluster.scale_to(int(wishes[-1][0]) if wishes else 0)
            if not self.seen or self.seen[-1] != len(self.cluster.workers):
                self.seen.append(len(self.cluster.workers))
            time.sleep(0.05)

    def client(self, until, answers):
        while time.monotonic() < until:
            answers.append(self.cluster.ask(max_tokens=24))

    def test_day(self):
        answers = []
        for seconds, n in self.HOURS:
            until = time.monotonic() + seconds
            clients = [threading.Thread(target=self.client, args=(until, answers)) for _ in range(n)]
            for c in clients:
                c.start()
            time.sleep(seconds)
            for c in clients:
                c.join(WAIT_SECONDS)
                self.assertFalse(c.is_alive(), "a request was lost")
        self.cluster.wait(lambda: self.seen[-1] == 0, "the service does not go to zero")
        self.assertGreater(len(answers), 20)
        self.assertEqual(set(answers), {24})
        self.assertEqual(self.seen[0], 0)
        self.assertEqual(self.seen[-1], 0)
        self.assertEqual(max(self.seen), 2, self.seen)
        # Up to one, to two, down to one, to zero: more would be flapping.
        self.assertLessEqual(len(self.wishes()), 5, self.wishes())
        log = (pathlib.Path(self.folder.name) / "scheduler.log").read_text()
        self.assertEqual(log.count(" scale desired="), len(self.wishes()), "each decision is logged")
        self.assertIn("reason=", log)
