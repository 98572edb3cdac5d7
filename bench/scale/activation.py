#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From a request's arrival to KEDA's push that wakes a replica: StreamIsActive's message, over gRPC, as a stock client sees it.

    bench/scale/activation.py [--bin build/release/bin] [--times 50]

First a service that never had a replica: the request is refused (503, Retry-After) and counts as demand. Then one that had: it holds
each request in its queue and says that it is active; the client goes away, and it says that it is not. The clock starts before the request's bytes are sent and stops when the client's thread
has the message; the client is Python, so what is printed is an upper bound."""
import argparse
import os
import pathlib
import queue
import socket
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/deploy"))


def request(port):
    body = b'{"model":"demo-model","prompt":"What is 2 plus 3?","max_tokens":8,"stream":true}'
    sock = socket.create_connection(("127.0.0.1", port))
    start = time.monotonic()
    sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return sock, start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"))
    parser.add_argument("--times", type=int, default=50)
    args = parser.parse_args()
    os.environ["HEDDLE_BIN"] = str(pathlib.Path(args.bin).resolve())
    from scaling import Keda

    Keda.setUpClass()
    try:
        cluster = Keda.cluster
        said = queue.Queue()

        def listen():
            try:
                for message in Keda.scaler.StreamIsActive(Keda.pb.ScaledObjectRef(name="moe", namespace="heddle")):
                    said.put((message.result, time.monotonic()))
            except Exception:  # the channel is closed at the end
                pass

        threading.Thread(target=listen, daemon=True).start()
        wait = lambda wanted: next(at for is_active, at in iter(lambda: said.get(timeout=60), None) if is_active == wanted)
        wait(False)
        _, start = request(cluster.port)
        print(f"the first ever: {(wait(True) - start) * 1e3:.1f} ms")
        cluster.scale_to(1)
        cluster.ask()
        cluster.scale_to(0)
        wait(False)
        took = []
        for _ in range(args.times):
            sock, start = request(cluster.port)
            took.append((wait(True) - start) * 1e3)
            sock.close()
            wait(False)
        took.sort()
        print(f"{len(took)} activations: median {took[len(took) // 2]:.1f} ms, most {took[-1]:.1f} ms")
    finally:
        Keda.tearDownClass()


if __name__ == "__main__":
    main()
