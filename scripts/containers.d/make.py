"""Writes one data set of image files, DIR/train/<class>/* and DIR/val/<class>/*, into containers of many kinds, each as its own library
writes it. All of one size, so that arrays can hold it, too. Called by scripts/containers: make.py FROM TO."""
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import datasets
import h5py
import numpy
import pyarrow
import pyarrow.parquet
import webdataset
from PIL import Image

source, out = sys.argv[1:3]
classes = sorted(os.listdir(f"{source}/train"))
splits = {
    split: [
        (label, name, f"{source}/{split}/{name}/{file}")
        for label, name in enumerate(classes)
        for file in sorted(os.listdir(f"{source}/{split}/{name}"))
    ]
    for split in ("train", "val")
}


def place(container):
    os.makedirs(f"{out}/{container}")
    return f"{out}/{container}"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def folder():
    shutil.copytree(source, place("folder"), dirs_exist_ok=True)


def lists():
    root = place("lists")
    for split, samples in splits.items():
        with open(f"{root}/{split}.tsv", "w") as file:
            file.writelines(f"{os.path.abspath(path)}\t{name}\n" for _, name, path in samples)


def table():
    root = place("table")
    with open(f"{root}/all.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split"])
        writer.writerows([os.path.abspath(path), name, split] for split, all in splits.items() for _, name, path in all)


def shards(container, tell, count=3):
    root = place(container)
    for split, samples in splits.items():
        most = -(-len(samples) // count)
        with webdataset.ShardWriter(f"{root}/{split}-%06d.tar", maxcount=most, verbose=0) as writer:
            for index, (label, name, path) in enumerate(samples):
                ending = path.rsplit(".", 1)[1].lower()
                writer.write({"__key__": f"{index:08d}", ending: read(path), **tell(label, name)})


def tars():
    root = place("tar-of-folders")
    for split in splits:
        subprocess.run(["tar", "-C", f"{source}/{split}", "-cf", f"{root}/{split}.tar", "."], check=True)
    root = place("tar-of-a-class")
    for split in splits:
        os.mkdir(f"{root}/{split}")
        for name in classes:
            subprocess.run(["tar", "-C", f"{source}/{split}/{name}", "-cf", f"{root}/{split}/{name}.tar", "."], check=True)
    subprocess.run(["tar", "-C", source, "-czf", f"{place('tar-gz')}/data.tar.gz", "train", "val"], check=True)
    root = place("pax")
    for split in splits:
        with tarfile.open(f"{root}/{split}-0.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            tar.add(f"{source}/{split}", arcname=f"a-very-long-folder-{'x' * 120}")


def zips():
    for container, method in (("zip-stored", zipfile.ZIP_STORED), ("zip-deflated", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(f"{place(container)}/data.zip", "w", method) as archive:
            for split, samples in splits.items():
                for _, name, path in samples:
                    archive.write(path, f"data/{split}/{name}/{os.path.basename(path)}")


def parquet():
    root = place("parquet")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
    os.mkdir(f"{root}/data")
    for split, samples in splits.items():
        for shard in range(2):
            part = samples[shard * len(samples) // 2 : (shard + 1) * len(samples) // 2]
            images = [{"bytes": read(path), "path": os.path.basename(path)} for _, _, path in part]
            columns = {"image": images, "label": [label for label, _, _ in part]}
            arrow = pyarrow.table(columns, schema=features.arrow_schema)
            # A fingerprint of its own: dill cannot make one of every version of pyarrow.
            data = datasets.Dataset(datasets.table.InMemoryTable(arrow), fingerprint=f"{split}{shard}")
            data.to_parquet(f"{root}/data/{split}-{shard:05d}-of-00002.parquet", batch_size=100)
    root = place("parquet-zstd")
    for split, samples in splits.items():
        columns = {"jpg": [read(path) for _, _, path in samples], "class": [name for _, name, _ in samples]}
        pyarrow.parquet.write_table(pyarrow.table(columns), f"{root}/{split}.parquet", compression="zstd", row_group_size=70)


def arrays():
    def pixels(samples):
        return numpy.stack([numpy.asarray(Image.open(path).convert("RGB")) for _, _, path in samples])

    def labels(samples):
        return numpy.array([label for label, _, _ in samples])

    numpy.savez(
        f"{place('npz')}/data.npz",
        **{f"{split}_images": pixels(samples) for split, samples in splits.items()},
        **{f"{split}_labels": labels(samples) for split, samples in splits.items()},
    )
    with h5py.File(f"{place('hdf5')}/data.h5", "w") as file:
        for split, samples in splits.items():
            file[f"{split}/images"] = pixels(samples)
            file[f"{split}/labels"] = labels(samples)


folder()
lists()
table()
shards("webdataset-cls", lambda label, name: {"cls": label})
shards("webdataset-json", lambda label, name: {"json": {"label": name, "caption": f"a {name}"}})
tars()
zips()
parquet()
arrays()
