"""Writes the references that the tests compare with:

crates/architectures/tests/torchvision.tsv   keys, shapes, trained values and published GMACs of every network
crates/backbones/tests/logits.tsv            logits and gradients of a small network of each family, with the weights and
                                             images of hashing.py
crates/backbones/tests/auxiliary.tsv         the same of networks with auxiliary heads
"""

import math

import torch
from hashing import fnv1a, formula_weights, noise
from peers import classes_of, image_size, load_into, logits_of, loss_of, MASKS, NAMES, SMALLEST, peer, weights_of
from torch.utils.flop_counter import FlopCounterMode


def keys():
    with open("crates/architectures/tests/torchvision.tsv", "w") as file:
        print('# architecture, classes, trained values, GMACs, keys, FNV-1a hash of "key shape" lines; torchvision 0.26, '
              "see scripts/parity", file=file)
        for name in NAMES:
            classes = classes_of(name)
            model = peer(name, classes)
            state = model.state_dict()
            lines = "".join(f"{key} {','.join(map(str, value.shape))}\n" for key, value in state.items())
            trained = sum(parameter.numel() for parameter in model.parameters())
            if name.startswith(("cifar", *MASKS)):
                side = image_size(name)
                with FlopCounterMode(display=False) as counter, torch.no_grad():
                    model.eval()(torch.zeros(1, 3, side, side))
                gmacs = round(counter.get_total_flops() / 2e9, 3)
            else:
                gmacs = weights_of(name).meta["_ops"]
            print(name, classes, trained, gmacs, len(state), f"{fnv1a(lines.encode()):016x}", sep="\t", file=file)


def logits():
    with open("crates/backbones/tests/logits.tsv", "w") as file:
        print("# network, side, logits of two images, norm of the gradient of the first and of the last parameter (nan: "
              "single precision does not tell); torchvision 0.26, see scripts/parity", file=file)
        for name, side in SMALLEST:
            model = peer(name, 5).eval()
            load_into(model, formula_weights(model.state_dict()))
            images = noise(0, 2 * 3 * side * side).view(2, 3, side, side)
            output = logits_of(model(images))
            loss_of(output).backward()
            gradients = [parameter.grad.norm().item() for parameter in model.parameters()]
            if name == "maxvit_t":
                gradients[0] = math.nan  # 120.5 with such weights, and 128.4 in double precision: rounding alone decides
            if output.dim() == 4:  # of one pixel, not in the middle
                output = output[:, :, side // 2, side // 3]
            numbers = [f"{value:.6g}" for value in [*output.flatten().tolist(), gradients[0], gradients[-1]]]
            print(name, side, " ".join(numbers), sep="\t", file=file)


def auxiliary():
    """All logits of networks with auxiliary heads, and gradients of torchvision's loss of them."""
    from torchvision.models import googlenet, inception_v3
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, fcn_resnet50

    bare = dict(weights=None, num_classes=5)
    models = [
        ("googlenet", 64, 0.3, googlenet(**bare, aux_logits=True, init_weights=False)),
        ("inception_v3", 299, 0.4, inception_v3(**bare, aux_logits=True, init_weights=False)),
        ("fcn_resnet50", 65, 0.5, fcn_resnet50(**bare, weights_backbone=None, aux_loss=True)),
        ("deeplabv3_mobilenet_v3_large", 65, 0.5, deeplabv3_mobilenet_v3_large(**bare, weights_backbone=None, aux_loss=True)),
    ]
    with open("crates/backbones/tests/auxiliary.tsv", "w") as file:
        print("# network, side, logits of two images, the auxiliary heads' behind, norm of the gradient of the first and of the last "
              "parameter; torchvision 0.26, see scripts/parity", file=file)
        for name, side, weight, model in models:
            model.eval()
            load_into(model, formula_weights(model.state_dict()))
            images = noise(0, 2 * 3 * side * side).view(2, 3, side, side)
            seen = {}
            keep = lambda key: lambda module, inputs, output: seen.__setitem__(key, output)
            # In evaluation, where nothing is dropped, they give nothing by themselves.
            if name == "googlenet":
                model.inception4a.register_forward_hook(keep("aux1"))
                model.inception4d.register_forward_hook(keep("aux2"))
                outputs = [model(images), model.aux2(seen["aux2"]), model.aux1(seen["aux1"])]
            elif name == "inception_v3":
                model.Mixed_6e.register_forward_hook(keep("aux"))
                outputs = [model(images), model.AuxLogits(seen["aux"])]
            else:
                output = model(images)
                outputs = [output["out"], output["aux"]]
            losses = [loss_of(output) for output in outputs]
            (losses[0] + weight * sum(losses[1:])).backward()
            gradients = [parameter.grad.norm().item() for parameter in model.parameters()]
            shown = [output[:, :, side // 2, side // 3] if output.dim() == 4 else output for output in outputs]
            numbers = [*torch.cat(shown, 1).T.flatten().tolist(), gradients[0], gradients[-1]]
            print(name, side, " ".join(f"{value:.6g}" for value in numbers), sep="\t", file=file)


keys()
logits()
auxiliary()
