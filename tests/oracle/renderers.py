#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares chats of models without a template with what their owners' programs write, live, random conversations too.

    python3 tests/oracle/renderers.py [--probe PROGRAM] [--heddle PROGRAM] [--dsv32 encoding_dsv32.py] [--random 500]

References: tests/golden/text/make_renderers.py. For Mistral the ids that `heddle template --ids` prints are compared as
well, of conversations with special tokens in what users say.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden/text"))
import make_renderers  # noqa: E402
import templates  # noqa: E402
from make_renderers import CHATS, Mistral, call, has, said  # noqa: E402

WORDS = ("Paris", " 1 < 2 ", "größe\n", "😀", "[INST]", "</s>", "<|end|>", "{\"a\": [1, 2.5, null]}", "\"x\"", "", "  ")


def some_text(rng):
    return "".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 4)))


def some_value(rng, depth=0):
    kind = rng.randrange(7 if depth < 2 else 5)
    if kind < 5:
        return (rng.choice(WORDS), rng.randrange(-9, 1000), rng.choice((0.5, -2.25, 1e22)), rng.random() < 0.5, None)[kind]
    if kind == 5:
        return [some_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    return {f"k{i}": some_value(rng, depth + 1) for i in range(rng.randrange(3))}


def some_schema(rng, depth=0):
    kind = rng.choice(("string", "number", "integer", "boolean", "array", "object", "union", "oneOf", "enum", "none"))
    spec = {"type": kind}
    if kind in ("array", "object") and depth < 3:
        if kind == "array" and rng.random() < 0.8:
            spec["items"] = some_schema(rng, depth + 1)
        if kind == "object":
            spec.update(some_object(rng, depth + 1))
    elif kind == "union":
        spec = {"type": rng.sample(("string", "null", "number"), 2)}
    elif kind == "oneOf" and depth < 3:
        spec = {"oneOf": [some_schema(rng, depth + 1) for _ in range(rng.randrange(1, 4))]}
    elif kind == "enum":
        spec = {"type": "string", "enum": ["a", "b c"][:rng.randrange(1, 3)]}
    elif kind == "none":
        spec = {}
    for name, value in (("description", "What it is."), ("nullable", True), ("default", rng.choice(("x", 3, True)))):
        if rng.random() < 0.25:
            spec[name] = value
    return spec


def some_object(rng, depth=0):
    names = rng.sample(("city", "größe", "n", "x_y"), rng.randrange(4))
    out = {"properties": {name: some_schema(rng, depth) for name in names}}
    if rng.random() < 0.5:
        out["required"] = names[:1]
    return out


def some_chat(rng):
    messages, ident = [], 0
    for _ in range(rng.randrange(1, 8)):
        role = rng.choice(("system", "user", "user", "assistant", "assistant", "calls", "tool"))
        message = {"role": "assistant" if role == "calls" else role, "content": some_text(rng)}
        if role == "calls":
            ident += 1
            message["tool_calls"] = [call(rng.choice(("f", "g_h")), {f"a{k}": some_value(rng) for k in range(rng.randrange(3))},
                                          f"call{ident:03}{i:02}") for i in range(rng.randrange(1, 3))]
            message["content"] = rng.choice(("", "", some_text(rng)))
        if message["role"] == "assistant" and rng.random() < 0.3:
            message["reasoning_content"] = some_text(rng).strip() or "so"
        if role == "tool":
            message["tool_call_id"] = f"call{ident:03}{rng.randrange(2):02}"
        messages.append(message)
    chat = {"messages": messages}
    if rng.random() < 0.4:
        chat["tools"] = [{"type": "function", "function": {"name": f"f{i}", "description": "Does \"it\".", "parameters": {
            "type": "object", **some_object(rng)}}} for i in range(rng.randrange(1, 3))]
    if messages[-1]["role"] != "assistant":
        chat["add_generation_prompt"] = True
    elif rng.random() < 0.3 and messages[-1]["content"] and "tool_calls" not in messages[-1]:
        chat["continue_final"] = True
    if rng.random() < 0.5:
        chat["kwargs"] = {"thinking": rng.random() < 0.8, "reasoning_effort": rng.choice(("low", "high", "max"))}
    return chat


def conversations(count, seed):
    rng = random.Random(seed)
    yield from CHATS.items()
    for i in range(count):
        yield f"random {i}", some_chat(rng)


def ids_of(heddle, folder, chat):
    (folder / "chat.json").write_text(json.dumps(chat["messages"]))
    (folder / "tools.json").write_text(json.dumps(chat.get("tools", [])))
    command = [heddle, "template", str(folder), str(folder / "chat.json"), "--ids", "--tools", str(folder / "tools.json")]
    command += ["--continue-final"] if chat.get("continue_final") else []
    run = subprocess.run(command, capture_output=True, text=True)
    return [int(line) for line in run.stdout.split()] if run.returncode == 0 else None


def compare(probe, model, render, chats):
    wrong, rendered = [], 0
    for title, chat in chats:
        if not has(model, chat):
            continue
        want, got = said(render, chat), probe.ask(model, chat)
        rendered += want is not None
        if (want is not None) != (got[0] == "ok") or (want is not None and want != got[1]):
            wrong.append((title, chat, want, got[1]))
    return wrong, rendered


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", default=ROOT / "build/release/tests/template_probe")
    parser.add_argument("--heddle", default=ROOT / "build/release/bin/heddle")
    parser.add_argument("--dsv32", type=Path)
    parser.add_argument("--random", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2)
    args, failed = parser.parse_args(), 0
    make_renderers.Clock.now = templates.Clock.now
    probe = templates.Probe(args.probe)
    chats = list(conversations(args.random, args.seed))
    with tempfile.TemporaryDirectory() as folder:
        for model, render in make_renderers.references(Path(folder), args.dsv32).items():
            wrong, rendered = compare(probe, model, render, chats)
            print(f"{model}: {len(chats) - len(wrong)} of {len(chats)} conversations equal ({rendered} rendered)")
            for title, chat, want, got in wrong[:3]:
                print(f"  {title}: {json.dumps(chat, ensure_ascii=False)[:1500]}\n    want {want!r}\n    got  {got!r}")
            failed += bool(wrong)
            if not isinstance(render, Mistral):
                continue
            sample = [c for c in chats[:len(CHATS) + 60] if said(render, c[1]) is not None]
            other = [t for t, c in sample if ids_of(args.heddle, Path(folder) / model.split(":")[1], c) != render.ids(c)]
            print(f"{model}: ids of {len(sample) - len(other)} of {len(sample)} equal", *other[:3])
            failed += bool(other)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
