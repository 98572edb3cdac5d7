# SPDX-License-Identifier: Apache-2.0
"""What the API tests share: where the server is, raw HTTP, metrics."""

import http.client
import json
import socket
import time
import unittest
import urllib.parse

try:
    import openai
except ImportError:  # the tests that need it say so and are skipped
    openai = None

_url = None
_model = None
_tls = None  # an ssl.SSLContext that trusts the server
_key = "none"


def connect(url, tls=None, key="none"):
    global _url, _model, _tls, _key
    _url, _tls, _key = url.rstrip("/"), tls, key
    status, _, body = request("GET", "/v1/models")
    assert status == 200, body
    _model = json.loads(body)["data"][0]["id"]


def url():
    return _url


def model():
    return _model


def address():
    parts = urllib.parse.urlsplit(_url)
    return parts.hostname, parts.port


def request(method, path, body=None, headers=None):
    """One request on a connection of its own: status, headers, bytes."""
    if _tls:
        connection = http.client.HTTPSConnection(*address(), timeout=60, context=_tls)
    else:
        connection = http.client.HTTPConnection(*address(), timeout=60)
    try:
        headers = dict({"Authorization": f"Bearer {_key}"} if headers is None else headers)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def post(path, body):
    status, _, data = request("POST", path, body)
    return status, json.loads(data)


def metric(name, **labels):
    """Sum of the series of a metric that carry the labels; 0 when there is none."""
    _, _, text = request("GET", "/metrics")
    total = 0.0
    for line in text.decode().splitlines():
        if line.startswith("#") or not line.startswith(name):
            continue
        series, value = line.rsplit(" ", 1)
        if series.split("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
            total += float(value)
    return total


def wait_until(condition, seconds=30.0):
    """Polls; the seconds that it took, or None."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if condition():
            return time.monotonic() - start
        time.sleep(0.002)
    return None


class Raw:
    """A TCP (or TLS) connection and what came over it."""

    def __init__(self, data=b"", tls=None):
        self.socket = socket.create_connection(address(), timeout=30)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname=address()[0])
        self.received = b""
        if data:
            self.send(data)

    def send(self, data):
        self.socket.sendall(data)

    def read(self):
        data = self.socket.recv(65536)
        self.received += data
        return data

    def read_until(self, what):
        while what not in self.received:
            if not self.read():
                return False
        return True

    def read_all(self):
        try:
            while self.read():
                pass
        except ConnectionResetError:
            pass
        return self.received

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def raw_post(path, body):
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def tls():
    return _tls


def key():
    return _key


def _http(make):
    return make(verify=_tls) if _tls else None


def sync_client():
    return openai.OpenAI(
        base_url=_url + "/v1", api_key=_key, max_retries=0, timeout=120, http_client=_http(openai.DefaultHttpxClient)
    )


def async_client():
    return openai.AsyncOpenAI(base_url=_url + "/v1", api_key=_key, max_retries=0, timeout=300)


needs_openai = unittest.skipIf(openai is None, "the openai package is not installed")
