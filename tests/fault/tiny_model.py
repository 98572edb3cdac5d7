#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The bundled model's vocabulary with one small layer of random weights, for servers on slow devices (fibers).

    tests/fault/tiny_model.py FOLDER

A mixture of four experts and two heads, so that it can be shared by two ranks either way. What it says is nonsense and always
the same. Standard library only.
"""
import json
import os
import random
import shutil
import struct
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEMO = os.path.join(ROOT, "deploy", "demo-model")
HIDDEN, HEADS, HEAD, EXPERTS, INTER = 64, 2, 32, 4, 64


def shapes(vocab):
    layer = "model.layers.0."
    out = {"model.embed_tokens.weight": [vocab, HIDDEN], "model.norm.weight": [HIDDEN],
           layer + "input_layernorm.weight": [HIDDEN], layer + "post_attention_layernorm.weight": [HIDDEN],
           layer + "self_attn.o_proj.weight": [HIDDEN, HEADS * HEAD], layer + "mlp.gate.weight": [EXPERTS, HIDDEN]}
    for name in "qkv":
        out[f"{layer}self_attn.{name}_proj.weight"] = [HEADS * HEAD, HIDDEN]
    for name in "qk":
        out[f"{layer}self_attn.{name}_norm.weight"] = [HEAD]
    for expert in range(EXPERTS):
        for name, shape in (("gate", [INTER, HIDDEN]), ("up", [INTER, HIDDEN]), ("down", [HIDDEN, INTER])):
            out[f"{layer}mlp.experts.{expert}.{name}_proj.weight"] = shape
    return out


def values(rng, shape):
    """bf16: norms are ones, matrices uniform, wide enough for the layer to matter."""
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    numbers = [1.0] * n if len(shape) == 1 else [rng.uniform(-0.3, 0.3) for _ in range(n)]
    return b"".join(struct.pack("<f", x)[2:] for x in numbers)


def make(folder):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(DEMO, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config.update(hidden_size=HIDDEN, intermediate_size=64, moe_intermediate_size=INTER, num_hidden_layers=1, max_window_layers=1,
                  num_attention_heads=HEADS, num_key_value_heads=HEADS, head_dim=HEAD, num_experts=EXPERTS)
    rng, header, data = random.Random(1), {}, bytearray()
    for name, shape in shapes(config["vocab_size"]).items():
        piece = values(rng, shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(os.path.join(DEMO, name), folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    make(sys.argv[1])
