"""Files that h5py, netCDF4, NumPy, tifffile, imagecodecs and astropy write, of every kind that is read: the numbers are theirs, bit for bit."""

import itertools
import os
import shutil
import subprocess
import sys

import netCDF4  # before h5py: each brings an HDF5 of its own
import numpy as np
from astropy.io import fits
import h5py  # isort: skip
import imagecodecs
import tifffile

programs, work = sys.argv[1:]
N = 10
random = np.random.default_rng(1)


def read(path, side, what="values"):
    out = f"{work}/values"
    ran = subprocess.run([f"{programs}/examples/throughput", what, path, str(side), out], capture_output=True, text=True)
    if ran.returncode != 0:
        return ran.stderr
    return np.fromfile(out, np.float32)


def numbers(dtype, shape):
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max, shape, dtype=np.dtype(dtype).newbyteorder("="), endpoint=True).astype(dtype)
    return (random.standard_normal(shape) * 1e3).astype(dtype)


def planes(array, order):
    """As N×C×H×W in single precision; bytes as parts of 255, but for 8-bit RGB."""
    if order == "rgb":
        return array.astype(np.float32)
    array = array[:, None] if array.ndim == 3 else array if order == "nchw" else array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8:
        return (array.astype(np.float64) * (1 / 255)).astype(np.float32)
    return array.astype(np.float32)


cases = []
labels = np.arange(N, dtype=np.float32)
for dtype, (order, shape) in itertools.product(
    [np.uint8, np.int8, np.uint16, np.int16, np.float32, np.float64, ">u2", ">f4", ">f8", np.float16],
    [("nhwc", (N, 9, 9, 5)), ("nchw", (N, 5, 9, 9)), ("nhw", (N, 9, 9))],
):
    array = numbers(np.dtype(dtype), shape)
    name = f"{np.dtype(dtype).str[1:]}{'>' if str(dtype).startswith('>') else ''} {order}"
    for kind, options in [("contiguous", {}), ("chunked", {"chunks": (3,) + shape[1:]}), ("gzip", {"compression": "gzip", "shuffle": True})]:
        path = f"{work}/set.h5"
        with h5py.File(path, "w", libver="latest" if kind == "gzip" else None) as file:
            file.create_dataset("train/images", data=array, **options)
            file["train/labels"] = labels
        cases.append((f"h5py {kind} {name}", read(path, 9), planes(array, order)))
    if np.dtype(dtype).byteorder in "=|" and dtype != np.float16:
        for save in (np.savez, np.savez_compressed):
            path = f"{work}/set.npz"
            save(path, x_train=array, y_train=labels)
            cases.append((f"numpy.{save.__name__} {name}", read(path, 9), planes(array, order)))
# In other files: a virtual array of two, and bytes outside of HDF5, which are looked for where the program is started.
array = numbers(np.uint16, (N, 9, 9, 4))
for part, rows in enumerate((slice(0, N // 2), slice(N // 2, N))):
    with h5py.File(f"{work}/part{part}.h5", "w") as file:
        file["images"] = array[rows]
for kind in ("virtual", "external"):
    path = f"{work}/set.h5"
    with h5py.File(path, "w") as file:
        if kind == "virtual":
            layout = h5py.VirtualLayout(shape=array.shape, dtype=array.dtype)
            for part, rows in enumerate((slice(0, N // 2), slice(N // 2, N))):
                layout[rows] = h5py.VirtualSource(f"part{part}.h5", "images", shape=array[rows].shape)
            file.create_virtual_dataset("train/images", layout)
        else:
            array.tofile(f"{work}/outside.raw")
            file.create_dataset("train/images", shape=array.shape, dtype=array.dtype, external=[(f"{work}/outside.raw", 0, array.nbytes)])
        file["train/labels"] = labels
    cases.append((f"h5py {kind}", read(path, 9), planes(array, "nhwc")))
rgb = numbers(np.uint8, (N, 9, 9, 3))
np.savez(f"{work}/set.npz", train_images=rgb, train_labels=labels)
cases.append(("numpy.savez RGB of 8 bits", read(f"{work}/set.npz", 9), planes(rgb, "rgb")))
for dtype, fill in [("i2", -9999), ("f4", 9.96921e36), ("u1", 255)]:
    path = f"{work}/set.nc"
    packed = numbers(np.dtype(dtype), (N, 4, 9, 9))
    packed[2, 1, 3, 3] = fill
    with netCDF4.Dataset(path, "w") as file:
        for name, size in (("n", N), ("band", 4), ("y", 9), ("x", 9)):
            file.createDimension(name, size)
        images = file.createVariable("images", dtype, ("n", "band", "y", "x"), fill_value=fill, zlib=dtype == "i2")
        images.set_auto_maskandscale(False)
        images.scale_factor, images.add_offset = 0.25, 10.0
        images[:] = packed
        file.createVariable("labels", "f4", ("n",))[:] = labels
    with netCDF4.Dataset(path) as file:
        expected = np.ma.filled(file["images"][:].astype(np.float64), 0.0).astype(np.float32)
    cases.append((f"netCDF4 {dtype}, packed, one value missing", read(path, 9), expected))



def folder(name, write, images, expected=None, what="values"):
    """A folder of one file for each of `images`, which `write` writes; `expected` is what they are, N×H×W×C, if not themselves."""
    place = f"{work}/folder/train/0"
    shutil.rmtree(f"{work}/folder", ignore_errors=True)
    os.makedirs(place)
    for number, image in enumerate(images):
        write(f"{place}/{number}", image)
    expected = np.stack(images) if expected is None else expected
    expected = expected[..., None] if expected.ndim == 3 else expected
    cases.append((name, read(f"{work}/folder", 9, what), planes(np.ascontiguousarray(expected), "nhwc")))


def tif(**options):
    return lambda path, image: tifffile.imwrite(f"{path}.tif", image, **options)


FEW = 3
for dtype in [np.uint8, np.int8, np.uint16, np.int16, np.float32, np.float64]:
    kind = np.dtype(dtype).name
    gray, bands = numbers(np.dtype(dtype), (FEW, 9, 9)), numbers(np.dtype(dtype), (FEW, 9, 9, 5))
    for compression in [None, "zlib", "lzw", "zstd", "packbits"]:
        predictors = [False] if compression in (None, "packbits") else [False, True]
        for predictor in predictors:
            packed = f"{compression or 'as it is'}{', predictor' if predictor else ''}"
            options = {"compression": compression, "predictor": predictor}
            folder(f"tifffile {kind} gray, {packed}", tif(**options), gray)
            folder(f"tifffile {kind} 5 samples, {packed}", tif(photometric="minisblack", planarconfig="contig", **options), bands)
            planar = tif(photometric="minisblack", planarconfig="separate", **options)
            folder(f"tifffile {kind} 5 planes, {packed}", lambda path, image: planar(path, image.transpose(2, 0, 1).copy()), bands)
    folder(f"tifffile {kind} big-endian", tif(byteorder=">", photometric="minisblack", planarconfig="contig"), bands)
    folder(f"tifffile {kind} BigTIFF", tif(bigtiff=True, photometric="minisblack", planarconfig="contig"), bands)
    folder(f"tifffile {kind} tiles", tif(tile=(16, 16), compression="zlib", photometric="minisblack", planarconfig="contig"), bands)
    folder(f"tifffile {kind} strips of 2 rows", tif(rowsperstrip=2, compression="lzw"), gray)
    pages = tif(photometric="minisblack")
    folder(f"tifffile {kind} 5 pages", lambda path, image: pages(path, image.transpose(2, 0, 1).copy()), bands)

    # Each page an image.
    stacks = numbers(np.dtype(dtype), (FEW, 4, 9, 9))
    for name, options in [
        ("as they are", {}),
        ("zlib, predictor", {"compression": "zlib", "predictor": True}),
        ("big-endian", {"byteorder": ">"}),
        ("BigTIFF", {"bigtiff": True, "compression": "lzw"}),
        ("tiles", {"tile": (16, 16), "compression": "zlib"}),
        ("strips of 2 rows", {"rowsperstrip": 2}),
        ("ImageJ", {"imagej": True}),
    ]:
        if options.get("imagej") and dtype not in (np.uint8, np.uint16, np.float32):
            continue
        options = options if options.get("imagej") else {"photometric": "minisblack", **options}
        folder(f"tifffile {kind} stacks, {name}", tif(**options), stacks, stacks.reshape(-1, 9, 9), "pages")
    coloured = numbers(np.dtype(dtype), (FEW, 2, 9, 9, 5))
    for planar in ("contig", "separate"):
        samples = tif(photometric="minisblack", planarconfig=planar)
        write = lambda path, image: samples(path, image if planar == "contig" else image.transpose(0, 3, 1, 2).copy())
        folder(f"tifffile {kind} stacks of 5 samples, {planar}", write, coloured, coloured.reshape(-1, 9, 9, 5), "pages")

    def two_pages(path, image):
        with tifffile.TiffWriter(f"{path}.tif") as file:
            for part in (image[..., :2], image[..., 2:4]):
                file.write(part.copy(), photometric="minisblack", planarconfig="contig")

    folder(f"tifffile {kind} 2 pages of 2 samples", two_pages, bands, bands[..., :4])

    def with_overview(path, image):
        with tifffile.TiffWriter(f"{path}.tif") as file:
            file.write(image, photometric="minisblack", planarconfig="contig")
            file.write(image[::2, ::2].copy(), photometric="minisblack", planarconfig="contig", subfiletype=1)
            file.write(np.ones((9, 9), bool), photometric="mask", subfiletype=4)

    folder(f"tifffile {kind} with an overview and a mask", with_overview, bands)
    folder(f"tifffile {kind} with an overview, pages apart", with_overview, bands, what="pages")
    missing = bands.copy()
    none = missing[0, 4, 4, 2]
    nodata = tif(photometric="minisblack", planarconfig="contig", extratags=[(42113, "s", 0, str(none), True)])
    folder(f"tifffile {kind} with GDAL_NODATA", nodata, missing, np.where(missing == none, np.zeros_like(missing), missing))
    if np.issubdtype(dtype, np.integer) and np.dtype(dtype).kind == "u":
        for channels in (3, 4):
            colours = numbers(np.dtype(dtype), (FEW, 9, 9, channels))
            folder(f"tifffile {kind} RGB{'A' * (channels - 3)}", tif(photometric="rgb", compression="zlib"), colours)
        folder(f"tifffile {kind} white is zero", tif(photometric="miniswhite"), gray)
        folder(f"tifffile {kind} CMYK", tif(photometric="separated"), bands[..., :4])
        folder(f"tifffile {kind} RGB and two more", tif(photometric="rgb", planarconfig="contig"), bands)
        for channels, name in [(1, "gray"), (2, "gray and alpha"), (3, "RGB"), (4, "RGBA")]:
            image = numbers(np.dtype(dtype), (FEW, 9, 9, channels))
            image = image[..., 0] if channels == 1 else image

            def png(path, image):
                with open(f"{path}.png", "wb") as file:
                    file.write(imagecodecs.png_encode(image))

            folder(f"imagecodecs PNG {kind} {name}", png, image)
    for order, shape in [("H×W", (FEW, 9, 9)), ("H×W×C", (FEW, 9, 9, 5)), ("C×H×W", (FEW, 5, 9, 9))]:
        image = numbers(np.dtype(dtype), shape)
        expected = image.transpose(0, 2, 3, 1) if order == "C×H×W" else image
        folder(f"numpy.save {kind} {order}", lambda path, image: np.save(f"{path}.npy", image), image, expected)


def fit(header=None, table=False, extension=False, stored=None):
    """Writes a FITS file, with these cards; behind a table, or as an extension; of numbers that are `stored` otherwise."""

    def write(path, image):
        part = fits.ImageHDU(image) if extension else fits.PrimaryHDU(image)
        for key, value in (header or {}).items():
            part.header[key] = value
        if stored:
            part.scale(*stored)
        columns = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(700))])
        parts = [fits.PrimaryHDU()] + [columns] * table + [part] if extension else [part] + [columns] * table
        fits.HDUList(parts).writeto(f"{path}.fits", overwrite=True)

    return write


def of_astropy():
    """What astropy reads of the files of the last folder, as N×H×W×C; what is missing as the mean, which is 0 of what is normalized."""
    place = f"{work}/folder/train/0"

    def first_image(path):
        with fits.open(path, memmap=False) as parts:
            return np.atleast_3d(next(part.data for part in parts if part.is_image and part.data is not None))

    read = [first_image(f"{place}/{name}") for name in sorted(os.listdir(place))]
    return np.stack([image.transpose(1, 2, 0) if image.shape[1:] == (9, 9) and image.shape[0] != 9 else image for image in read])


for dtype in [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64]:
    kind = np.dtype(dtype).name
    gray, cube = numbers(np.dtype(dtype), (FEW, 9, 9)), numbers(np.dtype(dtype), (FEW, 5, 9, 9))
    for name, write, images in [
        ("gray", fit(), gray),
        ("5 planes", fit(), cube),
        ("an extension behind a table", fit(extension=True, table=True), gray),
        ("a table behind it", fit({"OBJECT": "O'Neil's / END", "HISTORY": "BITPIX = 8"}, table=True), cube),
        ("an axis of one", fit(), gray[:, None]),
    ]:
        folder(f"astropy {kind} {name}", write, images, np.zeros((FEW, 9, 9)))
        cases[-1] = (*cases[-1][:2], planes(of_astropy().astype(dtype), "nhwc"))
for stored in [("int16", "minmax"), ("uint8", "minmax"), ("int32", "", 1e-3, 10.0), ("int16", "", 0.5, 1000.0)]:
    image = numbers(np.dtype(np.float32), (FEW, 9, 9))
    folder(f"astropy float32 as {stored[0]}, scaled", fit(stored=stored), image, np.zeros((FEW, 9, 9)))
    cases[-1] = (*cases[-1][:2], planes(of_astropy().astype(np.float32), "nhwc"))
missing = numbers(np.dtype(np.float32), (FEW, 9, 9))
missing[1, 2, 3] = np.nan
folder("astropy float32, NaN", fit(), missing, np.nan_to_num(missing))
counts = numbers(np.dtype(np.int16), (FEW, 9, 9))
none = int(counts[0, 4, 4])
folder("astropy int16, BLANK", fit({"BLANK": none}), counts, np.where(counts == none, np.zeros_like(counts), counts))
indices, table = numbers(np.dtype(np.uint8), (FEW, 9, 9)), random.integers(0, 1 << 16, (3, 256), dtype=np.uint16)
folder("tifffile palette", tif(photometric="palette", colormap=table), indices, (table[:, indices] >> 8).astype(np.uint8).transpose(1, 2, 3, 0))

failed = 0
for name, got, expected in cases:
    same = isinstance(got, np.ndarray) and got.shape == expected.reshape(-1).shape and (got == expected.reshape(-1)).all()
    failed += not same
    if not same:
        print(f"DIFFERS {name}: {got if isinstance(got, str) else np.abs(got - expected.reshape(-1)).max()}")
print(f"{len(cases) - failed} of {len(cases)} files are read as those who wrote them read them, bit for bit")
sys.exit(failed > 0)
