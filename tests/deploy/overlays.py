# SPDX-License-Identifier: Apache-2.0
"""Every overlay of deploy/k8s renders, and every object in it is what the API server of Kubernetes would take: strictly, so that
a misspelt field is a fault and not silence. Beyond the schema: what we promise of every pod."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

try:
    import jsonschema
    import kubernetes_validate
    import yaml
except ImportError:  # run by hand, without the environment of tests/run.sh
    kubernetes_validate = None

from custom import SCHEMAS

K8S = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy/k8s"
VERSION = "1.34"
OVERLAYS = sorted(p.parent.name for p in (K8S / "overlays").glob("*/kustomization.yaml"))


def render(overlay):
    done = subprocess.run(["kubectl", "kustomize", str(K8S / "overlays" / overlay)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return [o for o in yaml.safe_load_all(done.stdout) if o]


def pods(objects):
    """Pod specs of all workloads."""
    for o in objects:
        if o["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield o["metadata"]["name"], o["spec"]["template"]


@unittest.skipUnless(kubernetes_validate, "kubernetes-validate is not installed")
@unittest.skipUnless(shutil.which("kubectl"), "kubectl is not installed")
class Kubernetes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = {overlay: render(overlay) for overlay in OVERLAYS}
        assert cls.rendered

    def each(self):
        for overlay, objects in self.rendered.items():
            for o in objects:
                with self.subTest(overlay=overlay, object=f"{o['kind']}/{o['metadata']['name']}"):
                    yield o

    def test_schema_is_strict(self):
        """The checker itself: a field that does not exist is refused."""
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "x", "imagge": "y"}]}}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, VERSION, strict=True)

    def test_objects(self):
        for o in self.each():
            if o["kind"] in SCHEMAS:
                jsonschema.validate(o, SCHEMAS[o["kind"]])
            else:
                kubernetes_validate.validate(o, VERSION, strict=True)

    def test_custom_schema_is_strict(self):
        scaled = next(o for o in self.rendered["keda"] if o["kind"] == "ScaledObject")
        broken = dict(scaled, spec=dict(scaled["spec"], minReplicasCount=1))
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMAS["ScaledObject"])

    def test_inspect_prints_resources(self):
        """What `heddle inspect --k8s` prints fits into a container, and grows with the cache."""
        heddle = os.environ.get("HEDDLE_BIN", "build/release/bin") + "/heddle"
        memory = []
        for kv in ("1GiB", "9GiB"):
            done = subprocess.run([heddle, "inspect", K8S.parent / "demo-model", "--tp", "2", "--kv-bytes", kv, "--k8s"],
                                  capture_output=True, text=True, check=True)
            container = {"name": "x", "image": "x", **yaml.safe_load(done.stdout)}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
            kubernetes_validate.validate(pod, VERSION, strict=True)
            memory.append(int(container["resources"]["limits"]["memory"].removesuffix("Gi")))
        self.assertEqual(memory[1] - memory[0], 8)

    def test_replicas_fit(self):
        """KEDA may start as many replicas as the scheduler has groups for."""
        scaled = next(o for o in self.rendered["keda"] if o["kind"] == "ScaledObject")["spec"]
        config = next(o for o in self.rendered["keda"] if o["kind"] == "ConfigMap")["data"]["scheduler.yaml"]
        self.assertEqual(scaled["maxReplicaCount"], yaml.safe_load(config)["parallel"]["dp"])
        self.assertEqual(scaled["minReplicaCount"], yaml.safe_load(config)["scale"]["min"])

    def test_configuration_is_accepted(self):
        heddle = os.environ.get("HEDDLE_BIN", "build/release/bin") + "/heddle"
        for objects in self.rendered.values():
            for name, text in next(o for o in objects if o["kind"] == "ConfigMap")["data"].items():
                with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
                    f.write(text)
                    f.flush()
                    done = subprocess.run([heddle, "config", "--file", f.name], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, f"{name}: {done.stderr}")

    def test_models_claim(self):
        for o in yaml.safe_load_all((K8S / "models.yaml").read_text()):
            kubernetes_validate.validate(o, VERSION, strict=True)

    def test_pods_are_restricted(self):
        """The restricted profile of Pod Security, and a root that cannot be written."""
        for objects in self.rendered.values():
            for name, template in pods(objects):
                spec = template["spec"]
                self.assertTrue(spec["securityContext"]["runAsNonRoot"], name)
                self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
                self.assertFalse(spec["automountServiceAccountToken"])
                for c in spec["containers"]:
                    security = c["securityContext"]
                    self.assertFalse(security["allowPrivilegeEscalation"], c["name"])
                    self.assertTrue(security["readOnlyRootFilesystem"], c["name"])
                    self.assertEqual(security["capabilities"]["drop"], ["ALL"])
                    self.assertIn("memory", c["resources"]["limits"], c["name"])

    def test_probes_and_drain(self):
        for objects in self.rendered.values():
            config = next(o for o in objects if o["kind"] == "ConfigMap")["data"]["scheduler.yaml"]
            drain = int(yaml.safe_load(config)["drain"]["timeout"].rstrip("s"))
            name, template = next(p for p in pods(objects) if p[0] == "heddle")
            scheduler = next(c for c in template["spec"]["containers"] if c["name"] == "scheduler")
            self.assertEqual(scheduler["livenessProbe"]["httpGet"]["path"], "/livez")
            # One that scales to zero takes requests without a replica and holds them.
            to_zero = yaml.safe_load(config).get("scale", {}).get("min") == 0
            self.assertEqual(scheduler["readinessProbe"]["httpGet"]["path"], "/livez" if to_zero else "/readyz")
            before = scheduler["lifecycle"]["preStop"]["sleep"]["seconds"]
            self.assertGreater(template["spec"]["terminationGracePeriodSeconds"], before + drain, name)

    def test_nothing_passes_unnamed(self):
        for objects in self.rendered.values():
            policies = [o for o in objects if o["kind"] == "NetworkPolicy"]
            deny = next(p for p in policies if p["spec"]["podSelector"] == {})
            self.assertEqual(sorted(deny["spec"]["policyTypes"]), ["Egress", "Ingress"])
            self.assertFalse(deny["spec"].get("ingress") or deny["spec"].get("egress"))
            self.assertTrue(any(o["kind"] == "PodDisruptionBudget" for o in objects))

    def test_ranks_have_workers(self):
        """As many worker containers as the layout has ranks, where they stand in one pod."""
        for overlay in ("cpu-node", "gpu-node"):
            objects = self.rendered[overlay]
            config = next(o for o in objects if o["kind"] == "ConfigMap")["data"]["scheduler.yaml"]
            layout = yaml.safe_load(config)["parallel"]
            _, template = next(p for p in pods(objects) if p[0] == "heddle")
            workers = [c for c in template["spec"]["containers"] if c["name"].startswith("worker-")]
            self.assertEqual(len(workers), max(layout["tp"], layout["ep"]))
