"""Self-detoxification: a copy that has learned the bad says which tokens to avoid."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kilter.engine.loop import LoopOptions, TrainResult
from kilter.registry import Count, method
from kilter.training.course import Task, takes_its_course
from kilter.training.decoding import examples, leave, steers

LEAST = 1e-9  # a token that the expert alone would say keeps so much of its weight: with k = 1 there is no other


def detoxed(own: Tensor, others: list[Tensor], *, top_k: int, by: str = "share", toward: bool = False) -> Tensor:
    """Return log-probs [N, V] of the model's own `top_k` tokens, weighed by what the expert thinks of them."""
    [expert] = others
    kept = own.topk(min(top_k, own.shape[-1]), dim=-1)
    share = expert.gather(-1, kept.indices).softmax(-1)
    if by == "rank":
        # The expert's favourite counts 1 / k, the last of its k counts 1.
        place = share.argsort(dim=-1, descending=True).argsort(dim=-1).to(share.dtype)
        weight = (place + 1) / share.shape[-1]
        weight = weight.flip(-1).gather(-1, place.long()) if toward else weight
    else:
        weight = share if toward else 1 - share
    steered = (kept.values + weight.clamp(min=LEAST).log()).log_softmax(-1)
    return torch.full_like(own, -torch.inf).scatter(-1, kept.indices, steered)


@method("self-detox", wing="training", paper="arXiv:2203.03072", survey="S1 §4.3.2", aliases=("inner-demons",))
@takes_its_course("scores", shared=(LoopOptions,), epochs=3, batch_size=8)
@steers(detoxed)
def self_detox(
    task: Task, *, top_k: Count = 40, by: Literal["share", "rank"] = "share", toward: bool = False
) -> TrainResult:
    """Leashing the Inner Demons: self-detoxification by a toxic expert (Xu, He, He and McAuley 2022).

    A copy of the model is fine-tuned on the bad responses among the records (labels, else whatever scores below the
    best): the model's own, where it wrote them. Then, at every token, the base's k likeliest candidates are weighed by
    what that copy thinks of them: p'(v) ~ p(v) (1 - q(v)), v among the base's top k, q being the copy's probability
    renormalised over these k. Where q is uniform nothing changes, nothing outside of the top k is ever said, and with k
    = 1 the answer is the greedy one. With `toward` the copy is followed instead (p q), which makes a worse model.

    The published text says that tokens which the copy favours get less mass, and not by which function: the product
    above is ours, and `by=rank` the other reading, p'(v) ~ p(v) r(v) / k, r(v) being v's place in the copy's order from
    its favourite, 1, on. The paper's own finding holds here as well: what is detoxified so loses diversity.

    `out` becomes a model that every evaluation takes: the copy in out/expert, and decoding.json, which names `model` as
    it stands. Experts that add to the logits are another method, `dexperts`. Raises KilterError where no record has a
    bad response.

    Options:
        top_k: candidates of the base that may be said
        by: weigh a candidate by the copy's share of it, or by its rank there
        toward: follow the copy instead of avoiding it
    """
    options = {"top_k": top_k, "by": by, "toward": toward}
    return leave(task, options, experts={"expert": examples(task.records, False, task.method)})
