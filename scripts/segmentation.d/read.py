"""Masks that Pillow, tifffile, NumPy and h5py write, of every kind that is read: the class of each pixel is the one that they read."""

import os
import shutil
import struct
import subprocess
import sys
import zlib

import h5py
import numpy as np
import tifffile
from PIL import Image

programs, work = sys.argv[1:]
random = np.random.default_rng(1)
SIZES = [(20, 24), (24, 20), (7, 13), (16, 32), (33, 9), (5, 3)]
BLACK_AND_WHITE, FEW, MANY, WIDE = [0, 255], [0, 1, 2, 5, 255], [0, 1, 7, 17, 100, 254, 255], [0, 1, 255, 256, 300, 65535]


def masks_of(values, sizes, dtype):
    masks = [random.choice(values, size).astype(dtype) for size in sizes]
    # Each number occurs, so that the classes are those of the list.
    masks[0].flat[: len(values)] = values
    return masks


def classes_of(masks):
    """Each number's place among those that occur; 255 does not count, unless the masks are black and white."""
    values = np.unique(np.concatenate([mask.ravel() for mask in masks]))
    values = values if values.tolist() == BLACK_AND_WHITE else values[values != 255]
    return [np.where(np.isin(mask, values), np.searchsorted(values, mask), 255) for mask in masks]


def pillow(path):
    pixels = np.array(Image.open(path))
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def colours(image):
    image.putpalette(random.integers(0, 256, 768, dtype=np.uint8).tobytes())
    return image


def saved(make, **options):
    return lambda path, mask: make(mask).save(path, **options)


def gray(mask):
    return Image.fromarray(mask)


def palette(mask):
    return colours(Image.fromarray(mask))


def equal(mode):
    """The same in each channel, beside an opacity that differs from pixel to pixel."""
    opacity = lambda mask: Image.fromarray(random.integers(0, 256, mask.shape, dtype=np.uint8))
    return lambda mask: Image.merge(mode, [opacity(mask) if band == "A" else gray(mask) for band in mode])


def packed_gray(bits):
    """Gray of 2 and 4 bits, which Pillow does not write."""

    def write(path, mask):
        height, width = mask.shape
        rows = np.packbits(np.unpackbits(mask[..., None], axis=2)[..., 8 - bits :].reshape(height, -1), axis=1)
        data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
        with open(path, "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n")
            for kind, body in [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]:
                file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))

    # Pillow spreads them over 0 to 255.
    return write, lambda path: pillow(path) // (255 // ((1 << bits) - 1))


def tif(**options):
    return lambda path, mask: tifffile.imwrite(path, mask, **options), tifffile.imread


# Name, ending, numbers, their type, how they are written and read.
kinds = []
for bits, values in [(1, [0, 1]), (2, range(4)), (4, range(16)), (8, MANY)]:
    kinds.append((f"palette PNG, {bits} bits", "png", values, np.uint8, saved(palette, bits=bits), pillow))
kinds.append(("palette PNG with transparency", "png", MANY, np.uint8, saved(palette, transparency=0), pillow))
kinds.append(("gray PNG, 1 bit", "png", [0, 1], np.uint8, saved(lambda mask: gray(mask == 1)), pillow))
for bits in (2, 4):
    kinds.append((f"gray PNG, {bits} bits", "png", range(1 << bits), np.uint8, *packed_gray(bits)))
kinds.append(("gray PNG, 8 bits", "png", MANY, np.uint8, saved(gray), pillow))
kinds.append(("gray PNG, 16 bits", "png", WIDE, np.uint16, saved(gray), pillow))
kinds.append(("gray PNG, black and white", "png", BLACK_AND_WHITE, np.uint8, saved(gray), pillow))
for mode in ("LA", "RGB", "RGBA"):
    first = lambda path: pillow(path)[..., 0]
    kinds.append((f"{mode} PNG, black and white", "png", BLACK_AND_WHITE, np.uint8, saved(equal(mode)), first))
    kinds.append((f"{mode} PNG of equal channels", "png", FEW, np.uint8, saved(equal(mode)), first))
for dtype, values in [(np.uint8, MANY), (np.uint16, WIDE)]:
    name = f"TIFF {np.dtype(dtype).name}"
    for compression in [None, "zlib", "lzw", "zstd", "packbits"]:
        kinds.append((f"{name}, {compression or 'as it is'}", "tif", values, dtype, *tif(compression=compression)))
    for compression in ["zlib", "lzw"]:
        kinds.append((f"{name}, {compression}, predictor", "tif", values, dtype, *tif(compression=compression, predictor=True)))
    kinds.append((f"{name}, tiles", "tif", values, dtype, *tif(tile=(16, 16), compression="zlib")))
    kinds.append((f"{name}, strips of 2 rows", "tif", values, dtype, *tif(rowsperstrip=2, compression="lzw")))
    kinds.append((f"{name}, big-endian", "tif", values, dtype, *tif(byteorder=">")))
    kinds.append((f"{name}, BigTIFF", "tif", values, dtype, *tif(bigtiff=True)))
kinds.append(("TIFF, black and white", "tif", BLACK_AND_WHITE, np.uint8, *tif(compression="zlib")))
table = random.integers(0, 1 << 16, (3, 256), dtype=np.uint16)
for compression in [None, "zlib", "lzw"]:
    write, read = tif(photometric="palette", colormap=table, compression=compression)
    kinds.append((f"palette TIFF, {compression or 'as it is'}", "tif", MANY, np.uint8, write, read))
kinds.append(("palette TIFF of Pillow", "tif", MANY, np.uint8, saved(palette, compression="tiff_lzw"), pillow))
for dtype, values in [(np.uint8, MANY), (np.uint16, WIDE), (np.int32, WIDE), (np.int64, WIDE)]:
    kinds.append((f".npy {np.dtype(dtype).name}", "npy", values, dtype, np.save, np.load))
kinds.append(("gray BMP", "bmp", MANY, np.uint8, saved(gray), pillow))


def told(path):
    """What our side reads: for each training image, its path and classes; or why not."""
    ran = subprocess.run([f"{programs}/examples/masks", path], capture_output=True, text=True)
    if ran.returncode != 0:
        return ran.stderr.strip() or f"status {ran.returncode}"
    rows = [line.split("\t") for line in ran.stdout.splitlines()]
    return [(name, np.frombuffer(bytes.fromhex(data), np.uint8).reshape(int(height), int(width))) for name, height, width, data in rows]


def differences(got, names, expected):
    """How many masks are read otherwise, and the first of them in words. Without names in the order in which they come."""
    if isinstance(got, str):
        return len(expected), got
    if names:
        by_name = {os.path.splitext(os.path.basename(name))[0]: mask for name, mask in got}
        got = [by_name.get(name) for name in names]
    else:
        got = [mask for _, mask in got]
    if len(got) != len(expected):
        return len(expected), f"{len(got)} masks of {len(expected)}"
    wrong = [(own, other) for own, other in zip(got, expected) if own is None or not np.array_equal(own, other)]
    if not wrong:
        return 0, ""
    own, other = wrong[0]
    if own is None or own.shape != other.shape:
        return len(wrong), f"{None if own is None else own.shape}, not {other.shape}"
    place = tuple(np.argwhere(own != other)[0])
    return len(wrong), f"{own[place]}, not {other[place]}, at {tuple(map(int, place))}"


folder = f"{work}/masks"
results = []
for name, ending, values, dtype, write, read in kinds:
    shutil.rmtree(folder, ignore_errors=True)
    expected = []
    for split, sizes in (("train", SIZES), ("val", SIZES[:2])):
        for kind in ("images", "masks"):
            os.makedirs(f"{folder}/{split}/{kind}")
        for number, mask in enumerate(masks_of(list(values), sizes, dtype)):
            image = Image.fromarray(random.integers(0, 256, (*mask.shape, 3), dtype=np.uint8))
            image.save(f"{folder}/{split}/images/{split}{number}.png")
            path = f"{folder}/{split}/masks/{split}{number}.{ending}"
            write(path, mask)
            if split == "train":
                expected.append(read(path))
                assert np.array_equal(expected[-1], mask), f"{name} is not what was written"
    results.append((name, *differences(told(folder), [f"train{number}" for number in range(len(SIZES))], classes_of(expected))))

for dtype, values in [(np.uint8, MANY), (np.uint8, BLACK_AND_WHITE), (np.uint16, WIDE), (np.int64, WIDE)]:
    for kind, options in [("contiguous", {}), ("chunked", {"chunks": (2, 10, 24)}), ("gzip", {"compression": "gzip", "shuffle": True})]:
        path = f"{work}/masks.h5"
        with h5py.File(path, "w") as file:
            for split, count in (("train", len(SIZES)), ("val", 2)):
                masks = np.stack(masks_of(values, [(20, 24)] * count, dtype))
                file[f"{split}/images"] = random.integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)
                file.create_dataset(f"{split}/masks", data=masks, **options)
        with h5py.File(path) as file:
            expected = classes_of(list(file["train/masks"][:]))
        name = f"HDF5 {np.dtype(dtype).name}{', black and white' if values == BLACK_AND_WHITE else ''}, {kind}"
        results.append((name, *differences(told(path), None, expected)))

for name, wrong, words in results:
    if wrong:
        print(f"DIFFERS {name}: {wrong} of {len(SIZES)}; {words}")
count, wrong = len(results) * len(SIZES), sum(wrong for _, wrong, _ in results)
print(f"{count - wrong} of {count} masks of {len(results)} kinds are read as those who wrote them read them")
sys.exit(wrong > 0)
