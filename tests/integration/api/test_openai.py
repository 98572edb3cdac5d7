# SPDX-License-Identifier: Apache-2.0
"""The openai package's calls: sync, async, streams, and everything that they can ask for."""

import asyncio
import math
import unittest

import client
from client import needs_openai, openai

QUESTION = [{"role": "user", "content": "What is 12 plus 7?"}]
TEXT = "The capital of France"


def chat(**options):
    options.setdefault("max_tokens", 24)
    options.setdefault("messages", QUESTION)
    return client.sync_client().chat.completions.create(model=client.model(), **options)


def complete(**options):
    options.setdefault("max_tokens", 12)
    options.setdefault("prompt", TEXT)
    return client.sync_client().completions.create(model=client.model(), **options)


@needs_openai
class Chat(unittest.TestCase):
    def test_sync(self):
        answer = chat(temperature=0)
        choice = answer.choices[0]
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.model, client.model())
        self.assertEqual(choice.message.role, "assistant")
        self.assertTrue(choice.message.content)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertTrue(answer.system_fingerprint)
        self.assertTrue(answer._request_id.startswith("req_"))

    def test_stream_equals_sync(self):
        whole = chat(temperature=0)
        chunks = list(chat(temperature=0, stream=True))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(c.choices[0].delta.content or "" for c in chunks)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual([c.choices[0].finish_reason for c in chunks[:-1]], [None] * (len(chunks) - 1))
        self.assertEqual(chunks[-1].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertEqual(len({c.id for c in chunks}), 1)
        self.assertTrue(all(c.usage is None for c in chunks))

    def test_include_usage(self):
        whole = chat(temperature=0)
        chunks = list(chat(temperature=0, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].choices, [])
        self.assertTrue(all(c.usage is None for c in chunks[:-1]))
        self.assertEqual(chunks[-1].usage.prompt_tokens, whole.usage.prompt_tokens)
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)

    def test_cached_tokens(self):
        messages = [{"role": "user", "content": "Repeat after me: " + "apple banana cherry " * 40}]
        first = chat(messages=messages, max_tokens=2)
        again = chat(messages=messages, max_tokens=2)
        self.assertGreater(again.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertLess(again.usage.prompt_tokens_details.cached_tokens, first.usage.prompt_tokens)

    def test_async_stream(self):
        async def run():
            async with client.async_client() as c:
                stream = await c.chat.completions.create(
                    model=client.model(), messages=QUESTION, max_tokens=24, temperature=0, stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        self.assertEqual(asyncio.run(run()), chat(temperature=0).choices[0].message.content)

    def test_logprobs(self):
        answer = chat(temperature=0, logprobs=True, top_logprobs=3)
        content = answer.choices[0].logprobs.content
        self.assertTrue(content)
        for entry in content:
            self.assertLessEqual(entry.logprob, 0)
            self.assertEqual(len(entry.top_logprobs), 3)
            # Greedy: the token is the best one.
            self.assertEqual(entry.top_logprobs[0].bytes, entry.bytes)
            best = [t.logprob for t in entry.top_logprobs]
            self.assertEqual(best, sorted(best, reverse=True))
        text = b"".join(bytes(e.bytes) for e in content).decode()
        self.assertTrue(text.startswith(answer.choices[0].message.content))

    def test_logprobs_in_stream(self):
        whole = chat(temperature=0, logprobs=True, top_logprobs=2)
        entries = []
        for chunk in chat(temperature=0, logprobs=True, top_logprobs=2, stream=True):
            if chunk.choices[0].logprobs:
                entries += chunk.choices[0].logprobs.content
        self.assertEqual([e.bytes for e in entries], [e.bytes for e in whole.choices[0].logprobs.content])
        self.assertEqual([e.logprob for e in entries], [e.logprob for e in whole.choices[0].logprobs.content])

    def test_choices(self):
        answer = chat(n=3, temperature=1.5, seed=5)
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
        # Choice i is what seed + i gives alone.
        for i, choice in enumerate(answer.choices):
            alone = chat(temperature=1.5, seed=5 + i)
            self.assertEqual(choice.message.content, alone.choices[0].message.content)
        texts = {i: "" for i in range(3)}
        for chunk in chat(n=3, temperature=1.5, seed=5, stream=True):
            texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        self.assertEqual([texts[i] for i in range(3)], [c.message.content for c in answer.choices])

    def test_seed(self):
        a, b = (chat(temperature=1.8, seed=11, max_tokens=40) for _ in range(2))
        self.assertEqual(a.choices[0].message.content, b.choices[0].message.content)
        others = {chat(temperature=1.8, seed=s, max_tokens=40).choices[0].message.content for s in range(20, 26)}
        self.assertGreater(len(others), 1)

    def test_stop(self):
        whole = chat(temperature=0).choices[0].message.content
        stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
        answer = chat(temperature=0, stop=[stop, "never said"]).choices[0]
        self.assertEqual(answer.message.content, whole[: whole.index(stop)])
        self.assertEqual(answer.finish_reason, "stop")
        streamed = "".join(
            c.choices[0].delta.content or "" for c in chat(temperature=0, stop=stop, stream=True)
        )
        self.assertEqual(streamed, whole[: whole.index(stop)])

    def test_penalties_and_bias(self):
        plain = chat(temperature=0, logprobs=True)
        first = plain.choices[0].logprobs.content[0]
        status, ids = client.post("/tokenize", {"prompt": first.token, "add_special_tokens": False})
        self.assertEqual(status, 200)
        banned = chat(temperature=0, logit_bias={str(ids["tokens"][0]): -100}, logprobs=True)
        self.assertNotEqual(banned.choices[0].logprobs.content[0].token, first.token)
        chat(temperature=0, frequency_penalty=1.5, presence_penalty=0.5, extra_body={"repetition_penalty": 1.3})

    def test_extras(self):
        answer = chat(extra_body={"ignore_eos": True, "top_k": 5, "min_p": 0.05, "priority": 0}, max_tokens=30)
        self.assertEqual(answer.usage.completion_tokens, 30)
        self.assertEqual(answer.choices[0].finish_reason, "length")


@needs_openai
class Completions(unittest.TestCase):
    def test_sync_and_stream(self):
        whole = complete(temperature=0)
        self.assertEqual(whole.object, "text_completion")
        text = "".join(c.choices[0].text for c in complete(temperature=0, stream=True))
        self.assertEqual(text, whole.choices[0].text)

    def test_default_length(self):
        answer = client.sync_client().completions.create(
            model=client.model(), prompt=TEXT, temperature=0, extra_body={"ignore_eos": True}
        )
        self.assertEqual(answer.usage.completion_tokens, 16)

    def test_prompts(self):
        one, two = (complete(prompt=p, temperature=0).choices[0].text for p in (TEXT, "Count: 1 2 3"))
        both = complete(prompt=[TEXT, "Count: 1 2 3"], temperature=0)
        self.assertEqual([c.text for c in both.choices], [one, two])
        _, tokens = client.post("/tokenize", {"prompt": TEXT})
        ids = complete(prompt=tokens["tokens"], temperature=0)
        self.assertEqual(ids.choices[0].text, one)
        twice = complete(prompt=[tokens["tokens"], tokens["tokens"]], temperature=0)
        self.assertEqual([c.text for c in twice.choices], [one, one])

    def test_echo(self):
        answer = complete(temperature=0, echo=True)
        self.assertEqual(answer.choices[0].text, TEXT + complete(temperature=0).choices[0].text)

    def test_scores(self):
        """Log-probabilities of a prompt: those of its own tokens when it was generated."""
        made = complete(temperature=0, logprobs=1, max_tokens=6, extra_body={"ignore_eos": True})
        _, prompt = client.post("/tokenize", {"prompt": TEXT})
        status, full = client.post("/tokenize", {"prompt": TEXT + made.choices[0].text})
        self.assertEqual(status, 200)
        scored = complete(prompt=TEXT + made.choices[0].text, echo=True, logprobs=1, max_tokens=0)
        lp = scored.choices[0].logprobs
        self.assertIsNone(lp.token_logprobs[0])
        self.assertEqual(len(lp.tokens), full["count"])
        self.assertEqual(lp.text_offset[0], 0)
        self.assertEqual(scored.usage.completion_tokens, 0)
        if full["count"] == prompt["count"] + 6:  # the text is tokenised as it was generated
            for a, b in zip(lp.token_logprobs[prompt["count"] :], made.choices[0].logprobs.token_logprobs):
                self.assertTrue(math.isclose(a, b, rel_tol=0, abs_tol=1e-6), (a, b))

    def test_logprobs(self):
        lp = complete(temperature=0, logprobs=2).choices[0].logprobs
        self.assertEqual(len(lp.tokens), len(lp.token_logprobs))
        self.assertEqual(len(lp.tokens), len(lp.top_logprobs))
        for token, logprob, top in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs):
            self.assertEqual(max(top.values()), logprob)
            self.assertIn(token, top)


@needs_openai
class Errors(unittest.TestCase):
    def test_classes(self):
        with self.assertRaises(openai.NotFoundError) as e:
            client.sync_client().chat.completions.create(model="no-such-model", messages=QUESTION)
        self.assertEqual(e.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as e:
            chat(temperature=9)
        self.assertEqual(e.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as e:
            chat(max_tokens=10_000_000)
        self.assertEqual(e.exception.code, "context_length_exceeded")

    def test_models(self):
        models = client.sync_client().models.list()
        self.assertIn(client.model(), [m.id for m in models])
        self.assertEqual(client.sync_client().models.retrieve(client.model()).id, client.model())
        with self.assertRaises(openai.NotFoundError):
            client.sync_client().models.retrieve("no-such-model")


class Tokens(unittest.TestCase):
    def test_round_trip(self):
        text = "Grüße, 世界! 12 + 7 = 19 🧵"
        status, tokens = client.post("/tokenize", {"prompt": text, "add_special_tokens": False})
        self.assertEqual(status, 200)
        self.assertEqual(tokens["count"], len(tokens["tokens"]))
        status, back = client.post("/detokenize", {"tokens": tokens["tokens"]})
        self.assertEqual(back["prompt"], text)


if __name__ == "__main__":
    unittest.main()
