#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From exec to a listening scheduler, and from `heddle serve` to the first token, page cache warm.

    bench/serve/start.py [--bin build/release/bin] [--model deploy/demo-model] [--times 20] [--packed] [-- more arguments of serve]

A port is tried every millisecond; a first token is the first chunk with text of a streamed completion, asked for anew until the
server is ready. --packed: restarts with a packed cache that one start has written; each beside one reading of its files from the
page cache, and less the seconds which that took."""
import argparse
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
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


def read_through(folder):
    """Bytes of a folder's files, and the seconds of reading them once."""
    start, total, buffer = time.monotonic(), 0, bytearray(4 << 20)
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while got := file.readinto(buffer):
                    total += got
    return total, time.monotonic() - start


def restarts(args, serve):
    """Milliseconds to the first token, and the same less one reading of the cache, each time."""
    whole, less = [], []
    with tempfile.TemporaryDirectory() as cache:
        def start():
            port = free_port()
            return measure([f"{args.bin}/heddle", "serve", args.model, "--served-model-name", "demo-model", "--port", str(port),
                            "--packed-cache", cache, *serve], first_token, port)

        print(f"without the cache: {start():.0f} ms")
        for _ in range(args.times):
            total, seconds = read_through(cache)
            whole.append(start())
            less.append(whole[-1] - seconds * 1e3)
        print(f"the cache has {total / 1e6:.0f} MB; the last reading had {total / seconds / 1e9:.1f} GB/s")
    return whole, less


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(ROOT / "build/release/bin"))
    parser.add_argument("--model", default=str(ROOT / "deploy/demo-model"))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("serve", nargs="*", default=["--tp", "2", "--ep", "2"])
    parser.add_argument("--packed", action="store_true")
    args = parser.parse_args()
    listening, token, whole, less = [], [], [], []
    if args.packed:
        whole, less = restarts(args, args.serve)
    for _ in range(0 if args.packed else args.times):
        port = free_port()
        listening.append(measure([f"{args.bin}/heddle-scheduler", "--set", f"model.path={args.model}", "--set", f"http.port={port}", "--set",
                                  f"rpc.listen=127.0.0.1:{free_port()}"], lambda p, s: connect(p, s).close(), port))
        port = free_port()
        token.append(measure([f"{args.bin}/heddle", "serve", args.model, "--port", str(port), *args.serve], first_token, port))
    serve = f"heddle serve {' '.join(args.serve)}"
    for what, took in (("exec of heddle-scheduler to listening", listening), (f"{serve} to the first token", token),
                       (f"{serve}, packed, to the first token", whole), ("the same less one reading of the cache", less)):
        if not took:
            continue
        took.sort()
        print(f"{what}: median {took[len(took) // 2]:.0f} ms, least {took[0]:.0f}, most {took[-1]:.0f}; {len(took)} times")


if __name__ == "__main__":
    main()
