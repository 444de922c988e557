"""Writes one data set of image files, DIR/train/<class>/* and DIR/val/<class>/*, into containers of many kinds, each as its own library
writes it. All of one size, so that arrays can hold it, too. Called by scripts/containers: make.py FROM TO."""
import csv
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile

import datasets
import h5py
import lmdb
import numpy
import pyarrow
import pyarrow.parquet
import webdataset
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
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


def database(path, values, **options):
    """LMDB, as its own library writes it, a part of the values a transaction."""
    values = list(values)
    with lmdb.open(path, map_size=1 << 30, **options) as environment:
        for start in range(0, len(values), 100):
            with environment.begin(write=True) as transaction:
                for key, value in values[start : start + 100]:
                    transaction.put(key, value)


def datum_type():
    """Caffe's Datum, from its fields in caffe.proto."""
    field = descriptor_pb2.FieldDescriptorProto
    message = descriptor_pb2.DescriptorProto(name="Datum")
    fields = ("channels", "height", "width", "data", "label", "float_data", "encoded")
    kinds = (field.TYPE_INT32,) * 3 + (field.TYPE_BYTES, field.TYPE_INT32, field.TYPE_FLOAT, field.TYPE_BOOL)
    for number, (name, kind) in enumerate(zip(fields, kinds), start=1):
        label = field.LABEL_REPEATED if name == "float_data" else field.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind, label=label)
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", message_type=[message])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Datum"))


def databases():
    # As the scripts do that put a folder into LMDB for PyTorch.
    root = place("lmdb-pickled")
    for split, samples in splits.items():
        keys = [str(index).encode() for index in range(len(samples))]
        # In the order of keys, which is that of texts.
        values = [(key, pickle.dumps((read(path), label))) for key, (label, _, path) in zip(sorted(keys), samples)]
        database(f"{root}/{split}.lmdb", [*values, (b"__keys__", pickle.dumps(keys)), (b"__len__", pickle.dumps(len(keys)))], subdir=False)
    # As torchvision's LSUN: a database of each class of each split.
    root = place("lmdb-of-a-class")
    for split, samples in splits.items():
        for name in classes:
            values = ((os.path.basename(path).encode(), read(path)) for _, other, path in samples if other == name)
            database(f"{root}/{name}_{split}_lmdb", values)
    # As Caffe: image files, and bare bytes, blue before red.
    datum = datum_type()
    encoded, bare = place("lmdb-caffe-encoded"), place("lmdb-caffe")
    for split, samples in splits.items():
        of_files, of_bytes = [], []
        for index, (label, name, path) in enumerate(samples):
            key = f"{index:08d}_{name}/{os.path.basename(path)}".encode()
            of_files.append((key, datum(data=read(path), label=label, encoded=True).SerializeToString()))
            pixels = numpy.asarray(Image.open(path).convert("RGB"))[:, :, ::-1].transpose(2, 0, 1)
            channels, height, width = pixels.shape
            shape = {"channels": channels, "height": height, "width": width}
            of_bytes.append((key, datum(**shape, data=pixels.tobytes(), label=label).SerializeToString()))
        database(f"{encoded}/some_{split}_lmdb", of_files)
        database(f"{bare}/some_{split}_lmdb", of_bytes)
    # Images and labels under keys of their own.
    root = place("lmdb-of-keys")
    for split, samples in splits.items():
        values = [(f"image-{index:09d}".encode(), read(path)) for index, (_, _, path) in enumerate(samples, start=1)]
        values += [(f"label-{index:09d}".encode(), name.encode()) for index, (_, name, _) in enumerate(samples, start=1)]
        database(f"{root}/{split}", [*values, (b"num-samples", str(len(samples)).encode())])


folder()
lists()
table()
shards("webdataset-cls", lambda label, name: {"cls": label})
shards("webdataset-json", lambda label, name: {"json": {"label": name, "caption": f"a {name}"}})
tars()
zips()
parquet()
arrays()
databases()
