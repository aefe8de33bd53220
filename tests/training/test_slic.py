"""SLiC: each calibration loss by its formula, the regularisers, and through the engine."""

from functools import partial

import pytest
import torch

from kilter.engine import Scorer, collate
from kilter.engine.asks import Asks, asked_by
from kilter.engine.loop import LoopOptions, train
from kilter.training.rrhf import rrhf
from kilter.training.slic import slic
from kilter.training.slic_hf import slic_hf
from tiny_models import make
from worlds.bandit import as_groups, as_responses, mean
from worlds.tokens import TokenWorld

LENGTHS = [2, 3, 1, 4]
SCORES = [0.5, 2.0, -1.0, 1.0]


def ranked(scores=SCORES):
    rows = range(len(scores))
    pairs = [(i, j) for i in rows for j in rows if scores[i] > scores[j]]
    return as_groups(torch.tensor(scores, dtype=torch.float64), pairs=pairs)


@pytest.fixture
def policy():
    torch.manual_seed(5)
    return as_responses((-2 * torch.rand(10, dtype=torch.float64)).requires_grad_(), LENGTHS)


def found(policy, calibration, scores=SCORES, **options):
    return mean(slic(policy, ranked(scores), calibration=calibration, regulariser="none", **options))


def test_each_calibration_is_its_formula(policy):
    p, order, beta = policy.sum(), [1, 3, 0, 2], 0.7
    pairs = [(order[i], order[j], j - i) for i in range(4) for j in range(i + 1, 4)]
    rank = sum(torch.relu(beta - p[w] + p[l]) for w, l, _ in pairs) / len(pairs)
    torch.testing.assert_close(found(policy, "rank", beta=beta), rank)
    margin = sum(torch.relu(beta * (SCORES[w] - SCORES[l]) - p[w] + p[l]) for w, l, _ in pairs) / len(pairs)
    torch.testing.assert_close(found(policy, "margin", beta=beta), margin)
    listed = sum(torch.relu(beta * places - p[w] + p[l]) for w, l, places in pairs)
    torch.testing.assert_close(found(policy, "list-rank", beta=beta), listed)
    expected = -(torch.softmax(p, 0) * torch.tensor(SCORES, dtype=torch.float64)).sum()
    torch.testing.assert_close(found(policy, "expected"), expected)


def test_for_two_candidates_the_margin_losses_are_one():
    two = as_responses(torch.tensor([-1.0, -0.8], dtype=torch.float64))
    losses = [found(two, kind, [1.0, 0.0], beta=0.9) for kind in ("rank", "margin", "list-rank")]
    assert [loss.item() for loss in losses] == pytest.approx([1.1] * 3)
    direct = slic_hf(two, ranked([1.0, 0.0]), delta=0.9, sft_weight=0.0)
    assert mean(direct).item() == pytest.approx(1.1)


def test_candidates_that_are_far_enough_apart_teach_nothing():
    apart = as_responses(torch.tensor([-9.0, -1.0, -13.0, -5.0], requires_grad=True, dtype=torch.float64))
    for kind in ("rank", "margin", "list-rank"):
        assert found(apart, kind).item() == 0


def test_the_expected_reward_s_slope_is_the_advantage(policy):
    found(policy, "expected").backward()
    q = torch.softmax(policy.sum().detach(), 0)
    scores = torch.tensor(SCORES, dtype=torch.float64)
    advantage = -q * (scores - (q * scores).sum())
    torch.testing.assert_close(policy.tokens.grad, advantage[policy.owner])


def test_rrhf_is_slic_s_rank_without_a_margin_over_mean_log_probs(policy):
    average = as_responses(policy.mean())
    hinges = 6 * found(average, "rank", beta=1e-12)
    torch.testing.assert_close(mean(rrhf(policy, ranked())) + policy.mean()[1], hinges)


def test_imitation_regularises_by_the_best_candidate(policy):
    plain, both = (mean(slic(policy, ranked(), regulariser=kind, weight=0.3)) for kind in ("none", "ce"))
    torch.testing.assert_close(both - plain, -0.3 * policy.sum()[1])


def test_prompts_weigh_the_same_and_large_log_probs_stay_finite():
    far = torch.tensor([-4000.0, -4100.0, -1.0, -2.0, -3.0], dtype=torch.float64)
    scores = [1.0, 0.0, 2.0, 1.0, 0.0]
    group = as_groups(torch.tensor(scores), pairs=[(0, 1), (2, 3), (2, 4), (3, 4)], group_of=[0, 0, 1, 1, 1])
    for kind in ("rank", "margin", "list-rank", "expected"):
        both = mean(slic(as_responses(far), group, calibration=kind, regulariser="none"))
        alone = [found(as_responses(far[:2]), kind, scores[:2]), found(as_responses(far[2:]), kind, scores[2:])]
        assert both.item() == pytest.approx((sum(alone) / 2).item())


def test_the_kl_regulariser_asks_for_whole_distributions_and_is_zero_at_the_start():
    assert asked_by(slic) == Asks(divergence=True)
    assert asked_by(partial(slic, regulariser="ce")) == Asks()
    world = TokenWorld(words=3, length=3)
    model = world.model(scale=3.0)
    batch = collate([world.tree([20, 150], pairs=[(0, 1)], order=[1.0, 0.0])])
    scorer = Scorer(model)
    policy = scorer(batch, asks=Asks(divergence=True), against=scorer.heads(batch))
    plain = slic(policy, batch.groups, regulariser="none").per_example
    held = slic(policy, batch.groups, regulariser="kl", weight=50.0)
    torch.testing.assert_close(held.per_example, plain)
    assert held.metrics["kl"].abs().max() < 1e-6


def test_calibration_orders_the_policy_and_kl_holds_it(tmp_path):
    """The same steps with and without the regulariser: both rank better than at the start, with it the policy stays."""
    world, prompt = TokenWorld(words=3, length=3), "x"
    start = world.model(scale=2.0)
    numbers = world.sample(start, 8, prompt, seed=1).unique()
    scores = (world.rewards[numbers] + 0.01 * torch.arange(len(numbers))).tolist()
    pairs = [(i, j) for i in range(len(scores)) for j in range(len(scores)) if scores[i] > scores[j]]
    trees = [world.tree(numbers, prompt, order=scores, pairs=pairs)]
    options = LoopOptions(
        steps=12, learning_rate=1e-2, warmup=0, batch_size=1, precision="fp32", checkpoint_every=0, log_every=12
    )
    told = {}
    for kind, weight in (("none", 0.0), ("kl", 5.0)):
        model = world.model(scale=2.0)
        train(model, trees, partial(slic, regulariser=kind, weight=weight), options, tmp_path / kind)
        exact = world.exact(model, prompt, reference=start)
        logs = exact.log_probs[numbers].detach()
        right = sum(bool(logs[i] > logs[j]) for i, j in pairs) / len(pairs)
        told[kind] = right, exact.kl.item()
    before = world.log_probs(start, prompt).detach()[numbers]
    least = sum(bool(before[i] > before[j]) for i, j in pairs) / len(pairs)
    assert told["none"][0] > least
    assert told["kl"][0] > least
    assert told["kl"][1] < 0.5 * told["none"][1]


def test_a_model_s_own_architecture_may_be_any_that_is_laid_out():
    from tiny_models import pair_trees

    batch = collate(pair_trees(3))
    scorer = Scorer(make("gemma2"))
    policy = scorer(batch, asks=Asks(divergence=True), against=scorer.heads(batch))
    mean(slic(policy, batch.groups)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in scorer.parameters())
