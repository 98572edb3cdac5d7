#!/usr/bin/env python3
"""Ten thousand decode steps through the real processes, and nothing restarts.

    tests/fault/long_decode.py --bin build/dev/bin [--steps 10000]

In a build that traps allocation (the dev preset) an allocation of a worker's step thread, or of the
brain while the core steps, aborts its process: the group would form anew, or the scheduler be gone.
Exit status 0 when all steps ran in the first epoch.
"""
import argparse
import http.client
import os
import re
import sys

from kill_workers import ROOT, Server, run_stream

TOKENS = 3500  # of one request; the bundled model takes 4096


def metric(server, name):
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    return int(float(found.group(1))) if found else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", default=os.path.join(ROOT, "build/dev/bin"))
    parser.add_argument("--model", default=os.path.join(ROOT, "deploy/demo-model"))
    parser.add_argument("--tp", type=int, default=2)
    parser.add_argument("--ep", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--log", help="file for the server's log")
    args = parser.parse_args()
    server = Server(args)
    steps_of = 'heddle_step_seconds_count{rank="0"}'
    body = {"model": os.path.basename(os.path.normpath(args.model)), "prompt": "Once upon a time",
            "max_tokens": TOKENS, "stream": True, "stream_options": {"include_usage": True},
            "ignore_eos": True, "temperature": 1.0, "top_p": 0.9, "logprobs": 2}
    faults = []
    try:
        while metric(server, steps_of) < args.steps and not faults:
            body["seed"] = metric(server, steps_of)
            tokens = run_stream(server, body)[1]
            if tokens != TOKENS:
                faults.append(f"a stream of {tokens} tokens instead of {TOKENS}")
        steps = metric(server, steps_of)
        epochs = metric(server, "heddle_group_epochs_total")
    except (RuntimeError, OSError, http.client.HTTPException) as why:
        steps, epochs = 0, 0
        faults.append(str(why))
    status = server.stop()
    if epochs != 1:
        faults.append(f"{epochs} epochs instead of 1")
    if status != 0:
        faults.append(f"heddle serve ended with status {status}")
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{steps} steps in {epochs} epoch: {'held' if not faults else 'did not hold'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
