"""DExperts: what an expert would say more than an anti-expert is added to the model's own logits."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kilter.engine.loop import LoopOptions, TrainResult
from kilter.registry import Amount, method
from kilter.training.course import Task, takes_its_course
from kilter.training.decoding import examples, leave, steers


def combined(own: Tensor, others: list[Tensor], *, alpha: float, filter_p: float = 1.0) -> Tensor:
    """Return log-probs [N, V] of z + alpha (z_expert - z_anti), over the nucleus of the model's own distribution."""
    expert, anti = others
    steered = own + alpha * (expert - anti)
    if filter_p < 1:
        ranked, places = own.softmax(-1).sort(dim=-1, descending=True)
        outside = ranked.cumsum(-1) - ranked >= filter_p
        steered = steered.masked_fill(torch.zeros_like(outside).scatter(-1, places, outside), -torch.inf)
    return steered.log_softmax(-1)


@method("dexperts", wing="training", paper="arXiv:2105.03023", survey="S1 §4.3.2")
@takes_its_course("scores", shared=(LoopOptions,), epochs=3, batch_size=8)
@steers(combined)
def dexperts(task: Task, *, alpha: Amount = 2.0, filter_p: Annotated[float, Field(gt=0, le=1)] = 0.9) -> TrainResult:
    """DExperts: decoding-time control by experts and anti-experts (Liu et al. 2021, eq. 1).

    Two copies of the model are fine-tuned: an expert on the good responses among the records, an anti-expert on the bad
    ones (labels; else the best of a group, and all that score below it). Then, at every token,
    p~ = softmax(z + alpha (z+ - z-)), z, z+ and z- being the logits of model, expert and anti-expert, over the tokens
    that the model's own distribution has in its nucleus of mass `filter_p`. With alpha = 0 and filter_p = 1 it is the
    model itself; where expert and anti-expert agree, too.

    The defaults are the paper's for detoxification: alpha 2.0, the base's distribution cut at 0.9 first. There the
    experts are smaller than the model, or as large; here they are copies of it.

    `out` becomes a model that every evaluation takes: out/expert, out/anti, and decoding.json, which names `model` as
    it stands. Raises KilterError where no record has a good response, or none a bad one.

    Options:
        alpha: how much the difference of expert and anti-expert counts
        filter_p: mass of the model's own distribution that may be said
    """
    parts = {name: examples(task.records, name == "expert", task.method) for name in ("expert", "anti")}
    return leave(task, {"alpha": alpha, "filter_p": filter_p}, experts=parts)
