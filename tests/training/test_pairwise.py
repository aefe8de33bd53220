"""The objectives over pairs: closed forms on the bandit, gradients, and what one is of another."""

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from kilter.training.dpo import dpo
from kilter.training.dpo_hinge import dpo_hinge
from kilter.training.dpo_robust import dpo_robust
from kilter.training.f_dpo import f_dpo, slope
from kilter.training.ipo import ipo
from kilter.training.orpo import log_odds, orpo
from kilter.training.simpo import simpo
from kilter.training.slic_hf import slic_hf
from worlds.bandit import Bandit, as_groups, as_responses, mean

LENGTHS = [2, 3, 1, 4]


@pytest.fixture
def drawn():
    torch.manual_seed(0)
    tokens = [(-2 * torch.rand(10, dtype=torch.float64)).requires_grad_(), -2 * torch.rand(10, dtype=torch.float64)]
    return as_responses(tokens[0], LENGTHS), as_responses(tokens[1], LENGTHS), as_groups(pairs=[(0, 1), (3, 2)])


def expected(bandit, objective, **options):
    """Return the objective's mean over labels drawn by Bradley and Terry, as a function of log-probs [K]."""
    chance, group = bandit.chance(), as_groups(pairs=bandit.pairs)

    def loss(logs):
        return (chance * objective(as_responses(logs), bandit.reference, group, **options).per_example).sum()

    return loss


def test_ipo_s_optimum_is_the_mean_preference_over_beta():
    bandit, beta = Bandit(seed=1), 0.7
    found = bandit.optimum(expected(bandit, ipo, beta=beta)).log() - bandit.held
    table = torch.full((5, 5), 0.5, dtype=torch.float64)
    for (i, j), chance in zip(bandit.pairs, bandit.chance(), strict=True):
        table[i, j] = chance
    wanted = (table - 0.5).mean(1) / beta
    torch.testing.assert_close(found - found.mean(), wanted - wanted.mean(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("divergence", ["reverse-kl", "forward-kl", "js", "alpha"])
def test_under_every_divergence_the_optimum_has_the_reward_that_labelled(divergence):
    bandit, beta = Bandit(seed=2), 0.8
    # Where f' is bounded from above only rewards of a small spread can be reached at all.
    bandit.reward *= 0.3
    best = bandit.optimum(expected(bandit, f_dpo, divergence=divergence, beta=beta))
    implied = beta * slope(best.log() - bandit.held, divergence, 0.5)
    off = implied - bandit.reward
    torch.testing.assert_close(off, off.mean().expand(5), atol=1e-6, rtol=0)


def test_divergences_meet_in_dpo(drawn):
    plain = dpo(*drawn, beta=0.3).per_example
    torch.testing.assert_close(f_dpo(*drawn, divergence="reverse-kl", beta=0.3).per_example, plain)
    torch.testing.assert_close(f_dpo(*drawn, divergence="alpha", alpha=1e-7, beta=0.3).per_example, plain)
    far = as_responses(torch.full((2,), -1e4)), as_responses(torch.zeros(2)), as_groups(pairs=[(0, 1)])
    for divergence in ("forward-kl", "js", "alpha"):
        assert f_dpo(*far, divergence=divergence).per_example.isfinite().all()


def test_robust_dpo_over_turned_labels_is_dpo_over_clean_ones(drawn):
    policy, reference, group = drawn
    turned, e = as_groups(pairs=[(w, l) for l, w in group.pairs.tolist()]), 0.3
    both = [dpo_robust(policy, reference, g, beta=0.4, label_smoothing=e).per_example for g in (group, turned)]
    clean = dpo(policy, reference, group, beta=0.4).per_example
    torch.testing.assert_close((1 - e) * both[0] + e * both[1], clean)
    torch.testing.assert_close(dpo_robust(*drawn, beta=0.4, label_smoothing=0.0).per_example, clean)


def test_a_hinge_teaches_until_the_lead_is_there():
    policy = as_responses(torch.tensor([0.0, -4.0, -1.0, -9.0], dtype=torch.float64, requires_grad=True))
    reference = as_responses(torch.tensor([-1.0, -1.0, -1.0, -1.0], dtype=torch.float64))
    loss = dpo_hinge(policy, reference, as_groups(pairs=[(0, 1), (2, 3)]), beta=0.2)
    assert loss.per_example.tolist() == pytest.approx([0.2, 0.0])
    loss.per_example.sum().backward()
    assert policy.tokens.grad.tolist() == pytest.approx([-0.2, 0.2, 0, 0])
    # Against a reference that finds all alike it is SLiC-HF's, in other units.
    slic = slic_hf(policy, as_groups(pairs=[(0, 1), (2, 3)]), delta=5.0, sft_weight=0.0)
    torch.testing.assert_close(slic.per_example, 5.0 * loss.per_example)


def test_slic_hf_adds_the_sum_over_the_better_response(drawn):
    policy, _, group = drawn
    plain, both = (slic_hf(policy, group, sft_weight=w).per_example for w in (0.0, 0.5))
    torch.testing.assert_close(both - plain, -0.5 * policy.sum()[[0, 3]])


def test_simpo_compares_means_and_wants_a_lead(drawn):
    policy, _, group = drawn
    average = policy.sum() / torch.tensor(LENGTHS)
    wanted = -logsigmoid(2.5 * torch.stack((average[0] - average[1], average[3] - average[2])) - 0.7)
    torch.testing.assert_close(simpo(policy, group, beta=2.5, gamma=0.7).per_example, wanted)
    # Every token of a response pulls alike, in inverse proportion to their number.
    mean(simpo(policy, group)).backward()
    slopes = policy.tokens.grad.split(LENGTHS)
    assert all(torch.allclose(part, part[:1].expand_as(part)) for part in slopes)
    assert (slopes[0][0] * 2).item() == pytest.approx(-(slopes[1][0] * 3).item())


def test_orpo_is_fine_tuning_plus_the_odds(drawn):
    policy, _, group = drawn
    p = policy.mean().exp()
    odds = (p / (1 - p)).log()
    torch.testing.assert_close(log_odds(policy.mean()), odds)
    wanted = -policy.mean()[[0, 3]] - 0.2 * logsigmoid(torch.stack((odds[0] - odds[1], odds[3] - odds[2])))
    torch.testing.assert_close(orpo(policy, group, beta=0.2).per_example, wanted)
    certain = as_responses(torch.tensor([0.0, -1.0], requires_grad=True))
    loss = mean(orpo(certain, as_groups(pairs=[(0, 1)])))
    loss.backward()
    assert math.isfinite(loss.item())
    assert certain.tokens.grad.isfinite().all()
