"""Files that h5py, netCDF4 and NumPy write, of every kind that is read: the numbers are theirs, bit for bit."""

import itertools
import subprocess
import sys

import netCDF4  # before h5py: each brings an HDF5 of its own
import numpy as np
import h5py  # isort: skip

programs, work = sys.argv[1:]
N = 10
random = np.random.default_rng(1)


def read(path, side):
    out = f"{work}/values"
    ran = subprocess.run([f"{programs}/examples/throughput", "values", path, str(side), out], capture_output=True, text=True)
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

failed = 0
for name, got, expected in cases:
    same = isinstance(got, np.ndarray) and got.shape == expected.reshape(-1).shape and (got == expected.reshape(-1)).all()
    failed += not same
    if not same:
        print(f"DIFFERS {name}: {got if isinstance(got, str) else np.abs(got - expected.reshape(-1)).max()}")
print(f"{len(cases) - failed} of {len(cases)} files are read as those who wrote them read them, bit for bit")
sys.exit(failed > 0)
