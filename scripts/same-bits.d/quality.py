"""Accuracies on the digits, with fixed parts and without, for three seeds."""

import json
import shutil

from runs import train, work

FLAGS = "--model cifar_resnet20 --epochs 8 --batch 64 --lr 0.1 --nesterov true"


def score(flags, seed):
    train(2, f"{FLAGS} --seed {seed} {flags}", "run")
    with open(f"{work}/run/metrics.jsonl") as lines:
        epochs = [line for line in map(json.loads, lines) if "epoch" in line]
    shutil.rmtree(f"{work}/run")
    return max(line["top1"] for line in epochs), epochs[-1]["val_loss"]


for name, flags in (("--virtual-ranks 2", "--virtual-ranks 2"), ("--virtual-ranks 8", "--virtual-ranks 8"), ("the ordinary way", "")):
    scores = [score(flags, seed) for seed in (1, 2, 3)]
    shown = ", ".join(f"{top1:.2%} (loss {loss:.4f})" for top1, loss in scores)
    print(f"{name:20}{shown}   mean {sum(top1 for top1, _ in scores) / 3:.2%}", flush=True)
