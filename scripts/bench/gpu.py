"""PyTorch's side of scripts/gpu-check: training of torchvision's ResNet-50 in bf16, channels_last, on one GPU, through
DistributedDataParallel over NCCL. With --compile the network goes through torch.compile. Prints the images per second
of the median step.
"""

import argparse
import statistics
import time

import torch
import torch.distributed as dist
import torchvision
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="resnet50")
parser.add_argument("--batch", type=int, default=256)
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--warmup", type=int, default=10)
parser.add_argument("--compile", action="store_true")
options = parser.parse_args()

device = torch.device("cuda", 0)
torch.cuda.set_device(device)
dist.init_process_group("nccl", device_id=device)
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True
network = torchvision.models.get_model(options.model).to(device, memory_format=torch.channels_last)
ddp = DistributedDataParallel(network, device_ids=[0], gradient_as_bucket_view=True)
if options.compile:
    ddp = torch.compile(ddp)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)
images = torch.randn(options.batch, 3, options.size, options.size, device=device)
images = images.to(memory_format=torch.channels_last)
labels = torch.randint(1000, (options.batch,), device=device)

seconds = []
for step in range(options.warmup + options.steps):
    start = time.perf_counter()
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        logits = ddp(images)
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
    torch.cuda.synchronize()
    if step >= options.warmup:
        seconds.append(time.perf_counter() - start)
print(f"images/s {options.batch / statistics.median(seconds):.1f}")
dist.destroy_process_group()
