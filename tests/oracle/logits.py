#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""transformers' float32 logits of the bundled model for 512 tokens of conversations that it can hold.

Writes tests/golden/logits.json (the ids, the best token of every row, all columns of a few rows) and, where build/release
is there, compares heddle's whole matrix: relative error, agreement of the best token.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODEL = os.path.join(ROOT, "deploy", "demo-model")
N_TOKENS = 512
ROWS = [0, 1, 2, 31, 32, 33, 100, 255, 256, 400, 511]


def conversation_ids():
    """Held-out questions with their answers, one conversation after the other."""
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    ids = []
    with open(os.path.join(MODEL, "eval.jsonl"), encoding="utf-8") as f:
        for line in f:
            item = json.loads(line)
            messages = item["messages"] + [{"role": "assistant", "content": item["answer"]}]
            ids += tokenizer(tokenizer.apply_chat_template(messages, tokenize=False))["input_ids"]
            if len(ids) >= N_TOKENS:
                return ids[:N_TOKENS]
    raise SystemExit("eval.jsonl is too short")


def main():
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()
    ids = conversation_ids()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
    golden = {
        "ids": ids,
        "rows": ROWS,
        "logits": [[round(float(v), 4) for v in logits[row]] for row in ROWS],
        "top1": [int(v) for v in logits.argmax(1)],
    }
    with open(os.path.join(ROOT, "tests", "golden", "logits.json"), "w", encoding="utf-8") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")
    heddle = os.path.join(ROOT, "build", "release", "bin", "heddle")
    if not os.path.exists(heddle):
        return 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        ids_file, out = os.path.join(folder, "ids"), os.path.join(folder, "out.npy")
        with open(ids_file, "w", encoding="utf-8") as f:
            f.write(" ".join(map(str, ids)))
        for weights, isa in (("f32", "ref"), ("f32", "auto"), ("bf16", "auto"), ("bf16", "avx2"), ("q8", "auto")):
            subprocess.run([heddle, "logits", MODEL, "--ids-file", ids_file, "--out", out, "--weights", weights,
                            "--isa", isa], check=True, stderr=subprocess.DEVNULL)
            got = np.load(out)
            error = np.linalg.norm(got - logits) / np.linalg.norm(logits)
            same = (got.argmax(1) == logits.argmax(1)).mean()
            print(f"{weights:5} {isa:6} relative error {error:.2e}, best token equal {100 * same:.2f} %")
            if weights == "bf16":
                worst = max(worst, error)
    return 1 if worst >= 1e-2 else 0


if __name__ == "__main__":
    sys.exit(main())
