"""Parameters and MACs of each network by fvcore and by PyTorch's own counter, beside what torchvision publishes.

    costs.py NAME...

MACs are those of convolutions, linear layers and attention. fvcore does not look into nn.MultiheadAttention's fused
operator; where it sees one, its column says so. Exits 1 where a count differs from the recorded table by more than its
last digit.
"""

import sys
import warnings

import torch
from fvcore.nn import FlopCountAnalysis
from peers import classes_of, image_size, peer
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore")
COUNTED = ("conv", "linear", "addmm", "matmul", "bmm", "einsum")


def main():
    recorded = {}
    with open("crates/architectures/tests/torchvision.tsv") as file:
        for line in file:
            if not line.startswith("#"):
                name, _, trained, gmacs, *_ = line.rstrip("\n").split("\t")
                recorded[name] = (int(trained), float(gmacs))
    good = True
    print("| network | pixels | parameters | GMACs, published | torch's counter | fvcore |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:]:
        model = peer(name, classes_of(name)).eval()
        side = image_size(name)
        image = torch.zeros(1, 3, side, side)
        with FlopCounterMode(display=False) as counter:  # with gradients: without, ViT runs one fused operator
            model(image)
        own = counter.get_total_flops() / 2e9
        analysis = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_operator = analysis.by_operator()
        fvcore = sum(count for operator, count in by_operator.items() if operator in COUNTED) / 1e9
        fused = any("attention" in operator for operator in analysis.unsupported_ops())
        trained = sum(parameter.numel() for parameter in model.parameters())
        published_trained, published = recorded[name]
        good &= trained == published_trained and abs(own - published) < 6e-4 and (fused or abs(fvcore - own) < 6e-4)
        print(f"| {name} | {side} | {trained:,} | {published} | {own:.3f} | {fvcore:.3f}{' (no attention)' if fused else ''} |",
              flush=True)
    sys.exit(0 if good else 1)


main()
