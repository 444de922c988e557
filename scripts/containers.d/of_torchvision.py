"""Whether CIFAR's, MNIST's and LSUN's own files give the same batches as a folder of what torchvision reads from them:
of_torchvision.py PROGRAMS WORK."""
import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys

import lmdb
import numpy
import torchvision
from PIL import Image

programs, work = map(os.path.abspath, sys.argv[1:])
random = numpy.random.default_rng(0)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
COUNT = 600


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def pixels(*shape):
    """Smooth, so that a transposed image would be another."""
    return numpy.sort(random.integers(0, 256, shape, dtype=numpy.uint8), axis=-1)


def cifar(classes):
    """CIFAR's two versions, images in the order of their classes, as a folder of them is read; gives the folders."""
    names = NAMES if classes == 10 else [f"fine{index:03}" for index in range(100)]
    labels = {split: numpy.sort(random.integers(0, classes, COUNT)) for split in ("train", "test")}
    coarse = {split: labels[split] // 5 for split in labels}
    images = {split: pixels(COUNT, 3, 32, 32) for split in labels}
    binary, python = f"{work}/cifar-{classes}-binary", f"{work}/cifar-{classes}-python"
    if classes == 10:
        files = {f"data_batch_{part + 1}": ("train", slice(part * 120, part * 120 + 120)) for part in range(5)}
        files["test_batch"] = ("test", slice(None))
        write(f"{binary}/batches.meta.txt", "\n".join(names + ["", ""]).encode())
        write(f"{python}/batches.meta", pickle.dumps({"label_names": names, "num_vis": 3072, "num_cases_per_batch": 10000}, protocol=2))
    else:
        files = {split: (split, slice(None)) for split in labels}
        write(f"{binary}/fine_label_names.txt", "\n".join(names).encode())
        write(f"{binary}/coarse_label_names.txt", "\n".join(f"coarse{index:02}" for index in range(20)).encode())
        meta = {"fine_label_names": names, "coarse_label_names": [f"coarse{index:02}" for index in range(20)]}
        write(f"{python}/meta", pickle.dumps(meta, protocol=2))
    for name, (split, part) in files.items():
        data, fine, rough = images[split][part].reshape(-1, 3072), labels[split][part], coarse[split][part]
        before = [fine[:, None]] if classes == 10 else [rough[:, None], fine[:, None]]
        write(f"{binary}/{name}.bin", numpy.concatenate([*(column.astype(numpy.uint8) for column in before), data], axis=1).tobytes())
        content = {"data": data, "batch_label": "a batch", "filenames": [f"{index}.png" for index in range(len(data))]}
        content |= {"labels": fine.tolist()} if classes == 10 else {"fine_labels": fine.tolist(), "coarse_labels": rough.tolist()}
        # With 3 bytes stay bytes, as Python 2 wrote them.
        write(f"{python}/{name}", pickle.dumps(content, protocol=3))
    return binary, python


def of_torchvision(classes, python):
    kind = {10: torchvision.datasets.CIFAR10, 100: torchvision.datasets.CIFAR100}[classes]

    class Ours(kind):
        base_folder = os.path.basename(python)

        def _check_integrity(self):
            return True  # the files are not the published ones

        def _load_meta(self):
            with open(os.path.join(python, self.meta["filename"]), "rb") as file:
                self.classes = pickle.load(file, encoding="latin1")[self.meta["key"]]

    return Ours(os.path.dirname(python), train=True)


def idx(kind, data):
    code = 0x0800 | data.ndim
    return struct.pack(f">I{data.ndim}I", code, *data.shape) + data.tobytes()


def mnist():
    for split, name in (("train", "train"), ("test", "t10k")):
        images, labels = pixels(COUNT, 28, 20), numpy.sort(random.integers(0, 10, COUNT)).astype(numpy.uint8)
        for kind, data in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx(kind, data)
            write(f"{work}/MNIST/raw/{name}-{kind}-ubyte", content)
            write(f"{work}/MNIST-gz/{name}-{kind}-ubyte.gz", gzip.compress(content))
    return f"{work}/MNIST", f"{work}/MNIST-gz"


def lsun():
    """Two classes of LSUN, a database of WebP files each, keys as there: what torchvision reads of them."""
    root, classes = f"{work}/lsun", ["bridge", "church_outdoor"]
    for name in classes:
        path = f"{root}/{name}_train_lmdb"
        os.makedirs(path)
        with lmdb.open(path, map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
            for index in range(150):
                file = io.BytesIO()
                Image.fromarray(pixels(20, 20, 3)).save(file, "WEBP", lossless=True)
                transaction.put(hashlib.sha1(f"{name} {index}".encode()).hexdigest().encode(), file.getvalue())
    os.chdir(work)  # torchvision keeps the keys in the working directory
    return root, torchvision.datasets.LSUN(root, classes=[f"{name}_train" for name in classes]), classes


def folder(name, dataset, classes):
    for index, (image, label) in enumerate(dataset):
        path = f"{work}/{name}/train/{classes[label]}/{index:05}.png"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        image.save(path)
    return f"{work}/{name}"


def epoch(path, contents, ranks, side):
    result = subprocess.run([f"{programs}/examples/epoch", path, contents, str(ranks), str(side)], capture_output=True, text=True)
    return result.stdout.strip() or result.stderr.strip().splitlines()[-1]


wrong = checked = 0
sets = []
for classes in (10, 100):
    binary, python = cifar(classes)
    dataset = of_torchvision(classes, python)
    sets.append((folder(f"folder-{classes}", dataset, dataset.classes), [binary, python], 32))
plain, packed = mnist()
sets.append((folder("folder-mnist", torchvision.datasets.MNIST(work, train=True), [str(digit) for digit in range(10)]), [plain, packed], 20))
root, dataset, classes = lsun()
sets.append((folder("folder-lsun", dataset, classes), [root], 20))
for expected_of, paths, side in sets:
    expected = epoch(expected_of, "none", 1, side)
    for path in paths:
        for contents in ("none", "encoded", "pixels"):
            if contents == "none" and path == packed:
                continue
            found = [epoch(path, contents, ranks, side) for ranks in (1, 2, 4)]
            is_equal = all(one == expected for one in found)
            checked, wrong = checked + 1, wrong + (not is_equal)
            shown = {"none": "itself", "encoded": "cache", "pixels": "pixels"}[contents]
            print(f"{os.path.basename(path):18} {shown:8} {found[0][:24]}…  {'equal' if is_equal else f'OTHER: {found}, {expected}'}", flush=True)
print(f"{checked - wrong} of {checked} equal to what torchvision reads")

sys.exit(wrong > 0)
