"""Reward ranked fine-tuning: sample, keep the best, imitate it, and again."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from kilter.engine.batch import Groups, Tree
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.registry import Amount, method
from kilter.training.objective import learns_online
from kilter.training.policy_gradient import sampled, shown
from kilter.training.rollouts import Rollout


def select(
    rollout: Rollout,
    *,
    keep: Literal["local", "top"] = "local",
    share: Annotated[float, Field(gt=0, le=1)] = 0.2,
    beta: Amount = 0.0,
    buffer: bool = False,
) -> None:
    """Keep of a rollout the responses that are imitated."""
    if buffer and keep == "top":
        raise KilterError("A buffer holds the best response of each prompt; take keep=local along with it.")
    if beta:
        for tree in rollout.trees:
            parts = zip(tree.info["rewards"], tree.info["behaviour"], tree.info["reference"], strict=True)
            tree.info["rewards"] = [r - beta * float(np.sum(now - held)) for r, now, held in parts]
    if keep == "local":
        chosen = [[best] if (best := _best(tree)) is not None else [] for tree in rollout.trees]
    else:
        chosen = of_all(rollout.trees, share)
    rollout.keep(chosen)
    rollout.state = {"kept": sum(map(len, chosen)), "kept_reward": float(rollout.flat("rewards").mean())}
    if buffer:
        _remember(rollout)


def of_all(trees: list[Tree], share: float) -> list[list[int]]:
    """Return for each tree its responses among the `share` of all responses with the highest rewards, at least one."""
    places = [(t, k) for t, tree in enumerate(trees) for k, mask in enumerate(tree.masks) if any(mask)]
    # Of equal rewards the first come first, so that a run that is repeated keeps the same.
    ranked = sorted(places, key=lambda place: -trees[place[0]].info["rewards"][place[1]])
    total = sum(len(tree.responses) for tree in trees)
    found: list[list[int]] = [[] for _ in trees]
    for t, k in ranked[: max(1, math.floor(share * total + 1e-9))]:
        found[t].append(k)
    return found


def _best(tree: Tree) -> int | None:
    """Return the response of the highest reward, the first of equals; None where nothing may be learned of any."""
    learned = [k for k, mask in enumerate(tree.masks) if any(mask)]
    return max(learned, key=lambda k: tree.info["rewards"][k]) if learned else None


def _remember(rollout: Rollout) -> None:
    """Put in the place of each tree's response the best one that its prompt ever had, where that was better."""
    known: dict[str, list[Any]] = rollout.memory.setdefault("best", {})
    for tree in rollout.trees:
        tree.info = {name: tree.info[name] for name in ("id", "rewards", "cut", "behaviour")}
        (reward,), name = tree.info["rewards"], tree.info["id"]
        if not any(tree.masks[0]):
            continue
        if name not in known or reward > known[name][0]:
            behaviour = [float(x) for x in tree.info["behaviour"][0]]
            known[name] = [reward, [int(token) for token in tree.responses[0]], tree.info["cut"][0], behaviour]
            continue
        best, tokens, cut, behaviour = known[name]
        tree.responses, tree.masks = [tokens], [[True] * len(tokens)]
        told = {"rewards": [best], "cut": [cut], "behaviour": [np.asarray(behaviour, dtype=np.float32)]}
        tree.info = {"id": name, **told}


@method("raft", wing="training", paper="arXiv:2304.06767", survey="S1 §4.3.2, S2 §3.2.1")
@learns_online(reference="beta", shape=select, at_least=2, samples=8, schedule="constant", warmup=0.0)
def raft(policy: LogProbs, group: Groups) -> Loss:
    """Reward ranked fine-tuning (Dong et al. 2023).

    Each phase: sample K responses to each of B prompts (`samples`, `batch_size`), keep the best by reward, and imitate
    them: L = - mean of log pi(y_t | x, y_<t) over the tokens of what was kept; with the next phase's samples the policy
    climbs on. With keep=local the best of each prompt's K stay (the paper's 1 / K), so that every prompt counts; with
    keep=top the best `share` of all B K responses, which favours prompts that are easy to be rewarded on. After one
    local phase of endless data the policy is that of the best of K: P(y) = F(y)^K - F^-(y)^K, F and F^- being the
    probability that a response is rewarded at most, or less than, as y is. One update a rollout is the paper's;
    `updates` are passes over what was kept. The paper takes 20 phases, batches of 1,024 prompts and a constant rate.

    With `beta` responses are ranked by r - beta (log pi - log pi_ref). With `buffer` the best response that a prompt
    ever had stays until a better one is sampled: the best known reward of a prompt never falls.

    policy: log-probs of the R responses that were kept. The result is per response [R], weighted by its tokens. The
    metric reward is that of what was kept, sampled_reward that of all.

    Options:
        keep: the best of each prompt (local), or the best of all responses of a phase (top)
        share: of all responses that are kept, with keep=top
        beta: what a nat away from the reference policy costs in the ranking; 0 needs no reference policy
        buffer: imitate the best response that a prompt ever had; with keep=local
    """
    _, behaviour = sampled(group)
    return Loss(-policy.sum(), policy.lengths, shown(policy, group, behaviour * 0))
