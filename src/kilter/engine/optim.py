"""The optimizer and the learning rate: AdamW, and a rate that depends on the step alone, so that resume is exact."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kilter.engine import sharding

Schedule = Literal["cosine", "linear", "constant", "wsd"]

# The share of the steps over which warm-up-stable-decay decays.
WSD_DECAY = 0.2


def adamw(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    epsilon: float,
    critic: nn.Module | None = None,
    critic_share: float = 1.0,
) -> torch.optim.AdamW:
    """Return AdamW over what can be trained; only matrices decay, not biases and norms.

    A `critic` learns along; the "share" of a group of parameters is what its learning rate is multiplied by.
    """
    groups: list[dict[str, Any]] = []
    for module, share in ((model, 1.0), (critic, critic_share)):
        trained = [p for p in module.parameters() if p.requires_grad] if module is not None else []
        groups += [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay, "share": share},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0, "share": share},
        ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas, eps=epsilon, fused=True)


def rate(step: int, total: int, *, warmup: float, schedule: Schedule, floor: float) -> float:
    """Return the learning rate of step 0 <= `step` < `total`, as a share of the highest.

    Linear warm-up over `warmup` steps (below 1: that share of all), then from 1 to `floor`: along half a cosine, along
    a line, not at all, or (wsd) along a line over the last fifth. The last step's rate is the floor's neighbour.
    """
    warm = round(warmup * total) if warmup < 1 else int(warmup)
    if step < warm:
        return (step + 1) / (warm + 1)
    if schedule == "constant":
        return 1.0
    start = max(warm, total - round(WSD_DECAY * total)) if schedule == "wsd" else warm
    done = max(0.0, (step - start) / max(1, total - start))
    left = 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1.0 - done
    return floor + (1 - floor) * left


def scale_and_clip(parameters: list[nn.Parameter], scale: Tensor, clip: float) -> Tensor:
    """Multiply gradients by `scale` (a scalar on their device), then by what brings their norm to `clip`.

    Returns the norm between the two, on the device: nothing here waits for it. `clip` 0 leaves the norm alone.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sharding.total_norm(gradients) * scale
    factor = scale * (clip / (norm + 1e-6)).clamp(max=1.0) if clip else scale
    torch._foreach_mul_([sharding.own(gradient) for gradient in gradients], factor)
    return norm
