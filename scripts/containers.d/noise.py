"""Writes a small data set of noise, of one size: noise.py TO."""
import os
import sys

import numpy
from PIL import Image

random = numpy.random.default_rng(0)
for split, count in (("train", 40), ("val", 9)):
    for name in ("ant", "bee", "café", "dog"):
        os.makedirs(f"{sys.argv[1]}/{split}/{name}")
        for index in range(count):
            pixels = random.integers(0, 256, (24, 24, 3), dtype=numpy.uint8)
            Image.fromarray(pixels).save(f"{sys.argv[1]}/{split}/{name}/{index:03}.png")
