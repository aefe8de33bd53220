"""Distributional policy gradients: bring the policy to a distribution that is said outright, by any f-divergence."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.registry import Count, method
from kilter.training.objective import learns_online
from kilter.training.policy_gradient import leave_one_out, sampled, shown
from kilter.training.rollouts import Rollout

Divergence = Literal["forward-kl", "reverse-kl", "js", "tv", "chi2"]
# exp of more than this leaves fp32.
HIGHEST = 80.0


def aim(
    rollout: Rollout,
    *,
    divergence: Divergence = "js",
    aim: Literal["tilted", "filtered"] = "tilted",
    beta: Annotated[float, Field(gt=0)] = 0.1,
    window: Count = 1024,
    z_window: Count = 256,
) -> None:
    """Put "target", log p(y) of every response, and "baseline" into a rollout that has a reference.

    The memory holds the importance weights of each prompt and the pseudo-rewards by which Z and the baseline are
    estimated. Raises KilterError for a divergence that is infinite wherever the target is 0.
    """
    if aim == "filtered" and divergence == "reverse-kl":
        raise KilterError("The reverse KL to a target that is 0 somewhere is infinite; take another divergence.")
    seen: dict[str, list[float]] = rollout.memory.setdefault("weights", {})
    past: list[float] = rollout.memory.setdefault("rewards", [])
    fresh: list[float] = []
    sizes = []
    for tree in rollout.trees:
        drawn = np.array([part.sum(dtype=np.float64) for part in tree.info["behaviour"]])
        held = np.array([part.sum(dtype=np.float64) for part in tree.info["reference"]])
        rewards = np.asarray(tree.info["rewards"], dtype=np.float64)
        tilt = rewards / beta if aim == "tilted" else np.where(rewards > 0, 0.0, -np.inf)
        weights = seen.setdefault(tree.info["id"], [])
        weights += [float(x) if math.isfinite(x) else -math.inf for x in held + tilt - drawn]
        del weights[:-z_window]
        # Where no response to a prompt was acceptable so far there is nothing yet to divide by.
        mean = log_mean(weights)
        target = held + tilt - (mean if mean > -math.inf else 0.0)
        tree.info["target"] = target.tolist()
        sizes.append(len(target))
        fresh += (-slope(torch.from_numpy(drawn - target), divergence)).tolist()
    group_of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    found = torch.tensor(fresh, dtype=torch.float64)
    # Until there is a past to compare with a response is compared with the others of its prompt.
    baseline = torch.full_like(found, sum(past) / len(past)) if past else found - leave_one_out(found, group_of)
    for tree, part in zip(rollout.trees, baseline.split(sizes), strict=True):
        tree.info["baseline"] = part.tolist()
    past += fresh
    del past[:-window]
    z = [log_mean(seen[tree.info["id"]]) for tree in rollout.trees]
    rollout.state = {"z": sum(map(math.exp, z)) / len(z)}


def log_mean(logs: list[float]) -> float:
    """Return the log of the mean of exp of `logs`; minus infinity where all of them are."""
    most = max(logs)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(x - most) for x in logs) / len(logs))


def slope(log_t: Tensor, divergence: Divergence) -> Tensor:
    """Return f'(t), t = pi(y) / p(y), of the given log t, of any shape; t may be infinite, where p is 0."""
    if divergence == "forward-kl":
        return -torch.exp((-log_t).clamp(max=HIGHEST))
    if divergence == "reverse-kl":
        return log_t + 1
    if divergence == "js":
        return math.log(2) - torch.nn.functional.softplus(-log_t)
    if divergence == "tv":
        return log_t.sign() / 2
    return 1 - torch.exp((-2 * log_t).clamp(max=HIGHEST))


@method("f-dpg", wing="training", paper="arXiv:2302.08215", survey="S1 §4.3.1", aliases=("dpg", "gdc"))
@learns_online(reference="beta", shape=aim, at_least=2, samples=1024, batch_size=16, learning_rate=1.41e-5)
def f_dpg(policy: LogProbs, group: Groups, *, divergence: Divergence = "js") -> Loss:
    """f-divergence minimisation by distributional policy gradients (Go et al. 2023).

    The target p(y|x) = P(y|x) / Z(x) is said outright: with aim=tilted P = pi_ref(y|x) e^(r / beta), which is what RLHF
    with a KL penalty aims at (of a mixture of feedbacks: a product of experts, or moments as constraints); with
    aim=filtered P = pi_ref(y|x) where r > 0 and 0 elsewhere: the reference, but for what must not be. What is minimised
    is D_f(pi || p) = E_p f(pi / p), whose gradient is E_pi [ f'(pi / p) grad log pi ]: REINFORCE with the pseudo-reward
    - f'(t), t = pi(y) / p(y):

        forward-kl   - 1/t            KL(p || pi): GDC; covers all of p, and keeps variety
        reverse-kl   log t + 1        KL(pi || p): RLHF, with rewards times 1 / beta; seeks the mode
        js           log 2t / (1+t)   Jensen-Shannon: the paper's best trade
        tv           sign(t - 1) / 2  total variation
        chi2         1 - t^-2         chi^2(p || pi)

    Z(x) is the mean of P / mu over the last `z_window` responses to the prompt, mu being the distribution that they
    were drawn from; the baseline is the mean pseudo-reward of the last `window` responses before this rollout. With
    more than one update a rollout responses are weighted by pi / mu, of which no gradient is taken. The paper's code
    samples from a proposal that is replaced whenever the policy has come nearer to p; here it is the policy itself, as
    it is at each rollout.

    policy: log-probs of R responses; group: rewards, target and baseline [R], behaviour [P]. The result is per response
    [R]. The metric z is the mean of Z(x), kl is log mu - log pi_ref.

    Options:
        divergence: forward-kl, reverse-kl, js, tv or chi2
        aim: the reference tilted by the reward, or what of it has a reward above 0
        beta: the reward that makes a response e times likelier, with aim=tilted
        window: pseudo-rewards whose mean is the baseline
        z_window: responses to a prompt by which Z is estimated
    """
    _, behaviour = sampled(group)
    if group.target is None or group.baseline is None:
        raise ValueError("f-DPG learns from a target and a baseline; give it a rollout that has them.")
    whole, drawn = policy.sum(), policy.total(behaviour)
    weight = torch.exp((whole - drawn).detach())
    gain = -slope(whole.detach() - group.target, divergence) - group.baseline
    learned = (policy.lengths > 0).to(whole.dtype)
    metrics = shown(policy, group, behaviour * 0)
    if group.reference is not None:
        metrics["kl"] = drawn - policy.total(group.reference)
    return Loss(-weight * gain * whole * learned, learned, metrics)
