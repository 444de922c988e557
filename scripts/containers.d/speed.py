"""Photographs to batches of 64 at 224 pixels: ours beside webdataset and datasets, in turn, on the same cores:
speed.py PROGRAMS PHOTOS WORK."""
import os
import random
import statistics
import subprocess
import sys
import time

import datasets
import pyarrow
import pyarrow.parquet
import torch
import torchvision.transforms as T
import webdataset

programs, photos, work = sys.argv[1:]
rounds, cores = int(os.environ.get("ROUNDS", 11)), int(os.environ.get("CORES", 2))
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
torch.set_num_threads(1)
BATCH, SHARDS, COPIES, THEIRS, OURS = 64, 8, 8, 1200, 3000
classes = sorted(os.listdir(photos))
files = [(label, f"{photos}/{name}/{file}") for label, name in enumerate(classes) for file in sorted(os.listdir(f"{photos}/{name}"))]
samples = [(label, open(path, "rb").read()) for label, path in files] * COPIES
random.Random(0).shuffle(samples)
crop = T.Compose([T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])

os.mkdir(f"{work}/tar")
per_shard = -(-len(samples) // SHARDS)
with webdataset.ShardWriter(f"{work}/tar/train-%06d.tar", maxcount=per_shard, verbose=0) as writer:
    for index, (label, image) in enumerate(samples):
        writer.write({"__key__": f"{index:08d}", "jpg": image, "cls": label})
features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=classes)})
os.mkdir(f"{work}/parquet")
for shard in range(SHARDS):
    part = samples[shard * per_shard : (shard + 1) * per_shard]
    columns = {"image": [{"bytes": image, "path": None} for _, image in part], "label": [label for label, _ in part]}
    table = datasets.table.InMemoryTable(pyarrow.table(columns, schema=features.arrow_schema))
    datasets.Dataset(table, fingerprint=str(shard)).to_parquet(f"{work}/parquet/train-{shard:05d}-of-{SHARDS:05d}.parquet", batch_size=100)
datasets.disable_progress_bars()


def of_webdataset(workers):
    shards = f"{work}/tar/train-{{000000..{SHARDS - 1:06d}}}.tar"
    data = webdataset.WebDataset(shards, shardshuffle=SHARDS, resampled=True)
    data = data.shuffle(1000).decode("pil").to_tuple("jpg", "cls").map_tuple(lambda image: crop(image.convert("RGB")), lambda label: label)
    return torch.utils.data.DataLoader(data.batched(BATCH), batch_size=None, num_workers=workers)


def of_datasets(workers):
    data = datasets.load_dataset("parquet", data_files=sorted(f"{work}/parquet/{name}" for name in os.listdir(f"{work}/parquet")), split="train")

    def transform(rows):
        return {"image": [crop(image.convert("RGB")) for image in rows["image"]], "label": rows["label"]}

    data.set_transform(transform)
    copies = torch.utils.data.ConcatDataset([data] * (THEIRS // len(data) + 2))
    return torch.utils.data.DataLoader(copies, BATCH, shuffle=True, num_workers=workers, drop_last=True)


def theirs(make, workers, images=THEIRS):
    seen, start = 0, None
    for batch in make(workers):
        if start is None:  # the first batch brings the workers up, and fills the buffer that is shuffled
            start = time.perf_counter()
            continue
        seen += len(batch[0] if isinstance(batch, (list, tuple)) else batch["image"])
        if seen >= images:
            break
    return seen / (time.perf_counter() - start)


def ours(source, data):
    command = [f"{programs}/examples/throughput", "load", source, data, "224", "256", str(cores), str(OURS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(next(line.split()[1] for line in output.splitlines() if line.startswith("images/s")))


def interval(ratios):
    """Between which the median lies with 95 %: the middle of its resampled medians."""
    generator = random.Random(0)
    medians = sorted(statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return medians[250], medians[-251]


print(f"{len(samples)} photographs in {SHARDS} files; images a second, medians of {rounds} pairs in turn, {cores} cores each (lowest–highest)")
for name, make, source, data in (
    ("tar shards, in place", of_webdataset, "files", f"{work}/tar"),
    ("Parquet, by the cache", of_datasets, "encoded", f"{work}/parquet"),
):
    workers = max(range(cores + 1), key=lambda workers: theirs(make, workers, 300))
    pairs = [(theirs(make, workers), ours(source, data)) for _ in range(rounds)]
    ratios = [mine / other for other, mine in pairs]
    show = lambda rates: f"{statistics.median(rates):7.0f} ({min(rates):.0f}–{max(rates):.0f})"
    low, high = interval(ratios)
    peer = make.__name__.removeprefix("of_")
    print(f"{name:22} {peer} with {workers} workers {show([a for a, _ in pairs])}   ours {show([b for _, b in pairs])}   "
          f"{statistics.median(ratios):.2f}× [{low:.2f}, {high:.2f}]", flush=True)
