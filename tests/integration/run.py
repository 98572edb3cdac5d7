#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the integration tests: the command line's, then the API's against a server that it starts, or against --url.

    tests/integration/run.py                          heddle serve on the bundled model, every profile
    tests/integration/run.py --url http://HOST:PORT   a server that runs already (profile "default")
    tests/integration/run.py test_openai test_http    some modules

A module of api/ says in PROFILES which servers it wants; without it, the default one. The last line counts.
"""

import argparse
import importlib
import json
import os
import pathlib
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE / "api"), str(HERE / "cli")]

import template_model  # noqa: E402

PROFILES = {
    "default": ["--tp", "2", "--ep", "2"],
    # So few blocks that running requests must be preempted.
    "small-kv": ["--tp", "2", "--ep", "2", "--kv-bytes", "1MiB"],
    # TLS and API keys; make_files makes them.
    "secure": ["--ssl-certfile", "cert.pem", "--ssl-keyfile", "key.pem", "--api-key-file", "keys"],
    # The model with the chat template of template_model.py.
    "template": ["--tp", "2"],
}
API_KEY = "integration-test-key"
READY_SECONDS = 120


def find_bin(given):
    places = [given] if given else [ROOT / "build" / p / "bin" for p in ("release", "dev", "asan", "tsan")]
    for place in places:
        if (pathlib.Path(place) / "heddle").is_file():
            return pathlib.Path(place).resolve()
    sys.exit("run.py: no heddle program; build it first (cmake --preset release && ninja -C build/release)")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def make_files(folder):
    """A certificate for 127.0.0.1 and a file of keys."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=heddle test", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    (folder / "keys").write_text(f"# test\ntester:{API_KEY}\n")


class Server:
    """`heddle serve` as a child, stopped again at the end."""

    def __init__(self, heddle, model, args, log):
        self.port = free_port()
        self.tls = None
        if "cert.pem" in args:
            make_files(log.parent)
            args = [str(log.parent / a) if a in ("cert.pem", "key.pem", "keys") else a for a in args]
            self.tls = ssl.create_default_context(cafile=log.parent / "cert.pem")
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"
        command = [heddle, "serve", model, "--port", str(self.port), *args]
        print("#", shlex.join(command), flush=True)
        self.log = open(log, "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True)

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        last = ""
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                sys.exit(f"run.py: heddle serve ended with {self.process.returncode}; see {self.log.name}")
            try:
                with urllib.request.urlopen(self.url + "/readyz", timeout=5, context=self.tls):
                    return
            except urllib.error.HTTPError as e:
                last = json.load(e).get("state", "")
            except OSError as e:
                last = str(e)
            time.sleep(0.02)
        sys.exit(f"run.py: not ready after {READY_SECONDS} s ({last}); see {self.log.name}")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                print("run.py: heddle serve did not stop in 60 s", flush=True)
        self.log.close()


def modules_of(folder, names):
    found = sorted(p.stem for p in (HERE / folder).glob("test_*.py"))
    return [importlib.import_module(name) for name in found if not names or name in names]


def run_modules(modules):
    suite = unittest.TestSuite()
    for module in modules:
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(module))
    return unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)


def run_profile(profile, modules, url, tls=None):
    import client

    client.connect(url, tls, API_KEY)
    return run_modules(m for m in modules if profile in profiles_of(m))


def profiles_of(module):
    return getattr(module, "PROFILES", ("default",))


def run_all_profiles(args, bin_dir, modules):
    log_dir = pathlib.Path(args.log_dir or tempfile.mkdtemp(prefix="heddle-api-"))
    results = []
    for profile in args.profile or PROFILES:
        if not any(profile in profiles_of(m) for m in modules):
            continue
        extra = PROFILES[profile] + shlex.split(args.serve_args)
        model = args.model
        if profile == "template":
            model = template_model.make(pathlib.Path(tempfile.mkdtemp(prefix="model-", dir=log_dir)) / "model", model)
        server = Server(str(bin_dir / "heddle"), model, extra, log_dir / f"{profile}.log")
        try:
            server.wait_ready()
            results.append(run_profile(profile, modules, server.url, server.tls))
        finally:
            server.stop()
    print(f"# logs in {log_dir}")
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("modules", nargs="*", help="test_openai, ...; all without any")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--bin", help="folder of the programs (default: of build/release, build/dev, ...)")
    parser.add_argument("--model", default=str(ROOT / "deploy" / "demo-model"))
    parser.add_argument("--profile", action="append", choices=sorted(PROFILES), help="default: every one that is needed")
    parser.add_argument("--serve-args", default="", help="more arguments of heddle serve")
    parser.add_argument("--log-dir", default="", help="where the servers' logs go (default: a new folder in /tmp)")
    args = parser.parse_args()
    api = modules_of("api", args.modules)
    if args.url:
        results = [run_profile("default", api, args.url)]
    else:
        bin_dir = find_bin(args.bin)
        os.environ["HEDDLE_BIN"] = str(bin_dir)  # for the modules of cli/
        cli = modules_of("cli", args.modules)
        results = [run_modules(cli)] if cli else []
        if api:
            results += run_all_profiles(args, bin_dir, api)
    failed = sum(len(r.failures) + len(r.errors) for r in results)
    skipped = sum(len(r.skipped) for r in results)
    passed = sum(r.testsRun for r in results) - failed - skipped
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
