"""Three tasks on the digits of scikit-learn: our scores against scikit-learn and torchmetrics, on 1, 2 and 4 ranks."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import onnxruntime
import torch
import torchmetrics
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, f1_score, mean_absolute_error, r2_score, roc_auc_score

programs, work = sys.argv[1:]
program = f"{programs}/rust-train"
os.chdir(work)
environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def run(ranks, *arguments):
    command = ["mpirun", "--oversubscribe", "-n", str(ranks), program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images, target = digits.images[order].astype(np.float32), digits.target[order]
ink = images.sum((1, 2))
centre = (images * np.arange(8)).sum((1, 2)) / ink
flags = np.stack([target % 2 == 0, target >= 5, np.isin(target, [0, 6, 8, 9])], 1).astype(np.uint8)
labels = {"classify": target, "multilabel": flags, "regress": np.stack([ink, centre], 1)}
differences = []
for task, values in labels.items():
    with h5py.File(f"{task}.h5", "w") as file:
        for split, part in (("train", slice(0, 1400)), ("val", slice(1400, None))):
            file[f"{split}/images"], file[f"{split}/labels"] = images[part], values[part]
    lr = "0.02" if task == "regress" else "0.05"
    run(2, "--data", f"{task}.h5", "--task", task, "--image-size", "8", "--no-flip", "--epochs", "6", "--lr", lr, "--output", task)
    scored = [run(ranks, "eval", task, "--json", "--batch", "16") for ranks in (1, 2, 4)]
    assert scored[0] == scored[1] == scored[2], f"{task}: the number of ranks changes a score"
    scores = json.loads(scored[0])
    run(1, "eval", task, "--logits", "rows.tsv", "--batch", "16")
    rows = [line.rstrip("\n").split("\t") for line in open("rows.tsv")]
    truth = np.array([[float(value) for value in row[1].split(",")] for row in rows])
    outputs = np.array([[float(value) for value in row[2:]] for row in rows])
    run(1, "export", task, "--output", f"{task}.onnx")
    session = onnxruntime.InferenceSession(f"{task}.onnx")
    card = json.loads(session.get_modelmeta().custom_metadata_map["rust-train"])
    mean, std = (np.float32(card["images"][name]).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    seen = session.run(None, {session.get_inputs()[0].name: (images[1400:, None] - mean) / std})[0]
    found = {"ONNX Runtime's outputs": (np.abs(seen - outputs).max(), 0.0, 1e-4)}
    if task == "multilabel":
        likely = 1 / (1 + np.exp(-outputs))
        found["AP (scikit-learn)"] = scores["map"], average_precision_score(truth, outputs, average="macro"), 1e-6
        found["AUROC (scikit-learn)"] = scores["auroc"], roc_auc_score(truth, outputs, average="macro"), 1e-6
        found["F1 (scikit-learn), the best there is"] = (
            scores["f1"], max(f1_score(truth, likely >= at, average="micro") for at in np.unique(likely)), 1e-6)
        for index, output in enumerate(scores["outputs"]):
            found[f"AP of {index}"] = output["ap"], average_precision_score(truth[:, index], outputs[:, index]), 1e-6
            found[f"AUROC of {index}"] = output["auroc"], roc_auc_score(truth[:, index], outputs[:, index]), 1e-6
    if task == "regress":
        told = outputs * [unit["std"] for unit in card["targets"]] + [unit["mean"] for unit in card["targets"]]
        told, true = torch.tensor(told), torch.tensor(truth)
        found["R² (torchmetrics)"] = scores["r2"], torchmetrics.R2Score(multioutput="uniform_average")(told, true).item(), 1e-6
        found["R² (scikit-learn)"] = scores["r2"], r2_score(truth, told), 1e-6
        found["MAE (scikit-learn)"] = scores["mae"], mean_absolute_error(truth, told), 1e-6
        rmse = torchmetrics.MeanSquaredError(squared=False, num_outputs=2)(told, true).mean().item()
        found["RMSE (torchmetrics)"] = scores["rmse"], rmse, 1e-6
    for name, (ours, theirs, bound) in found.items():
        # Of errors, by their size.
        off = abs(ours - theirs) / max(1.0, abs(theirs))
        differences.append(off <= bound)
        print(f"{'ok     ' if off <= bound else 'DIFFERS'} {task:11} {name:38} {ours:.9f} {theirs:.9f}")
sys.exit(not all(differences))
