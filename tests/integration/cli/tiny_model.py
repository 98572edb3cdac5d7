# SPDX-License-Identifier: Apache-2.0
"""Models with several kinds of cache, a few hundred kilobytes each, with the bundled model's tokenizer. Their weights come from
a formula: any will do, as long as every position matters. Standard library alone."""
import json
import os
import shutil
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "..", "..", "..", "deploy", "demo-model")
VOCAB, HIDDEN, INNER, KV_HEADS, DIM, WINDOW = 2048, 64, 128, 2, 32, 40
BLOCK = 32 * KV_HEADS * DIM * 2 * 2  # bytes of a block of pages in one layer
COMMON = {"hidden_size": HIDDEN, "head_dim": DIM, "intermediate_size": INNER, "num_hidden_layers": 3, "hidden_act": "silu",
          "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
          "num_attention_heads": 4, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "eos_token_id": 2}
# The second layer of three sees everything; the others a window.
WINDOWS = {"architectures": ["MinistralForCausalLM"], "model_type": "ministral", "rope_theta": 10000.0, "sliding_window": WINDOW,
           "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], **COMMON}
# The last layer of three attends; the others have a state.
STATES = {"architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text", "rope_theta": 10000.0,
          "linear_conv_kernel_dim": 4, "linear_key_head_dim": 32, "linear_num_key_heads": 4, "linear_num_value_heads": 4,
          "linear_value_head_dim": 32, "layer_types": ["linear_attention", "linear_attention", "full_attention"], **COMMON}


def shapes(config):
    heads, gated = config["num_attention_heads"] * DIM, config is STATES
    for layer, kind in enumerate(config["layer_types"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (HIDDEN,)
        yield at + "post_attention_layernorm.weight", (HIDDEN,)
        yield at + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield at + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield at + "mlp.down_proj.weight", (HIDDEN, INNER)
        if kind == "linear_attention":
            at += "linear_attn."
            yield at + "in_proj_qkv.weight", (3 * 128, HIDDEN)
            yield at + "in_proj_z.weight", (128, HIDDEN)
            yield at + "in_proj_b.weight", (4, HIDDEN)
            yield at + "in_proj_a.weight", (4, HIDDEN)
            yield at + "conv1d.weight", (3 * 128, 1, 4)
            yield at + "A_log", (4,)
            yield at + "dt_bias", (4,)
            yield at + "norm.weight", (32,)
            yield at + "out_proj.weight", (HIDDEN, 128)
            continue
        at += "self_attn."
        yield at + "q_proj.weight", (heads * (2 if gated else 1), HIDDEN)
        yield at + "k_proj.weight", (KV_HEADS * DIM, HIDDEN)
        yield at + "v_proj.weight", (KV_HEADS * DIM, HIDDEN)
        yield at + "o_proj.weight", (HIDDEN, heads)
        if gated:
            yield at + "q_norm.weight", (DIM,)
            yield at + "k_norm.weight", (DIM,)
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def values(shape, seed):
    """Vectors lie around 1, rows of matrices have a length of about 1; bf16."""
    n = 1
    for size in shape:
        n *= size
    spread = 0.25 if len(shape) == 1 else 1.6 / shape[-1] ** 0.5
    middle = 1 if len(shape) == 1 else 0
    out = bytearray()
    for _ in range(n):
        seed = seed * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        out += struct.pack("<f", middle + spread * ((seed >> 40) / (1 << 23) - 1))[2:]
    return bytes(out), seed


def write(path, config):
    header, data, seed, at = {}, [], 1, 0
    for name, shape in shapes(config):
        raw, seed = values(shape, seed)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        data.append(raw)
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.mkdir(path)
    with open(os.path.join(path, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data))
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    for name in "tokenizer.json", "tokenizer_config.json":
        shutil.copy(os.path.join(DEMO, name), path)
    return path
