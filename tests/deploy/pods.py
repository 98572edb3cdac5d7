# SPDX-License-Identifier: Apache-2.0
"""The rendered overlays, run: each pod is a network namespace of its own on one switch, each container the image's command with the
arguments, volumes, user and rights that stand in the YAML, on a root of its own that cannot be written. A typo in an argument, a
path, a mount or a port shows here; what only a cluster can show (scheduling, DNS, the LeaderWorkerSet controller) does not."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from custom import kubernetes_validate
from manifests import ROOT, End, allowed, config, of_kind, pods, program, render, selects
from two_hosts import Host, make_certificates, why_not

WAIT_SECONDS = 60
DEMO = ROOT / "deploy/demo-model"
# What deploy/docker/Dockerfile puts into the images, the entry point first.
PROGRAMS = {"heddle-scheduler": ["heddle-scheduler", "heddle"], "heddle-worker": ["heddle-worker"]}

# $1: the root to be; $2: lines "ro|rw SOURCE TARGET" of what is mounted there; then the user's id and the command.
CONTAINER = """set -e
root=$1 mounts=$2 user=$3; shift 3
mount -t tmpfs -o mode=0755 tmpfs "$root"; cd "$root"
mkdir -p usr/bin usr/lib usr/lib64 etc proc sys dev/shm tmp
for d in bin lib lib64; do ln -s usr/$d $d; done
for d in usr/lib usr/lib64; do mount --rbind -o ro /$d $d; done
mount --rbind /proc proc; mount -t sysfs -o ro sysfs sys
for d in null zero random urandom; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mount -t tmpfs -o size=64m,mode=1777 tmpfs dev/shm
cp /etc/ld.so.cache etc/; echo 'hosts: files' > etc/nsswitch.conf
echo "$mounts" | while read -r how from to; do
    if [ -d "$from" ]; then mkdir -p ".$to"; else mkdir -p ".${to%/*}"; touch ".$to"; fi
    mount --bind "$from" ".$to"; mount -o "remount,bind,$how" ".$to"
done
mount -o remount,ro "$root"
# No right but to become that user; it has none.
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+sys_chroot,+setuid,+setgid \\
    chroot --userspec="$user" --groups="${user#*:}" "$root" "$@"
"""



class Pod(Host):
    """Of a template of the rendered objects. Its containers start again when they end, as under a kubelet."""

    def __init__(self, cluster, name, template):
        self.cluster, self.template, self.processes, self.stopping = cluster, template, {}, False
        self.volumes = {v["name"]: cluster.volume(name, v, template["spec"]["securityContext"]["fsGroup"])
                        for v in template["spec"]["volumes"]}
        super().__init__(name, f"10.77.0.{len(cluster.pods) + 1}")
        cluster.plug_in(self)

    def container_command(self, container):
        folder = self.cluster.dir / f"{self.name}.{container['name']}"
        folder.mkdir(exist_ok=True)
        programs = PROGRAMS[container["image"].split(":")[0]]
        mounts = [("ro", program(p), f"/usr/bin/{p}") for p in programs] + [("ro", self.cluster.hosts, "/etc/hosts")]
        for m in sorted(container["volumeMounts"], key=lambda m: len(m["mountPath"])):
            how, source = self.volumes[m["name"]]
            mounts.append(("ro" if m.get("readOnly") else how, source, m["mountPath"]))
        security = self.template["spec"]["securityContext"]
        return [*self.command("unshare", "--mount"), "sh", "-c", CONTAINER, "sh", folder,
                "\n".join(" ".join(map(str, m)) for m in mounts), f"{security['runAsUser']}:{security['runAsGroup']}",
                f"/usr/bin/{programs[0]}", *container["args"]]

    def start(self):
        for c in self.template["spec"]["containers"]:
            threading.Thread(target=self.keep, args=(c,), daemon=True).start()

    def keep(self, container):
        command = list(map(str, self.container_command(container)))
        while not self.stopping:
            with open(self.cluster.dir / f"{self.name}.{container['name']}.log", "ab") as log:
                self.processes[container["name"]] = process = subprocess.Popen(command, stdout=log, stderr=log)
            process.wait()
            time.sleep(0.05)

    def stop(self):
        """As a deletion does. -> exit statuses"""
        for p in self.processes.values():
            p.send_signal(signal.SIGTERM)
        return [p.wait(WAIT_SECONDS) for p in self.processes.values()]

    def enter(self, container, *command):
        """kubectl exec."""
        security = self.template["spec"]["securityContext"]
        return subprocess.run(["nsenter", "--target", str(self.processes[container].pid), "--net", "--mount", "--uts", "--root", "--wd=/",
                               "--setgid", str(security["runAsGroup"]), "--setuid", str(security["runAsUser"]), "--", *command],
                              capture_output=True, text=True, check=False)

    def connections(self):
        """Open ones, as (port here, address there, port there)."""
        text = subprocess.run(self.command("cat", "/proc/self/net/tcp", "/proc/self/net/tcp6"), capture_output=True, text=True,
                              check=True).stdout
        for words in map(str.split, text.splitlines()):
            if words[3] == "01":  # established
                (_, here), (address, there) = words[1].split(":"), words[2].split(":")
                yield int(here, 16), ".".join(str(b) for b in bytes.fromhex(address[-8:])[::-1]), int(there, 16)


class Cluster:
    """What the objects of one overlay ask for."""

    def __init__(self, objects, scaled=None):
        """scaled: replicas by a Deployment's name, as an autoscaler would set them."""
        self.objects, self.pods = objects, []
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="heddle-pods-"))
        self.dir.chmod(0o755)
        self.hosts = self.dir / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.switch = Host("switch", "10.77.0.254")
        self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        self.switch.run("ip", "address", "add", f"{self.switch.address}/24", "dev", "br0")
        self.switch.run("ip", "link", "set", "br0", "up")
        for o in objects:
            if o["kind"] == "Deployment":
                for i in range((scaled or {}).get(o["metadata"]["name"], o["spec"]["replicas"])):
                    self.pods.append(Pod(self, f"{o['metadata']['name']}-{i}", o["spec"]["template"]))
            elif o["kind"] == "LeaderWorkerSet":
                self.add_groups(o["metadata"]["name"], o["spec"])
        self.name_services()
        for pod in self.pods:
            pod.start()

    def add_groups(self, name, spec):
        """Named as LeaderWorkerSet names them."""
        inner = spec["leaderWorkerTemplate"]
        for i in range(spec["replicas"]):
            for k in range(inner["size"]):
                template = inner["workerTemplate"] if k else inner.get("leaderTemplate", inner["workerTemplate"])
                self.pods.append(Pod(self, f"{name}-{i}-{k}" if k else f"{name}-{i}", template))

    def plug_in(self, pod):
        port = f"p{len(self.pods)}"
        self.switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pod.holder.pid)
        self.switch.run("ip", "link", "set", port, "master", "br0", "up")
        pod.run("ip", "address", "add", f"{pod.address}/24", "dev", "eth0")
        pod.run("ip", "link", "set", "eth0", "up")
        deadline = time.monotonic() + WAIT_SECONDS
        while subprocess.run(pod.command("grep", "-q", "up", "/sys/class/net/eth0/operstate"), check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise AssertionError("a pod's interface never was up")
            time.sleep(0.02)

    def name_services(self):
        """The Services' names, without a cluster's address: the port of the Service must be the pod's then, too."""
        lines = ["127.0.0.1 localhost"]
        for service in (o for o in of_kind(self.objects, "Service") if o["metadata"]["name"] != "heddle"):
            name = service["metadata"]["name"]
            behind = next(p for p in self.pods if selects({"matchLabels": service["spec"]["selector"]}, p.template["metadata"]["labels"]))
            for port in service["spec"]["ports"]:
                assert End.of(behind.template).ports[port["targetPort"]] == port["port"], service
            lines.append(f"{behind.address} {name} {name}.heddle")
        self.hosts.write_text("\n".join(lines) + "\n")

    def volume(self, pod, volume, group):
        """A folder with what belongs there, and whether a mount of it can be written."""
        folder = self.dir / f"{pod}.volume.{volume['name']}"
        folder.mkdir()
        if "configMap" in volume:
            data = next(o for o in of_kind(self.objects, "ConfigMap") if o["metadata"]["name"] == volume["configMap"]["name"])["data"]
            for name, text in data.items():
                (folder / name).write_text(text)
                (folder / name).chmod(0o644)
            return "ro", folder
        if "secret" in volume:
            for name, made in (("ca.crt", "ca.pem"), ("tls.crt", "pods.pem"), ("tls.key", "pods.key")):
                shutil.copy(self.certificates() / made, folder / name)
                os.chown(folder / name, 0, group)
                (folder / name).chmod(volume["secret"]["defaultMode"])
            return "ro", folder
        if "persistentVolumeClaim" in volume:
            shutil.copytree(DEMO, folder / "model")
            return ("ro" if volume["persistentVolumeClaim"].get("readOnly") else "rw"), folder
        assert "emptyDir" in volume, volume
        os.chown(folder, 0, group)
        folder.chmod(0o2777)
        return "rw", folder

    def certificates(self):
        """One authority, and one certificate for all, good for the names that are dialled; as cert-manager would fill the secret."""
        folder = self.dir / "certificates"
        if not folder.exists():
            folder.mkdir()
            make_certificates(folder, {"pods": "DNS:heddle-workers,DNS:heddle-workers.heddle"})
        return folder

    def pod(self, start):
        return next(p for p in self.pods if p.name.startswith(start))

    def logs(self):
        return "\n".join(f"== {p.name}\n{p.read_text(errors='replace')[-2000:]}" for p in sorted(self.dir.glob("*.log")))

    def close(self):
        for pod in reversed(self.pods):
            pod.stopping = True
            for p in pod.processes.values():
                if p.poll() is None:
                    p.kill()
                p.wait()
            pod.close()
        self.switch.close()
        shutil.rmtree(self.dir, ignore_errors=True)


@unittest.skipUnless(kubernetes_validate, "kubernetes-validate is not installed")
@unittest.skipUnless(shutil.which("kubectl"), "kubectl is not installed")
class Pods(unittest.TestCase):
    texts = {}

    @classmethod
    def setUpClass(cls):
        reason = why_not() or (None if shutil.which("setpriv") else "setpriv is not installed")
        if reason:
            raise unittest.SkipTest(reason)

    def begin(self, overlay, scaled=None):
        self.cluster = Cluster(render(overlay), scaled)
        self.addCleanup(self.cluster.close)
        self.scheduler = self.cluster.pod("heddle-0")
        container = next(c for c in self.scheduler.template["spec"]["containers"] if c["name"] == "scheduler")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.wait_probe(container[probe]["httpGet"])

    def http(self, method, path, body=None):
        """From another place on the network."""
        with self.cluster.switch.inside():
            connection = http.client.HTTPConnection(self.scheduler.address, End.of(self.scheduler.template).ports["http"],
                                                    timeout=WAIT_SECONDS)
            connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
            return connection.getresponse()

    def wait_probe(self, probe):
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                if self.http("GET", probe["path"]).status == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                self.fail(f"{probe} never answered\n{self.cluster.logs()}")
            time.sleep(0.05)

    def ask(self, tokens, on_event=lambda n: None):
        """A stream's text. on_event: with the count of its events."""
        body = {"model": "model", "prompt": "Tell me about rain.", "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                "stream": True}
        answer, text, n = self.http("POST", "/v1/completions", body), "", 0
        self.assertEqual(answer.status, 200, self.cluster.logs())
        for line in answer:
            if line.strip() == b"data: [DONE]":
                return text
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                self.assertNotIn("error", event, self.cluster.logs())
                text += "".join(c.get("text") or "" for c in event["choices"])
                n += 1
                on_event(n)
        self.fail(f"the stream broke off\n{self.cluster.logs()}")

    def ranks(self):
        listen = config(self.cluster.objects, "scheduler.yaml")["rpc"]["listen"]
        at, tls = (listen, []) if listen.startswith("unix:") else (f"heddle-workers:{listen.rsplit(':', 1)[1]}", [
            f"--tls-{k}=/etc/heddle-mtls/{f}" for k, f in (("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key"))])
        done = self.scheduler.enter("scheduler", "/usr/bin/heddle", "cluster", "status", f"--scheduler={at}", *tls, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["ranks"]

    def probe(self, pod, container, probe):
        """As a kubelet does. -> whether it is well"""
        command = next(c for c in pod.template["spec"]["containers"] if c["name"] == container)[probe]["exec"]["command"]
        return pod.enter(container, *command).returncode == 0

    def wait_workers(self, ready):
        """Until the readiness of all workers is so; they live all the while."""
        deadline = time.monotonic() + WAIT_SECONDS
        workers = [(p, name) for p in self.cluster.pods for name in p.processes if p is not self.scheduler]
        self.assertTrue(workers)
        while {self.probe(*w, "readinessProbe") for w in workers} != {ready}:
            self.assertEqual({self.probe(*w, "livenessProbe") for w in workers}, {True})
            if time.monotonic() > deadline:
                self.fail(f"the workers' readiness never was {ready}\n{self.cluster.logs()}")
            time.sleep(0.2)

    def check_rights(self):
        """Of each process: not root, no capability, none to be had, and a root that cannot be written."""
        for pod in self.cluster.pods:
            for process in pod.processes.values():
                status = dict(line.split(":\t", 1) for line in
                              pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":\t" in line)
                self.assertEqual({status["Uid"], status["Gid"]}, {"10001\t10001\t10001\t10001"})
                self.assertEqual((int(status["CapEff"], 16), int(status["CapPrm"], 16), status["NoNewPrivs"]), (0, 0, "1"))
                root = next(line for line in pathlib.Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
                            if line.split()[4] == "/")
                self.assertTrue(root.split()[5].startswith("ro"), root)

    def check_connections(self):
        """What the network policies would have let through. -> the ports on which ranks meet"""
        dialling = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        by_address, between = {p.address: p for p in self.cluster.pods}, set()
        for pod in self.cluster.pods:
            for here, address, port in pod.connections():
                if address not in by_address or here < dialling:
                    continue  # the other side dialled
                ends = End.of(pod.template), End.of(by_address[address].template)
                self.assertTrue(allowed(self.cluster.objects, *ends, port), f"{pod.name} -> {by_address[address].name}:{port}")
                if ends[0].labels == ends[1].labels:
                    between.add(port)
        return between

    def end(self):
        """A drain: everything ends well, and what the scheduler dismisses is not started again."""
        for pod in self.cluster.pods:
            pod.stopping = True
        self.assertEqual(self.scheduler.stop().count(0), len(self.scheduler.processes), self.cluster.logs())
        for pod in self.cluster.pods:
            self.assertEqual(set(pod.stop()), {0}, self.cluster.logs())

    def test_cpu_node(self):
        self.begin("cpu-node")
        self.texts["cpu-node"] = self.ask(200)
        self.check_rights()
        self.assertEqual({r["state"] for r in self.ranks()}, {"running"})
        for name in ("worker-0", "worker-1"):
            self.assertTrue(self.probe(self.scheduler, name, "livenessProbe"))
        self.end()

    def test_keda(self):
        """Started by KEDA: two pods, a replica each. They are ready while there is a scheduler, and alive without."""
        self.begin("keda", {"heddle-worker": 2})
        self.wait_probe({"path": "/readyz"})
        text = self.ask(200)
        self.assertEqual(self.texts.get("cpu-node", text), text)
        self.check_rights()
        self.assertFalse(self.check_connections(), "replicas have nothing to say to each other")
        self.wait_workers(ready=True)
        self.scheduler.processes["scheduler"].send_signal(signal.SIGSTOP)
        self.wait_workers(ready=False)
        self.scheduler.processes["scheduler"].send_signal(signal.SIGCONT)
        self.wait_workers(ready=True)
        self.end()

    def test_multi_node(self):
        """The same tokens from four pods, also when one of them dies in mid-stream; only its container starts again."""
        self.begin("multi-node")
        ranks = self.ranks()
        self.assertEqual(sorted(r["host"] for r in ranks), ["heddle-worker-0", "heddle-worker-0-1", "heddle-worker-0-2",
                                                            "heddle-worker-0-3"])
        self.wait_workers(ready=True)
        text = self.ask(200)
        self.assertEqual(self.texts.get("cpu-node", text), text)
        self.check_rights()
        self.assertTrue(self.check_connections())

        victim = self.cluster.pod("heddle-worker-0-2")
        before = {p.name: [q.pid for q in p.processes.values()] for p in self.cluster.pods}

        def kill(n):
            if n == 20:
                victim.processes["worker"].kill()

        self.assertEqual(self.ask(200, kill), text)
        after = {p.name: [q.pid for q in p.processes.values()] for p in self.cluster.pods}
        self.assertEqual([name for name in before if before[name] != after[name]], [victim.name])
        self.assertTrue(self.check_connections())
        self.end()
