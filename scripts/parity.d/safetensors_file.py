"""Reads a safetensors file without the package of that name: a length, a JSON header, the bytes."""

import json
import math
import mmap

import torch

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def load(path):
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        count = math.prod(entry["shape"])
        kind = TYPES[entry["dtype"]]
        values = torch.frombuffer(data, dtype=kind, count=count, offset=8 + size + start) if count else torch.empty(0)
        tensors[name] = values.view(entry["shape"])
    return tensors


