"""torchvision's and Pillow's side of scripts/bench-data. Prints one line, `images/s N`.

    data.py load DIR SIDE WORKERS IMAGES    DataLoader over ImageFolder: random crop, flip, ToTensor, Normalize
    data.py build DIR SIDE                  Pillow in one process: decode, resize the shorter side, cut out the middle
    data.py compare DIR CROPS               how far CROPS (u8, 224x224x3 each) are from torchvision's own
"""

import os
import sys
import time

import numpy
import torch
import torchvision.transforms as T
from PIL import Image
from torchvision.datasets import ImageFolder

BATCH = 64


def load(folder, side, workers, images):
    crop = T.RandomCrop(side, side // 8) if side <= 64 else T.RandomResizedCrop(side)
    normalize = T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = T.Compose([crop, T.RandomHorizontalFlip(), T.ToTensor(), normalize])
    once = ImageFolder(os.path.join(folder, "train"), steps)
    # As many copies as it takes: the workers start once.
    copies = torch.utils.data.ConcatDataset([once] * (images // len(once) + 2))
    loader = torch.utils.data.DataLoader(copies, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    seen, start = 0, None
    for batch, _ in loader:
        if start is None:  # the first batch brings the workers up and is not counted
            start = time.perf_counter()
            continue
        seen += len(batch)
        if seen >= images:
            break
    print(f"images/s {seen / (time.perf_counter() - start):.1f}")


def build(folder, side):
    torch.set_num_threads(1)
    paths = [path for split in ("train", "val") for path, _ in ImageFolder(os.path.join(folder, split)).samples]
    steps = T.Compose([T.Resize(side), T.CenterCrop(side)])
    pixels = numpy.empty((len(paths), side, side, 3), numpy.uint8)
    start = time.perf_counter()
    for place, path in enumerate(paths):
        pixels[place] = numpy.asarray(steps(Image.open(path).convert("RGB")))
    print(f"images/s {len(paths) / (time.perf_counter() - start):.1f}")


def compare(folder, crops):
    paths = [path for path, _ in ImageFolder(os.path.join(folder, "train")).samples]
    ours = numpy.fromfile(crops, numpy.uint8).reshape(len(paths), 224, 224, 3)
    steps = T.Compose([T.Resize(256), T.CenterCrop(224)])
    means, most = [], 0
    for path, crop in zip(paths, ours):
        theirs = numpy.asarray(steps(Image.open(path).convert("RGB"))).astype(int)
        difference = numpy.abs(theirs - crop)
        means.append(difference.mean())
        most = max(most, difference.max())
    print(f"{len(paths)} images: mean absolute difference {numpy.mean(means):.4f} levels, "
          f"{max(means):.4f} for the worst image; largest difference of a value {most}")


verb, *arguments = sys.argv[1:]
if verb == "load":
    load(arguments[0], *map(int, arguments[1:]))
elif verb == "build":
    build(arguments[0], int(arguments[1]))
else:
    compare(*arguments)
