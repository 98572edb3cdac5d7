#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the logit fixtures of this folder from transformers: NAME.json (a config.json) -> NAME.bin.

  make.py [NAME ...]      needs torch, transformers (5.x), safetensors, numpy

Weights are a function of tensor name and index, the same one as rig_weight of
tests/unit/worker/rig_model.c, so none are committed. NAME.bin, little-endian:

  "HDL2", u32 n_tokens, u32 vocab, u32 n_greedy, u32 n_rows
  i32 ids[n_tokens]
  i32 greedy[n_greedy]            continuation of ids, largest logit each time, KV rounded to bf16
  i32 rows[n_rows]                tokens whose logits follow
  f32 logits[n_rows][vocab]       float32 throughout, KV rounded to bf16 as heddle stores it
  f32 logits[n_rows][vocab]       float32 throughout

The first pair isolates the cache's rounding, so that everything else can be held to 1e-4.
"""
import json
import os
import struct
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
N_TOKENS, N_GREEDY, N_ROWS = 256, 8, 16


def name_hash(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & (2**64 - 1)
    return h


def weight(name, shape):
    """Mirrors rig_weight."""
    n, vector = int(np.prod(shape)), len(shape) == 1
    with np.errstate(over="ignore"):
        x = np.uint64(name_hash(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    u = (x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    if vector:
        w = np.float32(0 if name.endswith("bias") else 1) + np.float32(0.25) * u
    else:
        w = u * (np.float32(1.6) / np.sqrt(np.float32(shape[-1])))
    return torch.from_numpy(w.astype(np.float32)).bfloat16().float().reshape(shape)


class RoundedCache(transformers.DynamicCache):
    """Keeps keys and values as bf16 would."""

    def update(self, key_states, value_states, *args, **kwargs):
        return super().update(key_states.bfloat16().float(), value_states.bfloat16().float(), *args, **kwargs)


def file_shapes(config):
    """Names and shapes as the published files have them: experts one by one, not stacked."""
    with tempfile.TemporaryDirectory() as folder:
        model = transformers.AutoModelForCausalLM.from_config(config)
        model.save_pretrained(folder)
        from safetensors import safe_open
        with safe_open(os.path.join(folder, "model.safetensors"), "pt") as f:
            return {k: tuple(f.get_slice(k).get_shape()) for k in f.keys()}


def load(text):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as f:
            f.write(text)
        config = transformers.AutoConfig.from_pretrained(folder)
        tensors = {name: weight(name, shape) for name, shape in file_shapes(config).items()}
        save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager").eval()


def run(model, ids, cache):
    with torch.no_grad():
        return model(torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0]


def make(name):
    with open(os.path.join(HERE, name + ".json")) as f:
        text = f.read()
    model = load(text)
    config = json.loads(text)
    vocab = config.get("text_config", config)["vocab_size"]
    ids = [(i * 37 + i * i * 5 + 11) % vocab for i in range(N_TOKENS)]
    rounded = run(model, ids, RoundedCache())
    exact = run(model, ids, transformers.DynamicCache())
    rows = [(i * 17 + 1) % N_TOKENS for i in range(N_ROWS - 1)] + [N_TOKENS - 1]
    greedy = []
    for _ in range(N_GREEDY):
        logits = run(model, ids + greedy, RoundedCache())
        greedy.append(int(logits[-1].argmax()))
    with open(os.path.join(HERE, name + ".bin"), "wb") as f:
        f.write(b"HDL2" + struct.pack("<4I", N_TOKENS, vocab, N_GREEDY, N_ROWS))
        f.write(np.array(ids + greedy + rows, dtype="<i4").tobytes())
        for logits in (rounded, exact):
            f.write(logits[rows].numpy().astype("<f4").tobytes())
    spread = float((rounded - exact).norm() / exact.norm())
    print(f"{name}: {os.path.getsize(os.path.join(HERE, name + '.bin'))} bytes, KV rounding costs {spread:.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    names = sys.argv[1:] or sorted(f[:-5] for f in os.listdir(HERE) if f.endswith(".json"))
    for each in names:
        make(each)
