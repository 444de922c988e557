"""Hashes of what Pillow makes of noise: the table in crates/dataset/src/resize/mod.rs.

    PYTHONPATH=$(scripts/peers-env) python3 scripts/parity.d/scaling.py
"""

import numpy
from PIL import Image

CASES = [  # width, height, Resize, CenterCrop
    (64, 48, 32, 32),
    (500, 375, 256, 224),
    (375, 500, 256, 224),
    (31, 40, 32, 32),
    (7, 5, 64, 64),
    (640, 427, 232, 224),
    (1, 1, 8, 8),
    (3, 2, 8, 8),
    (97, 1000, 16, 12),
    (1200, 900, 40, 33),
    (256, 256, 224, 224),
    (33, 33, 32, 28),
]


def noise(width, height):
    """Half noise, half black and white."""
    index = numpy.arange(width * height * 3, dtype=numpy.uint64)
    value = (index * 2654435761 % 2**32 >> 19) & 255
    value = numpy.where(index // 7 % 3 == 0, (value > 127) * 255, value)
    return Image.fromarray(value.astype(numpy.uint8).reshape(height, width, 3))


def fnv1a(data):
    hash = 0xCBF29CE484222325
    for byte in data:
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return hash


for width, height, resize, side in CASES:
    longer = resize * max(width, height) // min(width, height)
    scaled = (resize, longer) if width <= height else (longer, resize)
    left, top = (round((length - side) / 2) for length in scaled)
    hashes = []
    for resample in [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC]:
        image = noise(width, height).resize(scaled, resample).crop((left, top, left + side, top + side))
        hashes.append(fnv1a(numpy.asarray(image).tobytes()))
    print(f"({width}, {height}, {resize}, {side}, {hashes[0]:#018x}, {hashes[1]:#018x}),")
