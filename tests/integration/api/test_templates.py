# SPDX-License-Identifier: Apache-2.0
"""What a request gives the chat template beside its messages: it reaches the model, or is refused."""

import json
import unittest

import client
import template_model

PROFILES = ("template",)
FIXED = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}


def ids_of(prompt):
    """The ids of a rendered prompt, without any chat template: plain text between special tokens."""
    ids = []
    for piece in template_model.pieces(prompt):
        if piece in template_model.SPECIAL:
            ids.append(template_model.SPECIAL[piece])
            continue
        status, answer = client.post("/tokenize", {"prompt": piece, "add_special_tokens": False})
        assert status == 200, answer
        ids += answer["tokens"]
    return ids


def completion(prompt):
    status, answer = client.post("/v1/completions", {"model": client.model(), "prompt": ids_of(prompt), **FIXED})
    assert status == 200, answer
    return answer


def streamed(body):
    status, _, data = client.request("POST", "/v1/chat/completions", {**body, "stream": True})
    assert status == 200, data
    events = [line[6:] for line in data.decode().splitlines() if line.startswith("data: {")]
    return "".join(c["delta"].get("content") or "" for e in events for c in json.loads(e)["choices"])


class Templates(unittest.TestCase):
    def test_prompts(self):
        for title, asked, prompt in template_model.CASES:
            with self.subTest(title):
                status, answer = client.post("/tokenize", asked)
                self.assertEqual(status, 200, answer)
                self.assertEqual(answer["tokens"], ids_of(prompt))

    def test_answers(self):
        """A chat is answered as the ids of its prompt are, whole and as a stream."""
        for title, asked, prompt in template_model.CASES:
            with self.subTest(title):
                body = {"model": client.model(), **asked, **FIXED}
                status, answer = client.post("/v1/chat/completions", body)
                self.assertEqual(status, 200, answer)
                want = completion(prompt)
                self.assertEqual(answer["usage"]["prompt_tokens"], want["usage"]["prompt_tokens"])
                self.assertEqual(answer["choices"][0]["message"]["content"], want["choices"][0]["text"])
                self.assertEqual(streamed(body), want["choices"][0]["text"])

    def test_continuing_excludes_a_new_turn(self):
        for path in ("/v1/chat/completions", "/tokenize"):
            body = {"model": client.model(), "messages": template_model.TURNS, "continue_final_message": True}
            status, answer = client.post(path, {**body, "add_generation_prompt": True})
            self.assertEqual(status, 400, path)
            self.assertIn("continue_final_message", answer["error"]["message"])

    def test_nothing_to_continue(self):
        body = {"model": client.model(), "messages": [], "continue_final_message": True}
        status, answer = client.post("/v1/chat/completions", body)
        self.assertEqual(status, 400)
        self.assertEqual(answer["error"]["param"], "messages")


class NotTaken(unittest.TestCase):
    """This template names no reasoning_effort."""

    def test_no_tools_are_none(self):
        for path in ("/v1/chat/completions", "/tokenize"):
            body = {"model": client.model(), "messages": template_model.QUESTION, "tools": []}
            status, answer = client.post(path, body)
            self.assertEqual(status, 200, answer)

    def test_refused_by_name(self):
        for path in ("/v1/chat/completions", "/tokenize"):
            body = {"model": client.model(), "messages": template_model.QUESTION, "reasoning_effort": "low"}
            status, answer = client.post(path, body)
            self.assertEqual(status, 400, path)
            self.assertEqual(answer["error"]["param"], "reasoning_effort")
            self.assertIn("chat template never names it; leave it out", answer["error"]["message"])


if __name__ == "__main__":
    unittest.main()
