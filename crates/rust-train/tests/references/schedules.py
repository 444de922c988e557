"""Makes schedules.json: the learning rates of PyTorch's schedulers, step by step.

    python crates/rust-train/tests/references/schedules.py > crates/rust-train/tests/references/schedules.json

Needs torch 2.11.
"""

import json
import warnings

import torch
from torch.optim import lr_scheduler as schedulers

warnings.filterwarnings("ignore")

PER_STEP = {"cosine", "linear", "polynomial", "one-cycle"}


def main_schedule(optimizer, case, warmup_steps, total_steps):
    length = total_steps - warmup_steps
    if case["shape"] == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, length, eta_min=case["floor"])
    if case["shape"] == "linear":
        end = case["floor"] / case["peak"]
        return schedulers.LinearLR(optimizer, start_factor=1.0, end_factor=end, total_iters=length)
    if case["shape"] == "step":
        return schedulers.StepLR(optimizer, case["every"], gamma=case["gamma"])
    if case["shape"] == "multistep":
        return schedulers.MultiStepLR(optimizer, case["milestones"], gamma=case["gamma"])
    if case["shape"] == "polynomial":
        return schedulers.PolynomialLR(optimizer, length, power=case["power"])
    if case["shape"] == "warm-restarts":
        return schedulers.CosineAnnealingWarmRestarts(optimizer, case["first"], case["factor"], eta_min=case["floor"])
    if case["shape"] == "one-cycle":
        low, high = case["momentum"] or (None, None)
        return schedulers.OneCycleLR(
            optimizer,
            case["peak"],
            total_steps=total_steps,
            pct_start=warmup_steps / total_steps,
            cycle_momentum=low is not None,
            base_momentum=low or 0.0,
            max_momentum=high or 0.0,
            div_factor=25.0,
            final_div_factor=case["peak"] / 25.0 / case["floor"],
        )
    return schedulers.ConstantLR(optimizer, factor=1.0, total_iters=1)


def rates(case):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=case["peak"], momentum=0.9)
    steps_per_epoch = case["steps_per_epoch"]
    total_steps = steps_per_epoch * case["epochs"]
    warmup_steps = round(case["warmup_epochs"] * steps_per_epoch)
    schedule = main_schedule(optimizer, case, warmup_steps, total_steps)
    if warmup_steps and case["shape"] in ("cosine", "linear"):
        # The rate of the warm-up's last step is the peak.
        warmup = schedulers.LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)
        schedule = schedulers.SequentialLR(optimizer, [warmup, schedule], milestones=[warmup_steps])
    made, momenta = [], []
    for step in range(total_steps):
        made.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if case["shape"] == "warm-restarts":
            schedule.step((step + 1) / steps_per_epoch)
        elif case["shape"] in PER_STEP or (step + 1) % steps_per_epoch == 0:
            schedule.step()
    return made, momenta


def case(shape, epochs=6, steps_per_epoch=10, warmup_epochs=0.0, peak=0.4, floor=0.0, momentum=None, **numbers):
    made = dict(
        shape=shape, epochs=epochs, steps_per_epoch=steps_per_epoch, warmup_epochs=warmup_epochs, peak=peak,
        floor=floor, momentum=momentum, **numbers,
    )
    learning_rates, momenta = rates(made)
    made["rates"] = learning_rates
    if momentum:
        made["momenta"] = momenta
    return made


def plateau(losses, patience, gamma, peak=0.4, floor=0.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    schedule = schedulers.ReduceLROnPlateau(optimizer, factor=gamma, patience=patience, min_lr=floor)
    made = []
    for loss in losses:
        schedule.step(loss)
        made.append(optimizer.param_groups[0]["lr"])
    return dict(losses=losses, patience=patience, gamma=gamma, peak=peak, floor=floor, rates=made)


PLATEAUS = [
    plateau([2.0, 1.5, 1.5, 1.6, 1.4, 1.41, 1.42, 1.43, 1.39999, 1.39, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5], 2, 0.1),
    plateau([1.0, 0.99995, 0.9998, 1.2, 1.1, 0.9, 0.95, 0.95, 0.95], 0, 0.5, floor=0.04),
]

CASES = [
    case("cosine"),
    case("cosine", warmup_epochs=1.5, floor=0.01),
    case("linear", floor=0.04),
    case("linear", warmup_epochs=2.0),
    case("step", every=2, gamma=0.1),
    case("multistep", milestones=[2, 3, 5], gamma=0.2),
    case("one-cycle", warmup_epochs=1.8, floor=0.4 / 25e4),
    case("one-cycle", warmup_epochs=3.0, floor=0.001, momentum=[0.85, 0.95]),
    case("constant"),
    case("polynomial", power=0.9),
    case("polynomial", power=2.0),
    case("warm-restarts", first=2, factor=1, floor=0.01),
    case("warm-restarts", epochs=9, first=1, factor=2),
]

print(json.dumps({"torch": torch.__version__.split("+")[0], "cases": CASES, "plateaus": PLATEAUS}, indent=None))
