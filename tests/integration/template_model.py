# SPDX-License-Identifier: Apache-2.0
"""The bundled model with a chat template that takes everything: tools, documents, variables, a generation block."""

import os
import pathlib
import re

TEMPLATE = """\
{%- for d in documents or [] %}[{{ loop.index }} {{ d.title }}: {{ d.text }}]
{% endfor %}
{%- for t in tools or [] %}({{ t.function.name }})
{% endfor %}
{%- if style is defined %}style {{ style }}
{% endif %}
{%- for m in messages %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}
{%- generation %}{{ m.content }}{{ '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ m.content + '<|im_end|>' }}
{%- endif %}
{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

SPECIAL = {"<|im_start|>": 1, "<|im_end|>": 2}

QUESTION = [{"role": "user", "content": "What is 12 plus 7?"}]
TURNS = [*QUESTION, {"role": "assistant", "content": "It is"}]
DOCUMENTS = [{"title": "T", "text": "Some text."}, {"title": "U", "text": "More."}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]

ASKED = "<|im_start|>user\nWhat is 12 plus 7?<|im_end|>\n"
OPENED = ASKED + "<|im_start|>assistant\n"
# What the template makes: title, what is asked, expected prompt.
CASES = [
    ("plain", {"messages": QUESTION}, OPENED),
    ("generation block", {"messages": [*TURNS, *QUESTION]}, OPENED + "It is<|im_end|>\n" + OPENED),
    ("continued", {"messages": TURNS, "continue_final_message": True}, OPENED + "It is"),
    ("documents", {"messages": QUESTION, "documents": DOCUMENTS}, "[1 T: Some text.]\n[2 U: More.]\n" + OPENED),
    ("all at once", {"messages": TURNS, "documents": DOCUMENTS[:1], "tools": TOOLS, "continue_final_message": True,
                     "chat_template_kwargs": {"style": "terse"}}, "[1 T: Some text.]\n(add)\nstyle terse\n" + OPENED + "It is"),
]


def make(folder, model):
    """The files of `model` and the template, in a new folder."""
    folder = pathlib.Path(folder)
    folder.mkdir()
    for path in pathlib.Path(model).resolve().iterdir():
        if path.suffix in (".json", ".safetensors"):
            os.symlink(path, folder / path.name)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return str(folder)


def pieces(text):
    """A prompt cut at its special tokens, which are pieces of their own."""
    return [p for p in re.split("(" + "|".join(map(re.escape, SPECIAL)) + ")", text) if p]
