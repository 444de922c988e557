"""Every kind of network, optimizer and flag, on 1, 2, 4 and 8 ranks."""

import shutil
import sys

from runs import difference, noise, train, work

# Networks: plain; BatchNorm; dropout and squeeze-and-excitation; attention; stochastic depth. Each with other flags.
CASES = [
    ("lenet, SGD", "--model lenet --max-steps 12"),
    ("lenet, AdamW, clipping, smoothing, growing images", "--model lenet --optimizer adamw --clip-grad-norm 1 --label-smoothing 0.1 --progressive-resize 4"),
    ("lenet, LARS, class weights, erasing", "--model lenet --optimizer lars --class-weights balanced --random-erasing 0.5 --max-steps 12"),
    ("cifar_resnet20, Nesterov, EMA, cutmix", "--model cifar_resnet20 --nesterov true --ema 0.9 --cutmix 1 --max-steps 12"),
    ("cifar_resnet20, balanced, repeats, bf16", "--model cifar_resnet20 --balanced --repeats 2 --precision bf16 --max-steps 6"),
    ("cifar_resnet20, ZeRO, AdamW", "--model cifar_resnet20 --zero --optimizer adamw --max-steps 12"),
    ("cifar_resnet20, ZeRO, LAMB, clipping", "--model cifar_resnet20 --zero --optimizer lamb --clip-grad-norm 1 --max-steps 6"),
    ("mobilenet_v3_small, LAMB, mixup", "--model mobilenet_v3_small --optimizer lamb --mixup 0.2 --max-steps 6"),
    ("mobilenet_v3_small, channels last, frozen", "--model mobilenet_v3_small --channels-last --freeze backbone --freeze-epochs 1 --max-steps 14"),
    ("convnext_tiny, AdamW", "--model convnext_tiny --data {32} --image-size 32 --optimizer adamw --max-steps 2"),
    ("vit_tiny_patch16_224, AdamW, mixup", "--model vit_tiny_patch16_224 --data {224} --batch 16 --optimizer adamw --mixup 0.2 --max-steps 2"),
    ("swin_t, SGD", "--model swin_t --data {32} --image-size 32 --max-steps 2"),
]
WAYS = [(2, None), (4, None), (8, None), (1, 1)]

wanted = sys.argv[3:]
failed = 0
for name, flags in CASES:
    if wanted and not any(word in name for word in wanted):
        continue
    flags = flags.replace("{32}", noise(32)).replace("{224}", noise(224)) if "{" in flags else flags
    batch = "" if "--batch" in flags else "--batch 64"
    flags = f"--epochs 2 {batch} --seed 3 --virtual-ranks 8 --record-bits {flags}"
    train(1, flags, "one")
    differ = []
    for ranks, cores in WAYS:
        train(ranks, flags, "other", cores)
        found = difference("one", "other")
        differ += [f"{ranks} ranks{' on one core' if cores else ''}:\n{found}"] if found else []
        shutil.rmtree(f"{work}/other")
    shutil.rmtree(f"{work}/one")
    print(f"{'differs' if differ else 'ok':8}{name}", *differ, sep="\n" if differ else "", flush=True)
    failed += bool(differ)

# What is compared can differ: without fixed parts it does.
flags = "--model lenet --epochs 1 --batch 64 --max-steps 12 --record-bits"
train(1, f"{flags} --accumulate 8", "one")
train(4, f"{flags} --accumulate 2", "other")
said = difference("one", "other")
print(f"{'ok' if said else 'the same':8}without --virtual-ranks 1 and 4 ranks differ: {said.splitlines()[0] if said else ''}")
sys.exit(failed > 0 or not said)
