"""PyTorch's side of scripts/gpu-check: training of one of torchvision's networks in bf16, channels_last, on one GPU.
--compile: through torch.compile, in --mode. Prints the images per second of the median step, or with --profile what ten
steps spend the GPU's time on.
"""

import argparse
import statistics
import time

import torch
import torchvision

parser = argparse.ArgumentParser()
parser.add_argument("--model", default="resnet50")
parser.add_argument("--batch", type=int, default=256)
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--steps", type=int, default=30)
parser.add_argument("--warmup", type=int, default=15)
parser.add_argument("--compile", action="store_true")
parser.add_argument("--mode", default=None, help="of torch.compile: max-autotune, say")
parser.add_argument("--profile", action="store_true")
options = parser.parse_args()

device = torch.device("cuda", 0)
torch.cuda.set_device(device)
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True
network = torchvision.models.get_model(options.model).to(device, memory_format=torch.channels_last)
if options.compile:
    network = torch.compile(network, mode=options.mode)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)
images = torch.randn(options.batch, 3, options.size, options.size, device=device)
images = images.to(memory_format=torch.channels_last)
labels = torch.randint(1000, (options.batch,), device=device)


def step():
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.bfloat16):
        logits = network(images)
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()


def seconds_of_a_step():
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def profile(steps=10):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    kernels = [event for event in profiler.key_averages() if event.self_device_time_total > 0 and not event.is_user_annotation]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels)
    launches = sum(event.count for event in kernels)
    print(f"{total / steps / 1e3:.2f} ms of the GPU and {launches // steps} kernels a step")
    for event in kernels[:25]:
        print(f"{event.self_device_time_total / steps / 1e3:8.3f} ms {event.count // steps:5}x  {event.key[:90]}")


for _ in range(options.warmup):
    step()
if options.profile:
    profile()
else:
    median = statistics.median(seconds_of_a_step() for _ in range(options.steps))
    print(f"images/s {options.batch / median:.1f}")
