"""PyTorch's side of scripts/bench-ddp: DistributedDataParallel over gloo on the CPU, started by torchrun.

Trains ResNet-18 of torchvision on random images and prints, on rank 0, the median images per second of all ranks.
"""

import argparse
import os
import statistics
import time

import torch
import torch.distributed as dist
import torchvision
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--warmup", type=int, default=3)
parser.add_argument("--batch", type=int, default=64, help="images per rank")
parser.add_argument("--size", type=int, default=32, help="side of the images")
parser.add_argument("--model", default="resnet18")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--bucket-view", action="store_true")
options = parser.parse_args()

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
layout = torch.channels_last if options.channels_last else torch.contiguous_format
network = torchvision.models.get_model(options.model, num_classes=10).to(memory_format=layout)
ddp = DistributedDataParallel(network, gradient_as_bucket_view=options.bucket_view)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
images = torch.randn(options.batch, 3, options.size, options.size).to(memory_format=layout)
labels = torch.randint(10, (options.batch,))

seconds = []
for step in range(options.warmup + options.steps):
    dist.barrier()
    start = time.perf_counter()
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(ddp(images), labels).backward()
    optimizer.step()
    if step >= options.warmup:
        seconds.append(time.perf_counter() - start)
if dist.get_rank() == 0:
    print(f"images/s {options.batch * dist.get_world_size() / statistics.median(seconds):.2f}")
dist.destroy_process_group()
