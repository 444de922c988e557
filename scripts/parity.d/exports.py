"""Reads what `rust-train export` wrote, as a user of other programs would, and compares logits.

    exports.py FOLDER NAME

pth and safetensors: torch.load(weights_only=True) and the state dict into torchvision's network with strict=True.
torchscript: torch.jit.load. onnx: onnx.checker and ONNX Runtime. The largest difference from our own logits, as a share of
the largest logit; allowed: 1e-4. For batches of 2 and of 1. Exits 1 where one is over.
"""

import sys

import onnx
import onnxruntime
import torch
from peers import logits_of, peer
from safetensors_file import load

CLASSES = 10


def main():
    folder, name = sys.argv[1:]
    outputs = load(f"{folder}/{name}.outputs.safetensors")
    images, expected = outputs["images"], outputs["logits"]
    path = lambda format: f"{folder}/{name}.export.{format}"

    def of_weights(state):
        model = peer(name, CLASSES).eval()
        model.load_state_dict(state, strict=True)
        return model

    def of_onnx():
        onnx.checker.check_model(path("onnx"))
        session = onnxruntime.InferenceSession(path("onnx"), providers=["CPUExecutionProvider"])
        return lambda x: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])

    models = {
        "pth": lambda: of_weights(torch.load(path("pth"), weights_only=True)),
        "safetensors": lambda: of_weights(load(path("safetensors"))),
        "torchscript": lambda: torch.jit.load(path("torchscript")),
        "onnx": of_onnx,
    }
    good, cells = True, []
    with torch.inference_mode():
        for format, make in models.items():
            model = make()
            scale = expected.abs().max().item()
            worst = max(
                (logits_of(model(images[:batch].clone())) - expected[:batch]).abs().max().item() / scale for batch in (2, 1)
            )
            good &= worst <= 1e-4
            cells.append(f"{format} {worst:.1e}")
    print(f"{name:20} {'  '.join(cells)}  {'ok' if good else 'FAILED'}", flush=True)
    sys.exit(0 if good else 1)


main()
