"""Checkpoints as other trainers write them, a few numbers each: `python trainers.py` writes them beside it.

Each holds the state dict {"fc.weight": [[0, 1], [2, 3]], "fc.bias": [4, 5]}, with what the trainer puts beside it and before its names.
"""

import argparse
import collections
import enum
import pathlib
import random
import sys

import numpy
import torch

folder = pathlib.Path(__file__).parent / "trainers"
folder.mkdir(exist_ok=True)


def state(prefix="", start=0.0):
    numbers = torch.arange(start, start + 6.0)
    return collections.OrderedDict([(prefix + "fc.weight", numbers[:4].view(2, 2).clone()), (prefix + "fc.bias", numbers[4:].clone())])


class Stage(enum.Enum):
    FIT = 1


class Settings:
    """As a program's own configuration: its class need not be importable to read the file."""

    def __init__(self):
        self.lr, self.stage, self.path = 0.1, Stage.FIT, pathlib.PurePosixPath("x")


sys.modules["trainer"] = sys.modules["trainer.settings"] = sys.modules["__main__"]
Settings.__module__ = Stage.__module__ = "trainer.settings"


def save(name, content, **options):
    torch.save(content, folder / name, **options)


optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), 0.1, momentum=0.9).state_dict()
save("timm.pth.tar", {"epoch": 3, "arch": "x", "state_dict": state(), "optimizer": optimizer, "args": argparse.Namespace(lr=0.1),
                      "state_dict_ema": state(start=9), "metric": 70.5})
save("torchvision.pth", {"model": state(), "optimizer": optimizer, "lr_scheduler": {"last_epoch": 3}, "epoch": 3,
                         "args": argparse.Namespace(data=pathlib.PurePosixPath("/d")), "model_ema": {"n_averaged": torch.tensor(5), **state("module.", 9)}})
save("lightning.ckpt", {"epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.5", "state_dict": state("model."),
                        "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.5)}},
                        "optimizer_states": [optimizer], "hparams_name": "kwargs", "hyper_parameters": {"settings": Settings()}})
save("composer.pt", {"state": {"model": state(), "optimizers": {}, "timestamp": {"Timestamp": {"epoch": 1}}}, "rng": [{"python": random.getstate(), "torch": torch.get_rng_state()}]})
save("deepspeed.pt", {"module": state(), "buffer_names": [], "optimizer": None, "lr_scheduler": None, "sparse_tensor_module_names": set(), "ds_version": "0.17"})
save("moco.pth", {"epoch": 1, "arch": "x", "state_dict": {**state("module.encoder_q."), **state("module.encoder_k.", 9), "module.queue": torch.zeros(2, 3)}})
save("averaged.pt", {"n_averaged": torch.tensor(5), **state("module.")})
save("fsdp.pt", {"model": state("_orig_mod."), "step": numpy.int64(9)})
save("accelerate.bin", state("module."))
save("best_so_far.pth", {"state_dict": state(), "best_acc1": torch.tensor(70.0), "curve": numpy.arange(3), "best": numpy.float64(0.7)})
save("beside.pth", {**state(), "epoch": 3, "names": ["a", "b"], "when": frozenset([1]), "rng": bytearray(b"xyz"), "large": 1 << 90})
save("defaults.pth", {"net": state(), "log": collections.defaultdict(list, {"loss": [1.0]}), "last": collections.deque([1, 2])})
attributed = state()
attributed["fc.bias"].kept = "an attribute"
parameter = torch.nn.Parameter(attributed["fc.weight"])
parameter.also = 1
attributed["fc.weight"] = parameter
save("attributes.pth", {"model_state_dict": attributed})
save("older.pth", {"state_dict": state(), "args": Settings(), "best": torch.tensor(1.0)}, _use_new_zipfile_serialization=False)
save("checkpoint_epoch_0100.pth", state())
save("average-alone.pth", {"model_ema": state(start=9), "epoch": 1})
save("nothing.pth", {"epoch": 1, "args": Settings()})
