"""Objectives of reward models: closed forms, gradients, and what the papers say that they have in common."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kilter.engine import Groups, Values
from kilter.errors import KilterError
from kilter.training.reward import reward
from kilter.training.reward_listwise import reward_listwise
from kilter.training.reward_outcome import reward_outcome
from kilter.training.reward_process import reward_process


def said(ends, **more):
    """Return values with these ends, of responses without scored tokens unless `more` says so."""
    none = torch.zeros(0, dtype=torch.long)
    given = {"tokens": torch.zeros(0), "owner": none, "lengths": torch.zeros(len(ends), dtype=torch.long)} | more
    return Values(ends=ends, **given)


def ranked(*orders):
    """Return the groups of prompts whose responses have these scores, with every pair of unequal ones."""
    pairs, group_of, scores = [], [], []
    for g, order in enumerate(orders):
        row = len(scores)
        pairs += [(row + a, row + b) for a, b in itertools.permutations(range(len(order)), 2) if order[a] > order[b]]
        group_of += [g] * len(order)
        scores += order
    return Groups(torch.tensor(pairs), torch.tensor(group_of), torch.tensor(scores, dtype=torch.float32))


def total(loss):
    """Return a whole step's loss, as the loop divides it."""
    return loss.per_example.sum() / loss.weight.sum()


def test_a_pair_has_bradley_terry_s_loss_and_gradient():
    ends = torch.tensor([1.0, -0.5], requires_grad=True)
    loss = total(reward(said(ends), ranked([1, 0])))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.5)))
    loss.backward()
    slope = -1 / (1 + math.exp(1.5))  # -sigma(r_l - r_w)
    torch.testing.assert_close(ends.grad, torch.tensor([slope, -slope]))
    assert total(reward(said(torch.zeros(2)), ranked([1, 0]))).item() == pytest.approx(math.log(2))


def test_a_prompt_counts_once_however_many_responses_are_ranked():
    draw = torch.Generator().manual_seed(0)
    orders = [[3, 1, 2, 0], [1, 0], [0, 2, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8]]
    ends = torch.randn(sum(map(len, orders)), generator=draw)
    expected, row = [], 0
    for order in orders:
        r = ends[row : row + len(order)]
        pairs = [(a, b) for a, b in itertools.permutations(range(len(order)), 2) if order[a] > order[b]]
        expected.append(sum(-F.logsigmoid(r[a] - r[b]) for a, b in pairs) / len(pairs))
        row += len(order)
    loss = reward(said(ends), ranked(*orders))
    torch.testing.assert_close(total(loss), torch.stack(expected).mean())
    assert loss.weight.sum().item() == pytest.approx(len(orders))
    # Cutting the step into micro-batches of whole prompts does not change it.
    parts = [reward(said(ends[:6]), ranked(*orders[:2])), reward(said(ends[6:]), ranked(*orders[2:]))]
    apart = sum(part.per_example.sum() for part in parts) / sum(part.weight.sum() for part in parts)
    torch.testing.assert_close(apart, total(loss))


def test_what_is_the_same_for_all_responses_to_a_prompt_changes_nothing_but_centring():
    ends, group = torch.randn(7, generator=torch.Generator().manual_seed(1)), ranked([2, 0, 1], [0, 1], [5, 2])
    shift = torch.tensor([3.0, -1.5, 0.25])[group.group_of]
    for objective in (reward, reward_listwise):
        torch.testing.assert_close(total(objective(said(ends + shift), group)), total(objective(said(ends), group)))
    centred = total(reward(said(ends), group, centering=0.01))
    assert (total(reward(said(ends + shift), group, centering=0.01)) - centred).abs() > 1e-3


def test_margin_and_centring_are_what_they_say():
    ends, group = torch.tensor([0.3, -0.4, 0.1]), ranked([2.0, 0.5, 0.0])
    pairs = [(0, 1, 1.5), (0, 2, 2.0), (1, 2, 0.5)]
    loss = total(reward(said(ends), group, margin=2.0))
    expected = sum(-F.logsigmoid(ends[a] - ends[b] - 2 * m) for a, b, m in pairs) / 3
    torch.testing.assert_close(loss, expected)
    loss = total(reward(said(ends), group, centering=0.01))
    expected = sum(-F.logsigmoid(ends[a] - ends[b]) + 0.01 * (ends[a] + ends[b]) ** 2 for a, b, _ in pairs) / 3
    torch.testing.assert_close(loss, expected)
    group.scores = None
    with pytest.raises(KilterError, match="margin needs scores"):
        reward(said(ends), group, margin=1.0)


def test_metrics_tell_the_lead_and_count_a_tie_as_one_half():
    metrics = reward(said(torch.tensor([1.0, 1.0, 0.0])), ranked([2, 1, 0])).metrics
    assert sorted(metrics["accuracy"].tolist()) == [0.5, 1, 1]
    assert sorted(metrics["reward_margin"].tolist()) == [0, 1, 1]


def test_rewards_behind_noisy_labels_are_recovered_up_to_a_constant():
    """Labels y_1 > y_2 with P = sigma((t_1 - t_2) / tau): r comes out affine in t with slope 1 / tau."""
    draw, tau = np.random.default_rng(0), 0.5
    truth = draw.normal(size=12)
    first, second = np.array(list(itertools.combinations(range(12), 2)) * 60).T
    likely = 1 / (1 + np.exp(-(truth[first] - truth[second]) / tau))

    def labelled():
        wins = draw.random(len(likely)) < likely
        return np.where(wins, first, second), np.where(wins, second, first)

    better, worse = labelled()
    group = Groups(torch.from_numpy(np.stack((better, worse), 1)), torch.zeros(12).long())
    found = torch.zeros(12, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=100)

    def closure():
        optimizer.zero_grad()
        loss = total(reward(said(found), group))
        loss.backward()
        return loss

    optimizer.step(closure)
    r = found.detach().numpy()
    assert np.corrcoef(r, truth)[0, 1] > 0.98
    slope = np.polyfit(truth, r, 1)[0]
    assert slope == pytest.approx(1 / tau, rel=0.1)
    # Nobody foresees fresh labels better than who knows the truth does.
    better, worse = labelled()
    accuracy, most = np.mean(r[better] > r[worse]), np.mean(np.maximum(likely, 1 - likely))
    error = math.sqrt(most * (1 - most) / len(likely))
    assert most - 4 * error < accuracy < most + 3 * error


def test_listwise_of_two_is_bradley_terry():
    ends = torch.randn(6, generator=torch.Generator().manual_seed(2))
    group = ranked([1, 0], [0, 1], [3, -2])
    torch.testing.assert_close(total(reward_listwise(said(ends), group)), total(reward(said(ends), group)))


def test_listwise_is_a_distribution_over_rankings():
    ends = torch.randn(4, generator=torch.Generator().manual_seed(3))
    likely = [
        math.exp(-reward_listwise(said(ends), ranked([float(x) for x in order])).per_example.sum())
        for order in itertools.permutations(range(4))
    ]
    assert sum(likely) == pytest.approx(1.0, abs=1e-5)
    # By hand, for one of them: the best of all, then of the rest.
    weights = ends.exp().tolist()
    expected, left = 1.0, sum(weights)
    for k in (2, 0, 3, 1):
        expected *= weights[k] / left
        left -= weights[k]
    order = [2.0, 0.0, 3.0, 1.0]
    assert math.exp(-reward_listwise(said(ends), ranked(order)).per_example.sum()) == pytest.approx(expected, rel=1e-4)


def test_equals_in_a_ranking_stand_in_each_other_s_sums():
    r = torch.tensor([0.2, -0.7, 1.1, 0.4])
    loss = reward_listwise(said(r), ranked([2, 1, 1, 0])).per_example.sum()
    rest = torch.logsumexp(r[1:], 0)
    expected = (torch.logsumexp(r, 0) - r[0]) + (rest - r[1]) + (rest - r[2])
    torch.testing.assert_close(loss, expected)


def test_listwise_weighs_prompts_alike():
    ends, group = torch.randn(6, generator=torch.Generator().manual_seed(4)), ranked([3, 2, 1, 0], [0, 1])
    loss = reward_listwise(said(ends), group)
    parts = loss.per_example[:4].sum(), loss.per_example[4:].sum()
    torch.testing.assert_close(total(loss), (parts[0] + parts[1]) / 2)


def test_the_whole_ranking_s_likelihood_is_the_more_efficient_of_the_two():
    """Zhu et al. 2023: the inverse Fisher information is no larger than the pairs' sandwich, in the Loewner order."""
    features = torch.tensor([[1.0, 0.2], [-0.3, 0.8], [0.5, -1.0], [-0.9, -0.4]], dtype=torch.float64)
    theta = torch.tensor([0.7, -0.5], dtype=torch.float64)
    rankings = [ranked([float(x) for x in order]) for order in itertools.permutations(range(4))]
    likely = torch.tensor([math.exp(-total(reward_listwise(said(features @ theta), g)) * 1.0) for g in rankings])
    likely = likely.double()
    assert likely.sum().item() == pytest.approx(1.0)
    spread = {}
    for objective in (reward_listwise, reward):
        bend, push = torch.zeros(2, 2).double(), torch.zeros(2, 2).double()
        for p, group in zip(likely, rankings, strict=True):

            def loss(t, objective=objective, group=group):
                return total(objective(said(features @ t), group))

            slope = torch.autograd.functional.jacobian(loss, theta)
            bend += p * torch.autograd.functional.hessian(loss, theta)
            push += p * torch.outer(slope, slope)
        spread[objective] = torch.linalg.inv(bend) @ push @ torch.linalg.inv(bend)
        if objective is reward_listwise:
            torch.testing.assert_close(bend, push)  # the information equality of a likelihood
    assert torch.linalg.eigvalsh(spread[reward] - spread[reward_listwise]).min() > 1e-6


def stepped(marks, owner, labels):
    values = said(torch.zeros(max(owner) + 1), marks=torch.tensor(marks), mark_owner=torch.tensor(owner))
    groups = Groups(torch.zeros(0, 2).long(), torch.arange(max(owner) + 1), mark_labels=torch.tensor(labels))
    return values, groups


def test_a_step_has_the_loss_of_a_classifier_of_two():
    marks, labels = [0.3, -1.2, 2.0, 0.1], [1.0, 0.0, 0.0, 1.0]
    loss = reward_process(*stepped(marks, [0, 0, 1, 1], labels))
    logits = torch.stack((torch.zeros(4), torch.tensor(marks)), dim=1)
    torch.testing.assert_close(total(loss), F.cross_entropy(logits, torch.tensor(labels).long()))
    assert loss.metrics["accuracy"].tolist() == [1, 1, 0, 1]


def test_a_soft_label_is_met_by_its_own_probability():
    marks = torch.tensor([math.log(0.3 / 0.7), 0.0], requires_grad=True)
    values, groups = stepped([0.0, 0.0], [0, 0], [0.3, 0.9])
    values.marks = marks
    total(reward_process(values, groups)).backward()
    assert marks.grad[0].item() == pytest.approx(0.0, abs=1e-7)
    assert marks.grad[1].item() == pytest.approx((0.5 - 0.9) / 2)


def test_learning_the_last_step_alone_is_learning_the_outcome():
    values, groups = stepped([0.3, -1.2, 2.0, 0.1, -0.4], [0, 0, 1, 1, 2], [1.0, 0.0, 0.0, 1.0, 1.0])
    loss = reward_process(values, groups, last_step_only=True)
    groups.labels = torch.tensor([0.0, 1.0, 1.0])
    outcome = reward_outcome(said(torch.tensor([-1.2, 0.1, -0.4])), groups)
    torch.testing.assert_close(loss.per_example, outcome.per_example)
    assert loss.weight.sum() == 3


def test_an_outcome_may_be_foretold_at_every_token():
    ends, tokens = torch.tensor([0.5, -1.0]), torch.tensor([0.1, 0.2, -0.3])
    values = said(ends, tokens=tokens, owner=torch.tensor([0, 0, 1]), lengths=torch.tensor([2, 1]))
    groups = Groups(torch.zeros(0, 2).long(), torch.arange(2), labels=torch.tensor([1.0, 0.0]))
    expected = F.binary_cross_entropy_with_logits(
        torch.tensor([0.5, 0.1, 0.2, -1.0, -0.3]), torch.tensor([1.0, 1, 1, 0, 0])
    )
    torch.testing.assert_close(total(reward_outcome(values, groups, every_token=True)), expected)
    plain = F.binary_cross_entropy_with_logits(ends, groups.labels)
    torch.testing.assert_close(total(reward_outcome(values, groups)), plain)


@pytest.mark.parametrize("objective", [reward_listwise, reward_process, reward_outcome])
def test_what_is_missing_is_said(objective):
    groups = Groups(torch.tensor([[0, 1]]), torch.tensor([0, 0]))
    with pytest.raises(KilterError, match="; give "):
        objective(said(torch.zeros(2)), groups)
