#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What models without a template write of some conversations: renderers.json.

    python3 tests/golden/text/make_renderers.py --dsv32 encoding_dsv32.py
                          (needs mistral_common, transformers, jinja2 and ../shared/data/templates)

Each is what its owner's program says: the published template of openai/gpt-oss-120b; the template that llama.cpp made of
DeepSeek-V4's encoder; encoding/encoding_dsv32.py of deepseek-ai/DeepSeek-V3.2, a file of that model; mistral-common's
instruct tokenizers v3, v7, v11 and v13.
"""

import argparse
import copy
import datetime
import importlib.util
import json
import tempfile
from pathlib import Path

import transformers.utils.chat_template_utils as hf
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Function, Tool
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy, TokenizerVersion
from mistral_common.tokens.tokenizers import instruct
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

import make_ranked
from make_templates import NOW, Clock

HERE = Path(__file__).resolve().parent
TEMPLATES = HERE.parents[3] / "shared/data/templates"
ENDS = ("[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]")
SPECIALS = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}


def jinja(name):
    source = (TEMPLATES / name).read_text()

    def render(chat):
        hf.datetime = Clock
        text, _ = hf.render_jinja_template(
            conversations=[list(prepared(chat["messages"]))], tools=chat.get("tools"), chat_template=source,
            add_generation_prompt=chat.get("add_generation_prompt", False),
            continue_final_message=chat.get("continue_final", False), **{**SPECIALS, **chat.get("kwargs", {})})
        return text[0]
    return render


def prepared(messages, join="\n", arguments=lambda v: v):
    """Contents in parts as one text, for programs that take texts alone."""
    for message in copy.deepcopy(messages):
        for tool_call in message.get("tool_calls") or ():
            tool_call["function"]["arguments"] = arguments(tool_call["function"]["arguments"])
        if join and isinstance(message.get("content"), list):
            message["content"] = join.join(part["text"] for part in message["content"])
        yield message


def as_text(arguments):
    return json.dumps(arguments, ensure_ascii=False)


def dsv32(path):
    spec = importlib.util.spec_from_file_location("encoding_dsv32", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def render(chat):
        messages, kwargs = list(prepared(chat["messages"], arguments=as_text)), chat.get("kwargs", {})
        if messages and messages[0]["role"] == "tool":
            raise ValueError("it would look for the call in the last message")
        if chat.get("tools"):
            if not messages or messages[0]["role"] != "system":
                messages.insert(0, {"role": "system"})
            messages[0]["tools"] = chat["tools"]
        thinking = kwargs.get("thinking", kwargs.get("enable_thinking", False))
        return module.encode_messages(messages, thinking_mode="thinking" if thinking else "chat")
    return render


def mistral_message(message):
    message = {**message, "role": {"developer": "system"}.get(message["role"], message["role"])}
    kind = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage, "tool": ToolMessage}[message["role"]]
    return kind.from_openai(message)


class Mistral:
    """With a vocabulary of its own, so that ids can be compared too."""

    def __init__(self, version, folder):
        config = make_ranked.tekken_config(version, make_ranked.learn(900, make_ranked.TEKKEN), make_ranked.SPECIALS + ENDS)
        (folder / "tekken.json").write_text(json.dumps(config))
        self.version = TokenizerVersion(version)
        self.instruct = getattr(instruct, f"InstructTokenizer{version.upper()}")(Tekkenizer.from_file(folder / "tekken.json"))

    def ids(self, chat):
        messages = [mistral_message(m) for m in prepared(chat["messages"], join=None, arguments=as_text)]
        if chat.get("continue_final"):
            messages[-1].prefix = True
        tools = [Tool(function=Function.from_openai(t["function"])) for t in chat.get("tools") or ()]
        request = ChatCompletionRequest.model_construct(messages=messages, tools=tools or None)
        return self.instruct.encode_instruct(get_normalizer(self.version).from_chat_completion_request(request)).tokens

    def __call__(self, chat):
        return self.instruct.decode(self.ids(chat), special_token_policy=SpecialTokenPolicy.KEEP)


def references(folder, encoder=None):
    """Model -> what its owner's program writes."""
    out = {"model_type:gpt_oss": jinja("openai-gpt-oss-120b.jinja"), "model_type:deepseek_v4": jinja("deepseek-ai-DeepSeek-V4.jinja")}
    if encoder:
        out["model_type:deepseek_v32"] = dsv32(encoder)
    for version in ("v3", "v7", "v11", "v13"):
        (folder / version).mkdir(exist_ok=True)
        out[f"tekken:{version}"] = Mistral(version, folder / version)
    return out


TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city.", "parameters": {
        "type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "Größe & <name>"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "array", "items": {"type": "integer"}},
            "where": {"oneOf": [{"type": "string", "description": "a name"}, {"type": "number", "default": 3}]},
            "more": {"type": "object", "required": ["a"], "properties": {
                "a": {"type": ["string", "null"]}, "b": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "boolean"}}}}}},
        }}}},
    {"type": "function", "function": {"name": "noop", "description": "Does nothing.", "parameters": {"type": "object", "properties": {}}}}]


def call(name, arguments, ident):
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


S, U, U2 = ({"role": "system", "content": "Be terse. 😀"}, {"role": "user", "content": " Is 1 < 2? [INST]</s><|end|> "},
            {"role": "user", "content": "And Paris?"})
A = {"role": "assistant", "content": "Yes.  "}
THOUGHT = {"role": "assistant", "content": "Done.", "reasoning_content": "Hmm."}
CALLS = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", {"city": "Paris", "days": [1, 2], "ok": True}, "call00001"),
                                                             call("noop", {}, "call00002")]}
R1 = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": "{\"temp\":21.5}"}
R2 = {"role": "tool", "tool_call_id": "call00002", "name": "noop", "content": "done"}
DEVELOPER = {"role": "developer", "content": "Mind the gap."}
ON = {"kwargs": {"thinking": True, "reasoning_effort": "high"}}
PROMPT = {"add_generation_prompt": True}

CHATS = {
    "user": dict(messages=[U], **PROMPT),
    "turns": dict(messages=[S, U, A, U2], **PROMPT),
    "turns, thinking": dict(messages=[S, U, THOUGHT, U2], **PROMPT, **ON),
    "two users": dict(messages=[U, U2, A, A, U2], **PROMPT),
    "late prompt": dict(messages=[U, A, S, U2], **PROMPT),
    "prompt alone": dict(messages=[S], **PROMPT),
    "answer first": dict(messages=[A, U], **PROMPT),
    "tools": dict(messages=[S, U2], tools=TOOLS, **PROMPT),
    "tools, thinking": dict(messages=[U2], tools=TOOLS, **PROMPT, **ON),
    "two results": dict(messages=[U2, CALLS, R1, R2, A, U], tools=TOOLS, **PROMPT),
    "results in other order": dict(messages=[S, U2, CALLS, R2, R1], **PROMPT),
    "call, thinking": dict(messages=[S, U, THOUGHT, U2, {**CALLS, "reasoning_content": "Ask."}, R1, R2], tools=TOOLS, **PROMPT, **ON),
    "call and text": dict(messages=[U2, {**CALLS, "content": "Let me see."}, R1], **PROMPT),
    "result first": dict(messages=[R1, U2], **PROMPT),
    "thinking at the end": dict(messages=[U, THOUGHT], **ON),
    "effort": dict(messages=[S, U], kwargs={"thinking": True, "reasoning_effort": "max"}, **PROMPT),
    "developer": dict(messages=[DEVELOPER, U], **PROMPT),
    "parts": dict(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], **PROMPT),
    "continued": dict(messages=[S, U, {"role": "assistant", "content": "It is"}], continue_final=True),
    "nothing said": dict(messages=[U, {"role": "assistant", "content": ""}, U2], **PROMPT),
    "nobody": dict(messages=[], **PROMPT),
}


def has(model, chat):
    """DeepSeek V3.2's program cannot go on with a message."""
    return not (model == "model_type:deepseek_v32" and chat.get("continue_final"))


def said(render, chat):
    """None where the program refuses."""
    try:
        return render(chat)
    except Exception:
        return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsv32", required=True, type=Path)
    args, out = parser.parse_args(), {"now": int(NOW.replace(tzinfo=datetime.timezone.utc).timestamp() * 1e6), "chats": CHATS, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        for model, render in references(Path(folder), args.dsv32).items():
            out["models"][model] = {title: said(render, chat) for title, chat in CHATS.items() if has(model, chat)}
    (HERE / "renderers.json").write_text(json.dumps(out, ensure_ascii=False, separators=(",", ":"), indent=0) + "\n")


if __name__ == "__main__":
    main()
