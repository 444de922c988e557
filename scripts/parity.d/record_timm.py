"""Writes crates/architectures/tests/timm.tsv: keys, shapes, trained values and MACs of the networks that only timm has.

    record_timm.py NAME=TIMM_NAME...
"""

import sys

import timm
import torch
from hashing import fnv1a
from torch.utils.flop_counter import FlopCounterMode

timm.layers.set_fused_attn(False)  # whose operations are not counted

with open("crates/architectures/tests/timm.tsv", "w") as file:
    print('# architecture, trained values, GMACs, keys, FNV-1a hash of the sorted "key shape" lines; timm 1.0.31, see scripts/parity', file=file)
    for ours, theirs in (name.split("=") for name in sys.argv[1:]):
        model = timm.create_model(theirs, num_classes=1000).eval()
        state = model.state_dict()
        lines = "".join(sorted(f"{key} {','.join(map(str, value.shape))}\n" for key, value in state.items()))
        side = model.default_cfg["input_size"][1]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, side, side))
        trained = sum(parameter.numel() for parameter in model.parameters())
        print(ours, trained, round(counter.get_total_flops() / 2e9, 3), len(state), f"{fnv1a(lines.encode()):016x}", sep="\t", file=file)
