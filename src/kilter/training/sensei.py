"""SENSEI: a judgement of a whole response, distributed over its tokens; and an actor that learns from each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from kilter.engine.batch import Groups, Tree, collate, fill
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.engine.values import Valuer, Values
from kilter.errors import KilterError
from kilter.models.load import load_value_model
from kilter.registry import Amount, method
from kilter.training.objective import learns_from, learns_online
from kilter.training.policy_gradient import gae, k1, sampled, shown, surrogate
from kilter.training.rollouts import Rollout

PAPER = "ACL:2022.findings-naacl.18"
BUDGET = 8192  # tokens that the distributor reads at once


def marked(trees: Sequence[Tree]) -> list[Tree]:
    """Return the trees with every scored token of a response marked: its reward is read where it has been seen."""
    found = []
    for tree in trees:
        marks = [np.flatnonzero(np.asarray(mask, dtype=bool)).tolist() for mask in tree.masks]
        found.append(replace(tree, info={**tree.info, "marks": marks}))
    return found


@method("sensei", wing="training", paper=PAPER, survey="S1 §4.3.1")
@learns_from("labels", trains="judge", trees=marked)
def sensei(values: Values, group: Groups, *, course: Amount = 1.0) -> Loss:
    """SENSEI's critic: a reward distributor (Liu et al. 2022).

    A person judges a whole response, z = 1 where it is in accord with a value and 0 where it is not. The head says at
    each of its tokens how the judgement stands so far, the logit U_t, and the reward of a token is by how much it moves
    that: r_t = U_t - U_{t-1}, U_0 = 0, so that sum_t r_t = U_T is the logit of the judgement of the whole.

        L = l(U_T) + course 1/T sum_t l(U_t),  l(U) = - z log sigma(U) - (1 - z) log sigma(-U),

    the mean over the step's responses. The judgement is laid to the token that it is due to, and not to those that come
    after it. The paper does not give its loss to the letter; this is return decomposition by differences of what is
    expected (Arjona-Medina et al. 2019). With `course` 0 only the whole is fitted. `kilter train sensei-actor` learns
    from the r_t; as feedback, the model scores a response with U_T.

    values: marks [M] are the U_t, mark_owner [M] the responses; group.labels [R] are z. The result is per response [R].

    Options:
        course: weight of the same loss for the logits at each token
    """
    if group.labels is None or values.marks is None or values.mark_owner is None:
        raise KilterError("Judgements are due, and some group has none; give responses labelled good or not.")
    owner, labels = values.mark_owner, group.labels
    logits = values.marks.new_zeros(len(labels)).index_add(0, owner, rewards(values))
    loss = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    if course:
        each = binary_cross_entropy_with_logits(values.marks, labels[owner], reduction="none")
        count = torch.zeros_like(loss).index_add(0, owner, torch.ones_like(each)).clamp(min=1)
        loss = loss + course * torch.zeros_like(loss).index_add(0, owner, each) / count
    right = ((logits > 0) == (labels > 0.5)).float()
    return Loss(loss, torch.ones_like(loss), {"accuracy": right, "reward": logits})


def rewards(values: Values) -> Tensor:
    """Return [M]: the reward of each marked token, by how much it moves the logit; a response's add up to its last."""
    if values.marks is None or values.mark_owner is None:
        raise ValueError("Rewards are read at marked tokens, and none is marked.")
    before = values.marks.roll(1)
    first = values.mark_owner != values.mark_owner.roll(1)
    first[:1] = True
    return values.marks - torch.where(first, 0.0, before)


@lru_cache(maxsize=2)
def _distributor(name: str) -> Valuer:
    model: Any = load_value_model(name, torch.float32, trained=True)[0]
    return Valuer(model.to("cuda" if torch.cuda.is_available() else "cpu"))


@torch.no_grad()
def distributed(valuer: Any, trees: Sequence[Tree]) -> np.ndarray:
    """Return the reward [P] of every scored token of the trees, tree by tree, response by response."""
    whole, found = marked(trees), [np.empty(0)] * len(trees)
    device = next(valuer.parameters()).device
    for hand in fill([len(tree) for tree in whole], BUDGET):
        batch = collate([whole[i] for i in hand]).to(device)
        values = valuer(batch)
        numbers = np.empty(0) if values.marks is None else rewards(values).double().cpu().numpy()
        sizes = [sum(map(len, whole[i].info["marks"])) for i in hand]
        for i, part in zip(hand, np.split(numbers, np.cumsum(sizes)[:-1]), strict=True):
            found[i] = part
    return np.concatenate(found) if found else np.empty(0)


def shape(rollout: Rollout, *, distributor: str) -> None:
    """Put "advantages" and "returns" into a rollout that has values: A_t = r_t + V_{t+1} - V_t.

    Options:
        distributor: a reward distributor, made by `kilter train sensei`
    """
    given = torch.from_numpy(distributed(_distributor(distributor), rollout.trees))
    values, lengths = torch.from_numpy(rollout.flat("values")), torch.from_numpy(rollout.lengths)
    advantages, due = gae(given, values, lengths, gamma=1.0, lam=0.0)
    rollout.put("advantages", advantages.numpy())
    rollout.put("returns", due.numpy())
    rollout.state = {"distributed": float(given.sum()) / max(1, len(lengths))}


@method("sensei-actor", wing="training", paper=PAPER, survey="S1 §4.3.1")
@learns_online(reference="beta", critic=True, shape=shape, samples=1, adapter="lora")
def sensei_actor(
    policy: LogProbs,
    reference: LogProbs | None,
    group: Groups,
    *,
    beta: Amount = 0.1,
    cliprange: float = 0.2,
    vf_coef: Amount = 0.5,
) -> Loss:
    """SENSEI's actor: learn from the rewards that a distributor lays to each token (Liu et al. 2022).

    Tokens are rewarded with r_t of the distributor (`kilter train sensei`), a critic V says before each what is still
    to come, V_t = E[sum_{k >= t} r_k], and A_t = r_t + V_{t+1} - V_t, worked out once a rollout.
    L = - min(rho A, clip(rho, 1 - e, 1 + e) A) + vf_coef (V_t - r_t - V_{t+1})^2 + beta log(pi / pi_LM), means over the
    tokens of a step; rho = exp(log pi(y_t) - log mu(y_t)) is 1 where the policy is the one that sampled. The gradient
    of the last term is that of KL(pi || pi_LM), taken with the policy's own samples.

    The paper's actor is a head beside the language model that shifts its logits, nought at first. Here an adapter does,
    which is nought at first too and reaches every layer (`adapter`: lora; none trains all weights). `feedback` is
    measured and not learned from.

    policy, reference: log-probs of R responses, with values; group: behaviour, advantages, returns [P]. The result is
    per response [R], weighted by its number of tokens. The metric kl is log mu - log pi_LM of a response.

    Options:
        beta: weight of the pull to the language model; 0 needs no reference policy
        cliprange: how far the ratio may leave 1 before the clip holds the gradient back
        vf_coef: weight of the critic's loss
    """
    _, behaviour = sampled(group)
    values, due, advantages = policy.values, group.returns, group.advantages
    if values is None or due is None or advantages is None:
        raise ValueError("An actor learns from values and advantages; give it a critic and a rollout that has them.")
    gain, held = surrogate(policy.tokens - behaviour, advantages, cliprange, cliprange)
    value_loss = (values - due) ** 2
    lost = vf_coef * value_loss - gain
    metrics = shown(policy, group, held) | {"value_loss": value_loss.detach()}
    if reference is not None:
        away = k1(behaviour, reference.tokens)
        # d/dtheta KL(pi || ref) = E[(log pi - log ref) d log pi]: the score function, at what was sampled.
        lost = lost + beta * away * (policy.tokens - behaviour).exp()
        metrics["kl"] = policy.total(away)
    return Loss(policy.total(lost), policy.lengths, metrics)
