# SPDX-License-Identifier: Apache-2.0
"""heddle template: everything that a template takes reaches the prompt; what it does not take is said."""

import json
import os
import tempfile
import unittest

import template_model
from test_cli import MODEL, heddle

NOT_TAKEN = "is not taken; this model's chat template never names it; leave it out"


def setUpModule():
    global folder, model
    folder = tempfile.TemporaryDirectory()
    model = template_model.make(os.path.join(folder.name, "model"), MODEL)


def tearDownModule():
    folder.cleanup()


def written(name, value):
    path = os.path.join(folder.name, name + ".json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f)
    return path


def render(asked, of, *more):
    args = [written("messages", asked["messages"]), *more]
    for name in ("documents", "tools"):
        args += ["--" + name, written(name, asked[name])] if name in asked else []
    args += ["--continue-final"] if asked.get("continue_final_message") else []
    args += ["--kwargs", json.dumps(asked["chat_template_kwargs"])] if "chat_template_kwargs" in asked else []
    return heddle("template", of, *args)


class Taken(unittest.TestCase):
    def test_prompts(self):
        for title, asked, prompt in template_model.CASES:
            with self.subTest(title):
                done = render(asked, model)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, prompt, ""))

    def test_ids(self):
        for title, asked, prompt in template_model.CASES:
            with self.subTest(title):
                want = []
                for piece in template_model.pieces(prompt):
                    own = template_model.SPECIAL.get(piece)
                    want += [own] if own else [int(v) for v in heddle("tokenize", MODEL, stdin=piece).stdout.split()]
                self.assertEqual([int(v) for v in render(asked, model, "--ids").stdout.split()], want)


class NotTaken(unittest.TestCase):
    """The bundled model's own template names its messages alone."""

    def test_refused_as_by_the_server(self):
        messages = {"messages": template_model.QUESTION}
        for asked in ({"documents": template_model.DOCUMENTS}, {"tools": template_model.TOOLS}):
            done = render({**messages, **asked}, MODEL)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertEqual(done.stderr, f"heddle: --{next(iter(asked))} {NOT_TAKEN}\n")
        done = render(messages, MODEL, "--reasoning-effort", "low")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, f"heddle: --reasoning-effort {NOT_TAKEN}\n")

    def test_no_tools_are_none(self):
        done = render({"messages": template_model.QUESTION, "tools": []}, MODEL)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, template_model.OPENED, ""))
        done = render({"messages": template_model.QUESTION, "tools": {}}, MODEL)
        self.assertEqual(done.returncode, 1)
        self.assertIn("--tools", done.stderr)

    def test_variables_are_spoken_of(self):
        """The server takes them, since clients send the same ones to every model."""
        asked = {"messages": template_model.QUESTION, "chat_template_kwargs": {"style": "terse", "add_generation_prompt": True}}
        done = render(asked, MODEL)
        self.assertEqual((done.returncode, done.stdout), (0, template_model.OPENED))
        self.assertEqual(done.stderr, f"heddle: --kwargs: style {NOT_TAKEN}\n")


if __name__ == "__main__":
    unittest.main()
