#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of transformers with a static cache and a compiled step; called by compare.py, or by hand:

    transformers_speed.py MODEL --phase prefill|decode --n N [--context 16] [--tg 64] [--device cuda] [--eager]

Prefill: one prompt of N tokens. Decode: N sequences, each TG tokens after CONTEXT. bf16, greedy, weights and cache on the
device; the first runs compile and are not counted. Prints one JSON object.
"""
import argparse
import json
import statistics
import time

import torch
from transformers import AutoModelForCausalLM, StaticCache

WARM, TIMES = 3, 5


def wait(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


class Speed:
    def __init__(self, args):
        self.args = args
        self.model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16).to(args.device).eval()
        self.step = self.forward if args.eager else torch.compile(self.forward, mode="reduce-overhead", dynamic=False)

    def forward(self, ids, positions, cache):
        logits = self.model(input_ids=ids, position_ids=positions.unsqueeze(0), cache_position=positions, past_key_values=cache,
                            use_cache=True, logits_to_keep=1).logits
        return logits[:, -1:].argmax(-1)

    def cache(self, tokens):
        return StaticCache(config=self.model.config, max_cache_len=tokens)

    def ids(self, batch, tokens):
        return torch.randint(0, self.model.config.vocab_size, (batch, tokens), device=self.args.device)

    def positions(self, begin, end):
        return torch.arange(begin, end, device=self.args.device)

    def prefill(self, tokens):
        times = []
        ids, cache = self.ids(1, tokens), self.cache(tokens)
        for _ in range(WARM + TIMES):
            cache.reset()
            wait(self.args.device)
            begin = time.perf_counter()
            self.step(ids, self.positions(0, tokens), cache)
            wait(self.args.device)
            times.append(time.perf_counter() - begin)
        return tokens / statistics.median(times[WARM:])

    def decode(self, batch):
        context, tg = self.args.context, self.args.tg
        cache = self.cache(context + WARM + tg)
        token = self.forward(self.ids(batch, context), self.positions(0, context), cache)
        times = []
        for i in range(WARM + tg):
            at = self.positions(context + i, context + i + 1)
            wait(self.args.device)
            begin = time.perf_counter()
            token = self.step(token, at, cache).clone()
            wait(self.args.device)
            times.append(time.perf_counter() - begin)
        return batch / statistics.median(times[WARM:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--phase", choices=("prefill", "decode"), required=True)
    parser.add_argument("--n", type=int, required=True)
    parser.add_argument("--context", type=int, default=16)
    parser.add_argument("--tg", type=int, default=64)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--eager", action="store_true", help="do not compile")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with torch.inference_mode():
        speed = Speed(args)
        rate = speed.prefill(args.n) if args.phase == "prefill" else speed.decode(args.n)
    print(json.dumps({"tokens_per_s": rate, "compiled": not args.eager, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
