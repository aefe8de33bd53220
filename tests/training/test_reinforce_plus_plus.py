"""REINFORCE++: its advantages against those of PPO without a critic, and that it climbs."""

import numpy as np
import pytest
import torch
from token_runs import Tokens

from kilter.engine import Tree
from kilter.training import ppo
from kilter.training.policy_gradient import surrogate, whitened
from kilter.training.reinforce_plus_plus import reinforce_plus_plus, shape, to_come
from kilter.training.rollouts import Rollout
from worlds.bandit import as_groups, as_responses, mean


def rollout(seed=0, lengths=(3, 1, 2, 4), groups=(2, 2)):
    rng, trees, rest = np.random.default_rng(seed), [], iter(lengths)
    for g, count in enumerate(groups):
        sizes = [next(rest) for _ in range(count)]
        info = {"id": str(g), "rewards": rng.normal(size=count).tolist(), "cut": [0.0] * count}
        for name in ("behaviour", "reference"):
            info[name] = [-rng.random(size).astype(np.float32) for size in sizes]
        info["values"] = [np.zeros(size, dtype=np.float32) for size in sizes]
        trees.append(Tree([1], [[2] * size for size in sizes], [[True] * size for size in sizes], info=info))
    return Rollout(trees)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_advantages_are_ppo_s_where_its_critic_says_nothing(gamma):
    one, other = rollout(), rollout()
    shape(one, kl_coef=0.3, gamma=gamma)
    ppo.shape(other, kl_coef=0.3, gamma=gamma, lam=1.0)
    np.testing.assert_allclose(one.flat("advantages"), other.flat("advantages"), atol=1e-6)
    assert abs(one.flat("advantages").mean()) < 1e-6
    assert one.flat("advantages").std(ddof=1) == pytest.approx(1, abs=1e-5)


def test_what_is_still_to_come_is_summed_from_the_end():
    assert to_come(np.array([1.0, 2.0, 4.0]), 0.5).tolist() == [3.0, 4.0, 4.0]
    assert to_come(np.array([]), 0.5).tolist() == []


def test_a_group_s_mean_is_taken_off_where_asked_and_masked_responses_count_for_nothing():
    one = rollout()
    one.trees[0].info["rewards"] = [5.0, 5.0]
    shape(one, kl_coef=0.0, group_baseline=True)
    same = one.flat("advantages")[:4]
    assert same == pytest.approx([same[0]] * 4)
    masked = rollout()
    masked.trees[0].masks[1] = [False]
    for name in ("behaviour", "reference", "values"):
        masked.trees[0].info[name][1] = np.empty(0, dtype=np.float32)
    masked.trees[0].info["rewards"][1] = 1e9
    shape(masked)
    assert len(masked.flat("advantages")) == 9
    assert np.abs(masked.flat("advantages")).max() < 4


def test_the_loss_is_the_clipped_objective_over_the_tokens_of_a_step():
    tokens = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    policy, group = as_responses(tokens, [2, 1]), as_groups([0.0, 1.0])
    group.rewards, group.behaviour = group.scores, torch.tensor([-1.3, -1.5, -0.5], dtype=torch.float64)
    group.advantages = whitened(torch.tensor([1.0, -1.0, 3.0], dtype=torch.float64))
    gain, _ = surrogate(tokens - group.behaviour, group.advantages, 0.2, 0.2)
    torch.testing.assert_close(mean(reinforce_plus_plus(policy, group)), -gain.mean())


def test_true_reward_rises_and_a_larger_kl_coefficient_stays_closer(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    options = {"steps": 16, "max_tokens": 3, "samples": 1, "batch_size": 64, "copies": 32}
    far, lines = tokens.run("reinforce++", "far", kl_coef=0.01, **options)
    near, _ = tokens.run("reinforce++", "near", kl_coef=1.0, **options)
    assert tokens.reward(far) > tokens.reward(near) > tokens.reward(tokens.model())
    assert tokens.kl(far) > tokens.kl(near) > 0
    # What the run says of its distance is the truth, as far as samples go.
    assert lines[0]["sampled_kl"] == pytest.approx(0, abs=1e-5)
    assert lines[-1]["sampled_kl"] == pytest.approx(tokens.kl(far), rel=0.5)
