"""What ONNX Runtime and PyTorch make of a run's exports: the same logits, and the masks that predict writes."""

import json
import os
import sys

import numpy as np
import onnxruntime
import torch
from shapes import CLASSES, SIDE, VAL, read, report, run, trained

programs, work = sys.argv[1:]
program = f"{programs}/rust-train"
os.chdir(work)
trained(program)
for name in ("run.onnx", "run.pt"):
    run(program, 1, "export", "run", "--output", name)
session = onnxruntime.InferenceSession("run.onnx")
card = json.loads(session.get_modelmeta().custom_metadata_map["rust-train"])
mean, std = (np.float32(card["images"][name]).reshape(1, 3, 1, 1) for name in ("mean", "std"))
images = (read("shapes/val/images").transpose(0, 3, 1, 2).astype(np.float32) / 255 - mean) / std
logits = session.run(None, {session.get_inputs()[0].name: images})[0]
assert logits.shape == (VAL, CLASSES, SIDE, SIDE), logits.shape
with torch.no_grad():
    traced = torch.jit.load("run.pt")(torch.from_numpy(images)).numpy()
assert traced.shape == logits.shape, traced.shape
others = {"ONNX Runtime": logits, "TorchScript": traced}
found = {"ONNX Runtime's logits, off TorchScript's by": (np.abs(logits - traced).max(), 0.0, 1e-4)}
for name, outputs in others.items():
    # Two classes may be as likely as each other.
    found[f"share of pixels that {name} tells otherwise"] = (outputs.argmax(1) != read("masks")).mean(), 0.0, 1e-4
sys.exit(not report(found))
