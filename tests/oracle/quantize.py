#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files as llama.cpp's llama-quantize makes them: heddle's logits against transformers' of the same tensors dequantised
to float32 by the gguf package.

    python3 tests/oracle/quantize.py [--quantize PROGRAM] [--heddle PROGRAM]

Four models: the bundled one, which is trained and held to 1e-2; and random ones of two layers: dense, a mixture, and one as
transformers initialises it. Their layers change as much as they are given: what rounding activations to 8 bits costs (half a
percent at each matrix) comes out at the end, 0.9 to 1.4 % of the logits, so they are held to 2e-2. With `--weights f32` the
same files are dequantised at load and nothing is rounded to 8 bits: what heddle reads in a file, all held to 5e-3. Q4_K_M and
the like are mixes that llama-quantize decides on tensor by tensor. Of a mixture, those tokens count whose experts hang on no
rounding. Without the program nothing is compared.
"""
import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "deploy/demo-model"
KINDS = ("F32", "Q8_0", "Q4_K_M", "MXFP4_MOE", "Q5_K_M", "Q6_K", "Q3_K_M", "Q4_0")
TOKENS, MARGIN = 128, 0.1
ALLOWED, READ_ALLOWED = {"bundled": 1e-2, "dense": 2e-2, "mixture": 2e-2, "as made": 2e-2}, 5e-3
# transformers' name of a tensor of a layer -> llama.cpp's
NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def random_model(moe, as_made=False):
    sizes = dict(vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=8,
                 num_key_value_heads=4, head_dim=32, rms_norm_eps=1e-6, tie_word_embeddings=False, max_position_embeddings=512)
    if moe:
        config = transformers.Qwen3MoeConfig(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=256, norm_topk_prob=True, **sizes)
    else:
        config = transformers.Qwen3Config(**sizes)
    model = getattr(transformers, "Qwen3MoeForCausalLM" if moe else "Qwen3ForCausalLM")(config)
    with torch.no_grad():
        for weight in () if as_made else model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, weight.shape[-1] ** -0.5)
        if not as_made:
            model.model.embed_tokens.weight.normal_(0, 1)  # as in trained models, a layer adds little to what is there
    return model.float().eval()


def bundled_model():
    return transformers.AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32).eval()


def tensors_of(model):
    """name in the file -> where its values are: a parameter, or a part of one."""
    out = {}
    for name, weight in model.named_parameters():
        if name in TOP:
            out[TOP[name]] = weight
            continue
        _, _, layer, rest = name.split(".", 3)
        if rest == "mlp.experts.gate_up_proj":
            gate, up = weight.chunk(2, dim=1)
            out[f"blk.{layer}.ffn_gate_exps.weight"], out[f"blk.{layer}.ffn_up_exps.weight"] = gate, up
        elif rest == "mlp.experts.down_proj":
            out[f"blk.{layer}.ffn_down_exps.weight"] = weight
        else:
            out[f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"] = weight
    return out


def write(path, model):
    """A float32 file in the names and keys of llama.cpp's converter."""
    c = model.config
    moe = c.model_type == "qwen3_moe"
    out = gguf.GGUFWriter(path, "qwen3moe" if moe else "qwen3")
    out.add_block_count(c.num_hidden_layers)
    out.add_context_length(c.max_position_embeddings)
    out.add_embedding_length(c.hidden_size)
    out.add_feed_forward_length(c.intermediate_size)
    out.add_head_count(c.num_attention_heads)
    out.add_head_count_kv(c.num_key_value_heads)
    out.add_layer_norm_rms_eps(c.rms_norm_eps)
    out.add_rope_freq_base(c.rope_parameters["rope_theta"])
    out.add_key_length(c.head_dim)
    out.add_value_length(c.head_dim)
    out.add_vocab_size(c.vocab_size)
    if moe:
        out.add_expert_count(c.num_experts)
        out.add_expert_used_count(c.num_experts_per_tok)
        out.add_expert_feed_forward_length(c.moe_intermediate_size)
    for name, weight in tensors_of(model).items():
        out.add_tensor(name, np.ascontiguousarray(weight.detach().numpy()))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def load(path, model):
    """The file's values into the model; how many tensors there are of each type."""
    places, types = tensors_of(model), Counter()
    with torch.no_grad():
        for t in gguf.GGUFReader(path).tensors:
            values = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
            places[t.name].copy_(torch.from_numpy(values.copy()).reshape(places[t.name].shape))
            types[t.tensor_type.name] += 1
    return types


def expected(model, ids):
    """Logits, and which tokens have experts that no rounding changes."""
    moe = model.config.model_type == "qwen3_moe"
    with torch.no_grad():
        out = model(torch.tensor([ids]), **({"output_router_logits": True} if moe else {}))
    sure = np.ones(len(ids), bool)
    for scores in out.router_logits if moe else ():
        best = scores.sort(dim=-1, descending=True).values
        k = model.config.num_experts_per_tok
        sure &= (best[:, k - 1] - best[:, k] > MARGIN * scores.std()).numpy()
    return out.logits[0].numpy(), sure


def compare(heddle, path, model, ids, *options):
    ids_file, npy = path.parent / "ids", path.parent / "out.npy"
    ids_file.write_text(" ".join(map(str, ids)))
    subprocess.run([heddle, "logits", path, "--ids-file", ids_file, "--out", npy, *options], check=True, stderr=subprocess.DEVNULL)
    (want, sure), got = expected(model, ids), np.load(npy)
    want, got = want[sure], got[sure]
    return np.linalg.norm(got - want) / np.linalg.norm(want), (got.argmax(1) == want.argmax(1)).mean(), len(want)


def bundled_ids():
    tokenizer = transformers.AutoTokenizer.from_pretrained(BUNDLED)
    items = [json.loads(line) for line in (BUNDLED / "eval.jsonl").read_text(encoding="utf-8").splitlines()[:20]]
    text = "".join(tokenizer.apply_chat_template(i["messages"] + [{"role": "assistant", "content": i["answer"]}], tokenize=False)
                   for i in items)
    return tokenizer(text)["input_ids"][:TOKENS]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quantize", default=shutil.which("llama-quantize"))
    parser.add_argument("--heddle", default=str(ROOT / "build/release/bin/heddle"))
    args = parser.parse_args()
    if not args.quantize:
        print("no llama-quantize; name it with --quantize to compare its files")
        return 0
    torch.set_num_threads(1)
    torch.manual_seed(1)
    ids, wrong = torch.randint(0, 512, (TOKENS,)).tolist(), 0
    models = {"bundled": (bundled_model(), bundled_ids()), "dense": (random_model(False), ids), "mixture": (random_model(True), ids),
              "as made": (random_model(False, as_made=True), ids)}
    with tempfile.TemporaryDirectory() as folder:
        for title, (model, ids) in models.items():
            source = Path(folder) / f"{title}-F32.gguf"
            write(source, model)
            for kind in KINDS:
                path = Path(folder) / f"{title}-{kind}.gguf"
                if kind != "F32":
                    subprocess.run([args.quantize, source, path, kind, "1"], check=True, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
                types = load(path, model)
                error, same, rows = compare(args.heddle, path, model, ids)
                read = compare(args.heddle, path, model, ids, "--weights", "f32")[0]
                wrong += not error < ALLOWED[title] or not read < READ_ALLOWED
                print(f"{title:8} {kind:9} |d|/|ref| {error:.2e}, with f32 weights {read:.2e}, of {rows} tokens, best equal {100 * same:.1f} %; "
                      + ", ".join(f"{n} {t}" for t, n in sorted(types.items())), flush=True)
            print(f"{title}: {ALLOWED[title]:.0e} and {READ_ALLOWED:.0e} allowed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
