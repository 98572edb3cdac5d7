# SPDX-License-Identifier: Apache-2.0
"""HTTP over raw sockets: what two readers could frame differently is refused, and connections are what they should be."""

import json
import unittest

import client

GET = b"GET /version HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

REFUSED = [
    ("CL and TE", 400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two lengths", 400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    ("signed length", 400, POST + b"Content-Length: +7\r\n\r\nabcdefg"),
    ("xchunked", 400, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("hexadecimal prefix", 400, POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n"),
    ("blank before colon", 400, b"GET /version HTTP/1.1\r\nHost : x\r\n\r\n"),
    ("NUL", 400, GET + b"A: b\0c\r\n\r\n"),
    ("bare LF", 400, b"GET /version HTTP/1.1\nHost: x\n\n"),
    ("folded", 400, GET + b"A: b\r\n c\r\n\r\n"),
    ("no Host", 400, b"GET /version HTTP/1.1\r\n\r\n"),
    ("two Hosts", 400, GET + b"Host: y\r\n\r\n"),
    ("long line", 414, b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("long header", 431, GET + b"A: " + b"a" * 20000 + b"\r\n\r\n"),
    ("many headers", 431, GET + b"A: b\r\n" * 200 + b"\r\n"),
    ("long body", 413, POST + b"Content-Length: 99999999999\r\n\r\n"),
    ("no length", 411, POST + b"\r\n"),
    ("another type", 415, POST.replace(b"application/json", b"text/plain") + b"Content-Length: 2\r\n\r\n{}"),
    ("another method", 405, b"PUT /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
    ("another version", 505, b"GET /version HTTP/2.0\r\nHost: x\r\n\r\n"),
    ("TLS", 400, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"),
]


class Http(unittest.TestCase):
    def test_refused(self):
        for name, status, data in REFUSED:
            with self.subTest(name), client.Raw(data) as raw:
                self.assertTrue(raw.read_until(b"\r\n\r\n"))
                self.assertTrue(raw.received.startswith(b"HTTP/1.1 %d " % status), raw.received[:100])
                self.assertTrue(raw.read_until(b"}}"), raw.received)
                error = json.loads(raw.received.split(b"\r\n\r\n", 1)[1])["error"]
                self.assertTrue(error["message"])
        self.assertEqual(client.request("GET", "/version")[0], 200)

    def test_pipelined(self):
        """A second request that comes while the first is answered waits, and is answered once."""
        body = {"model": client.model(), "prompt": "hi", "max_tokens": 8, "stream": True, "ignore_eos": True}
        with client.Raw(client.raw_post("/v1/completions", body) + GET + b"Connection: close\r\n\r\n") as raw:
            received = raw.read_all()
        self.assertEqual(received.count(b"HTTP/1.1 200 OK"), 2)
        self.assertLess(received.index(b"[DONE]"), received.rindex(b"HTTP/1.1 200 OK"))
        self.assertTrue(received.endswith(b"}"))

    def test_keep_alive(self):
        with client.Raw() as raw:
            for _ in range(50):
                raw.received = b""
                raw.send(GET + b"\r\n")
                self.assertTrue(raw.read_until(b"heddle\"}"))
            raw.send(GET + b"Connection: close\r\n\r\n")
            self.assertIn(b"connection: close", raw.read_all())

    def test_chunked_body_and_continue(self):
        body = json.dumps({"model": client.model(), "prompt": "hi", "max_tokens": 1}).encode()
        with client.Raw(POST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n") as raw:
            self.assertTrue(raw.read_until(b"HTTP/1.1 100 Continue\r\n\r\n"))
            for i in range(0, len(body), 7):
                part = body[i : i + 7]
                raw.send(b"%x\r\n%s\r\n" % (len(part), part))
            raw.send(b"0\r\n\r\n")
            self.assertTrue(raw.read_until(b"HTTP/1.1 200 OK"))

    def test_http_1_0(self):
        body = {"model": client.model(), "prompt": "hi", "max_tokens": 2, "stream": True}
        data = client.raw_post("/v1/completions", body).replace(b"HTTP/1.1", b"HTTP/1.0")
        with client.Raw(data) as raw:
            received = raw.read_all()
        self.assertNotIn(b"transfer-encoding", received)
        self.assertTrue(received.endswith(b"data: [DONE]\n\n"))

    def test_head_and_options(self):
        status, headers, body = client.request("HEAD", "/version")
        self.assertEqual((status, body), (200, b""))
        self.assertGreater(int(headers["content-length"]), 0)
        status, headers, _ = client.request("OPTIONS", "/v1/completions")
        self.assertEqual((status, headers["allow"]), (204, "POST, OPTIONS"))
        self.assertNotIn("access-control-allow-origin", headers)

    def test_probes(self):
        self.assertEqual(client.request("GET", "/readyz")[0], 200)
        self.assertEqual(client.request("GET", "/livez")[0], 200)
        status, headers, body = client.request("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(headers["content-type"].startswith("text/plain; version=0.0.4"))
        self.assertIn(b"# TYPE heddle_requests_running gauge", body)


if __name__ == "__main__":
    unittest.main()
