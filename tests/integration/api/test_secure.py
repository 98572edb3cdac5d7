# SPDX-License-Identifier: Apache-2.0
"""TLS and API keys: streams over TLS, nothing without a key, nothing in plain text."""

import json
import ssl
import unittest

import client
from client import needs_openai, openai
from test_cli import heddle

PROFILES = ("secure",)
BODY = {"prompt": "hi", "max_tokens": 3, "temperature": 0}


class Keys(unittest.TestCase):
    def test_public_routes(self):
        for path in ("/livez", "/readyz", "/version", "/health", "/metrics"):
            self.assertEqual(client.request("GET", path, headers={})[0], 200, path)

    def test_others_need_a_key(self):
        for method, path in (
            ("GET", "/v1/models"),
            ("GET", "/v1/models/x"),
            ("POST", "/v1/completions"),
            ("POST", "/v1/chat/completions"),
            ("POST", "/tokenize"),
            ("POST", "/detokenize"),
        ):
            for headers in ({}, {"Authorization": "Bearer wrong-key-of-some-length"}, {"x-api-key": "tester"}):
                status, answer, body = client.request(method, path, b"{}" if method == "POST" else None, headers)
                self.assertEqual(status, 401, (path, headers))
                self.assertEqual(json.loads(body)["error"]["code"], "invalid_api_key")
                self.assertEqual(answer["www-authenticate"], "Bearer")

    @needs_openai
    def test_openai_class(self):
        with self.assertRaises(openai.AuthenticationError):
            client.sync_client().with_options(api_key="wrong-key-of-some-length").models.list()


class Tls(unittest.TestCase):
    @needs_openai
    def test_stream(self):
        body = dict(BODY, model=client.model())
        whole = client.sync_client().completions.create(**body).choices[0].text
        text = "".join(c.choices[0].text for c in client.sync_client().completions.create(stream=True, **body))
        self.assertEqual(text, whole)

    def test_large_body(self):
        status, answer = client.post("/tokenize", {"prompt": "word " * 100000})
        self.assertEqual(status, 200)
        self.assertGreaterEqual(answer["count"], 100000)

    def test_leaving_cancels(self):
        tokens = client.metric("heddle_generation_tokens_total")
        cancelled = client.metric("heddle_requests_total", outcome="cancelled")
        data = client.raw_post("/v1/completions", dict(BODY, model=client.model(), max_tokens=4000, ignore_eos=True))
        key = b"x-api-key: %s\r\nContent-Length" % client.key().encode()
        with client.Raw(data.replace(b"Content-Length", key), client.tls()):
            self.assertIsNotNone(client.wait_until(lambda: client.metric("heddle_generation_tokens_total") > tokens))
        self.assertIsNotNone(
            client.wait_until(lambda: client.metric("heddle_requests_total", outcome="cancelled") == cancelled + 1)
        )

    def test_old_protocol_is_refused(self):
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname = False
        old.verify_mode = ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            client.Raw(tls=old)

    def test_command_line_says_what_is_not_trusted(self):
        done = heddle("run", client.url(), "Hi")
        self.assertEqual(done.returncode, 1)
        self.assertIn("trust its authority", done.stderr)

    def test_plain_text_gets_nothing(self):
        with client.Raw(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n") as raw:
            self.assertNotIn(b"200 OK", raw.read_all())


if __name__ == "__main__":
    unittest.main()
