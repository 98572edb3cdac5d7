# SPDX-License-Identifier: Apache-2.0
"""deploy/k8s agrees with itself and with the programs: ports, addresses, flags, paths and numbers that stand in several places
are the same in all of them. pods.py then runs what is here only compared."""
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from custom import kubernetes_validate, validate
from manifests import (K8S, OVERLAYS, ROOT, End, allowed, config, containers, for_each_overlay, of_kind, pods, program, render, selects,
                       yaml)

CLIENT = End({"heddle.client": "true"}, namespace="elsewhere")
STRANGER = End({"app": "x"}, namespace="elsewhere")
DNS = End({"k8s-app": "kube-dns"}, namespace="kube-system")
KEDA = End({"app": "keda-operator"}, namespace="keda")


def run(*args):
    return subprocess.run([str(a) for a in args], capture_output=True, text=True, check=False)


def under(path, folder):
    return pathlib.PurePath(path).is_relative_to(folder)


def mount_of(container, path):
    """The mount that a path of the container lies in."""
    found = [m for m in container["volumeMounts"] if under(path, m["mountPath"])]
    return max(found, key=lambda m: len(m["mountPath"]), default=None)


def volume_of(template, container, path):
    mount = mount_of(container, path)
    return next((v for v in template["spec"]["volumes"] if mount and v["name"] == mount["name"]), {})


def port_of(address):
    return int(address.rsplit(":", 1)[1])


@unittest.skipUnless(kubernetes_validate, "kubernetes-validate is not installed")
@unittest.skipUnless(shutil.which("kubectl"), "kubectl is not installed")
class Agreement(unittest.TestCase):
    @staticmethod
    def scheduler(objects):
        """Its pod template and container."""
        return next((t, c) for t, c in containers(objects) if c["name"] == "scheduler")

    @staticmethod
    def workers(objects):
        return [(t, c) for t, c in containers(objects) if c["image"].split(":")[0] == "heddle-worker"]

    @staticmethod
    def remote(objects):
        return not config(objects, "scheduler.yaml")["rpc"]["listen"].startswith("unix:")

    # -- files and flags

    def test_every_overlay_is_in_the_readme(self):
        text = (ROOT / "deploy/README.md").read_text()
        table = re.search(r"^\| overlay \|.*?\n\n", text, re.M | re.S)[0]
        self.assertEqual(sorted(re.findall(r"^\| `([\w-]+)` \|", table, re.M)), OVERLAYS)

    @for_each_overlay
    def test_configuration_is_accepted(self, _overlay, objects):
        for name, text in of_kind(objects, "ConfigMap")[0]["data"].items():
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
                f.write(text)
                f.flush()
                done = run(program("heddle"), "config", "--file", f.name)
            self.assertEqual(done.returncode, 0, f"{name}: {done.stderr}")

    @for_each_overlay
    def test_images(self, _overlay, objects):
        """Of this version, as deploy/README.md has them built; without a tag it would be `latest`, which nobody builds."""
        version = run(program("heddle"), "version").stdout.split()[1]
        built = re.findall(r"--target \w+ -t (\S+) ", (ROOT / "deploy/README.md").read_text())
        for _, c in containers(objects):
            self.assertIn(c["image"], built)
            self.assertEqual(c["image"].split(":")[1], version)

    @for_each_overlay
    def test_flags_exist(self, _overlay, objects):
        """The arguments are flags of the program that the image starts, and the file is in the ConfigMap."""
        files = of_kind(objects, "ConfigMap")[0]["data"]
        for template, c in containers(objects):
            name = c["image"].split(":")[0]
            told = run(program(name), "--help").stdout
            flags = [a for a in c["args"] if a.startswith("-")]
            self.assertIn("--config", flags)
            for flag in flags:
                self.assertRegex(told, rf"(?m)^ +(-\w, )?{flag}\b", f"{name} has no {flag}")
            path = c["args"][c["args"].index("--config") + 1]
            mount = mount_of(c, path)
            self.assertIn(str(pathlib.PurePath(path).relative_to(mount["mountPath"])), files)
            self.assertIn("configMap", volume_of(template, c, path))

    @for_each_overlay
    def test_probes_ask_the_worker(self, _overlay, objects):
        """Each worker is asked with its own settings, and can write what the answer is read from, in a file that is its alone."""
        files = set()
        for template, c in self.workers(objects):
            start = re.findall(r'ENTRYPOINT \["(\S+heddle-worker)"\]', (ROOT / "deploy/docker/Dockerfile").read_text()) + c["args"]
            asked = {"livenessProbe": "alive"}
            if template is not self.scheduler(objects)[0]:  # whose /readyz speaks for the whole pod
                asked["readinessProbe"] = "ready"
            for probe in ("livenessProbe", "readinessProbe"):
                self.assertEqual(c.get(probe, {}).get("exec", {}).get("command"),
                                 start + ["--probe", asked[probe]] if probe in asked else None)
            sets = dict(a.split("=", 1) for a in c["args"] if "=" in a)
            path = sets.get("worker.health_file") or config(objects, "worker.yaml")["worker"]["health_file"]
            self.assertIn("emptyDir", volume_of(template, c, path))
            self.assertFalse(mount_of(c, path).get("readOnly"))
            self.assertNotIn(path, files)
            files.add(path)

    @for_each_overlay
    def test_every_pod_has_one_budget(self, _overlay, objects):
        for name, template in pods(objects):
            mine = [o["metadata"]["name"] for o in of_kind(objects, "PodDisruptionBudget")
                    if selects(o["spec"]["selector"], template["metadata"]["labels"])]
            self.assertEqual(len(mine), 1, f"{name}: {mine}")  # with two, no eviction is answered at all

    @for_each_overlay
    def test_paths_are_mounted(self, _overlay, objects):
        """What the files name lies in the volume that is made for it."""
        for role, found in (("scheduler.yaml", [self.scheduler(objects)]), ("worker.yaml", self.workers(objects))):
            settings = config(objects, role)
            self.assertTrue(found)
            for template, c in found:
                for key in ("tls_ca", "tls_cert", "tls_key"):
                    if key in settings.get("rpc", {}):
                        self.assertEqual(volume_of(template, c, settings["rpc"][key])["secret"]["secretName"], "heddle-mtls")
                address = settings["rpc"]["listen"] if role == "scheduler.yaml" else settings["worker"]["scheduler"]
                if address.startswith("unix:"):
                    self.assertIn("emptyDir", volume_of(template, c, address[5:]))
                # A worker opens the model at the path that the scheduler tells it.
                model = volume_of(template, c, config(objects, "scheduler.yaml")["model"]["path"])
                self.assertEqual(model["persistentVolumeClaim"]["claimName"], "heddle-models")
        claim = next(yaml.safe_load_all((K8S / "models.yaml").read_text()))
        self.assertEqual((claim["kind"], claim["metadata"]["name"]), ("PersistentVolumeClaim", "heddle-models"))

    @for_each_overlay
    def test_mounts_have_volumes(self, _overlay, objects):
        maps = {o["metadata"]["name"] for o in of_kind(objects, "ConfigMap")}
        for template, c in containers(objects):
            volumes = {v["name"]: v for v in template["spec"]["volumes"]}
            self.assertLessEqual({m["name"] for m in c["volumeMounts"]}, set(volumes), c["name"])
            for v in volumes.values():
                if "configMap" in v:
                    self.assertIn(v["configMap"]["name"], maps)

    # -- ports and addresses

    @for_each_overlay
    def test_ports(self, _overlay, objects):
        template, _ = self.scheduler(objects)
        ports, settings = End.of(template).ports, config(objects, "scheduler.yaml")
        self.assertEqual(ports["http"], settings["http"]["port"])
        self.assertEqual(template["metadata"]["annotations"]["prometheus.io/port"], str(ports["http"]))
        self.assertEqual("workers" in ports, self.remote(objects))
        if self.remote(objects):
            self.assertEqual(ports["workers"], port_of(settings["rpc"]["listen"]))
        for service in of_kind(objects, "Service"):
            for p in service["spec"]["ports"]:
                self.assertIn(p["targetPort"], ports, service["metadata"]["name"])

    @for_each_overlay
    def test_addresses(self, _overlay, objects):
        """Who dials the scheduler dials a Service that leads to it."""
        dialled = config(objects, "worker.yaml")["worker"]["scheduler"]
        if not self.remote(objects):
            self.assertEqual(dialled, config(objects, "scheduler.yaml")["rpc"]["listen"])
            return
        service = next(o for o in of_kind(objects, "Service") if o["metadata"]["name"] == dialled.split(":")[0])
        port = next(p for p in service["spec"]["ports"] if p["port"] == port_of(dialled))
        self.assertEqual(port["targetPort"], "workers")
        # Not ready without workers, found by them all the same.
        self.assertTrue(service["spec"]["publishNotReadyAddresses"])
        for scaled in of_kind(objects, "ScaledObject"):
            for trigger in scaled["spec"]["triggers"]:
                self.assertEqual(trigger["metadata"]["scalerAddress"], f"{dialled.split(':')[0]}.heddle:{port_of(dialled)}")

    @for_each_overlay
    def test_selectors_meet_pods(self, _overlay, objects):
        labels = [t["metadata"]["labels"] for _, t in pods(objects)]
        for kind, of in (("Service", lambda o: {"matchLabels": o["spec"]["selector"]}),
                         ("PodDisruptionBudget", lambda o: o["spec"]["selector"]),
                         ("NetworkPolicy", lambda o: o["spec"]["podSelector"])):
            for o in of_kind(objects, kind):
                self.assertTrue(any(selects(of(o), one) for one in labels), f"{kind}/{o['metadata']['name']} means no pod")

    @for_each_overlay
    def test_connections(self, overlay, objects):
        """Who may talk to whom, over all policies together."""
        printed = run(program("heddle"), "config").stdout
        coll_ports = int(re.search(r"first of the (\d+) ports", printed)[1])
        scheduler = End.of(self.scheduler(objects)[0])
        worker = End.of(self.workers(objects)[0][0])
        http = scheduler.ports["http"]
        self.assertTrue(allowed(objects, CLIENT, scheduler, http))
        self.assertFalse(allowed(objects, STRANGER, scheduler, http))
        self.assertFalse(allowed(objects, scheduler, STRANGER, 443))
        self.assertFalse(allowed(objects, worker, STRANGER, 443))
        if not self.remote(objects):
            return
        rpc = scheduler.ports["workers"]
        self.assertTrue(allowed(objects, worker, scheduler, rpc))
        self.assertFalse(allowed(objects, worker, scheduler, http))
        self.assertFalse(allowed(objects, CLIENT, scheduler, rpc))
        self.assertFalse(allowed(objects, CLIENT, worker, rpc))
        self.assertTrue(allowed(objects, worker, DNS, 53, "UDP"))
        self.assertFalse(allowed(objects, worker, DNS, 443))
        self.assertEqual(allowed(objects, KEDA, scheduler, rpc), overlay == "keda")
        first = config(objects, "worker.yaml")["worker"].get("coll_port")
        self.assertEqual(first is not None, bool(of_kind(objects, "LeaderWorkerSet")))
        if first:
            for port, fits in ((first - 1, False), (first, True), (first + coll_ports - 1, True), (first + coll_ports, False)):
                self.assertEqual(allowed(objects, worker, worker, port), fits, port)
            self.assertFalse(allowed(objects, CLIENT, worker, first))
            self.assertFalse(allowed(objects, worker, STRANGER, first))

    # -- numbers

    @for_each_overlay
    def test_ranks_have_workers(self, _overlay, objects):
        """As many workers as the layout has ranks, and as many groups as it has replicas."""
        layout = {"tp": 1, "ep": 1, "dp": 1, **config(objects, "scheduler.yaml").get("parallel", {})}
        ranks = max(layout["tp"], layout["ep"])
        groups = of_kind(objects, "LeaderWorkerSet")
        for group in groups:
            self.assertEqual(group["spec"]["leaderWorkerTemplate"]["size"], ranks)
            self.assertEqual(group["spec"]["replicas"], layout["dp"])
        if not groups:
            self.assertEqual(len(self.workers(objects)), ranks)

    def test_replicas_fit(self):
        """KEDA may start as many replicas as the scheduler has groups for."""
        objects = render("keda")
        scaled, settings = of_kind(objects, "ScaledObject")[0]["spec"], config(objects, "scheduler.yaml")
        self.assertEqual(scaled["maxReplicaCount"], settings["parallel"]["dp"])
        self.assertEqual(scaled["minReplicaCount"], settings["scale"]["min"])
        target = next(o for o in objects if o["metadata"]["name"] == scaled["scaleTargetRef"]["name"]
                      and o["kind"] == scaled["scaleTargetRef"]["kind"])
        self.assertEqual(target["apiVersion"], scaled["scaleTargetRef"]["apiVersion"])

    @for_each_overlay
    def test_inspect_prints_resources(self, _overlay, objects):
        """What `heddle inspect --k8s` prints fits into a container, asks for what the overlays ask for, and grows with the cache."""
        memory = []
        for kv in ("1GiB", "9GiB"):
            done = run(program("heddle"), "inspect", ROOT / "deploy/demo-model", "--tp", "2", "--kv-bytes", kv, "--k8s")
            container = {"name": "x", "image": "x", **yaml.safe_load(done.stdout)}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
            validate(pod)
            memory.append(int(container["resources"]["limits"]["memory"].removesuffix("Gi")))
        self.assertEqual(memory[1] - memory[0], 8)
        for _, c in self.workers(objects):
            limits = {k for k in c["resources"]["limits"] if "/" not in k}  # a GPU is asked for besides
            self.assertEqual((set(c["resources"]["requests"]), limits),
                             (set(container["resources"]["requests"]), set(container["resources"]["limits"])))
