"""PyTorch's side of scripts/bench-train and scripts/quality-cifar10: the same run as `rust-train`'s, as one would write
it with torchrun, DistributedDataParallel and torchvision.

ImageFolder and DataLoader with workers that live for the whole run, random crop and flip, CIFAR ResNet-20, fused SGD with
momentum, a linear warm-up and a half cosine or steps; after each epoch the evaluation of every held-out image, and the
weights saved, last and best. On the GPU, where there is one. Prints `first step` when the first optimizer step is done, and
a line for each epoch.
"""

import argparse
import math
import os
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
import torchvision.transforms as T
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset
from torch.utils.data.distributed import DistributedSampler
from torchvision.datasets import ImageFolder

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "parity.d"))
from peers import CifarResNet  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True)
parser.add_argument("--output", required=True, help="folder for the weights")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch", type=int, default=128, help="images per step over all ranks")
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--warmup", type=float, default=0.75, help="epochs")
parser.add_argument("--weight-decay", type=float, default=5e-4)
parser.add_argument("--no-nesterov", action="store_true")
parser.add_argument("--milestones", type=int, nargs="*", help="epochs at which the rate is divided by 10: no cosine")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--workers", type=int, default=1, help="of each rank")
parser.add_argument("--channels-last", action="store_true")
parser.add_argument("--compile", action="store_true")
options = parser.parse_args()

torch.set_num_threads(1)
on_gpu = torch.cuda.is_available()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
if on_gpu:
    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False  # single precision, as `rust-train` without --tf32
dist.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.manual_seed(options.seed)

normalize = [T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
train = ImageFolder(os.path.join(options.data, "train"), T.Compose([T.RandomCrop(32, 4), T.RandomHorizontalFlip(), *normalize]))
val = ImageFolder(os.path.join(options.data, "val"), T.Compose(normalize))
sampler = DistributedSampler(train, seed=options.seed, drop_last=True)
workers = dict(num_workers=options.workers, persistent_workers=options.workers > 0)
loading = dict(batch_size=options.batch // ranks, pin_memory=on_gpu, **workers)
train_loader = DataLoader(train, sampler=sampler, drop_last=True, **loading)
val_loader = DataLoader(Subset(val, range(rank, len(val), ranks)), **loading)
# All workers are forked before the first backward pass: its threads may hold a lock of CPython's just then, and a worker
# that is forked from that (seen with 3.11) waits for ever.
iter(train_loader), iter(val_loader)

layout = torch.channels_last if options.channels_last else torch.contiguous_format
network = CifarResNet(3, len(train.classes)).to(device, memory_format=layout)
devices = [device] if on_gpu else None
ddp = DistributedDataParallel(network, device_ids=devices, gradient_as_bucket_view=True, static_graph=True)
forward = torch.compile(ddp) if options.compile else ddp
rule = dict(momentum=0.9, nesterov=not options.no_nesterov, weight_decay=options.weight_decay)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.0, fused=True, **rule)

warmup_steps = round(options.warmup * len(train_loader))
total_steps = options.epochs * len(train_loader)


def learning_rate(step):
    if step < warmup_steps:
        return options.lr * (step + 1) / warmup_steps
    if options.milestones:
        return options.lr * 0.1 ** sum(step >= epoch * len(train_loader) for epoch in options.milestones)
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(total_steps - warmup_steps, 1)))


def on_device(batch):
    images, labels = batch
    return images.to(device, memory_format=layout, non_blocking=True), labels.to(device, non_blocking=True)


@torch.no_grad()
def evaluate():
    network.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for images, labels in map(on_device, val_loader):
        logits = network(images)
        hits = logits.topk(5, 1).indices == labels.unsqueeze(1)
        loss = F.cross_entropy(logits, labels, reduction="sum")
        sums += torch.stack([loss, hits[:, 0].sum(), hits.sum()])
    dist.all_reduce(sums)
    network.train()
    return (sums / len(val)).tolist()


def save(name):
    path = os.path.join(options.output, name)
    torch.save(network.state_dict(), path + ".part")
    os.replace(path + ".part", path)


os.makedirs(options.output, exist_ok=True)
begin, best, step = time.perf_counter(), -1.0, 0
for epoch in range(options.epochs):
    sampler.set_epoch(epoch)
    start, losses = time.perf_counter(), []
    for images, labels in map(on_device, train_loader):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if step == 0 and rank == 0:
            print("first step", flush=True)
        step += 1
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    # As DistributedDataParallel would at the next forward pass: rank 0's running statistics are everybody's.
    for buffer in network.buffers():
        dist.broadcast(buffer, 0)
    val_loss, top1, top5 = evaluate()
    if rank == 0:
        save("last.pth")
        if top1 > best:
            best = top1
            save("best.pth")
        rate = len(losses) * options.batch / seconds
        print(
            f"epoch {epoch + 1}: train loss {torch.stack(losses).mean():.4f}, val loss {val_loss:.4f}, "
            f"top-1 {top1:.2%}, top-5 {top5:.2%}, {rate:.1f} images/s, {time.perf_counter() - begin:.3f} s",
            flush=True,
        )
del train_loader, val_loader  # their workers end now: at the interpreter's end one run on a GPU waited for ever
dist.barrier()
dist.destroy_process_group()
