"""Our networks beside timm's of the same arithmetic, with the same random weights: of_timm.py PROGRAM WORK [NAME...].

For each: timm's state dict evaluated here (logits), exported under our names and under timm's again (bit for bit), and loaded by timm."""
import os
import subprocess
import sys
import warnings

import numpy
import safetensors.torch
import timm
import torch
from PIL import Image

warnings.filterwarnings("ignore")
program, work, *names = sys.argv[1:]
ENVIRONMENT = {**os.environ, "RUST_LOG": "info"}
NAMES = {
    "resnet18": "resnet18", "resnet50": "resnet50", "resnext50_32x4d": "resnext50_32x4d", "wide_resnet50_2": "wide_resnet50_2",
    "densenet121": "densenet121", "vgg11": "vgg11", "vgg16_bn": "vgg16_bn", "vit_base_patch16_224": "vit_b_16",
    "vit_base_patch32_224": "vit_b_32", "convnext_tiny": "convnext_tiny", "swin_tiny_patch4_window7_224": "swin_t",
    "convnextv2_atto": "convnextv2_atto", "convnextv2_tiny": "convnextv2_tiny",
    "efficientnet_b0": "efficientnet_b0", "efficientnet_b3": "efficientnet_b3", "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv4_conv_small": "mobilenetv4_conv_small", "mobilenetv4_conv_medium": "mobilenetv4_conv_medium",
    "mobilenetv4_hybrid_medium": "mobilenetv4_hybrid_medium",
    "vit_tiny_patch16_224": "vit_tiny_patch16_224", "vit_small_patch32_224": "vit_small_patch32_224",
    "resnet18d": "resnet18d", "resnet50d": "resnet50d", "resnetrs50": "resnetrs50",
    "deit3_small_patch16_224": "deit3_small_patch16_224", "vit_small_patch14_dinov2": "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2": "vit_small_patch14_reg4_dinov2",
    "eva02_tiny_patch14_336": "eva02_tiny_patch14_336", "eva02_base_patch14_448": "eva02_base_patch14_448",
    "efficientnet_lite0": "efficientnet_lite0_even", "tf_efficientnet_lite0": "efficientnet_lite0", "tf_efficientnet_lite2": "efficientnet_lite2", "densenet169": "densenet169",
}
CLASSES = 7
# The most that logits are.
LARGEST = 20.0


def run(*arguments):
    result = subprocess.run([program, *arguments], capture_output=True, text=True, env=ENVIRONMENT)
    if result.returncode:
        raise SystemExit(f"{arguments}: {result.stderr}")
    return result.stderr


def randomize(model):
    """So that no branch is closed: timm begins some at zero."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "gamma")) or ".norm" in name or "bn" in name or ".grn" in name:
            tensor.add_(torch.randn(tensor.shape, generator=generator).mul_(0.1).to(tensor.dtype)) if tensor.is_floating_point() else None
        elif tensor.is_floating_point() and name.startswith(("head", "classifier", "fc")) and tensor.dim() > 1:
            tensor.normal_(0, 0.05, generator=generator)
        elif name.endswith(("reg_token", "cls_token", "pos_embed", "q_bias", "v_bias")):
            tensor.normal_(0, 0.5, generator=generator)


print(f"{'timm':30} {'here':18} {'logits up to':>13} {'largest difference':>19}  there and back   load_state_dict(strict=True)")
wrong = 0
for theirs in names or NAMES:
    ours = NAMES[theirs]
    model = timm.create_model(theirs, num_classes=CLASSES).eval()
    randomize(model)
    side = model.default_cfg["input_size"][1] if ours.startswith(("vit", "swin", "eva02")) else 224
    folder = f"{work}/{theirs}"
    random = numpy.random.default_rng(1)
    images = random.integers(0, 256, (CLASSES, side, side, 3), dtype=numpy.uint8)
    for index, image in enumerate(images):
        os.makedirs(f"{folder}/data/val/{index}")
        Image.fromarray(image).save(f"{folder}/data/val/{index}/1.png")
    inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        largest = model(inputs).abs().max().item()
        if largest > LARGEST:  # rounding grows with the logits: the limit is for such as networks have
            for tensor in model.get_classifier().parameters():
                tensor.mul_(LARGEST / largest)
        expected = model(inputs).numpy()

    state = f"{folder}/timm.pth"
    torch.save({"epoch": 3, "arch": theirs, "state_dict": model.state_dict()}, state)
    size = ["--crop", str(side), "--resize", str(side), "--mean", "0.5", "--std", "0.5"]
    # The tag is of the weights, and says nothing of the network.
    said = run("eval", "--model", f"{theirs}.a_tag", "--weights", state, "--data", f"{folder}/data", "--logits", f"{folder}/rows.tsv", *size)
    is_named = "timm's names" in said
    rows = [line.rstrip("\n").split("\t") for line in open(f"{folder}/rows.tsv")]
    found = numpy.array([[float(value) for value in row[-CLASSES:]] for row in rows[-CLASSES:]])
    difference = numpy.abs(found - expected).max()

    run("export", "--model", ours, "--weights", state, "--output", f"{folder}/ours.safetensors", *size)
    run("export", f"{folder}/ours.safetensors", "--names", "timm", "--output", f"{folder}/back.safetensors")
    back = safetensors.torch.load_file(f"{folder}/back.safetensors")
    same = list(back) and all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
    strict = str(timm.create_model(theirs, num_classes=CLASSES).load_state_dict(back, strict=True))
    good = difference <= 1e-4 and same and "matched" in strict
    wrong += not good
    print(f"{theirs:30} {ours:18} {numpy.abs(expected).max():13.3f} {difference:19.2e}  {'equal' if same else 'OTHER':14}   {strict}"
          f"{'' if is_named or ours.startswith(('resne', 'wide', 'dense', 'mobilenetv4', 'eva02')) else '   names were not said'}", flush=True)
    del model, back
    subprocess.run(["rm", "-r", folder])
sys.exit(wrong > 0)
