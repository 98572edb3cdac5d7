#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From exec to a listening scheduler, and from `heddle serve` to the first token, page cache warm.

    bench/serve/start.py [--bin build/release/bin] [--model deploy/demo-model] [--times 20] [-- more arguments of serve]

A port is tried every millisecond; a first token is the first chunk with text of a streamed completion, asked for anew until the
server is ready."""
import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BODY = b'{"model":"demo-model","prompt":"What is 2 plus 3?","max_tokens":4,"stream":true}'


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def connect(port, process):
    while process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.001)
    sys.exit(f"the server ended with {process.returncode}")


def first_token(port, process):
    while True:
        with connect(port, process) as sock:
            sock.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
                         b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
            got = b""
            while b"data: {" not in got:
                piece = sock.recv(65536)
                if not piece:
                    break
                got += piece
            if got.startswith(b"HTTP/1.1 200") and b'"text"' in got:
                return
        time.sleep(0.001)


def measure(command, until, port):
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(port, process)
        return (time.monotonic() - start) * 1e3
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"))
    parser.add_argument("--model", default=str(ROOT / "deploy/demo-model"))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("serve", nargs="*", default=["--tp", "2", "--ep", "2"])
    args = parser.parse_args()
    listening, token = [], []
    for _ in range(args.times):
        port = free_port()
        listening.append(measure([f"{args.bin}/heddle-scheduler", "--set", f"model.path={args.model}", "--set", f"http.port={port}", "--set",
                                  f"rpc.listen=127.0.0.1:{free_port()}"], lambda p, s: connect(p, s).close(), port))
        port = free_port()
        token.append(measure([f"{args.bin}/heddle", "serve", args.model, "--port", str(port), *args.serve], first_token, port))
    for what, took in (("exec of heddle-scheduler to listening", listening), (f"heddle serve {' '.join(args.serve)} to the first token", token)):
        took.sort()
        print(f"{what}: median {took[len(took) // 2]:.0f} ms, least {took[0]:.0f}, most {took[-1]:.0f}; {len(took)} times")


if __name__ == "__main__":
    main()
