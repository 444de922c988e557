"""Makes the files beside it with real torch and NumPy (torch 2.11, NumPy 2.3): the same four tensors in every format."""

import os

import numpy
import torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
state = {
    "conv.weight": torch.arange(12, dtype=torch.float32).view(3, 2, 2) / 8,
    "conv.transposed": (torch.arange(6, dtype=torch.float32) / 8).view(2, 3).t(),
    "bn.half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "bn.double": torch.tensor([0.25], dtype=torch.float64),
    "bn.num_batches_tracked": torch.tensor(7),
}
torch.save(state, "plain.pth")
torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, "wrapped.pth")
torch.save(state, "legacy.pth", _use_new_zipfile_serialization=False)
torch.save(torch.nn.Sequential(torch.nn.Linear(1, 1)), "module.pth")
arrays = {key: numpy.array(value.numpy(), order="C") for key, value in state.items()}
numpy.savez("stored.npz", **arrays)
numpy.savez_compressed("deflated.npz", **arrays)
