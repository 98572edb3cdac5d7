# SPDX-License-Identifier: Apache-2.0
"""The model, as small as it can be written for training on a CPU.

Same mathematics as Qwen3MoeForCausalLM of transformers (make.py --check compares the two), with two
differences that only concern speed: the tokens of all samples lie packed in one array [n_tokens,
hidden], so that padding costs nothing outside attention, and the experts of a layer are stacked in
one tensor.
"""

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "vocab_size": 2048,
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "hidden_act": "silu",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "max_position_embeddings": 4096,
    "sliding_window": None,
    "use_sliding_window": False,
    "max_window_layers": 6,
    "tie_word_embeddings": True,
    "router_aux_loss_coef": 0.001,
    "output_router_logits": False,
    "initializer_range": 0.02,
    "use_cache": True,
    "dtype": "bfloat16",
    "torch_dtype": "bfloat16",
}

# Distance in router logits that training wants between the last chosen and first refused expert.
GAP = 0.5
# Matrices have a multiple of this many rows: the CPU library compiles a kernel for every new shape.
ROWS = 64


def rms_norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]) * weight


def matmul(x, weight):
    """x @ weight^T in bf16 with float32 master weights; [n, in] x [out, in] -> [n, out] bf16."""
    return F.linear(x.to(torch.bfloat16), weight.to(torch.bfloat16))


def rope_tables(length):
    dim = CONFIG["head_dim"]
    inverse = CONFIG["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float32), inverse)
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    """x [n_tokens, heads, head_dim]; cos, sin [n_tokens, 1, head_dim]."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Batch:
    """Samples sorted by length and cut into groups that are padded for attention only."""

    def __init__(self, samples, n_groups):
        """samples: list of (ids, loss_mask), equal lengths within each pair."""
        spare = -sum(len(s[0]) for s in samples) % (4 * ROWS) if n_groups > 1 else 0
        filler = [([0] * n, [0] * n) for n in [32] * (spare // 32) + [spare % 32] if n]
        samples = sorted(samples + filler, key=lambda s: len(s[0]))
        size = -(-len(samples) // n_groups)
        # (n_samples, padded length, index of the real tokens in [n_samples * length])
        self.groups = []
        ids, targets, answers, positions = [], [], [], []
        for start in range(0, len(samples), size):
            part = samples[start:start + size]
            length = len(part[-1][0])
            index = []
            for row, (tokens, mask) in enumerate(part):
                n = len(tokens)
                ids.extend(tokens)
                real = n > 1 and any(tokens)
                targets.extend(tokens[1:] + [-100] if real else [-100] * n)
                answers.extend(list(map(bool, mask[1:])) + [False])
                positions.extend(range(n))
                index.extend(range(row * length, row * length + n))
            self.groups.append((len(part), length, torch.tensor(index)))
        self.ids, self.targets = torch.tensor(ids), torch.tensor(targets)
        self.answers, self.positions = torch.tensor(answers), torch.tensor(positions)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        c = CONFIG
        hidden, dim = c["hidden_size"], c["head_dim"]
        inter, experts = c["moe_intermediate_size"], c["num_experts"]
        heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        matrix = lambda *shape: nn.Parameter(torch.randn(shape) * 0.02)
        self.q_proj, self.o_proj = matrix(heads * dim, hidden), matrix(hidden, heads * dim)
        self.k_proj, self.v_proj = matrix(kv_heads * dim, hidden), matrix(kv_heads * dim, hidden)
        self.q_norm, self.k_norm = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.ones(dim))
        self.input_norm = nn.Parameter(torch.ones(hidden))
        self.post_norm = nn.Parameter(torch.ones(hidden))
        self.router = matrix(experts, hidden)
        self.gate_proj, self.up_proj = matrix(experts, inter, hidden), matrix(experts, inter,
                                                                              hidden)
        self.down_proj = matrix(experts, hidden, inter)

    def attention(self, x, batch, cos, sin):
        c, n = CONFIG, x.shape[0]
        heads, kv_heads, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        qkv = matmul(x, torch.cat((self.q_proj, self.k_proj, self.v_proj)))
        q, k, v = qkv.split((heads * dim, kv_heads * dim, kv_heads * dim), -1)
        q = rope(rms_norm(q.float().view(n, heads, dim), self.q_norm), cos, sin)
        k = rope(rms_norm(k.float().view(n, kv_heads, dim), self.k_norm), cos, sin)
        v, outs, start = v.float().view(n, kv_heads, dim), [], 0
        for rows, length, index in batch.groups:
            stop = start + len(index)

            def padded(t):
                full = t.new_zeros(rows * length, t.shape[1], dim).index_copy(0, index,
                                                                              t[start:stop])
                return full.view(rows, length, t.shape[1], dim).transpose(1, 2)

            pk = padded(k).repeat_interleave(heads // kv_heads, 1)
            pv = padded(v).repeat_interleave(heads // kv_heads, 1)
            out = F.scaled_dot_product_attention(padded(q), pk, pv, is_causal=True)
            outs.append(out.transpose(1, 2).reshape(rows * length, heads * dim)[index])
            start = stop
        return matmul(torch.cat(outs), self.o_proj)

    def experts(self, x):
        """The output [n_tokens, hidden], the load-balance loss (Switch Transformer, eq. 4), and by
        how much the choice of experts falls short of GAP: a clear choice survives the rounding of
        another format."""
        topk, n_experts = CONFIG["num_experts_per_tok"], CONFIG["num_experts"]
        logits = F.linear(x, self.router)
        probs = F.softmax(logits, -1)
        best = logits.topk(topk + 1, -1).values
        unclear = F.relu(GAP - (best[:, topk - 1] - best[:, topk])).mean()
        weight, chosen = probs.topk(topk, -1)
        weight = weight / weight.sum(-1, keepdim=True)
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=n_experts)
        token = order // topk
        padded = -(-counts // ROWS) * ROWS
        skipped = (padded - counts).cumsum(0) - (padded - counts)  # filler rows before each expert
        slot = torch.arange(len(order)) + skipped.repeat_interleave(counts)
        rows = x.new_zeros(int(padded.sum()), x.shape[1], dtype=torch.bfloat16)
        rows = rows.index_copy(0, slot, x.to(torch.bfloat16)[token])
        gate_up, down = torch.cat((self.gate_proj, self.up_proj),
                                  1).to(torch.bfloat16), self.down_proj.to(torch.bfloat16)
        outs = []
        for e, part in enumerate(rows.split(padded.tolist())):
            gate, up = F.linear(part, gate_up[e]).chunk(2, -1)
            outs.append(F.linear(F.silu(gate) * up, down[e]))
        y = torch.cat(outs)[slot].float() * weight.flatten()[order].unsqueeze(-1)
        balance = n_experts * (counts.float() / counts.sum() * probs.mean(0)).sum()
        return torch.zeros_like(x).index_add(0, token, y), balance, unclear

    def forward(self, x, batch, cos, sin):
        x = x + self.attention(rms_norm(x, self.input_norm), batch, cos, sin)
        y, balance, unclear = self.experts(rms_norm(x, self.post_norm))
        return x + y, balance, unclear


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(CONFIG["vocab_size"], CONFIG["hidden_size"]) * 0.02)
        self.layers = nn.ModuleList(Layer() for _ in range(CONFIG["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(CONFIG["hidden_size"]))

    def forward(self, batch):
        """Mean losses: over the answer tokens, over all other tokens, and balance and unclear
        choices over the layers."""
        cos, sin = rope_tables(int(batch.positions.max()) + 1)
        cos, sin = cos[batch.positions].unsqueeze(1), sin[batch.positions].unsqueeze(1)
        x, balance, unclear = self.embed[batch.ids], 0.0, 0.0
        for layer in self.layers:
            x, layer_balance, layer_unclear = layer(x, batch, cos, sin)
            balance = balance + layer_balance / len(self.layers)
            unclear = unclear + layer_unclear / len(self.layers)
        real = batch.targets >= 0
        logits = matmul(rms_norm(x[real], self.norm), self.embed).float()
        losses, answers = F.cross_entropy(logits, batch.targets[real],
                                          reduction="none"), batch.answers[real]
        return losses[answers].mean(), losses[~answers].mean(), balance, unclear

    def export(self):
        """Parameters under the names of a Hugging Face checkpoint, bf16."""
        out = {"model.embed_tokens.weight": self.embed, "model.norm.weight": self.norm}
        for i, layer in enumerate(self.layers):
            p = f"model.layers.{i}."
            out[p + "input_layernorm.weight"] = layer.input_norm
            out[p + "post_attention_layernorm.weight"] = layer.post_norm
            for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"):
                out[f"{p}self_attn.{name}.weight"] = getattr(layer, name)
            out[p + "mlp.gate.weight"] = layer.router
            for e in range(CONFIG["num_experts"]):
                for name in ("gate_proj", "up_proj", "down_proj"):
                    out[f"{p}mlp.experts.{e}.{name}.weight"] = getattr(layer, name)[e]
        return {name: t.detach().to(torch.bfloat16).contiguous() for name, t in out.items()}
