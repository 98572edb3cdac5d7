#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the logit fixtures of this folder from transformers: NAME.json (a config.json) -> NAME.bin.

  make.py [NAME ...]      needs torch, transformers (5.x), safetensors, numpy; for quantised ones accelerate

Weights are a function of tensor name and index, the same one as weight of
tests/unit/worker/rig_model.c, so none are committed. NAME.bin, little-endian:

  "HDL2", u32 n_tokens, u32 vocab, u32 n_greedy, u32 n_rows
  i32 ids[n_tokens]
  i32 greedy[n_greedy]            continuation of ids, largest logit each time, KV rounded to bf16
  i32 rows[n_rows]                tokens whose logits follow
  f32 logits[n_rows][vocab]       float32 throughout, KV rounded to bf16 as heddle stores it
  f32 logits[n_rows][vocab]       float32 throughout

The first pair isolates the cache's rounding, so that everything else can be held to 1e-4.

Tokens of a mixture are chosen so that no router's choice hangs on a rounding (steady): bf16 activations then reach the same
experts as float32, and their logits can be held to a bound. Tokens of a model with int8 activations (BitNet) likewise: none of
its integers lies near a half (settled).
"""
import contextlib
import json
import os
import struct
import sys
import tempfile

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # BitNet's layers as they are written, not as a compiler rounds

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers.integrations import bitnet

HERE = os.path.dirname(os.path.abspath(__file__))
# Architectures whose norms are stored as w - 1.
PLUS_ONE = ("Gemma", "Qwen3Next", "Qwen3_5")
# References built of the text model alone, with text_config as it is: class, its model_type, what the published files put
# before its tensors' names. Kimi-K2.5: transformers writes its text layers under names that the published files do not have.
TEXT_MODELS = {"KimiK25ForConditionalGeneration": ("DeepseekV3ForCausalLM", "deepseek_v3", "language_model.")}
N_TOKENS, N_GREEDY, N_ROWS = 256, 8, 16


def name_hash(name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & (2**64 - 1)
    return h


def mean_of(name, plus_one):
    """Norms multiply by about 1, biases lie around 0, recurrent states fade slowly."""
    if name.endswith("A_log"):
        return -2
    shifted = plus_one and name.endswith("norm.weight") and "linear_attn." not in name
    return 0 if shifted or name.endswith("bias") else 1


def noise(name, index):
    """In [-1, 1), of a name and uint64 indices."""
    with np.errstate(over="ignore"):
        x = np.uint64(name_hash(name)) + (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)


def ternary(name, shape):
    """Mirrors write_bitnet of rig_quant.c: codes -1, 0, 1 and a scale."""
    index = np.arange(np.prod(shape), dtype=np.uint64)
    bits = [torch.from_numpy(noise(what, i) * np.float32(1.6)).bfloat16().float().numpy().view(np.uint32)
            for what, i in ((name, index), ("code", index * np.uint64(31) + np.uint64(7)))]
    with np.errstate(over="ignore"):
        x = bits[0] ^ bits[1] * np.uint32(2654435761)
        x = (x ^ x >> np.uint32(15)) * np.uint32(0x2C1B3C6D)
        x ^= x >> np.uint32(12)
    codes = torch.from_numpy((x % 3).astype(np.int8) - 1).reshape(shape)
    return codes, 2.0 ** round(float(np.log2(0.3 / np.sqrt(shape[1]) / 0.8)))


def weight(name, shape, plus_one):
    """Mirrors rig_model.c."""
    n, vector = int(np.prod(shape)), len(shape) == 1
    u = noise(name, np.arange(n, dtype=np.uint64))
    if vector:
        w = np.float32(mean_of(name, plus_one)) + np.float32(0.25) * u
    else:
        w = u * (np.float32(1.6) / np.sqrt(np.float32(shape[-1])))
    return torch.from_numpy(w.astype(np.float32)).bfloat16().float().reshape(shape)


class RoundedCache(transformers.DynamicCache):
    """Keeps keys and values as bf16 would."""

    def update(self, key_states, value_states, *args, **kwargs):
        return super().update(key_states.bfloat16().float(), value_states.bfloat16().float(), *args, **kwargs)


def new_cache(model, cls):
    """Recurrent layers keep a state, which needs the configuration; attention alone does not."""
    config = model.config.get_text_config()
    return cls(config=config) if "linear_attention" in (getattr(config, "layer_types", None) or []) else cls()


NOISY, NOISE = 12, 2.0**-7  # four times what rounding to bf16 does


@contextlib.contextmanager
def chosen_under_noise(model, seed):
    """Rows after the first see what goes into and comes out of every matrix disturbed. Yields all torch.topk indices."""
    found, topk, random = [], torch.topk, torch.Generator().manual_seed(seed)

    def record(*args, **kwargs):
        out = topk(*args, **kwargs)
        found.append(out[1].sort(dim=-1)[0])
        return out

    def disturb(x):
        rows = x.reshape(1 + NOISY, -1)
        noise = torch.rand(rows.shape, generator=random) * 2 - 1
        noise[0] = 0
        return (rows * (1 + NOISE * noise)).reshape(x.shape)

    hooks = []
    for m in model.modules():
        if isinstance(m, torch.nn.Linear):
            hooks.append(m.register_forward_pre_hook(lambda _, inputs: (disturb(inputs[0]),)))
            hooks.append(m.register_forward_hook(lambda _, inputs, out: disturb(out) if torch.is_tensor(out) else None))
    torch.topk = record
    try:
        yield found
    finally:
        torch.topk = topk
        for hook in hooks:
            hook.remove()


def steady(model, ids, vocab):
    """ids, changed at every token where a router chooses otherwise under noise. A piece at a time: later tokens do not
    change what earlier ones reach."""
    for end in list(range(32, len(ids), 32)) + [len(ids)]:
        ids = steady_to(model, ids, vocab, end)
    return ids


def steady_to(model, ids, vocab, end):
    while True:
        with chosen_under_noise(model, end) as found, torch.no_grad():
            model(torch.tensor([ids[:end]] * (1 + NOISY)), use_cache=False)
        bad = torch.zeros(end, dtype=torch.bool)
        for choice in found:
            choice = choice.reshape(1 + NOISY, end, -1)
            bad |= (choice != choice[:1]).any(dim=2).any(dim=0)
        if not bad.any():
            return ids
        at = int(bad.nonzero()[0])
        ids = ids[:at] + [(ids[at] + 1) % vocab] + ids[at + 1 :]


@contextlib.contextmanager
def halves(model):
    """Yields, of each layer with int8 activations, how far each token's integers are from a half before they are rounded."""
    found = []

    def look(_, inputs):
        x = inputs[0][0]
        q = x * (127 / x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-5))
        found.append(((q - q.floor()) - 0.5).abs().amin(dim=-1))

    hooks = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, bitnet.AutoBitLinear)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def settled(model, ids, vocab):
    """ids, changed at every token that has an integer which another order of sums might round otherwise."""
    for end in list(range(16, len(ids), 16)) + [len(ids)]:
        while True:
            with halves(model) as found:
                run(model, ids[:end], new_cache(model, RoundedCache))
            bad = torch.stack(found).amin(dim=0) < 2e-4
            if not bad.any():
                break
            at = int(bad.nonzero()[0])
            ids = ids[:at] + [(ids[at] + 1) % vocab] + ids[at + 1 :]
    return ids


def file_shapes(cls, config):
    """Names and shapes as the published files have them: experts one by one, not stacked."""
    with tempfile.TemporaryDirectory() as folder:
        cls._from_config(config).save_pretrained(folder)
        with safe_open(os.path.join(folder, "model.safetensors"), "pt") as f:
            return {k: tuple(f.get_slice(k).get_shape()) for k in f.keys()}


def load(text):
    name, prefix = json.loads(text)["architectures"][0], ""
    if name in TEXT_MODELS:
        name, model_type, prefix = TEXT_MODELS[name]
        text = json.dumps(dict(json.loads(text)["text_config"], model_type=model_type))
    cls = getattr(transformers, name)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as f:
            f.write(text)
        config = transformers.AutoConfig.from_pretrained(folder)
        quantised = hasattr(config, "quantization_config")
        if quantised:
            del config.quantization_config
        tensors = {k: weight(prefix + k, shape, name.startswith(PLUS_ONE)) for k, shape in file_shapes(cls, config).items()}
        for k in [k for k in tensors if quantised and "_proj." in k]:
            codes, scale = ternary(k, tuple(tensors[k].shape))
            tensors[k] = bitnet.pack_weights(codes)
            tensors[k + "_scale"] = torch.tensor([scale])
        save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
        model = cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        inner = getattr(model, "language_model", None)  # Llama 4's text model is whole and takes plain ids
        return inner if hasattr(inner, "lm_head") else model


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
    ids = settled(model, ids, vocab) if "quantization_config" in config else steady(model, ids, vocab)
    rounded = run(model, ids, new_cache(model, RoundedCache))
    exact = run(model, ids, new_cache(model, transformers.DynamicCache))
    rows = [(i * 17 + 1) % N_TOKENS for i in range(N_ROWS - 1)] + [N_TOKENS - 1]
    greedy = []
    for _ in range(N_GREEDY):
        logits = run(model, ids + greedy, new_cache(model, RoundedCache))
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
