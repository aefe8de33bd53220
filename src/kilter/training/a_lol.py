"""Advantage-leftover-lunch RL: policy gradient from stored responses, one action a response, the bad ones left out."""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.engine.template import prompt_ids
from kilter.errors import KilterError, SetAside
from kilter.feedback.named import named
from kilter.feedback.numbers import check
from kilter.records import Group, Prompt, Record
from kilter.registry import Amount, Count, Whole, method
from kilter.training import prompt_values
from kilter.training.objective import learns_from
from kilter.training.pairwise import log_ratio
from kilter.training.sampled import answers, judged
from kilter.training.unrewarded import rewarded

LONGEST = 512  # tokens of a prompt that its value is told from, the last ones


def advantages(
    records: list[Record],
    tokenizer: Any,
    model: Any,
    *,
    feedback: dict[str, float] | str | None = None,
    validation: Annotated[float, Field(gt=0, le=1)] = 0.1,
    max_tokens: Count = 64,
    value_steps: Whole = 300,
    sampling: Literal["priority", "uniform"] = "priority",
    seed: Whole = 0,
) -> tuple[list[Record], list[str]]:
    """Return one group a response that is better than V(x), with its advantage as its score, and what was left out.

    Raises KilterError where no response is.
    """
    groups = [record for record in records if isinstance(record, Group)]
    ids = [row[-LONGEST:] for row in prompt_ids(tokenizer, [group.prompt for group in groups])]
    states = prompt_values.hidden(model, ids)
    orders = [group.order() or [] for group in groups]
    said: list[str] = []
    if feedback is None:
        asked, earned = list(range(len(groups))), [sum(order) / len(order) for order in orders]
    else:
        asked = random.Random(seed).sample(range(len(groups)), max(1, round(validation * len(groups))))
        prompts = [Prompt(groups[i].prompt, groups[i].id, meta=groups[i].meta) for i in asked]
        places, earned, said = _earned(model, tokenizer, prompts, feedback, max_tokens, seed)
        asked = [asked[at] for at in places]
    head = prompt_values.fit([states[i] for i in asked], earned, steps=value_steps, seed=seed)
    values = prompt_values.told(head, states).tolist()
    kept: list[Record] = []
    for group, order, value in zip(groups, orders, values, strict=True):
        for response, reward in zip(group.responses, order, strict=True):
            if (lead := reward - value) > 0:
                kept.append(Group(group.prompt, [response], scores=[lead], origin=group.origin, meta=group.meta))
    total = sum(map(len, orders))
    if not kept:
        raise KilterError(
            f"None of {total} responses is better than what the model earns on its prompt by itself; give better ones."
        )
    notes = [*said, f"{total - len(kept)} of {total} responses are no better than the model's own and are left out."]
    if sampling == "priority":
        weights = [record.scores[0] for record in kept if isinstance(record, Group) and record.scores]
        kept = random.Random(seed).choices(kept, weights, k=len(kept))
    return kept, notes


def _earned(
    model: Any, tokenizer: Any, prompts: list[Prompt], feedback: Any, max_tokens: int, seed: int
) -> tuple[list[int], list[float], list[str]]:
    """Return what the model's own responses are rewarded with, the places of their prompts, and what was left out."""
    judge = named(feedback)
    check(judge, prompts)
    told: dict[str, Any] = {"n": 1, "max_tokens": max_tokens, "temperature": 1.0, "seed": seed}
    found = judged(judge, prompts, answers(model, tokenizer, prompts, **told))
    places, said = rewarded(found, judge)
    return places, [row[0] for row in found if not isinstance(row, SetAside)], said


@method("a-lol", wing="training", paper="arXiv:2305.14718", survey="S1 §4.3.1", aliases=("alol",))
@learns_from("scores", records=advantages)
def a_lol(
    policy: LogProbs,
    reference: LogProbs,
    group: Groups,
    *,
    variant: Literal["full", "seq", "ref-free", "kl"] = "full",
    cliprange: Annotated[float, Field(gt=0)] = 0.9,
    beta: Amount = 0.1,
) -> Loss:
    """Advantage-leftover-lunch RL (Baheti et al. 2023).

    A response is one action, rewarded with r(x, y) by who made the data. V(x) is what the model that training starts
    from earns on the prompt, and A = r - V. Responses with A <= 0 teach nothing and are left out, a third and more of
    usual data; of the others L = - A w log pi(y|x), log-probs summed, the mean over the responses of a step, with
    w, of which no gradient is taken,

        full      clip(pi(y|x) / pi_ref(y|x), 1 - e, 1 + e)    of the whole response; e is `cliprange`
        seq       the same of each token, inside the sum
        ref-free  1
        kl        1, and beta (log pi - log pi_ref) is added

    and with `sampling` priority responses are drawn in proportion to A as well. V is a head on the frozen model,
    attention pooling of the prompt's hidden states and an MLP between the least and the highest reward. It is fitted by
    least squares to the rewards of the model's own responses to a `validation` share of the prompts, judged by
    `feedback`, which has to be what scored the data; without feedback to the mean score of each prompt's responses:
    right where these are the model's own. The paper states no beta for kl.

    policy, reference: log-probs of R responses; group.scores [R]: advantages. The result is per response [R].

    Options:
        variant: full, seq, ref-free or kl
        cliprange: how far a ratio may leave 1
        beta: weight of the divergence from the reference, with variant=kl
        feedback: what judges the model's own responses, to fit V; none: V is fitted to the data's scores
        validation: share of the prompts that the model answers itself, with feedback
        max_tokens: longest of those responses, in tokens
        value_steps: steps in which V is fitted
        sampling: in proportion to the advantage (priority), or all alike (uniform)
        seed: Seed of everything random.
    """
    if group.scores is None:
        raise ValueError("A-LoL learns from advantages; give every group scores.")
    found, height, weight = weighted(policy, reference, variant, cliprange)
    loss, value = -group.scores * found, -group.scores * height
    away = log_ratio(policy, reference)
    if variant == "kl":
        loss, value = loss + beta * away, value + beta * away
    metrics = {"advantage": group.scores, "weight": weight, "kl": -away.detach()}
    return Loss(loss, loss.new_ones(len(loss)), metrics, value)


def weighted(
    policy: LogProbs, reference: LogProbs, variant: str, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return w log pi(y|x) [R], of which pi alone is given a gradient; what has that gradient; and the weights w.

    These are [R], for seq [P].
    """
    if variant == "seq":
        ratio = policy.tokens - reference.tokens
        each = ratio.detach().exp().clamp(1 - cliprange, 1 + cliprange)
        return policy.total(each * policy.tokens), policy.total(sloping(ratio, each)), each
    whole = policy.sum()
    if variant != "full":
        return whole, whole, torch.ones_like(whole.detach())
    ratio = log_ratio(policy, reference)
    weight = ratio.detach().exp().clamp(1 - cliprange, 1 + cliprange)
    return weight * whole, sloping(ratio, weight), weight


def sloping(ratio: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return F with F' = w of log-ratios, w their exponential, clipped: w (1 + ratio - log w), unclipped w itself.

    It is what w log pi, w without a gradient, is the slope of, and unlike that grows with what is reinforced.
    """
    return weight * (1 + ratio) - torch.xlogy(weight, weight)
