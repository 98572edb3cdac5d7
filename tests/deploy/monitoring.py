# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real server under load; promtool finds nothing to say; every query of the dashboard answers; every
alert has its test and its page in the runbook."""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DASHBOARDS = ROOT / "deploy/dashboards"
sys.path.insert(0, str(DASHBOARDS))
import make as dashboard  # noqa: E402

LOAD_SECONDS = int(os.environ.get("HEDDLE_SCRAPE_SECONDS", "12"))  # a minute by name: see tests/README.md
WAIT_SECONDS = 60
# What no panel shows, with the reason.
UNSHOWN = set()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def wait_for(url, process):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            get(url)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def promtool(*args, **kwargs):
    return subprocess.run(["promtool", *map(str, args)], capture_output=True, text=True, check=False, **kwargs)


class Files(unittest.TestCase):
    def test_dashboard_is_the_table(self):
        self.assertEqual((DASHBOARDS / "heddle.json").read_text(), json.dumps(dashboard.dashboard(), indent=1) + "\n",
                         "run deploy/dashboards/make.py")

    def test_runbook_has_every_alert(self):
        alerts = re.findall(r"- alert: (\w+)", (DASHBOARDS / "alerts.yaml").read_text())
        self.assertGreater(len(alerts), 5)
        pages = re.findall(r"^## (\w+)$", (ROOT / "deploy/RUNBOOK.md").read_text(), re.M)
        tested = (DASHBOARDS / "alerts_test.yaml").read_text()
        for alert in alerts:
            self.assertIn(alert, pages)
            self.assertRegex(tested, rf"alertname: {alert}\n\s+exp_alerts", f"no test shows that {alert} fires")


@unittest.skipUnless(shutil.which("promtool"), "prometheus is not installed")
class Monitoring(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = pathlib.Path(tempfile.mkdtemp(prefix="heddle-prometheus-"))
        heddle = pathlib.Path(os.environ.get("HEDDLE_BIN", "build/release/bin")) / "heddle"
        cls.port, cls.prom_port = free_port(), free_port()
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        cls.server = subprocess.Popen([heddle, "serve", ROOT / "deploy/demo-model", "--tp", "2", "--ep", "2", "--port", str(cls.port)], **quiet)
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                  "rule_files": [str(DASHBOARDS / "alerts.yaml")],
                  "scrape_configs": [{"job_name": "heddle", "static_configs": [{"targets": [f"127.0.0.1:{cls.port}"]}]}]}
        (cls.dir / "prometheus.yml").write_text(json.dumps(config))
        wait_for(f"http://127.0.0.1:{cls.port}/readyz", cls.server)
        cls.prometheus = subprocess.Popen(
            ["prometheus", f"--config.file={cls.dir}/prometheus.yml", f"--storage.tsdb.path={cls.dir}/data",
             f"--web.listen-address=127.0.0.1:{cls.prom_port}"], **quiet)
        wait_for(f"http://127.0.0.1:{cls.prom_port}/-/ready", cls.prometheus)
        cls.load = subprocess.run(
            [heddle, "bench", "serve", f"http://127.0.0.1:{cls.port}", "--request-rate", "8", "--num-prompts", str(8 * LOAD_SECONDS),
             "--vocab", "300", "--ignore-eos", "--random-output-len", "16", "--json"], capture_output=True, text=True, check=False)
        time.sleep(2)  # one more scrape: what is measured is Prometheus' clock, not ours

    @classmethod
    def tearDownClass(cls):
        for p in (cls.prometheus, cls.server):
            p.terminate()
            p.wait(30)
        shutil.rmtree(cls.dir, ignore_errors=True)

    def query(self, expr):
        url = f"http://127.0.0.1:{self.prom_port}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
        answer = json.loads(get(url))
        self.assertEqual(answer["status"], "success")
        return answer["data"]["result"]

    def test_load_was_served(self):
        self.assertEqual(self.load.returncode, 0, self.load.stderr)
        self.assertEqual(json.loads(self.load.stdout)["failed"], 0)

    def test_metrics_are_clean(self):
        done = promtool("check", "metrics", input=get(f"http://127.0.0.1:{self.port}/metrics"))
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_rules(self):
        for args in (("check", "rules", DASHBOARDS / "alerts.yaml"), ("test", "rules", DASHBOARDS / "alerts_test.yaml")):
            done = promtool(*args)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_scrapes_succeed(self):
        self.assertEqual([r["value"][1] for r in self.query('min_over_time(up{job="heddle"}[30s])')], ["1"])
        self.assertGreater(float(self.query("heddle_generation_tokens_total")[0]["value"][1]), 0)

    def test_every_query_answers(self):
        """A panel may be empty where nothing happened (no loss, no refusal); its query must be one."""
        empty = []
        for expr in dashboard.expressions():
            with self.subTest(expr=expr):
                if not self.query(expr):
                    empty.append(expr)
        for expr in empty:
            self.assertRegex(expr, "recovery|rejected", f"{expr} finds nothing under load")

    def test_every_metric_is_shown(self):
        exported = set(re.findall(r"^# TYPE (\w+) ", get(f"http://127.0.0.1:{self.port}/metrics"), re.M))
        used = set(re.findall(r"heddle_\w+", " ".join(dashboard.expressions())))
        used = {re.sub(r"_(bucket|count|sum)$", "", m) for m in used}
        self.assertEqual(used - exported, set(), "the dashboard asks for what the server does not have")
        self.assertEqual(exported - used - UNSHOWN, set(), "no panel shows these")

    def test_no_alert_under_load(self):
        alerts = json.loads(get(f"http://127.0.0.1:{self.prom_port}/api/v1/alerts"))["data"]["alerts"]
        self.assertEqual([a["labels"]["alertname"] for a in alerts if a["state"] == "firing"], [])
