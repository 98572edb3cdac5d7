# SPDX-License-Identifier: Apache-2.0
"""Every overlay of deploy/k8s renders, and every object in it is what the API server of Kubernetes would take: strictly, so that
a misspelt field is a fault and not silence. Beyond the schema: what we promise of every pod."""
import copy
import shutil
import unittest

from custom import SCHEMAS, jsonschema, kubernetes_validate, validate
from manifests import K8S, OVERLAYS, config, containers, for_each_overlay, of_kind, pods, render, yaml



def is_free(path, value):
    """Whether the keys in here are the writer's own, and no schema names them."""
    return (path[-1] in ("labels", "annotations", "matchLabels", "requests", "limits") or path == ("data",)
            or (path[-1] == "selector" and all(isinstance(v, str) for v in value.values()))  # a Service's
            or (path[-1] == "metadata" and "triggers" in path))


def places(node, path=()):
    """Paths of all keys that a schema names."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            yield from places(item, path + (i,))
    elif isinstance(node, dict):
        for key, value in node.items():
            yield path + (key,)
            if not is_free(path + (key,), value):
                yield from places(value, path + (key,))


def misspelt(o, path):
    """The object with one key written wrongly."""
    out = copy.deepcopy(o)
    node = out
    for step in path[:-1]:
        node = node[step]
    node[path[-1] + "x"] = node.pop(path[-1])
    return out


@unittest.skipUnless(kubernetes_validate, "kubernetes-validate is not installed")
@unittest.skipUnless(shutil.which("kubectl"), "kubectl is not installed")
class Kubernetes(unittest.TestCase):
    @for_each_overlay
    def test_objects(self, _overlay, objects):
        for o in objects:
            with self.subTest(object=f"{o['kind']}/{o['metadata']['name']}"):
                validate(o)

    def test_models_claim(self):
        for o in yaml.safe_load_all((K8S / "models.yaml").read_text()):
            validate(o)

    def test_misspelt_fields_are_refused(self):
        """The checker itself: each key of each kind of object that we use, one after the other, misspelt."""
        refused = {}
        for o in (o for overlay in OVERLAYS for o in render(overlay)):
            if o["kind"] in refused:
                continue
            refused[o["kind"]] = 0
            for path in places(o):
                if path in (("kind",), ("apiVersion",)):
                    continue  # without them nobody knows which schema it is
                with self.assertRaises((jsonschema.ValidationError, kubernetes_validate.ValidationError), msg=str(path)):
                    validate(misspelt(o, path))
                refused[o["kind"]] += 1
        self.assertLessEqual(set(SCHEMAS), set(refused), "a schema that no overlay uses is not tested")
        self.assertTrue(all(n >= 3 for n in refused.values()), refused)

    def test_wrong_values_are_refused(self):
        wrong = {"LeaderWorkerSet": [("replicas", "1"), ("startupPolicy", "LeaderRead"), ("leaderWorkerTemplate", None)],
                 "ScaledObject": [("maxReplicaCount", "4"), ("triggers", []), ("fallback", {"failureThreshold": 3})],
                 "TriggerAuthentication": [("secretTargetRef", {}), ("env", [{"parameter": "x"}]), ("podIdentity", {"provider": "x"})]}
        self.assertEqual(set(wrong), set(SCHEMAS))
        for o in (o for overlay in OVERLAYS for o in render(overlay)):
            for key, value in wrong.get(o["kind"], []):
                with self.assertRaises(jsonschema.ValidationError, msg=key):
                    validate(dict(o, spec=dict(o["spec"], **{key: value})))

    @for_each_overlay
    def test_pods_are_restricted(self, _overlay, objects):
        """The restricted profile of Pod Security, and a root that cannot be written."""
        self.assertTrue(list(pods(objects)))
        for name, template in pods(objects):
            spec = template["spec"]
            self.assertTrue(spec["securityContext"]["runAsNonRoot"], name)
            self.assertGreater(spec["securityContext"]["runAsUser"], 0)
            self.assertEqual(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
            self.assertFalse(spec["automountServiceAccountToken"])
            self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & set(spec), name)
            for v in spec["volumes"]:  # the kinds that the profile grants
                self.assertTrue({"configMap", "secret", "emptyDir", "persistentVolumeClaim"} & set(v), v)
        for _, c in containers(objects):
            security = c["securityContext"]
            self.assertFalse(security["allowPrivilegeEscalation"], c["name"])
            self.assertTrue(security["readOnlyRootFilesystem"], c["name"])
            self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
            self.assertIn("memory", c["resources"]["limits"], c["name"])

    @for_each_overlay
    def test_probes_and_drain(self, _overlay, objects):
        settings = config(objects, "scheduler.yaml")
        drain = int(settings["drain"]["timeout"].rstrip("s"))
        name, template = next(p for p in pods(objects) if p[0] == "heddle")
        scheduler = next(c for c in template["spec"]["containers"] if c["name"] == "scheduler")
        self.assertEqual(scheduler["livenessProbe"]["httpGet"]["path"], "/livez")
        # One that scales to zero takes requests without a replica and holds them.
        to_zero = settings.get("scale", {}).get("min") == 0
        self.assertEqual(scheduler["readinessProbe"]["httpGet"]["path"], "/livez" if to_zero else "/readyz")
        before = scheduler["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreater(template["spec"]["terminationGracePeriodSeconds"], before + drain, name)

    @for_each_overlay
    def test_nothing_passes_unnamed(self, _overlay, objects):
        deny = next(p for p in of_kind(objects, "NetworkPolicy") if p["spec"]["podSelector"] == {})
        self.assertEqual(sorted(deny["spec"]["policyTypes"]), ["Egress", "Ingress"])
        self.assertFalse(deny["spec"].get("ingress") or deny["spec"].get("egress"))
        self.assertTrue(of_kind(objects, "PodDisruptionBudget"))
