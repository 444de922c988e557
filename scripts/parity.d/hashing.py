"""Numbers that both sides can compute: a hash of text, and weights and images by a formula."""

import numpy
import torch


def fnv1a(data):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def noise(seed, count):
    """`count` numbers in -1 to 1: the high half of a multiplicative hash of (seed, index)."""
    index = numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (index ^ (index >> numpy.uint64(31))) * numpy.uint64(0xD6E8FEB86659FD93)
    mixed = (mixed ^ (mixed >> numpy.uint64(32))) * numpy.uint64(0xD6E8FEB86659FD93)
    high = (mixed >> numpy.uint64(40)).astype(numpy.float64)  # 24 bits: exact in single precision
    return torch.from_numpy((high / 2**23 - 1).astype(numpy.float32))


GAIN = 7  # so large that deep networks neither forget their images nor overflow


def formula_weights(state):
    """Every tensor of a state dict by the formula; integers stay as they are."""
    weights = {}
    for number, (key, tensor) in enumerate(state.items()):
        if not tensor.is_floating_point():
            weights[key] = tensor
            continue
        values = noise(number + 1, tensor.numel()).view(tensor.shape)
        if key.endswith("running_var"):
            values = 1 + values / 2
        elif tensor.dim() >= 2 and tensor.numel() // tensor.shape[0] > 1:
            values = values * (GAIN / (tensor.numel() // tensor.shape[0])) ** 0.5
        elif key.endswith("weight"):
            values = 1 + values / 10
        else:
            values = values / 10
        weights[key] = values
    return weights
