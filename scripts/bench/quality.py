"""Prints what scripts/quality-cifar10 found: each run's top-1 accuracy, then both sides' means and their difference.

    quality.py FOLDER      of logs called NAME-SEED.log, with lines `epoch N: ... top-1 P %`, at the end `took N s`

± is the standard error of a mean, from the spread of its runs; of a single run there is none.
"""

import math
import pathlib
import re
import statistics
import sys

sides = {}
print(f"{'':12} {'seed':>4} {'epochs':>6} {'last top-1':>11} {'best top-1':>11} {'time':>11}")
for log in sorted(pathlib.Path(sys.argv[1]).glob("*-*.log"), key=lambda log: (log.stem.split("-")[-1], log.stem)):
    name, seed = log.stem.rsplit("-", 1)
    text = log.read_text()
    top1 = [float(percent) for percent in re.findall(r"epoch \d+: .*top-1 ([\d.]+) ?%", text)]
    seconds = re.search(r"^took (\d+) s$", text, re.MULTILINE)
    if not top1 or not seconds:
        sys.exit(f"{log}: is not what a finished run prints")
    sides.setdefault(name, []).append((top1[-1], max(top1)))
    print(f"{name:12} {seed:>4} {len(top1):6} {top1[-1]:9.2f} % {max(top1):9.2f} % {seconds[1]:>9} s")


def mean(values):
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.mean(values), error


def margin(error):
    return "" if error is None else f" ± {error:.2f}"


for which, what in enumerate(["last top-1", "best top-1"]):
    means = {name: mean([run[which] for run in runs]) for name, runs in sides.items()}
    words = [f"{name} {value:.2f}{margin(error)} % ({len(sides[name])})" for name, (value, error) in means.items()]
    if {"rust-train", "PyTorch"} <= means.keys():
        (ours, our_error), (theirs, their_error) = means["rust-train"], means["PyTorch"]
        error = None if None in (our_error, their_error) else math.hypot(our_error, their_error)
        words.append(f"difference {ours - theirs:+.2f}{margin(error)}")
    print(f"{what}: {'; '.join(words)}")
