"""A made-up set, and a run on it: coloured discs and squares of 64×64 pixels, whose edges count for no class."""

import os
import subprocess

import numpy as np
from PIL import Image

SIDE, CLASSES, IGNORED, TRAIN, VAL = 64, 3, 255, 320, 96
COLOURS = np.array([[110, 120, 100], [190, 90, 70], [80, 100, 190]])
environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def shapes(random):
    """An image and its mask: 0 is background, 1 a disc, 2 a square."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(random.integers(1, 5)):
        kind, radius = random.integers(1, CLASSES), random.integers(5, 14)
        row, column = random.integers(0, SIDE, 2)
        away = np.hypot(rows - row, columns - column) if kind == 1 else np.maximum(abs(rows - row), abs(columns - column))
        mask[away <= radius] = kind
        mask[(away > radius) & (away <= radius + 1.5)] = IGNORED
    pixels = COLOURS[np.where(mask == IGNORED, 0, mask)] + random.normal(0, 70, (SIDE, SIDE, 3))
    return pixels.clip(0, 255).astype(np.uint8), mask


def make(folder):
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for kind in ("images", "masks"):
            os.makedirs(f"{folder}/{split}/{kind}", exist_ok=True)
        for number in range(count):
            for kind, pixels in zip(("images", "masks"), shapes(random)):
                Image.fromarray(pixels).save(f"{folder}/{split}/{kind}/{number:03}.png")


def read(folder):
    """The files of a folder in the order of their names, as one array."""
    return np.stack([np.array(Image.open(f"{folder}/{name}")) for name in sorted(os.listdir(folder))])


def run(program, ranks, *arguments):
    command = ["mpirun", "--oversubscribe", "-n", str(ranks), program, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def trained(program):
    """The set in `shapes`, a run on it in `run` and what it predicts in `masks`; those of the script before, if there was one."""
    if os.path.exists("masks"):
        return
    make("shapes")
    run(program, 2, "--task", "segment", "--data", "shapes", "--model", "unet_small", "--image-size", str(SIDE), "--epochs", "2",
        "--batch", "16", "--output", "run")
    run(program, 1, "predict", "--weights", "run", "--output", "masks", "shapes/val/images")
    assert sorted(os.listdir("masks")) == sorted(os.listdir("shapes/val/images")), "a mask for each image"


def report(found):
    """Prints what was found, {name: (ours, theirs, bound)}, and whether all of it is within its bounds."""
    good = []
    for name, (ours, theirs, bound) in found.items():
        # null where there is no score: as bad as a wrong one.
        good.append(ours is not None and abs(ours - theirs) <= bound)
        print(f"{'ok     ' if good[-1] else 'DIFFERS'} {name:50} {'none' if ours is None else f'{ours:.9f}'} {theirs:.9f}")
    return all(good)
