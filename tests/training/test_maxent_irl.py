"""Maximum-entropy IRL: its gradient, its likelihood where every run is written down, and the reward that it finds."""

import pytest
import torch
from test_reward import ranked, said, total

from kilter.errors import KilterError
from kilter.training.maxent_irl import expected, log_likelihood, maxent_irl, start_values, tabular
from kilter.training.mdp import best_policy, counts, soft_policy, visits
from kilter.training.reward_listwise import reward_listwise
from worlds.grid import Grid

SMALL = Grid(["ab", "cb"], horizon=4)
LARGE = Grid(["aaaaa", "abbba", "abcba", "aabba", "aaaag"], horizon=9)


def test_the_gradient_is_what_is_demonstrated_less_what_is_expected():
    mdp, truth = SMALL.mdp, SMALL.weights(b=0.7, c=-1.0)
    states, actions = SMALL.runs()
    chosen = torch.tensor([3, 40, 77, 77, 110])
    weights = truth.clone().requires_grad_()
    [found] = torch.autograd.grad(log_likelihood(mdp, weights, states[chosen], actions[chosen]), weights)
    demonstrated = mdp.features[states[chosen]].sum(1).mean(0)
    torch.testing.assert_close(found, demonstrated - expected(mdp, truth))
    for i in range(len(truth)):
        step = torch.zeros_like(truth)
        step[i] = 1e-5
        up, down = (log_likelihood(mdp, truth + sign * step, states[chosen], actions[chosen]) for sign in (1, -1))
        assert ((up - down) / 2e-5).item() == pytest.approx(found[i].item(), abs=1e-8)


def test_where_every_run_is_written_down_it_is_the_first_choice_of_plackett_and_luce():
    mdp, weights = SMALL.mdp, SMALL.weights(a=0.3, b=-0.5, c=1.2)
    states, actions = SMALL.runs()
    rewards = mdp.features[states].sum(1) @ weights
    assert torch.logsumexp(rewards, 0).item() == pytest.approx((mdp.start @ start_values(mdp, weights)).item())
    alone = log_likelihood(mdp, weights, states[9:10], actions[9:10])
    torch.testing.assert_close(rewards[9] - torch.logsumexp(rewards, 0), alone)
    scores = [0.0] * len(rewards)
    scores[9] = 1.0
    torch.testing.assert_close(total(maxent_irl(said(rewards), ranked(scores))), -alone)


def test_the_reward_is_found_up_to_what_no_run_can_tell():
    mdp, truth = LARGE.mdp, LARGE.weights(a=-0.2, b=-1.5, c=1.0, g=1.3)
    found = tabular(mdp, expected(mdp, truth))
    # All runs are of one length: the same number for every terrain changes nothing.
    torch.testing.assert_close(found - found.mean(), truth - truth.mean(), atol=1e-3, rtol=0)
    torch.testing.assert_close(expected(mdp, found), expected(mdp, truth), atol=1e-4, rtol=0)
    slippery = Grid(LARGE.rows, horizon=9, slip=0.3).mdp
    found = tabular(slippery, expected(slippery, truth))
    torch.testing.assert_close(found - found.mean(), truth - truth.mean(), atol=1e-3, rtol=0)
    with pytest.raises(KilterError, match="No weights make a policy meet"):
        tabular(mdp, torch.full_like(truth, 50.0))


def test_plans_of_a_process_written_out():
    mdp, weights = SMALL.mdp, SMALL.weights(c=1.0)
    assert visits(mdp, soft_policy(mdp, weights)).sum(1).tolist() == pytest.approx([1] * 4)
    states, _ = SMALL.runs()
    runs = mdp.features[states].sum(1)
    best = counts(mdp, best_policy(mdp, mdp.rewards(weights)))
    assert (best @ weights).item() == (runs @ weights).max().item() == 3
    # Twenty times the reward, and chance has as good as no say.
    torch.testing.assert_close(expected(mdp, 20 * weights), best, atol=1e-6, rtol=0)


def test_a_judge_learns_that_the_demonstrated_one_is_best_and_nothing_of_the_others():
    ends = torch.tensor([0.5, -1.0, 0.2, 2.0, 1.0], requires_grad=True)
    group = ranked([2, 0, 1], [1, 0])
    loss = total(maxent_irl(said(ends), group))
    due = -(torch.log_softmax(ends[:3], 0)[0] + torch.log_softmax(ends[3:], 0)[0]) / 2
    torch.testing.assert_close(loss, due)
    other = ranked([2, 1, 0], [1, 0])
    torch.testing.assert_close(total(maxent_irl(said(ends), other)), loss)
    # Of two, it is Plackett and Luce's whole likelihood; of two that are best each counts half.
    pair = ranked([1, 0])
    torch.testing.assert_close(total(maxent_irl(said(ends[:2]), pair)), total(reward_listwise(said(ends[:2]), pair)))
    both = total(maxent_irl(said(ends[:3]), ranked([1, 0, 1])))
    torch.testing.assert_close(both, -torch.log_softmax(ends[:3], 0)[[0, 2]].mean())
    group.scores = None
    with pytest.raises(KilterError, match="A demonstration is due"):
        maxent_irl(said(ends), group)
