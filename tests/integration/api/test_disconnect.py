# SPDX-License-Identifier: Apache-2.0
"""A client that leaves ends its request, whether it streams or not: the engine stops long before the request's end. The
time until then is printed, not judged: a busy machine may take longer than the 100 ms that an idle one needs."""

import unittest

import client

TOKENS = 4000


def long_request(stream):
    return client.raw_post(
        "/v1/completions",
        {
            "model": client.model(),
            "prompt": "once upon a time",
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "stream": stream,
        },
    )


class Disconnect(unittest.TestCase):
    def leave(self, stream):
        tokens = client.metric("heddle_generation_tokens_total")
        cancelled = client.metric("heddle_requests_total", outcome="cancelled")
        with client.Raw(long_request(stream)) as raw:
            if stream:
                self.assertTrue(raw.read_until(b"data: "))
            self.assertIsNotNone(
                client.wait_until(lambda: client.metric("heddle_generation_tokens_total") > tokens + 2)
            )
        seconds = client.wait_until(
            lambda: client.metric("heddle_requests_total", outcome="cancelled") == cancelled + 1
        )
        self.assertIsNotNone(seconds, "the request was not cancelled")
        made = client.metric("heddle_generation_tokens_total") - tokens
        self.assertLess(made, TOKENS)
        print(f"noticed within {1000 * seconds:.0f} ms ...", end=" ")

    def test_streaming(self):
        self.leave(True)

    def test_not_streaming(self):
        self.leave(False)

    def test_half_closed(self):
        """A client that shuts its sending side while it waits counts as gone."""
        import socket

        cancelled = client.metric("heddle_requests_total", outcome="cancelled")
        with client.Raw(long_request(True)) as raw:
            self.assertTrue(raw.read_until(b"data: "))
            raw.socket.shutdown(socket.SHUT_WR)
            raw.read_all()
        self.assertIsNotNone(
            client.wait_until(lambda: client.metric("heddle_requests_total", outcome="cancelled") == cancelled + 1)
        )


if __name__ == "__main__":
    unittest.main()
