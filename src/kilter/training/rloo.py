"""REINFORCE with a leave-one-out baseline: the whole response is one action."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_online
from kilter.training.policy_gradient import leave_one_out, sampled, shown, surrogate


@method("rloo", wing="training", paper="arXiv:2402.14740")
@learns_online(reference="beta", at_least=2, samples=4)
def rloo(
    policy: LogProbs,
    reference: LogProbs | None,
    group: Groups,
    *,
    beta: float = 0.05,
    cliprange: float | None = None,
) -> Loss:
    """REINFORCE leave-one-out (Ahmadian et al. 2024, §3.2; Kool et al. 2019).

    For each prompt k responses y_i are sampled (`samples`). R_i = r_i - beta (log mu(y_i) - log pi_ref(y_i)), log-probs
    summed over the response, and A_i = R_i - mean of the other R_j: a baseline that costs nothing and biases nothing.
    L = - mean of rho A_i with rho = exp(log pi(y_i) - log mu(y_i)), mu being the distribution that y_i was drawn from:
    where that is pi, the gradient is - A_i grad log pi(y_i), which is the paper's. With more than one update a rollout
    rho weighs a response by how much likelier it has become; `cliprange` clips it as PPO does, for whole responses.

    TRL 1.16 clips always (at 0.2) and, where one update is made a rollout, differs in nothing.

    policy, reference: log-probs of R responses; group: rewards [R] and behaviour log-probs [P]. The result is per
    response [R]. The metric kl is log mu - log pi_ref of a response.

    Options:
        beta: weight of the KL divergence from the reference policy, taken off the reward; 0 needs no reference policy
        cliprange: how far the ratio of a response may leave 1 before it is clipped; none clips nothing
    """
    rewards, behaviour = sampled(group)
    drawn = policy.total(behaviour)
    # What is masked has no log-prob here: a response nothing of which is learned has a ratio of 1.
    log_ratio = policy.sum() - drawn
    kept = rewards
    told = {}
    if reference is not None:
        told["kl"] = drawn - reference.sum()
        kept = rewards - beta * told["kl"]
    advantages = leave_one_out(kept, group.group_of)
    if cliprange is None:
        gain, held = log_ratio.exp() * advantages, log_ratio.detach() * 0
    else:
        gain, held = surrogate(log_ratio, advantages, cliprange, cliprange)
    return Loss(-gain, gain.new_ones(len(gain)), shown(policy, group, held) | told)
