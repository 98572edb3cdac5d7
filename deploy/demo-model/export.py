# SPDX-License-Identifier: Apache-2.0
"""Writes the trained weights as a Hugging Face folder, and asks transformers to read it back."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from model import CONFIG

N_SHARDS = 2


def write_config(folder: Path, tokenizer):
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    config = dict(CONFIG, bos_token_id=None, eos_token_id=end, pad_token_id=pad)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_weights(folder: Path, tensors):
    """Two shards and the index that names the shard of each tensor, as large models come."""
    names = sorted(tensors)
    total = sum(tensors[n].numel() * 2 for n in names)
    shards, filled = [[] for _ in range(N_SHARDS)], 0
    for name in names:
        shards[min(filled * N_SHARDS // total, N_SHARDS - 1)].append(name)
        filled += tensors[name].numel() * 2
    weight_map = {}
    for i, part in enumerate(shards):
        file = f"model-{i + 1:05d}-of-{N_SHARDS:05d}.safetensors"
        save_file({n: tensors[n] for n in part}, str(folder / file), metadata={"format": "pt"})
        weight_map.update({n: file for n in part})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


class Reader:
    """The exported folder through transformers: the judge of everything this folder claims."""

    def __init__(self, folder: Path, dtype=torch.float32):
        from transformers import AutoModelForCausalLM, AutoTokenizer
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    @torch.no_grad()
    def answer(self, conversations, max_new_tokens=96):
        """Greedy answers, decoded in batches of questions of similar length."""
        texts = [self.tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True)
                 for m in conversations]
        out, order = [None] * len(texts), sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), 64):
            part = order[start:start + 64]
            inputs = self.tokenizer([texts[i] for i in part], return_tensors="pt", padding=True,
                                    add_special_tokens=False)
            inputs.pop("token_type_ids", None)
            ids = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
            for i, row in zip(part, ids[:, inputs["input_ids"].shape[1]:]):
                out[i] = self.tokenizer.decode(row, skip_special_tokens=True).strip()
        return out

    @torch.no_grad()
    def loss(self, sample):
        """Mean loss over the answer tokens of one (ids, mask)."""
        ids, mask = torch.tensor([sample[0]]), torch.tensor(sample[1], dtype=torch.bool)
        logits = self.model(input_ids=ids).logits[0].float()
        losses = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
        return losses[mask[1:]].mean().item()
