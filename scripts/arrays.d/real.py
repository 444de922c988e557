"""Real 16-bit images: 3,419 cells of an imaging flow cytometer (Blasi et al., Nature Communications 7:10256, 2016) in their phases of
the cell cycle, as TIFF files of several channels named by a table. Our runs beside the same recipe in PyTorch, three seeds each.

The montages are those of https://github.com/minh-doan/MLCP, images/Experiment_1, commit 4b4d93606e6b88654fc0a0697515d63102f60ee7
(BSD 3-clause): a folder for each phase with Ch3 (brightfield), Ch4 (DNA) and Ch6 (darkfield), 30×30 cells of 40×40 pixels each.
"""

import csv
import glob
import hashlib
import json
import os
import statistics
import subprocess
import sys

import numpy as np
import tifffile
import torch
from sklearn.metrics import r2_score
from torch import nn

programs, work, montages = sys.argv[1:]
montages = os.path.abspath(montages)
os.chdir(work)
environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
SIDE, SEEN, EPOCHS, BATCH, WARMUP, LR, SEEDS = 40, 32, 30, 64, 5, 0.02, range(3)


def cells():
    """Each cell with its phase: 3×40×40. What fills up a montage is the same tile again and again, and is left out."""
    for phase in sorted(os.listdir(montages)):
        files = [glob.glob(f"{montages}/{phase}/{channel}_*.tif") for channel in ("Ch3", "Ch4", "Ch6")]
        for parts in zip(*map(sorted, files)):
            tiles = np.stack([tifffile.imread(part) for part in parts])
            tiles = tiles.reshape(3, 30, SIDE, 30, SIDE).transpose(1, 3, 0, 2, 4).reshape(-1, 3, SIDE, SIDE)
            keys = [hashlib.sha256(tile.tobytes()).hexdigest() for tile in tiles]
            for tile, key in zip(tiles, keys):
                if keys.count(key) == 1:
                    yield phase, key, tile


rows, images = [], []
os.makedirs("three")
os.makedirs("two")
for phase, key, image in cells():
    content = (image[1].astype(np.float64) - np.median(image[1])).clip(0).sum() / 1e4
    split = "val" if int(key[:8], 16) % 5 == 0 else "train"
    for folder, channels in (("three", [0, 1, 2]), ("two", [0, 2])):
        tifffile.imwrite(f"{folder}/{key[:16]}.tif", image[channels], photometric="minisblack", planarconfig="separate", compression="zlib")
    rows.append((f"{key[:16]}.tif", phase, f"{content:.4f}", split))
    images.append(image)
with open("cells.csv", "w", newline="") as file:
    csv.writer(file).writerows([("image", "phase", "content", "split"), *rows])
images = torch.from_numpy(np.stack(images).astype(np.float32))
phases = sorted({row[1] for row in rows})
is_val = torch.tensor([row[3] == "val" for row in rows])
print(f"{len(rows)} cells, {int(is_val.sum())} of them to validate on: " + ", ".join(f"{phase} {sum(row[1] == phase for row in rows)}" for phase in phases))
tasks = {
    "classify": ("three", "phase", [0, 1, 2], torch.tensor([phases.index(row[1]) for row in rows]), "top1"),
    "regress": ("two", "content", [0, 2], torch.tensor([[float(row[2])] for row in rows]), "r2"),
}


def lenet(channels, outputs):
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, outputs),
    )


def peer(task, seed):
    _, _, channels, y, _ = tasks[task]
    torch.manual_seed(seed)
    x = nn.functional.interpolate(images[:, channels], (SEEN, SEEN), mode="bilinear", antialias=True)
    over = (0, 2, 3)
    x = (x - x[~is_val].mean(over, keepdim=True)) / x[~is_val].std(over, keepdim=True)
    if task == "regress":
        y = (y - y[~is_val].mean(0)) / y[~is_val].std(0, correction=0)
    model = lenet(len(channels), len(phases) if task == "classify" else 1)
    loss = nn.CrossEntropyLoss() if task == "classify" else nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    train = (~is_val).nonzero()[:, 0]
    an_epoch = len(train) // BATCH
    steps, warm = an_epoch * EPOCHS, an_epoch * WARMUP
    rate = lambda step: (step + 1) / warm if step < warm else 0.5 * (1 + np.cos(np.pi * (step - warm) / (steps - warm)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    best = -np.inf
    for _ in range(EPOCHS):
        for part in train[torch.randperm(len(train))][: an_epoch * BATCH].view(-1, BATCH):
            # Four pixels in every direction, filled with the mean; every other one mirrored.
            padded = nn.functional.pad(x[part], (4, 4, 4, 4))
            moved = torch.stack([image[:, i : i + SEEN, j : j + SEEN] for image, i, j in
                                 zip(padded, torch.randint(9, (BATCH,)), torch.randint(9, (BATCH,)))])
            moved = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, moved.flip(3), moved)
            optimizer.zero_grad()
            loss(model(moved), y[part]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            told = model(x[is_val])
        score = (told.argmax(1) == y[is_val]).double().mean().item() if task == "classify" else r2_score(y[is_val], told)
        best = max(best, score)
    return best


def ours(task, seed):
    folder, label, _, _, metric = tasks[task]
    command = ["mpirun", "-n", "2", f"{programs}/rust-train", "--data", folder, "--table", "cells.csv", "--column-label", label, "--task", task,
               "--model", "lenet", "--image-size", str(SEEN), "--epochs", str(EPOCHS), "--batch", str(BATCH), "--warmup", str(WARMUP),
               "--lr", str(LR), "--seed", str(seed), "--output", f"{task}-{seed}"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    lines = [json.loads(line) for line in open(f"{task}-{seed}/metrics.jsonl")]
    return max(line[metric] for line in lines if "val_loss" in line)


for task, (_, _, _, _, metric) in tasks.items():
    theirs, own = [peer(task, seed) for seed in SEEDS], [ours(task, seed) for seed in SEEDS]
    show = lambda scores: f"{statistics.mean(scores):.4f} ± {statistics.stdev(scores):.4f}"
    print(f"{task:9} {metric}: PyTorch {show(theirs)}, ours {show(own)} (best epoch, three seeds)")
