# SPDX-License-Identifier: Apache-2.0
"""Training on a CPU: Muon for the matrices, Adam for the rest, endless fresh conversations."""

import copy
import math
import random
import time
from pathlib import Path

import torch

import chat
from model import Batch, Model
from vocab import Encoder

SAMPLES_PER_STEP = 96
N_GROUPS = 5  # of similar length within a batch, see model.Batch
WARMUP_STEPS = 60
AVERAGE = 0.99  # decay of the moving average of the weights, which is what gets exported
BALANCE = 0.01  # weight of the load-balance loss
PROMPT = 0.03  # weight of the loss on what users and systems say: sane logits there, too
UNCLEAR = 0.1  # weight of the loss on near ties between experts
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def orthogonalise(g):
    """The nearest (semi-)orthogonal matrix of each [..., rows, cols], by the quintic
    Newton-Schulz iteration of Muon."""
    x = g.to(torch.bfloat16)
    flip = x.shape[-2] > x.shape[-1]
    x = x.mT if flip else x
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if flip else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal (Jordan et al., 2024); the stacked experts
    of a layer are one batch of matrices."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalise(p.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update,
                                                                     alpha=-group["lr"] * scale)


def make_optimizers(model):
    matrices = [p for n, p in model.named_parameters() if n.split(".")[-1] in MATRICES]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return Muon(matrices, lr=0.02), torch.optim.Adam(others, lr=0.003, betas=(0.9, 0.95))


def learning_rate(progress, step):
    """Warm-up, a plateau, and a linear fall to zero over the last 60 % of the budget."""
    return min(1.0, (step + 1) / WARMUP_STEPS) * min(1.0, (1.0 - progress) / 0.6)


def samples(encoder, seed):
    rng = random.Random(seed)
    while True:
        yield encoder.sample(chat.conversation(rng))


def save_checkpoint(path: Path, model, average, optimizers, state):
    blob = {"model": model.state_dict(), "average": average.state_dict(),
            "optimizers": [o.state_dict() for o in optimizers], "state": state}
    torch.save(blob, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def run(tokenizer, checkpoint: Path, minutes):
    """Trains for `minutes` of wall time in all, going on from `checkpoint` if there is one;
    returns the average of the weights, and the state."""
    torch.manual_seed(0)
    model, encoder = Model(), Encoder(tokenizer)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizers = make_optimizers(model)
    base = [[g["lr"] for g in o.param_groups] for o in optimizers]
    state = {"step": 0, "seconds": 0.0, "tokens": 0, "samples": 0}
    if checkpoint.exists():
        blob = torch.load(checkpoint)
        model.load_state_dict(blob["model"])
        average.load_state_dict(blob["average"])
        for o, s in zip(optimizers, blob["optimizers"]):
            o.load_state_dict(s)
        state = blob["state"]
    stream = samples(encoder, 1000 + state["step"])
    mean_loss, last_save = None, time.monotonic()
    while state["seconds"] < minutes * 60:
        start = time.monotonic()
        batch = Batch([next(stream) for _ in range(SAMPLES_PER_STEP)], N_GROUPS)
        rate = learning_rate(state["seconds"] / (minutes * 60), state["step"])
        for o, rates in zip(optimizers, base):
            for g, lr in zip(o.param_groups, rates):
                g["lr"] = lr * rate
        loss, prompt_loss, balance, unclear = model(batch)
        (loss + PROMPT * prompt_loss + BALANCE * balance + UNCLEAR * unclear).backward()
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        decay = min(AVERAGE, state["step"] / (state["step"] + 10))
        torch._foreach_lerp_(list(average.parameters()), [p.data for p in model.parameters()],
                             1 - decay)
        mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
        state["step"] += 1
        state["tokens"] += len(batch.ids)
        state["samples"] += SAMPLES_PER_STEP
        state["seconds"] += time.monotonic() - start
        if state["step"] % 50 == 0:
            print(f"step {state['step']} loss {mean_loss:.4f} prompt {prompt_loss.item():.2f} "
                  f"unclear {unclear.item():.3f} balance {balance.item():.3f} rate {rate:.3f} "
                  f"tokens {state['tokens']} seconds {state['seconds']:.0f} "
                  f"tokens/s {state['tokens'] / state['seconds']:.0f}", flush=True)
        if not math.isfinite(mean_loss):
            raise SystemExit("the loss is not a number; the steps are too large; "
                             "lower the learning rate and go on from the older checkpoint")
        if time.monotonic() - last_save > 240:
            save_checkpoint(checkpoint, model, average, optimizers, state)
            last_save = time.monotonic()
    save_checkpoint(checkpoint, model, average, optimizers, state)
    return average, state
