"""A process reward model: how likely each step of a response is right, not only its end."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import KilterError
from kilter.registry import method
from kilter.training.objective import learns_from


@method("reward-process", wing="training", paper="arXiv:2305.20050", survey="S1 §4.4.1", aliases=("prm",))
@learns_from("steps", trains="judge")
def reward_process(values: Values, group: Groups, *, last_step_only: bool = False) -> Loss:
    """Process reward model from labelled steps (Uesato et al. 2022, Lightman et al. 2023; soft: Math-Shepherd 2023).

    L = - [z_t log sigma(r_t) + (1 - z_t) log sigma(-r_t)], the mean over all steps t of the optimizer step. r_t is the
    number that the model says at the token behind step t, z_t in [0, 1] its label: whether the step is right, or the
    share of N continuations from there that came out right (Wang et al. 2023). sigma(r_t) is P(step t is right); a
    response is scored by their product or their least. With two classes instead of one number it is TRL's loss.

    values: marks [M] are r_t; group.mark_labels [M] are z_t. The result is per step [M].

    Options:
        last_step_only: learn from the last step of each response alone, as an outcome reward model does
    """
    if values.marks is None or values.mark_owner is None or group.mark_labels is None:
        raise KilterError("No step is marked; give responses in labelled steps (prompt, completions and labels).")
    rewards, labels = values.marks, group.mark_labels
    if last_step_only:
        last = torch.ones_like(values.mark_owner, dtype=torch.bool)
        last[:-1] = values.mark_owner[1:] != values.mark_owner[:-1]
        rewards, labels = rewards[last], labels[last]
    loss = binary_cross_entropy_with_logits(rewards, labels, reduction="none")
    right = ((rewards > 0) == (labels > 0.5)).float()
    return Loss(loss, torch.ones_like(loss), {"accuracy": right, "right_steps": rewards.sigmoid()})
