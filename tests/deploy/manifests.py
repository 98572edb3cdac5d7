# SPDX-License-Identifier: Apache-2.0
"""deploy/k8s as a cluster would see it: rendered overlays, the pods in them, and which connections their network policies let
through. Not a test; overlays.py, agree.py and pods.py are."""
import functools
import os
import pathlib
import subprocess

try:
    import yaml
except ImportError:
    yaml = None

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
K8S = ROOT / "deploy/k8s"
OVERLAYS = sorted(p.parent.name for p in (K8S / "overlays").glob("*/kustomization.yaml"))
NAMESPACE = "heddle"


def program(name):
    return str(pathlib.Path(os.environ.get("HEDDLE_BIN", ROOT / "build/release/bin")).resolve() / name)


@functools.lru_cache(maxsize=None)
def render_text(overlay):
    done = subprocess.run(["kubectl", "kustomize", str(K8S / "overlays" / overlay)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


@functools.lru_cache(maxsize=None)
def render(overlay):
    """Its objects: to be read, not changed."""
    return [o for o in yaml.safe_load_all(render_text(overlay)) if o]


def for_each_overlay(test):
    """A test of one overlay and its objects, made one of all of them."""
    @functools.wraps(test)
    def all_of_them(self):
        self.assertTrue(OVERLAYS)
        for overlay in OVERLAYS:
            with self.subTest(overlay=overlay):
                test(self, overlay, render(overlay))
    return all_of_them


def of_kind(objects, kind):
    return [o for o in objects if o["kind"] == kind]


def pods(objects):
    """Pod templates of all workloads, with the workload's name."""
    for o in objects:
        if o["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield o["metadata"]["name"], o["spec"]["template"]
        elif o["kind"] == "LeaderWorkerSet":
            inner = o["spec"]["leaderWorkerTemplate"]
            for key in ("leaderTemplate", "workerTemplate"):
                if key in inner:
                    yield o["metadata"]["name"], inner[key]


def containers(objects):
    for _, template in pods(objects):
        for c in template["spec"]["containers"]:
            yield template, c


def config(objects, name):
    """One file of the ConfigMap, read."""
    return yaml.safe_load(of_kind(objects, "ConfigMap")[0]["data"][name])


def selects(selector, labels):
    """A label selector of matchLabels alone; {} is everybody."""
    assert set(selector) <= {"matchLabels"}, selector
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


class End:
    """One end of a connection: a pod's labels and named ports, and where it runs."""

    def __init__(self, labels, namespace=NAMESPACE, ports=None):
        self.labels, self.namespace, self.ports = labels, namespace, ports or {}

    @classmethod
    def of(cls, template):
        named = {p["name"]: p["containerPort"] for c in template["spec"]["containers"] for p in c.get("ports", [])}
        return cls(template["metadata"]["labels"], ports=named)


def _peer_fits(peer, end):
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != NAMESPACE:
        return False
    return selects(peer.get("podSelector", {}), end.labels)


def _port_fits(rule, port, protocol, target):
    if rule.get("protocol", "TCP") != protocol:
        return False
    first = rule["port"] if isinstance(rule["port"], int) else target.ports.get(rule["port"], -1)
    return first <= port <= rule.get("endPort", first)


def _side(policies, direction, here, there, reach):
    """Whether one side's policies let a connection through; a pod that none of them names is open."""
    rules, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    mine = [p["spec"] for p in policies if here.namespace == p["metadata"]["namespace"]
            and direction in p["spec"]["policyTypes"] and selects(p["spec"]["podSelector"], here.labels)]
    port, protocol, target = reach
    return not mine or any(
        any(_peer_fits(peer, there) for peer in rule.get(peers, [{"namespaceSelector": {}}]))
        and ("ports" not in rule or any(_port_fits(r, port, protocol, target) for r in rule["ports"]))
        for spec in mine for rule in spec.get(rules) or [])


def allowed(objects, source, target, port, protocol="TCP"):
    """Whether the network policies let source open a connection to this port of target."""
    policies = of_kind(objects, "NetworkPolicy")
    reach = (port, protocol, target)
    return _side(policies, "Egress", source, target, reach) and _side(policies, "Ingress", target, source, reach)
