"""Pessimistic maximum likelihood: the bandit on which greed fails, rankings beside pairs, and reward models."""

import itertools
import math

import pytest
import torch
from judged_data import groups, worth

import kilter
from kilter.errors import KilterError
from kilter.feedback.named import named
from kilter.models.drive import wait
from kilter.records import Group, Message, Prompt
from kilter.training.run import train
from kilter.training.zhu_pessimism import (
    covariance,
    inverse_root,
    listwise,
    maximum_likelihood,
    negative_log_likelihood,
    pairwise,
    pessimistic,
    together,
    width,
)

EYE = torch.eye(4, dtype=torch.float64)


def compared(pairs):
    """Return the features and orders of comparisons (winner, loser) of actions."""
    return [EYE[list(pair)] for pair in pairs], [torch.tensor([1.0, 0.0], dtype=torch.float64)] * len(pairs)


def test_greed_stays_wrong_where_pessimism_does_not():
    """Two actions compared 2,000 times, two only once each: whoever wins its one comparison looks the best."""
    truth = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    lost = {"greedy": 0.0, "pessimistic": 0.0}
    draw = torch.Generator().manual_seed(0)
    for _ in range(12):
        pairs = []
        for (a, b), count in {(0, 1): 2000, (2, 1): 1, (3, 1): 1}.items():
            wins = (torch.rand(count, generator=draw) < torch.sigmoid(truth[a] - truth[b])).sum().item()
            pairs += [(a, b)] * wins + [(b, a)] * (count - wins)
        kinds = sorted(set(pairs))
        # Equal comparisons are one that counts so many times.
        features, orders = compared(kinds)
        number = torch.tensor([pairs.count(kind) for kind in kinds], dtype=torch.float64)
        theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([theta], max_iter=100, line_search_fn="strong_wolfe")

        def closure(theta=theta, optimizer=optimizer, features=features, orders=orders, number=number):
            optimizer.zero_grad()
            each = torch.stack([pairwise(x @ theta, o) for x, o in zip(features, orders, strict=True)])
            loss = (each * number).sum() / number.sum() + 1e-5 * theta @ theta
            loss.backward()
            return loss

        optimizer.step(closure)
        sigma = sum(n * covariance([x]) for n, x in zip(number, features, strict=True)) / number.sum()
        least = pessimistic(EYE, theta.detach(), inverse_root(sigma, 1e-4), EYE[1], 0.1)
        lost["greedy"] += (truth.max() - truth[theta.argmax()]).item() / 12
        lost["pessimistic"] += (truth.max() - truth[least.argmax()]).item() / 12
    assert lost["greedy"] > 0.3
    assert lost["pessimistic"] == 0


def test_what_was_never_compared_is_in_endless_doubt():
    features, _ = compared([(0, 1), (1, 2)])
    sigma = covariance(features)
    doubts = [float((EYE[3] @ inverse_root(sigma, ridge)).norm()) for ridge in (1e-2, 1e-4, 1e-6)]
    assert doubts == pytest.approx([1e1, 1e2, 1e3])
    seen = [float(((EYE[0] - EYE[1]) @ inverse_root(sigma, ridge)).norm()) for ridge in (1e-4, 1e-6)]
    assert seen[0] == pytest.approx(seen[1], rel=1e-2)


def test_the_pessimistic_reward_is_the_least_within_the_doubt():
    draw = torch.Generator().manual_seed(3)
    x, theta, v = (torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((1, 4), (4,), (4,)))
    sigma = covariance([torch.randn(3, 4, generator=draw, dtype=torch.float64) for _ in range(9)])
    root, f = inverse_root(sigma, 0.1), 0.7
    least = pessimistic(x, theta, root, v, f)[0]
    directions = torch.randn(20_000, 4, generator=draw, dtype=torch.float64)
    near = theta + f * (directions / directions.norm(dim=1, keepdim=True)) @ root
    assert (near @ (x[0] - v)).min() >= least - 1e-12
    assert (near @ (x[0] - v)).min().item() == pytest.approx(least.item(), abs=0.05)


def test_of_two_the_likelihoods_are_the_same_and_a_ranking_is_its_choices():
    draw = torch.Generator().manual_seed(1)
    two = torch.randn(2, generator=draw, dtype=torch.float64)
    order = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(listwise(two, order), pairwise(two, order))
    r = torch.randn(4, generator=draw, dtype=torch.float64)
    ranked = [2, 0, 3, 1]
    order = torch.tensor([2.0, 0.0, 3.0, 1.0], dtype=torch.float64)
    best_first = sorted(range(4), key=lambda k: -ranked[k])
    due = sum(r[best_first[k:]].logsumexp(0) - r[best_first[k]] for k in range(4))
    torch.testing.assert_close(listwise(r, order), due)
    both = together([torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[:2]], [order, order[:2]])
    due_two = listwise(r[:2], order[:2])
    torch.testing.assert_close(negative_log_likelihood(r, both, "listwise"), (due + due_two) / 2)
    theta = r.clone().requires_grad_()
    negative_log_likelihood(theta, both, "listwise").backward()
    assert theta.grad.isfinite().all()
    torch.testing.assert_close(negative_log_likelihood(r, both, "pairs"), (pairwise(r, order) + due_two) / 2)
    tied = listwise(r[:3], torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(tied, 2 * r[:3].logsumexp(0) - r[0] - r[1])


def test_whole_rankings_tell_more_than_their_pairs_taken_apart():
    """The asymptotic covariance of Plackett-Luce is below the sandwich of the pairs, in every direction."""
    theta = torch.tensor([0.8, 0.0, -0.5], dtype=torch.float64)

    def information(loss):
        fisher = outer = 0.0
        for ranked in itertools.permutations(range(4)):
            order = torch.tensor([4.0 - ranked.index(k) for k in range(4)], dtype=torch.float64)

            def of(t, order=order, by=loss):
                return by(torch.cat((t, t.new_zeros(1))), order)

            chance = torch.exp(-listwise(torch.cat((theta, theta.new_zeros(1))), order))
            slope = torch.autograd.functional.jacobian(of, theta)
            fisher = fisher + chance * torch.autograd.functional.hessian(of, theta)
            outer = outer + chance * torch.outer(slope, slope)
        return torch.linalg.inv(fisher) @ outer @ torch.linalg.inv(fisher), torch.linalg.inv(fisher)

    whole, inverse_fisher = information(listwise)
    torch.testing.assert_close(whole, inverse_fisher)  # a likelihood's own sandwich is the inverse information
    apart, _ = information(pairwise)
    assert torch.linalg.eigvalsh(apart - whole).min() > 1e-4


def test_the_estimate_is_right_and_keeps_its_bound():
    draw = torch.Generator().manual_seed(2)
    theta = torch.tensor([0.6, -0.4, 0.2], dtype=torch.float64)
    features = [torch.randn(3, 3, generator=draw, dtype=torch.float64) for _ in range(1200)]
    orders = []
    for x in features:  # the order of rewards with Gumbel noise is Plackett and Luce's
        noise = -torch.log(-torch.log(torch.rand(3, generator=draw, dtype=torch.float64)))
        orders.append(x @ theta + noise)
    for likelihood in ("listwise", "pairs"):
        found = maximum_likelihood(features[:400], orders[:400], likelihood=likelihood, bound=5.0)
        assert (found - theta).norm() < 0.2
    held = maximum_likelihood(features[:150], orders[:150], bound=0.3)
    assert held.norm().item() == pytest.approx(0.3, rel=2e-2)
    assert torch.cosine_similarity(held, theta, dim=0) > 0.95


def test_the_width_is_the_lemma_s():
    gamma = 1 / (2 + math.exp(-1) + math.e)
    due = 2 * math.sqrt((10 + math.log(20)) / (gamma**2 * 400) + 1e-3)
    assert width(dimensions=10, comparisons=400, constant=2.0) == pytest.approx(due)


def test_a_reward_model_takes_off_what_it_does_not_know(tiny_model, tmp_path):
    told = {"model": tiny_model, "data": groups(120, 0), "say": lambda notes: None, "max_length": 128, "bound": 50.0}
    sure = train("zhu-pessimism", out=tmp_path / "sure", confidence_width=0.0, **told)
    wary = train("zhu-pessimism", out=tmp_path / "wary", confidence_width=0.2, **told)
    assert train("zhu-pessimism", out=tmp_path / "wary", confidence_width=0.2, **told).kept
    with pytest.raises(KilterError, match=r"confidence_width is 0.2 there and 0.3 here"):
        train("zhu-pessimism", out=tmp_path / "wary", confidence_width=0.3, **told)
    held = groups(60, 1)
    found = kilter.evaluate("reward-accuracy", model=str(sure.out), records=held).measures["reward_accuracy"]
    assert found.value > 0.65
    usual, strange = Prompt([Message("user", "say the 3")]), "blue " * 30
    one, other = named(str(sure.out)), named(str(wary.out))
    for response, most in ((held[0].responses[0], 1.0), (strange, math.inf)):
        [free], [less] = wait(one(usual, [response])), wait(other(usual, [response]))
        assert 0 < free.score - less.score < most
    [[free, odd]] = [[signal.score for signal in wait(one(usual, [held[0].responses[0], strange]))]]
    [[less, odder]] = [[signal.score for signal in wait(other(usual, [held[0].responses[0], strange]))]]
    assert odd - odder > free - less
    assert worth(strange) > 0


def test_nothing_to_compare_is_a_sentence(tiny_model, tmp_path):
    alike = [Group([Message("user", "what?")], ["a", "b"], scores=[1.0, 1.0])]
    with pytest.raises(KilterError, match="no pair of a better and a worse response"):
        train("zhu-pessimism", model=tiny_model, data=alike, out=tmp_path / "out")
