#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares heddle's chat templates with transformers, live: conversations x templates, equal bytes or both refuse.

    python3 tests/oracle/templates.py [--probe PROGRAM] [TEMPLATE.jinja ...]

Without files: makes templates.json and published_templates.json of tests/golden/text anew and compares with the bundled
model's template and, where the folder is there, those of ../shared/data/templates.
"""

import argparse
import datetime
import json
import re
import struct
import subprocess
import sys
from pathlib import Path

import transformers.utils.chat_template_utils as hf

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime.datetime(2026, 11, 21, 7, 9, 36)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city.\nIn \"real\" time.",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "Größe & <name>"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "array", "items": {"type": "integer"}},
            "at": {"type": ["number", "null"], "minimum": 0.5}}},
        "return": {"type": "object", "description": "the weather"}}},
    {"type": "function", "function": {"name": "noop", "description": "Does nothing.",
                                      "parameters": {"type": "object", "properties": {}}}},
]


def call(name, arguments, ident="call00001"):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


S = {"role": "system", "content": "You are terse. Größe 😀\n"}
U = {"role": "user", "content": "  What's 1 < 2 & \"x\"?  \n"}
A = {"role": "assistant", "content": "It is <true>.\n\n"}
U2 = {"role": "user", "content": "And in Paris?"}
T = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "{\"temp\": 21.5}"}
THINK = {"role": "assistant", "content": "<think>\nHmm, well.\n</think>\n\nDone."}
REASON = {"role": "assistant", "content": "Done.", "reasoning_content": "Hmm, well."}
CALLS = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Paris", "days": [1, 2], "at": 1.5, "ok": True})]}
CALLS_TEXT = {"role": "assistant", "content": None, "tool_calls": [call("get_weather", "{\"city\": \"Paris\"}")]}
PARTS = {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]}

SIMPLE = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a city.", "parameters": {
    "type": "object", "required": ["city"], "properties": {"city": {"type": "string", "description": "its name"}}},
    "return": {"type": "string", "description": "the weather"}}}]

CHATS = {
    "user": dict(messages=[U], add_generation_prompt=True),
    "system": dict(messages=[S, U], add_generation_prompt=True),
    "turns": dict(messages=[S, U, A, U2], add_generation_prompt=True),
    "turns, no prompt": dict(messages=[U, A, U2, A]),
    "think in text": dict(messages=[U, THINK, U2], add_generation_prompt=True),
    "reasoning": dict(messages=[U, REASON, U2, REASON], add_generation_prompt=False),
    "thinking off": dict(messages=[S, U, A, U2], add_generation_prompt=True, kwargs={"enable_thinking": False, "thinking": False}),
    "thinking on": dict(messages=[S, U, A, U2], add_generation_prompt=True, kwargs={"enable_thinking": True, "thinking": True,
                                                                                  "reasoning_effort": "high"}),
    "tools": dict(messages=[S, U2], tools=TOOLS, add_generation_prompt=True),
    "tools, no system": dict(messages=[U2], tools=TOOLS, add_generation_prompt=True),
    "tool call": dict(messages=[S, U2, CALLS], tools=TOOLS),
    "tool call as text": dict(messages=[S, U2, CALLS_TEXT, T], tools=TOOLS, add_generation_prompt=True),
    "tool result": dict(messages=[U2, CALLS, T], tools=TOOLS, add_generation_prompt=True),
    "two tool results": dict(messages=[U2, {**CALLS, "tool_calls": CALLS["tool_calls"] + [call("noop", {}, "call00002")]},
                                       T, {**T, "tool_call_id": "call00002", "name": "noop", "content": "done"}, A, U],
                             tools=TOOLS, add_generation_prompt=True),
    "tool result, reasoning": dict(messages=[S, U2, {**CALLS, "reasoning_content": "Ask."}, T, REASON, U], tools=TOOLS,
                                   add_generation_prompt=True),
    "simple tool": dict(messages=[S, U2], tools=SIMPLE, kwargs={"functions": "none", "datetime": "now"}, add_generation_prompt=True),
    "no tools": dict(messages=[S, U2, A, U], tools=[], kwargs={"functions": ""}, add_generation_prompt=True),
    "documents": dict(messages=[S, U], documents=[{"title": "T", "text": "Some text."}, {"title": "U", "text": "More."}],
                      add_generation_prompt=True),
    "continue": dict(messages=[U, {"role": "assistant", "content": "It is"}], continue_final=True),
    "continue, spaces": dict(messages=[S, U, {"role": "assistant", "content": "It is "}], continue_final=True),
    "continue, reasoning": dict(messages=[S, U, {"role": "assistant", "content": "It is", "reasoning_content": "Hmm."}],
                                continue_final=True),
    "continue, tools": dict(messages=[U2, CALLS, T, {"role": "assistant", "content": "Warm, an"}], tools=TOOLS, continue_final=True),
    "tools, thinking off": dict(messages=[S, U2, CALLS, T], tools=TOOLS, add_generation_prompt=True,
                                kwargs={"enable_thinking": False, "thinking": False}),
    "reasoning, thinking off": dict(messages=[S, U, REASON, U2], add_generation_prompt=True,
                                    kwargs={"enable_thinking": False, "thinking": False}),
    "reasoning, no prompt": dict(messages=[S, U, REASON, U2], kwargs={"enable_thinking": True, "thinking": True}),
    "effort low": dict(messages=[S, U], add_generation_prompt=True, kwargs={"reasoning_effort": "low"}),
    "effort medium": dict(messages=[U, REASON, U2], add_generation_prompt=True, kwargs={"reasoning_effort": "medium"}),
    "effort none": dict(messages=[U], add_generation_prompt=True, kwargs={"reasoning_effort": "none"}),
    "effort max": dict(messages=[U], add_generation_prompt=True, kwargs={"reasoning_effort": "max", "enable_thinking": True,
                                                                        "thinking": True}),
    "thought as gpt-oss": dict(messages=[U, {**CALLS, "thinking": "Ask."}, T, {"role": "assistant", "content": "Warm.", "thinking": "Ok."},
                                         U2], tools=TOOLS, add_generation_prompt=True),
    "developer": dict(messages=[{"role": "developer", "content": "Be brief."}, U], add_generation_prompt=True),
    "two systems": dict(messages=[S, S, U, A, S, U2], add_generation_prompt=True),
    "long": dict(messages=[S, *[U, A] * 12, U2], add_generation_prompt=True),
    "wrong order": dict(messages=[U, U2, A, S], add_generation_prompt=True),
    "empty": dict(messages=[], add_generation_prompt=True),
    "parts": dict(messages=[PARTS, A, PARTS], add_generation_prompt=True),
}


def reference(source, chat):
    """("ok", text) or ("refused", why)."""
    try:
        text, _ = hf.render_jinja_template(
            conversations=[chat["messages"]], tools=chat.get("tools"), documents=chat.get("documents"), chat_template=source,
            add_generation_prompt=chat.get("add_generation_prompt", False),
            continue_final_message=chat.get("continue_final", False), **{**SPECIAL, **chat.get("kwargs", {})})
        return "ok", text[0]
    except Exception as error:
        return "refused", f"{type(error).__name__}: {error}"


class Probe:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, source, chat):
        error, text, own = self.exchange(source, chat)
        return ("ok" if error == 0 else "refused", text.decode(), foreign_tokens(text, own) if error == 0 else [])

    def exchange(self, source, chat):
        body = json.dumps({**chat, "special": SPECIAL, "now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp() * 1e6)})
        for block in (source.encode(), body.encode()):
            self.process.stdin.write(struct.pack("<I", len(block)) + block)
        self.process.stdin.flush()
        error, length = struct.unpack("<II", self.process.stdout.read(8))
        text = self.process.stdout.read(length)
        count, = struct.unpack("<I", self.process.stdout.read(4))
        own = [struct.unpack("<II", self.process.stdout.read(8)) for _ in range(count)]
        return error, text, own


# What special tokens look like in the templates at hand.  No message of CHATS has any.
TOKEN = re.compile(r"<\|[^|<>\s]{1,60}\|>|<｜[^｜<>\s]{1,60}｜>|</?s>|\[/?[A-Z_]{2,20}\]|<(?:start|end)_of_turn>|<\[?[a-z_]+\[?\|>".encode())


def foreign_tokens(text, own):
    """Special tokens that are not wholly the template's own words: they would be encoded as plain text."""
    return [m.group().decode() for m in TOKEN.finditer(text) if not any(a <= m.start() and m.end() <= b for a, b in own)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", default=ROOT / "build/release/tests/template_probe")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--verbose", "-v", action="store_true")
    args = parser.parse_args()
    if not Path(args.probe).exists():
        subprocess.run(["cmake", "--build", "--preset", "release", "--target", "template_probe"], cwd=ROOT, check=True)
    hf.datetime = Clock
    files = args.files or sorted((ROOT.parent / "shared/data/templates").glob("*.jinja"))
    sources = {f.name: f.read_text() for f in files}
    if not args.files:
        for script in ["make_templates.py"] + ["make_published_templates.py"] * bool(files):
            subprocess.run([sys.executable, ROOT / "tests/golden/text" / script], check=True)
        sources["bundled model"] = json.loads((ROOT / "deploy/demo-model/tokenizer_config.json").read_text())["chat_template"]
    probe, equal = Probe(args.probe), 0
    same = {"ok": 0, "refused": 0, "joined": 0}  # equal bytes, refused by both, contents in parts that heddle joins
    for name, source in sources.items():
        wrong, rendered = [], 0
        for title, chat in CHATS.items():
            want, got = reference(source, chat), probe.ask(source, chat)
            rendered += want[0] == "ok"
            # A content in parts may be joined for a template that takes strings only, where transformers fails or prints a list.
            if title == "parts" and got[0] == "ok" and want != got[:2] and ("[{'type'" in want[1] or '[{"type"' in want[1] or want[0] == "refused"):
                same["joined"] += 1
                continue
            same[want[0]] += want[:2] == got[:2] or want[0] == got[0] == "refused"
            if want[0] != got[0] or (want[0] == "ok" and want[1] != got[1]):
                wrong.append((title, want, got))
            if got[2]:
                wrong.append((title, ("ok", "special tokens in the template's own words"), ("ok", str(got[2]))))
        equal += not wrong
        print(f"{name}: {len(CHATS) - len(wrong)} of {len(CHATS)} conversations equal ({rendered} rendered)")
        for title, want, got in wrong[:20 if args.verbose else 2]:
            print(f"  {title}:\n    want {want[0]} {want[1][-700:]!r}\n    got  {got[0]} {got[1][-700:]!r}")
    print(f"{equal} of {len(sources)} templates equal; of {len(sources) * len(CHATS)} renderings {same['ok']} with equal bytes, "
          f"{same['refused']} refused by both, {same['joined']} of contents in parts that only heddle joins")
    sys.exit(0 if equal == len(sources) else 1)


if __name__ == "__main__":
    main()
