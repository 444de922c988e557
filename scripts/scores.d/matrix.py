"""The matrix of scripts/scores: what a run says of itself, and what comes out of its files.

    matrix.py RUST_TRAIN [--whole]

Exits 1 where a score differs, or where ONNX Runtime decides more than one image in 200 of a run otherwise: its images are the same to
the bit, but sums of floats are not, and what lies on the edge between two classes may fall to either side.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import onnxruntime
from PIL import Image, ImageOps

NETWORKS = ["cifar_resnet20", "cifar_resnet32", "shufflenet_v2_x0_5", "mobilenet_v2", "resnet18"]
SIZES = [40, 64, 96]
FLAGS = {
    "default": [],
    "mean and std": ["--mean", "0.3,0.4,0.5", "--std", "0.25"],
    "EXIF": ["--exif-orientation", "--cache-format", "encoded"],
    "bicubic": ["--resample", "bicubic", "--cache-format", "none"],
}
CLASSES = ["red", "green", "blue"]
VALIDATION = 67  # of each class


def drawn(kind, random):
    """Noise, a little more of one colour than of the others; of any shape, and perhaps stored on its side."""
    width, height = random.integers(70, 180, 2)
    colour = random.normal(120, 14, 3)
    colour[kind] += 45
    y, x = numpy.mgrid[:height, :width]
    waves = 30 * numpy.sin(x / random.uniform(3, 20)) * numpy.sin(y / random.uniform(3, 20))
    pixels = colour + waves[..., None] + random.normal(0, 30, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(numpy.uint8))


def make_images(folder):
    random = numpy.random.default_rng(7)
    for split, count in [("train", 60), ("val", VALIDATION)]:
        for kind, name in enumerate(CLASSES):
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                image = drawn(kind, random)
                if number % 3 == 0:
                    image.save(place / f"{number:03}.png")
                    continue
                exif = Image.Exif()
                if number % 3 == 1:
                    image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6  # EXIF turns it back
                image.save(place / f"{number:03}.jpg", quality=90, exif=exif)


def prepared(path, images):
    """An image as the model card says that it must be."""
    image = Image.open(path)
    if images["exif_orientation"]:
        image = ImageOps.exif_transpose(image)
    image = image.convert("RGB")
    shorter, resize, size = min(image.size), images["resize"], images["size"]
    scaled = [resize if side == shorter else int(resize * side / shorter) for side in image.size]
    image = image.resize(scaled, {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[images["resample"]])
    left, top = (int(round((side - size) / 2)) for side in scaled)
    pixels = numpy.asarray(image.crop((left, top, left + size, top + size)), numpy.float32) / 255
    pixels = (pixels - numpy.float32(images["mean"])) / numpy.float32(images["std"])
    return pixels.transpose(2, 0, 1)


def of_onnx(path, folder):
    """The class that ONNX Runtime sees in each image of `folder`, by its path there."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["rust-train"])
    assert card["classes"] == sorted(CLASSES), card["classes"]
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*"))
    seen = {}
    for start in range(0, len(names), 50):
        part = names[start : start + 50]
        batch = numpy.stack([prepared(folder / name, card["images"]) for name in part])
        logits = session.run(None, {session.get_inputs()[0].name: batch.astype(numpy.float32)})[0]
        seen |= {name: int(row.argmax()) for name, row in zip(part, logits)}
    return seen


def main():
    program, whole = sys.argv[1], sys.argv[2:] == ["--whole"]
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "RUST_LOG": "info"}
    good, images, others = True, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make_images(folder / "images")

        def rust_train(ranks, *words):
            launcher = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
            command = [*launcher, program, *map(str, words)]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)}\n{done.stderr}")
            return done

        def score(*words):
            return re.search(r"top-1 (\S+) %", rust_train(*words).stdout)[1]

        rows = [
            (network, SIZES[(i + j) % 3], flags, [1 + (i + j) % 3], [1 + (i + j + 1) % 3])
            for i, network in enumerate(NETWORKS)
            for j, flags in enumerate(FLAGS)
        ]
        if whole:
            rows = [(network, size, flags, [1, 2, 3], [1, 2, 3]) for network in NETWORKS for size in SIZES for flags in FLAGS]
        print(f"{'network':20} {'size':>4} {'flags':14} {'ranks':>5} {'run':>7} {'eval RUN':>22} {'eval best':>22} {'ONNX':>5}")
        for number, (network, size, flags, trained, evaluated) in enumerate(rows):
            for ranks in trained:
                run = f"run-{number}-{ranks}"
                recipe = ["--model", network, "--image-size", size, *FLAGS[flags], "--epochs", 3, "--batch", 12, "--lr", 0.03]
                log = rust_train(ranks, "--data", "images", "--output", run, *recipe).stderr
                said = re.search(r"done: top-1 (\S+) % at best", log)[1]
                own = [score(ranks, "eval", run) for ranks in evaluated]
                best = [score(ranks, "eval", f"{run}/best.safetensors", "--data", "images") for ranks in evaluated[1:]]
                best.append(score(1, "eval", f"{run}/best.safetensors", "--data", "images", "--logits", f"{run}.tsv"))
                rust_train(1, "export", run, "--output", f"{run}.onnx")
                lines = [line.split("\t") for line in (folder / f"{run}.tsv").read_text().splitlines()]
                logits = {line[0].split("images/val/")[1]: numpy.argmax(list(map(float, line[2:]))) for line in lines}
                seen = of_onnx(folder / f"{run}.onnx", folder / "images" / "val")
                assert seen.keys() == logits.keys() and len(seen) == VALIDATION * 3
                otherwise = sum(seen[name] != logits[name] for name in seen)
                learned = len(set(logits.values())) > 1  # one answer to everything proves nothing
                is_good = {*own, *best} == {said} and otherwise * 200 <= len(seen) and learned
                good, images, others = good and is_good, images + len(seen), others + otherwise
                shutil.rmtree(folder / run)  # a run and what it exports are 300 MB
                (folder / f"{run}.onnx").unlink()
                cells = f"{network:20} {size:4} {flags:14} {ranks:5} {said:>7} {' '.join(own):>22} {' '.join(best):>22} {otherwise:5}"
                print(f"{cells}  {'ok' if is_good else 'FAILED'}", flush=True)
    print(f"ONNX Runtime decides {others} of {images} images otherwise")
    sys.exit(0 if good else 1)


main()
