# SPDX-License-Identifier: Apache-2.0
"""The bundled model as GGUF, with its vocabulary and chat template, in one file or in parts: what llama.cpp's converter would
write of it, but for the experts' order of copying. Standard library alone."""
import glob
import json
import os
import re
import struct

U16, U32, I32, F32, BOOL, STRING, ARRAY = 2, 4, 5, 6, 7, 8, 9
BF16, ALIGN = 30, 32
LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
         "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate": "ffn_gate_inp"}
MODEL = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack({U16: "<H", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B"}[kind], value)


def kv(key, kind, value):
    if isinstance(value, list):
        return text(key) + struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(scalar(kind, v) for v in value)
    return text(key) + struct.pack("<I", kind) + scalar(kind, value)


def read_safetensors(folder):
    """{name: (shape, bytes)}, all of them bf16."""
    tensors = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with open(path, "rb") as f:
            size, = struct.unpack("<Q", f.read(8))
            header, data = json.loads(f.read(size)), f.read()
        for name, t in header.items():
            if name != "__metadata__":
                assert t["dtype"] == "BF16"
                tensors[name] = (t["shape"], data[t["data_offsets"][0]:t["data_offsets"][1]])
    return tensors


def rename(tensors):
    out, experts = {}, {}
    for name, (shape, data) in tensors.items():
        m = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        e = m and re.fullmatch(r"mlp\.experts\.(\d+)\.(gate|up|down)_proj", m.group(2))
        if e:
            experts.setdefault((int(m.group(1)), e.group(2)), {})[int(e.group(1))] = (shape, data)
        elif m:
            out[f"blk.{m.group(1)}.{LAYER[m.group(2)]}.weight"] = (shape, data)
        else:
            out[MODEL[name]] = (shape, data)
    for (layer, what), parts in experts.items():
        stack = [parts[i] for i in range(len(parts))]
        out[f"blk.{layer}.ffn_{what}_exps.weight"] = ([len(stack), *stack[0][0]], b"".join(d for _, d in stack))
    return out


def model_keys(config):
    p = "qwen3moe."
    return [kv("general.architecture", STRING, "qwen3moe"), kv("general.type", STRING, "model"),
            kv(p + "block_count", U32, config["num_hidden_layers"]),
            kv(p + "context_length", U32, config["max_position_embeddings"]),
            kv(p + "embedding_length", U32, config["hidden_size"]),
            kv(p + "feed_forward_length", U32, config["intermediate_size"]),
            kv(p + "attention.head_count", U32, config["num_attention_heads"]),
            kv(p + "attention.head_count_kv", U32, config["num_key_value_heads"]),
            kv(p + "attention.key_length", U32, config["head_dim"]),
            kv(p + "attention.value_length", U32, config["head_dim"]),
            kv(p + "attention.layer_norm_rms_epsilon", F32, config["rms_norm_eps"]),
            kv(p + "rope.freq_base", F32, config["rope_theta"]), kv(p + "expert_count", U32, config["num_experts"]),
            kv(p + "expert_used_count", U32, config["num_experts_per_tok"]),
            kv(p + "expert_feed_forward_length", U32, config["moe_intermediate_size"])]


def vocabulary_keys(folder):
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
        tokenizer = json.load(f)
    with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as f:
        config = json.load(f)
    by_id = {i: t for t, i in tokenizer["model"]["vocab"].items()}
    control = {t["id"] for t in tokenizer["added_tokens"]}
    by_id.update({t["id"]: t["content"] for t in tokenizer["added_tokens"]})
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    return [kv("tokenizer.ggml.model", STRING, "gpt2"), kv("tokenizer.ggml.pre", STRING, "qwen2"),
            kv("tokenizer.ggml.tokens", STRING, [by_id[i] for i in range(len(by_id))]),
            kv("tokenizer.ggml.token_type", I32, [3 if i in control else 1 for i in range(len(by_id))]),
            kv("tokenizer.ggml.merges", STRING, merges), kv("tokenizer.ggml.eos_token_id", U32, 2),
            kv("tokenizer.ggml.add_bos_token", BOOL, False),
            kv("tokenizer.chat_template", STRING, config["chat_template"])]


def write_part(path, keys, tensors):
    infos, data = b"", b""
    for name, (shape, raw) in tensors.items():
        data += b"\0" * (-len(data) % ALIGN)
        dims = shape[::-1]
        infos += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, BF16, len(data))
        data += raw
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % ALIGN) + data)


def write(folder, out, n_parts=1):
    """The model of `folder` as out.gguf or out-00001-of-0000N.gguf, ...; returns the path to give to heddle."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        keys = model_keys(json.load(f)) + vocabulary_keys(folder)
    tensors = rename(read_safetensors(folder))
    if n_parts == 1:
        write_part(out + ".gguf", keys, tensors)
        return out + ".gguf"
    names = list(tensors)
    for i in range(n_parts):
        mine = {n: tensors[n] for n in names[i::n_parts]}
        split = [kv("split.no", U16, i), kv("split.count", U16, n_parts), kv("split.tensors.count", I32, len(names))]
        write_part(f"{out}-{i + 1:05}-of-{n_parts:05}.gguf", split + (keys if i == 0 else []), mine)
    return f"{out}-00001-of-{n_parts:05}.gguf"
