# SPDX-License-Identifier: Apache-2.0
"""The tokenizer, byte-level BPE learned from the generated text, and the chat template with it.

A lower-case letter in a word that does not follow a space is one token, and so is a digit:
`"hello"` and the answer `olleh` are spelled out, ` hello` inside a sentence is one token.  Only so
can a model this small work on letters.
"""

import json
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import chat

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END)  # ids 0, 1, 2

PATTERN = (r"(?:system|user|assistant)(?=\n)|'(?:s|t|re|ve|m|ll|d)\b"
           r"| \p{L}+|\p{Lu}\p{Ll}+|\p{L}|\p{N}"
           r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def render(messages, add_generation_prompt=False):
    """What TEMPLATE renders."""
    text = "".join(f"{IM_START}{m['role']}\n{m['content']}{IM_END}\n" for m in messages)
    return text + (f"{IM_START}assistant\n" if add_generation_prompt else "")


def train(vocab_size, seed=1, conversations=40000):
    rng = random.Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL),
                                  show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    # A string per role line and per text: the markers are special tokens, they must not merge.
    texts = (text for _ in range(conversations) for m in chat.conversation(rng)
             for text in (m["role"] + "\n", m["content"]))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer, folder: Path):
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 4096,
        "bos_token": None,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False,
                                            "rstrip": False,
                                            "single_word": False, "special": True}
            for t in SPECIAL},
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {
        "bos_token_id": None,
        "eos_token_id": [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)],
        "pad_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "do_sample": False,
        "max_new_tokens": 128,
    }
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


class Encoder:
    """Messages -> (ids, loss mask); the mask is 1 on answers and the end mark of each."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.end = tokenizer.token_to_id(IM_END)

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def sample(self, messages):
        ids, mask = [], []
        for i, message in enumerate(messages):
            answer = message["role"] == "assistant"
            head = ("\n" if i else "") + f"{IM_START}{message['role']}\n"
            for text, learned in ((head, False), (message["content"], answer), (IM_END, answer)):
                new = self.ids(text)
                ids += new
                mask += [int(learned)] * len(new)
        return ids, mask
