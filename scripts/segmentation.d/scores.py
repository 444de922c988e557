"""Scores of eval --json against torchmetrics' of the masks that predict writes, and on 1, 2 and 4 ranks."""

import json
import os
import sys

import torch
from shapes import CLASSES, IGNORED, read, report, run, trained
from torchmetrics.classification import (
    MulticlassAccuracy, MulticlassF1Score, MulticlassJaccardIndex, MulticlassPrecision, MulticlassRecall)

programs, work = sys.argv[1:]
program = f"{programs}/rust-train"
os.chdir(work)
trained(program)
scored = [run(program, ranks, "eval", "run", "--json", "--batch", "16") for ranks in (1, 2, 4)]
assert scored[0] == scored[1] == scored[2], "the number of ranks changes a score:\n" + "".join(scored)
scores = json.loads(scored[0])
told, true = (torch.from_numpy(read(folder)).long() for folder in ("masks", "shapes/val/masks"))
assert told.max() < CLASSES and told.shape == true.shape


def theirs(metric, average):
    return metric(num_classes=CLASSES, average=average, ignore_index=IGNORED)(told, true)


found = {
    "mIoU": (scores["miou"], theirs(MulticlassJaccardIndex, "macro").item(), 1e-6),
    "pixel accuracy": (scores["pixel_accuracy"], theirs(MulticlassAccuracy, "micro").item(), 1e-6),
}
assert len(scores["outputs"]) == CLASSES
metrics = {"iou": MulticlassJaccardIndex, "dice": MulticlassF1Score, "precision": MulticlassPrecision, "recall": MulticlassRecall}
for name, metric in metrics.items():
    for index, score in enumerate(theirs(metric, "none")):
        found[f"{name} of {index}"] = scores["outputs"][index][name], score.item(), 1e-6
for index, output in enumerate(scores["outputs"]):
    found[f"pixels of {index}"] = output["support"], (true == index).sum().item(), 0
sys.exit(not report(found))
