# SPDX-License-Identifier: Apache-2.0
"""A model of which some layers see a window: scheduler and workers together give its blocks back, and nobody can tell."""
import json
import os
import struct
import tempfile
import unittest

from test_cli import heddle

WINDOW, LAYERS, HIDDEN, HEADS, KV_HEADS, DIM, INNER, VOCAB = 40, 3, 64, 8, 4, 16, 128, 300
CONFIG = {"architectures": ["MinistralForCausalLM"], "model_type": "ministral", "hidden_size": HIDDEN, "head_dim": DIM,
          "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "hidden_act": "silu",
          "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
          "rope_theta": 10000.0, "sliding_window": WINDOW, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
          "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
BLOCK = 32 * KV_HEADS * DIM * 2 * 2  # bytes of one layer's block
IDS = " ".join(str((i * 37 + i * i * 5 + 11) % VOCAB) for i in range(400))


def shapes():
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (HIDDEN,)
        yield at + "post_attention_layernorm.weight", (HIDDEN,)
        yield at + "self_attn.q_proj.weight", (HEADS * DIM, HIDDEN)
        yield at + "self_attn.k_proj.weight", (KV_HEADS * DIM, HIDDEN)
        yield at + "self_attn.v_proj.weight", (KV_HEADS * DIM, HIDDEN)
        yield at + "self_attn.o_proj.weight", (HIDDEN, HEADS * DIM)
        yield at + "mlp.gate_proj.weight", (INNER, HIDDEN)
        yield at + "mlp.up_proj.weight", (INNER, HIDDEN)
        yield at + "mlp.down_proj.weight", (HIDDEN, INNER)
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def bf16(values):
    return b"".join(struct.pack("<f", v)[2:] for v in values)


def write_model(path):
    """Weights from a formula: any will do, as long as every position matters."""
    header, data, seed = {}, b"", 1
    for name, shape in shapes():
        n = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = []
        for _ in range(n):
            seed = seed * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            unit = (seed >> 40) / (1 << 23) - 1
            values.append(1 + unit / 4 if len(shape) == 1 else unit * 1.6 / shape[1] ** 0.5)
        raw = bf16(values)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(path, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as f:
        json.dump(CONFIG, f)


def setUpModule():
    global folder, model
    folder = tempfile.TemporaryDirectory()
    model = os.path.join(folder.name, "model")
    os.mkdir(model)
    write_model(model)


def tearDownModule():
    folder.cleanup()


class Windows(unittest.TestCase):
    def run_ids(self, command, *args):
        ids = os.path.join(folder.name, "ids")
        with open(ids, "w", encoding="utf-8") as f:
            f.write(IDS)
        done = heddle(command, model, "--ids-file", ids, *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def logits(self, *args):
        out = os.path.join(folder.name, "out.npy")
        self.run_ids("logits", "--out", out, *args)
        with open(out, "rb") as f:
            return f.read()

    def test_inspect_counts_windows_apart(self):
        said = json.loads(heddle("inspect", model, "--json").stdout)
        self.assertEqual(said["kv_bytes_per_token"], BLOCK // 32)
        self.assertEqual(said["kv_bytes_fixed"], 2 * WINDOW * BLOCK // 32)
        self.assertEqual(said["ranks"][0]["kv_bytes"], (1024 + 2 * WINDOW) * BLOCK // 32)

    def test_logits_do_not_know_of_the_cache(self):
        want = self.logits()
        tight = str(28 * BLOCK)  # 13 blocks of all 400 positions and seven of the windows, with little to spare
        others = os.path.join(folder.name, "others")
        with open(others, "w", encoding="utf-8") as f:
            f.writelines(" ".join(str(k + i) for i in range(90)) + "\n" for k in range(6))
        for args in (["--chunk", "7"], ["--kv-bytes", tight, "--max-seqs", "2"], ["--tp", "2", "--kv-bytes", tight],
                     ["--chunk", "50", "--batch-with", others]):
            self.assertEqual(want, self.logits(*args), args)

    def test_generation_goes_on_beyond_the_window(self):
        want = self.run_ids("generate", "--ids", "--max-tokens", "200")
        self.assertEqual(len(want.split()), 200)
        self.assertEqual(want, self.run_ids("generate", "--ids", "--max-tokens", "200", "--kv-bytes", str(38 * BLOCK)))

    def test_too_small_a_cache_says_why(self):
        ids = os.path.join(folder.name, "ids")
        with open(ids, "w", encoding="utf-8") as f:
            f.write(IDS)
        done = heddle("generate", model, "--ids-file", ids, "--kv-bytes", str(4 * BLOCK))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--kv-bytes", done.stderr)


if __name__ == "__main__":
    unittest.main()
