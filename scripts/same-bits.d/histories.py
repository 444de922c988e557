"""Runs that are stopped at random moments, and go on at other numbers of ranks."""

import random
import shutil
import sys
import time

from runs import difference, train, work

COUNT = 20
FLAGS = "--model cifar_resnet20 --epochs 4 --batch 64 --seed 5 --virtual-ranks 8 --ema 0.9 --mixup 0.2 --optimizer adamw"

begin = time.monotonic()
train(2, FLAGS, "whole")
took = time.monotonic() - begin
failed = 0
for number in range(COUNT):
    chance = random.Random(number)
    history = []
    while True:
        ranks = chance.choice([1, 2, 4, 8])
        history.append(ranks)
        after = chance.uniform(0.15, 0.6) * took if len(history) < 6 else None
        if train(ranks, f"{FLAGS} --resume auto", "parts", after=after) == 0:
            break
    found = difference("whole", "parts")
    print(f"{'differs' if found else 'ok':8}{' -> '.join(map(str, history))} ranks", found, sep="\n" if found else "", flush=True)
    failed += bool(found)
    shutil.rmtree(f"{work}/parts")
sys.exit(failed > 0)
