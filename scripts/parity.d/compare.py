"""Compares what our networks computed with the peer's, for the weights that ours were drawn with.

    compare.py FOLDER NAME...

Reads what the example `parity` wrote for each NAME and prints a table: keys and shapes of the state dict in order, loaded
with strict=True; the largest difference of logits (allowed: 1e-4 of the largest logit), and of gradients
(allowed: 1e-3 of the largest gradient of the same tensor, for tensors whose gradient is not noise); the largest deviation
of the drawn weights' mean size from the peer's own, in standard errors (allowed: 6). Exits 1 where one is over.
"""

import gc
import math
import os
import sys

import torch
from peers import load_into, logits_of, loss_of, peer
from safetensors_file import load

CLASSES = 10


def spread_deviation(ours, theirs):
    """How far apart two draws from what should be one distribution are, in standard errors of their spread."""
    if ours.numel() < 2 or ours.dtype != torch.float32:
        return 0.0
    if theirs.max() == theirs.min():
        return 0.0 if torch.equal(ours, theirs) else math.inf
    # The mean size, which a few outliers do not move: trunc_normal_ of torch gives some values at its bounds, -2 and 2.
    a, b = ours.double().abs().mean().item(), theirs.double().abs().mean().item()
    return abs(a - b) / (max(a, b) * math.sqrt(2 / ours.numel()) * 0.76)


def compare(folder, name):
    model = peer(name, CLASSES)
    fresh = model.state_dict()
    ours = load(f"{folder}/{name}.drawn.safetensors")
    keys = set(fresh) == set(ours) and all(fresh[k].shape == ours[k].shape for k in fresh)
    drawn = max(spread_deviation(ours[k], fresh[k]) for k in fresh)
    del ours, fresh
    load_into(model, load(f"{folder}/{name}.weights.safetensors"))
    outputs = load(f"{folder}/{name}.outputs.safetensors")
    model.eval()
    logits = logits_of(model(outputs["images"]))
    difference = (logits - outputs["logits"]).abs().max().item() / logits.abs().max().item()
    loss_of(logits).backward()
    gradients = 0.0
    largest = max(p.grad.abs().max().item() for p in model.parameters())
    for key, parameter in model.named_parameters():
        scale = max(parameter.grad.abs().max().item(), 1e-6 * largest)
        ours = outputs[f"grad:{key}"]
        if scale > 0:
            gradients = max(gradients, (ours - parameter.grad).abs().max().item() / scale)
    good = keys and difference <= 1e-4 and gradients <= 1e-3 and drawn <= 6
    print(f"{name:20} {'same' if keys else 'DIFFER':6} {difference:12.1e} {gradients:12.1e} {drawn:8.1f}  "
          f"{'ok' if good else 'FAILED'}", flush=True)
    return good


def main():
    folder, names = sys.argv[1], sys.argv[2:]
    torch.set_num_threads(os.cpu_count())
    good = True
    for name in names:
        good &= compare(folder, name)
        gc.collect()
    sys.exit(0 if good else 1)


main()
