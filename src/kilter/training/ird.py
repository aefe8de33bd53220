"""Inverse reward design: a reward that was written down is a hint at what is wanted, not the thing itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kilter import formats
from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.feedback.mixture import Mixture
from kilter.feedback.numbers import check, rewards
from kilter.feedback.protocol import Feedback, Signal
from kilter.models.drive import run, wait
from kilter.records import Group, Prompt
from kilter.registry import Amount, Count, Whole, method
from kilter.training import rloo
from kilter.training.objective import learns_online


def plans(weights: Tensor, options: Sequence[Tensor]) -> Tensor:
    """Return [M, d]: the mean features of what is best for each of `weights` [M, d], over situations.

    `options` has for each situation the features [K, d] of what there is to choose from; the first of equals is taken.
    """
    found = torch.zeros_like(weights)
    for features in options:
        found += features[(weights @ features.T).argmax(1)]
    return found / len(options)


def posterior(weights: Tensor, met: Tensor, others: Tensor, beta: float, prior: Tensor | None = None) -> Tensor:
    """Return [N]: log P(w | w~) for candidates `weights` [N, d] (Hadfield-Menell et al. 2017, eq. 2 and 4).

    `met` [d] are the features that the plan for the proxy w~ meets where it was designed, `others` [M, d] those for
    the proxies that might have been written instead. log P = log prior + beta w . met - log sum_m exp beta w . others_m
    """
    likelihood = beta * (weights @ met) - torch.logsumexp(beta * weights @ others.T, 1)
    return torch.log_softmax(likelihood if prior is None else likelihood + prior, 0)


def cautious(features: Tensor, weights: Tensor, reference: Tensor) -> Tensor:
    """Return [N]: the least of w . (phi - phi_ref) over `weights` [S, d], for features [N, d]."""
    return ((features - reference) @ weights.T).amin(1)


class Averse:
    """A mixture whose weights are in doubt: a response is worth what the least favourable of the likely ones say."""

    def __init__(self, proxy: Mixture, weights: Tensor, reference: Tensor) -> None:
        """`weights` [S, d] are drawn from the posterior; `reference` [d] is what is known to be all right."""
        self.proxy, self.weights, self.reference = proxy, weights, reference
        self.name = f"ird({proxy.name})"

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise KilterError if there is a prompt that one of the sources can say nothing of."""
        check(self.proxy, prompts)

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        """Return one score a response."""
        features = await _features(self.proxy, prompt, responses)
        return [Signal(score=float(x)) for x in cautious(features, self.weights, self.reference)]


async def _features(proxy: Mixture, prompt: Prompt, responses: Sequence[str]) -> Tensor:
    """Return [K, d]: what each source says of each response."""
    found = [await rewards(source, prompt, responses) for source, _ in proxy.sources]
    return torch.tensor(found, dtype=torch.float64).T


def averse(
    feedback: Feedback,
    *,
    designed_on: str,
    rationality: Amount = 5.0,
    proxies: Count = 2000,
    doubts: Count = 50,
    seed: Whole = 0,
) -> Feedback:
    """Return the feedback that doubts the weights of the mixture `feedback`, by where it was designed.

    Raises KilterError for feedback that is no mixture, and groups of which nothing can be learned.
    """
    if not isinstance(feedback, Mixture) or len(feedback.sources) < 2:
        raise KilterError(
            "Inverse reward design doubts the weights of several features; give feedback as a mixture of two or more, "
            "{name: weight, ...}, with weight 0 for what the designer did not think of."
        )
    groups = [g for g in formats.read(designed_on, want="groups").records if isinstance(g, Group) and g.responses]
    asked = [Prompt(group.prompt, group.id, meta=group.meta) for group in groups]
    check(feedback, asked)

    async def one(item: tuple[Prompt, Group]) -> Tensor:
        return await _features(feedback, item[0], item[1].responses)

    options = wait(run(list(zip(asked, groups, strict=True)), one, label="features"))
    written = torch.tensor([weight for _, weight in feedback.sources], dtype=torch.float64)
    if not written.any() or not options:
        raise KilterError(f"All weights of the feedback are 0, or {designed_on} has no responses; mend it.")
    weights, met = doubted(written, options, rationality=rationality, proxies=proxies, doubts=doubts, seed=seed)
    return Averse(feedback, weights, met)


def doubted(
    written: Tensor, options: Sequence[Tensor], *, rationality: float, proxies: int, doubts: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Return weights [doubts, d] drawn from the posterior, and the features [d] that the proxy's plan meets.

    The prior is even over all directions, at the length of what was `written` [d]; `options` as for `plans`.
    """
    draw = torch.Generator().manual_seed(seed)
    prior = torch.randn(proxies, len(written), generator=draw, dtype=torch.float64)
    prior = prior / prior.norm(dim=1, keepdim=True) * written.norm()
    met = plans(written[None], options)[0]
    chance = posterior(prior, met, plans(prior, options), rationality).exp()
    return prior[torch.multinomial(chance, doubts, replacement=True, generator=draw)], met


@method("ird", wing="training", paper="arXiv:1711.02827", survey="S1 §4.3.1", aliases=("inverse-reward-design",))
@learns_online(reference="beta", at_least=2, samples=4, through=averse)
def ird(policy: LogProbs, reference: LogProbs | None, group: Groups, *, beta: Amount = 0.05) -> Loss:
    """Inverse reward design (Hadfield-Menell et al. 2017), and a policy that is averse to the doubt it leaves.

    The feedback, a mixture w~ . phi(y) of features, is what a designer wrote down with certain situations in mind:
    the groups of `designed_on`, prompts with candidate responses. What is wanted is w, and
    P(w~ | w) = e^(b w . phi~) / sum_w' e^(b w . phi~(w')), phi~(w') being the mean features of the responses that are
    best for w' there, b `rationality`: the proxy was chosen because what it brings about there is good. The prior is
    even over directions of w, and Z sums over `proxies` weights drawn from it. Then w is drawn from the posterior
    (`doubts` times), and a response earns min_w w . (phi(y) - phi_ref), phi_ref = phi~(w~): what was never seen where
    the reward was designed may be as bad as any, and is kept away from. A weight of 0 stands for a feature that the
    designer left out. The paper plans exactly, in small grids; here the policy climbs by `rloo`.

    policy, reference: log-probs of R responses; group: rewards [R] and behaviour log-probs [P]. The result is per
    response [R].

    Options:
        beta: weight of the KL divergence from the reference policy
        designed_on: file of groups that the reward was designed on: prompts with candidate responses
        rationality: how surely the designer would write what serves; 0 learns nothing from what was written
        proxies: weights drawn from the prior
        doubts: weights drawn from the posterior, of which the least favourable counts
        seed: Seed of everything random.
    """
    return rloo.rloo(policy, reference, group, beta=beta)
