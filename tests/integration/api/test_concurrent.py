# SPDX-License-Identifier: Apache-2.0
"""64 streams at once, each equal to what the same request gives alone: once with room for all of them, once with a KV
cache so small that requests are preempted."""

import asyncio
import random
import time
import unittest

import client
from client import needs_openai

PROFILES = ("default", "small-kv")
STREAMS = 64
WORDS = "river stone apple cloud tower green seven paper light wind table ocean bridge garden".split()


def make_requests(longest):
    """Mixed lengths, greedy and sampled, half of them on three shared prefixes."""
    rng = random.Random(20)
    prefixes = [" ".join(rng.choices(WORDS, k=n)) for n in (30, 60, 90)]
    requests = []
    for i in range(STREAMS):
        own = " ".join(rng.choices(WORDS, k=rng.randint(1, 40)))
        prefix = prefixes[i % 3] + " " if i % 2 else ""
        requests.append(
            {
                "prompt": f"{prefix}{own}",
                "max_tokens": rng.randint(4, longest),
                "temperature": rng.choice([0, 0.7, 1.3]),
                "seed": i,
                "extra_body": {"ignore_eos": True},
            }
        )
    return requests


async def stream(c, request):
    text, finish = "", None
    async for chunk in await c.completions.create(model=client.model(), stream=True, **request):
        text += chunk.choices[0].text
        finish = chunk.choices[0].finish_reason or finish
    return text, finish


async def all_alone(requests):
    async with client.async_client() as c:
        return [await stream(c, r) for r in requests]


async def all_together(requests):
    async with client.async_client() as c:
        return await asyncio.gather(*(stream(c, r) for r in requests))


@needs_openai
class Concurrent(unittest.TestCase):
    def test_equal_to_alone(self):
        blocks = client.metric("heddle_kv_blocks")
        small = 0 < blocks < STREAMS
        requests = make_requests(200 if small else 48)
        alone = asyncio.run(all_alone(requests))
        before = client.metric("heddle_preemptions_total")
        start = time.monotonic()
        together = asyncio.run(all_together(requests))
        seconds = time.monotonic() - start
        preempted = client.metric("heddle_preemptions_total") - before
        for i, (a, b) in enumerate(zip(alone, together)):
            self.assertEqual(a, b, f"request {i}: {requests[i]}")
        print(f"{STREAMS} streams in {seconds:.1f} s, {blocks:.0f} blocks, {preempted:.0f} preempted ...", end=" ")
        if small:
            self.assertGreater(preempted, 0)


if __name__ == "__main__":
    unittest.main()
