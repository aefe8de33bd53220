"""Group relative policy optimisation: PPO's clipped objective, with the group in the place of a critic."""

from __future__ import annotations

from typing import Literal

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_online
from kilter.training.policy_gradient import k3, normalised, sampled, shown, surrogate


@method("grpo", wing="training", paper="arXiv:2402.03300")
@learns_online(reference="beta", at_least=2, samples=64, batch_size=16)
def grpo(
    policy: LogProbs,
    reference: LogProbs | None,
    group: Groups,
    *,
    cliprange: float = 0.2,
    cliprange_high: float | None = None,
    beta: float = 0.04,
    scale: Literal["group", "none"] = "group",
    average: Literal["response", "token"] = "response",
    correct_kl: bool = False,
) -> Loss:
    """Group relative policy optimisation (Shao et al. 2024, eq. 3).

    L = - 1/G sum_i 1/|o_i| sum_t ( min(rho A_i, clip(rho, 1 - e, 1 + e) A_i) - beta k3 ), the mean over the prompts of
    a step; e is `cliprange`. For each prompt G responses o_i were sampled (`samples`) and rewarded with r_i;
    A_i = (r_i - mean(r)) / std(r) over the group, the same for all tokens of o_i. rho = exp(log pi(o_t) - log mu(o_t)),
    mu being the very distribution that o_t was drawn from. k3 = pi_ref/pi - log(pi_ref/pi) - 1 estimates
    KL(pi || pi_ref) at the token. With one update a rollout (the paper's mu, here `updates`, is 1) rho is 1 but for the
    sampler's rounding, and the gradient is that of REINFORCE with normalised rewards.

    The standard deviation is that with G - 1, plus 1e-4, as in TRL. TRL 1.16 departs from the paper: it averages over
    all tokens of the step (its "dapo", here average=token), sets beta to 0, and where that is set otherwise weighs k3
    by rho (correct_kl), whose gradient is that of KL(pi || pi_ref), whoever sampled (DeepSeek-V3.2). scale=none leaves
    the division by the standard deviation out, as Liu et al. 2025 (Dr. GRPO) advise; cliprange_high is DAPO's
    clip-higher.

    policy, reference: log-probs of R responses; group: rewards [R] and behaviour log-probs [P]. The result is per
    response [R].

    Options:
        cliprange: how far the ratio may leave 1 before the clip holds the gradient back (the paper's epsilon)
        cliprange_high: the same upwards, where it is to be another
        beta: weight of the KL divergence from the reference policy; 0 needs no reference policy
        scale: divide advantages by the standard deviation of the group's rewards, or by nothing
        average: over a response's tokens first and then over responses, or over all tokens of the step alike
        correct_kl: weigh the estimate of the KL divergence by the ratio, as TRL does
    """
    rewards, behaviour = sampled(group)
    advantages = normalised(rewards, group.group_of, scaled=scale == "group")
    high = cliprange if cliprange_high is None else cliprange_high
    gain, held = surrogate(policy.tokens - behaviour, advantages[policy.owner], cliprange, high)
    metrics = shown(policy, group, held)
    if reference is not None:
        divergence = k3(policy.tokens, reference.tokens)
        gain = gain - beta * (divergence * (policy.tokens - behaviour).exp() if correct_kl else divergence)
        metrics["kl"] = policy.total(divergence)
    lost = -policy.total(gain)
    if average == "token":
        return Loss(lost, policy.lengths, metrics)
    return Loss(lost / policy.lengths.clamp(min=1), lost.new_ones(len(lost)), metrics)
