#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the bundled model from nothing, and the questions that judge it.

  make.py --train 60 --work DIR   train for 60 minutes in all (resumes from DIR), export the weights
  make.py --export --work DIR     export the checkpoint in DIR
  make.py --eval 616 --out FILE   held-out questions with answers, none of which training can draw
  make.py --score FILE            answers them with transformers and prints a table
  make.py --check --work DIR      compares model.py with transformers; how evenly experts are used
Needs torch, transformers, tokenizers, safetensors.  --folder chooses another folder than this one,
whose tokenizer is kept, or learned first where there is none.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import chat
import score

HERE = Path(__file__).resolve().parent


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=float, metavar="MINUTES",
                        help="train for this long in all, then export")
    parser.add_argument("--export", action="store_true",
                        help="export the checkpoint (random weights if there is none)")
    parser.add_argument("--eval", type=int, metavar="N", help="write N held-out questions")
    parser.add_argument("--out", type=Path, default=HERE / "eval.jsonl", help="file for --eval")
    parser.add_argument("--score", type=Path, metavar="FILE",
                        help="answer the questions of FILE with transformers")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="for --score")
    parser.add_argument("--check", action="store_true", help="compare with transformers")
    parser.add_argument("--work", type=Path, default=Path("demo-work"),
                        help="folder of the checkpoint")
    parser.add_argument("--folder", type=Path, default=HERE, help="the model folder")
    parser.add_argument("--seed", type=int, default=7, help="for --eval")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def load_tokenizer(folder):
    """The folder's tokenizer, learned first if it is not there."""
    import vocab
    from model import CONFIG
    from tokenizers import Tokenizer
    if not (folder / "tokenizer.json").exists():
        vocab.save(vocab.train(CONFIG["vocab_size"]), folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def export(args, model, tokenizer):
    import export as exporter
    exporter.write_config(args.folder, tokenizer)
    exporter.write_weights(args.folder, model.export())


def load_checkpoint(args):
    import torch
    from model import Model
    torch.manual_seed(0)
    model, path = Model(), args.work / "checkpoint.pt"
    if path.exists():
        blob = torch.load(path)
        model.load_state_dict(blob["average"])
        print("checkpoint:", blob["state"])
    return model


def write_eval(args):
    with args.out.open("w") as file:
        for name, messages, answer in chat.evaluation(random.Random(args.seed), args.eval):
            file.write(json.dumps({"task": name, "messages": messages, "answer": answer}) + "\n")


def score_with_transformers(args):
    import torch
    from export import Reader
    items = score.read_items(args.score)
    answers = Reader(args.folder, getattr(torch, args.dtype)).answer([item["messages"]
                                                                      for item in items])
    return score.report(items, answers)


def check(args):
    """Losses of the same samples here and in transformers, and the share of each expert."""
    import torch
    from export import Reader
    from model import CONFIG, Batch
    from vocab import Encoder
    model, encoder = load_checkpoint(args), Encoder(load_tokenizer(args.folder))
    rng = random.Random(5)
    drawn = [encoder.sample(chat.conversation(rng)) for _ in range(200)]
    reader = Reader(args.folder)
    with torch.no_grad():
        for sample in drawn[:5]:
            here, there = model(Batch([sample], 1))[0].item(), reader.loss(sample)
            print(f"loss: here {here:.5f} (bf16 matmul)  transformers {there:.5f}")
        counts = torch.zeros(CONFIG["num_hidden_layers"], CONFIG["num_experts"])
        for sample in drawn:
            out = reader.model(input_ids=torch.tensor([sample[0]]), output_router_logits=True)
            for i, logits in enumerate(out.router_logits):
                chosen = logits.topk(CONFIG["num_experts_per_tok"], -1).indices.flatten()
                counts[i] += torch.bincount(chosen, minlength=CONFIG["num_experts"])
    for i, row in enumerate(counts / counts.sum(-1, keepdim=True)):
        print(f"layer {i}: share of each expert, percent:", " ".join(f"{100 * x:.1f}" for x in row))


def main():
    args = parse_args()
    if args.eval:
        write_eval(args)
    if args.train or args.export or args.check:
        import torch
        torch.set_num_threads(args.threads)
    if args.train:
        import train
        args.work.mkdir(parents=True, exist_ok=True)
        tokenizer = load_tokenizer(args.folder)
        model, state = train.run(tokenizer, args.work / "checkpoint.pt", args.train)
        export(args, model, tokenizer)
        print("trained:", state)
    elif args.export:
        export(args, load_checkpoint(args), load_tokenizer(args.folder))
    if args.check:
        check(args)
    if args.score:
        sys.exit(score_with_transformers(args))


if __name__ == "__main__":
    main()
