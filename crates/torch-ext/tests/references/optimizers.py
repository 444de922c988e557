"""Makes optimizers.json: what PyTorch's optimizers do to two small parameters in 100 steps.

    python crates/torch-ext/tests/references/optimizers.py > crates/torch-ext/tests/references/optimizers.json

Needs torch 2.11, lion-pytorch 0.2.5 and schedulefree 1.4.1. LARS and LAMB, which PyTorch does not have, are their papers' formulas in double precision.
"""

import json

import torch
from lion_pytorch import Lion
from schedulefree import AdamWScheduleFree


def parameters(dtype):
    shapes = {"weight": (6, 5), "bias": (7,)}
    made = {}
    for name, shape in shapes.items():
        count = torch.Size(shape).numel()
        values = torch.sin(torch.arange(count, dtype=torch.float64) * 0.37) * 0.5
        made[name] = values.float().view(shape).to(dtype).requires_grad_(True)
    return made


def gradient(index, parameter, step, factor=1.0):
    phase = torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + 0.11 * step + index
    return (torch.sin(phase) * (0.3 * factor)).float().view_as(parameter).to(parameter.dtype)


def groups(made, case):
    if case["decay_on_vectors"]:
        return [{"params": list(made.values()), "weight_decay": case["weight_decay"]}]
    return [
        {"params": [made["weight"]], "weight_decay": case["weight_decay"]},
        {"params": [made["bias"]], "weight_decay": 0.0},
    ]


class Lars(torch.optim.Optimizer):
    """You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks, 2017."""

    def __init__(self, params, lr, momentum, trust, eps):
        super().__init__(params, dict(lr=lr, momentum=momentum, trust=trust, eps=eps, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            decay = group["weight_decay"]
            for p in group["params"]:
                direction = p.grad + decay * p
                p_norm, g_norm = p.norm(), p.grad.norm()
                if decay != 0 and p_norm > 0 and g_norm > 0:
                    direction = direction * (group["trust"] * p_norm / (g_norm + decay * p_norm + group["eps"]))
                state = self.state[p]
                velocity = state.setdefault("momentum_buffer", torch.zeros_like(p))
                velocity.mul_(group["momentum"]).add_(direction)
                p.sub_(group["lr"] * velocity)


class Lamb(torch.optim.Optimizer):
    """You et al., Large Batch Optimization for Deep Learning, 2020, algorithm 2."""

    def __init__(self, params, lr, betas, eps):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=0.0))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (beta1, beta2), decay = group["betas"], group["weight_decay"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["step"] += 1
                state["m"] = beta1 * state["m"] + (1 - beta1) * p.grad
                state["v"] = beta2 * state["v"] + (1 - beta2) * p.grad**2
                m = state["m"] / (1 - beta1 ** state["step"])
                v = state["v"] / (1 - beta2 ** state["step"])
                direction = m / (v.sqrt() + group["eps"])
                if decay != 0:
                    direction = direction + decay * p
                    p_norm, d_norm = p.norm(), direction.norm()
                    if p_norm > 0 and d_norm > 0:
                        direction = direction * (p_norm / d_norm)
                p.sub_(group["lr"] * direction)


class Both:
    """Several optimizers, each of its own parameters."""

    def __init__(self, optimizers):
        self.optimizers = optimizers

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()


def make(case, made):
    kind, lr = case["algorithm"], case["lr"]
    if kind == "sgd":
        return torch.optim.SGD(groups(made, case), lr=lr, momentum=case["momentum"], nesterov=case["nesterov"])
    if kind == "adam":
        return torch.optim.Adam(groups(made, case), lr=lr, betas=case["betas"], eps=case["eps"])
    if kind == "adamw":
        return torch.optim.AdamW(groups(made, case), lr=lr, betas=case["betas"], eps=case["eps"])
    if kind == "lars":
        return Lars(groups(made, case), lr, case["momentum"], case["trust"], case["eps"])
    if kind in ("nadam", "nadamw"):
        decoupled = kind == "nadamw"
        return torch.optim.NAdam(groups(made, case), lr=lr, betas=case["betas"], eps=case["eps"], decoupled_weight_decay=decoupled)
    if kind == "lion":
        return Lion(groups(made, case), lr=lr, betas=tuple(case["betas"]))
    if kind == "adamw-schedule-free":
        optimizer = AdamWScheduleFree(groups(made, case), lr=lr, betas=case["betas"], eps=case["eps"], warmup_steps=case["warmup"])
        optimizer.train()
        return optimizer
    if kind == "adafactor":
        return torch.optim.Adafactor(groups(made, case), lr=lr)
    if kind == "muon":
        matrices = groups({"weight": made["weight"]}, {**case, "decay_on_vectors": True})
        muon = torch.optim.Muon(matrices, lr=lr, momentum=case["momentum"], adjust_lr_fn="match_rms_adamw")
        vectors = groups({"bias": made["bias"]}, {**case, "decay_on_vectors": True})
        return Both([muon, torch.optim.AdamW(vectors, lr=lr)])
    return Lamb(groups(made, case), lr, case["betas"], case["eps"])


def final(made):
    return {name: parameter.detach().double().flatten().tolist() for name, parameter in made.items()}


def run(case):
    is_double = case["algorithm"] in ("lars", "lamb") or case.get("double", False)
    made = parameters(torch.float64 if is_double else torch.float32)
    optimizer = make(case, made)
    for step in range(100):
        for index, parameter in enumerate(made.values()):
            parameter.grad = gradient(index, parameter, step)
        if "clip" in case:
            torch.nn.utils.clip_grad_norm_(list(made.values()), case["clip"])
        optimizer.step()
    result = {**case, "parameters": final(made)}
    if hasattr(optimizer, "eval"):
        optimizer.eval()
        result["evaluated"] = final(made)
    return result


def scaler():
    made = parameters(torch.float32)
    optimizer = torch.optim.SGD(list(made.values()), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
    scales = []
    for step in range(40):
        loss = 0.0
        for index, parameter in enumerate(made.values()):
            grad = gradient(index, parameter, step)
            loss = loss + (parameter * (grad * float("inf") if step % 7 == 3 else grad)).sum()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return {"scales": scales, "parameters": final(made)}


adam = {"betas": [0.9, 0.999], "eps": 1e-8}
CASES = [
    dict(name="plain SGD", algorithm="sgd", momentum=0.0, nesterov=False, lr=0.05, weight_decay=0.0),
    dict(name="SGD with decay", algorithm="sgd", momentum=0.0, nesterov=False, lr=0.05, weight_decay=0.01),
    dict(name="momentum", algorithm="sgd", momentum=0.9, nesterov=False, lr=0.02, weight_decay=5e-4),
    dict(name="Nesterov", algorithm="sgd", momentum=0.9, nesterov=True, lr=0.02, weight_decay=5e-4),
    dict(name="Nesterov, clipped", algorithm="sgd", momentum=0.9, nesterov=True, lr=0.02, weight_decay=5e-4, clip=0.5),
    dict(name="Adam", algorithm="adam", lr=0.01, weight_decay=0.0, **adam),
    dict(name="Adam with decay", algorithm="adam", lr=0.01, weight_decay=0.05, **adam),
    dict(name="AdamW", algorithm="adamw", lr=0.01, weight_decay=0.05, **adam),
    dict(name="AdamW, other betas", algorithm="adamw", lr=0.01, weight_decay=0.1, betas=[0.8, 0.95], eps=1e-6),
    dict(name="LARS", algorithm="lars", momentum=0.9, trust=0.2, eps=1e-8, lr=0.02, weight_decay=0.01),
    dict(name="LAMB", algorithm="lamb", lr=0.01, weight_decay=0.05, betas=[0.9, 0.999], eps=1e-6),
    dict(name="NAdam", algorithm="nadam", lr=0.01, weight_decay=0.01, double=True, **adam),
    dict(name="NAdamW", algorithm="nadamw", lr=0.01, weight_decay=0.05, double=True, **adam),
    dict(name="NAdamW in single precision", algorithm="nadamw", lr=0.01, weight_decay=0.05, **adam),
    dict(name="Lion", algorithm="lion", lr=0.003, weight_decay=0.1, betas=[0.9, 0.99], double=True),
    dict(name="schedule-free AdamW", algorithm="adamw-schedule-free", lr=0.01, weight_decay=0.05, warmup=20, double=True, **adam),
    dict(name="Adafactor", algorithm="adafactor", lr=0.02, weight_decay=0.0, double=True),
    dict(name="Adafactor with decay", algorithm="adafactor", lr=0.02, weight_decay=0.1, double=True),
    dict(name="Muon", algorithm="muon", lr=0.01, weight_decay=0.1, momentum=0.95, double=True),
]
CASES = [dict(case, decay_on_vectors=True) for case in CASES] + [
    dict(case, name=case["name"] + ", none on vectors", decay_on_vectors=False)
    for case in CASES
    if case["name"] in ("Nesterov", "AdamW", "LARS", "LAMB")
]
assert torch.__version__.startswith("2.11."), torch.__version__
print(json.dumps({"cases": [run(case) for case in CASES], "scaler": scaler()}, indent=1))
