"""Writes the references of the networks that only timm has:

    record_timm.py NAME=TIMM_NAME...

crates/architectures/tests/timm.tsv: keys, shapes, trained values and MACs.
crates/backbones/tests/logits_of_timm.tsv: logits and gradients of a small network of each family, for weights and images by
the formula of `hashing.py`, whose numbers follow timm's keys, sorted.
"""

import sys

import timm
import torch
from hashing import fnv1a, formula_weights, noise
from torch.utils.flop_counter import FlopCounterMode

timm.layers.set_fused_attn(False)  # whose operations are not counted

# Pixels of the images; as few as the network takes.
SMALLEST = {
    "convnextv2_atto": 64, "convnextv2_tiny": 64, "mobilenetv4_conv_small": 64, "mobilenetv4_conv_medium": 64,
    "mobilenetv4_hybrid_medium": 64, "efficientnet_lite0_even": 64,
    "eva02_tiny_patch14_336": 56, "eva02_base_patch14_448": 84,
}
names = dict(name.split("=") for name in sys.argv[1:])

with open("crates/architectures/tests/timm.tsv", "w") as file:
    print('# architecture, trained values, GMACs, keys, FNV-1a hash of the sorted "key shape" lines; timm 1.0.31, see scripts/parity', file=file)
    for ours, theirs in names.items():
        model = timm.create_model(theirs, num_classes=1000).eval()
        state = model.state_dict()
        lines = "".join(sorted(f"{key} {','.join(map(str, value.shape))}\n" for key, value in state.items()))
        side = model.default_cfg["input_size"][1]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.zeros(1, 3, side, side))
        trained = sum(parameter.numel() for parameter in model.parameters())
        print(ours, trained, round(counter.get_total_flops() / 2e9, 3), len(state), f"{fnv1a(lines.encode()):016x}", sep="\t", file=file)

with open("crates/backbones/tests/logits_of_timm.tsv", "w") as file:
    print("# network, side, logits of two images, norm of the gradient of the first and of the last parameter by timm's keys; timm 1.0.31, "
          "see scripts/parity", file=file)
    for ours, side in SMALLEST.items():
        size = {"img_size": side} if "patch" in ours else {}  # as many positions as patches
        model = timm.create_model(names[ours], num_classes=5, **size).eval()
        model.load_state_dict(formula_weights(dict(sorted(model.state_dict().items()))))
        output = model(noise(0, 2 * 3 * side * side).view(2, 3, side, side))
        torch.nn.functional.cross_entropy(output, torch.arange(2)).backward()
        gradients = [parameter.grad.norm().item() for _, parameter in sorted(model.named_parameters())]
        numbers = [f"{value:.6g}" for value in [*output.flatten().tolist(), gradients[0], gradients[-1]]]
        print(ours, side, " ".join(numbers), sep="\t", file=file)
