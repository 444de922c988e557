"""Several labels and numbers on the digits of scikit-learn: our runs beside the same recipe in PyTorch, three seeds each."""

import json
import os
import statistics
import subprocess
import sys

import h5py
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, r2_score
from torch import nn

programs, work = sys.argv[1:]
os.chdir(work)
environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
EPOCHS, BATCH, WARMUP, SEEDS = 30, 64, 5, range(3)
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, target = digits.images[order].astype(np.float32), digits.target[order]
ink = images.sum((1, 2))
tasks = {
    "multilabel": (0.05, np.stack([target % 2 == 0, target >= 5, np.isin(target, [0, 6, 8, 9])], 1).astype(np.uint8)),
    "regress": (0.02, np.stack([ink, (images * np.arange(8)).sum((1, 2)) / ink], 1)),
}


def lenet(outputs):
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, outputs),
    )


def peer(task, lr, values, seed):
    torch.manual_seed(seed)
    mean, std = images[:1400].mean(), images[:1400].std()
    x = torch.from_numpy((images - mean) / std)[:, None]
    y = torch.from_numpy(values.astype(np.float32))
    unit = (y[:1400].mean(0), y[:1400].std(0, correction=0))
    y = y if task == "multilabel" else (y - unit[0]) / unit[1]
    model = lenet(y.shape[1])
    loss = nn.BCEWithLogitsLoss() if task == "multilabel" else nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps, warm = 1400 // BATCH * EPOCHS, 1400 // BATCH * WARMUP
    rate = lambda step: (step + 1) / warm if step < warm else 0.5 * (1 + np.cos(np.pi * (step - warm) / (steps - warm)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    best = -np.inf
    for _ in range(EPOCHS):
        for part in torch.randperm(1400)[: 1400 // BATCH * BATCH].view(-1, BATCH):
            # One pixel in every direction, filled with the mean.
            padded = nn.functional.pad(x[part], (1, 1, 1, 1))
            moved = torch.stack([image[:, i : i + 8, j : j + 8] for image, i, j in
                                 zip(padded, torch.randint(3, (BATCH,)), torch.randint(3, (BATCH,)))])
            optimizer.zero_grad()
            loss(model(moved), y[part]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            told = model(x[1400:])
        score = average_precision_score if task == "multilabel" else r2_score
        best = max(best, score(y[1400:].numpy(), told.numpy()))
    return best


def ours(task, lr, seed):
    command = ["mpirun", "-n", "2", f"{programs}/rust-train", "--data", f"{task}.h5", "--task", task, "--model", "lenet", "--image-size", "8",
               "--no-flip", "--epochs", str(EPOCHS), "--batch", str(BATCH), "--warmup", str(WARMUP), "--lr", str(lr), "--seed", str(seed),
               "--output", f"{task}-{seed}"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    lines = [json.loads(line) for line in open(f"{task}-{seed}/metrics.jsonl")]
    return max(line[{"multilabel": "map", "regress": "r2"}[task]] for line in lines if "val_loss" in line)


for task, (lr, values) in tasks.items():
    with h5py.File(f"{task}.h5", "w") as file:
        for split, part in (("train", slice(0, 1400)), ("val", slice(1400, None))):
            file[f"{split}/images"], file[f"{split}/labels"] = images[part], values[part]
    theirs, own = [peer(task, lr, values, seed) for seed in SEEDS], [ours(task, lr, seed) for seed in SEEDS]
    show = lambda scores: f"{statistics.mean(scores):.4f} ± {statistics.stdev(scores):.4f}"
    print(f"{task:11} {'mAP' if task == 'multilabel' else 'R²'}: PyTorch {show(theirs)}, ours {show(own)} (best epoch, three seeds)")
