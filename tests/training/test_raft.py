"""RAFT and online DPO: what is kept of the samples, and what training on it comes to."""

import numpy as np
import pytest
import torch
from token_runs import Tokens

from kilter.engine import Tree
from kilter.errors import KilterError
from kilter.training.dpo import dpo
from kilter.training.online_dpo import online_dpo, pair
from kilter.training.raft import select
from kilter.training.rollouts import Rollout, path, read, write
from worlds.bandit import Bandit, as_groups, as_responses


def drawn(rewards, responses=None, learned=None, reference=0.0):
    """Return a rollout of one-token responses, a list of rewards a prompt."""
    trees = []
    for g, row in enumerate(rewards):
        said = responses[g] if responses is not None else range(len(row))
        masks = [[bool(learned is None or learned[g][k])] for k in range(len(row))]
        numbers = [np.full(sum(mask), -1.0, dtype=np.float32) for mask in masks]
        info = {"id": f"p{g}", "rewards": list(map(float, row)), "cut": [0.0] * len(row), "behaviour": numbers}
        info["reference"] = [number + reference for number in numbers]
        trees.append(Tree([1], [[int(token)] for token in said], masks, info=info))
    return Rollout(trees)


def kept(rollout):
    return {tree.info["id"]: [response[0] for response in tree.responses] for tree in rollout.trees}


@pytest.mark.parametrize("k", [2, 4])
def test_the_best_of_k_has_the_density_of_the_order_statistic(k):
    """One local phase of endless data: P(y) = F(y)^K - F^-(y)^K on the tabular bandit, ties broken by the first."""
    bandit, count = Bandit(actions=5, seed=1), 8_000
    said = torch.multinomial(bandit.held.exp(), count * k, replacement=True).reshape(count, k)
    rollout = drawn(bandit.reward[said].tolist(), said.tolist())
    select(rollout)
    found = torch.bincount(torch.tensor([tree.responses[0][0] for tree in rollout.trees]), minlength=5) / count
    at_most = (bandit.held.exp()[None] * (bandit.reward[None] <= bandit.reward[:, None])).sum(1)
    below = at_most - bandit.held.exp()
    due = at_most**k - below**k
    assert (found.double() - due).abs().max() < 4 * (0.25 / count) ** 0.5


def test_what_is_kept_is_counted_and_the_whole_batch_favours_easy_prompts():
    rewards = [[0.0, 3.0, 1.0, 2.0], [9.0, 8.0, 7.0, 6.0], [5.0, 5.0, 4.0, 0.0]]
    local, top = drawn(rewards), drawn(rewards)
    select(local)
    assert kept(local) == {"p0": [1], "p1": [0], "p2": [0]}
    select(top, keep="top", share=0.5)
    assert kept(top) == {"p1": [0, 1, 2, 3], "p2": [0, 1]}
    assert top.state == {"kept": 6, "kept_reward": pytest.approx(40 / 6)}
    least = drawn(rewards)
    select(least, keep="top", share=0.01)
    assert kept(least) == {"p1": [0]}
    with pytest.raises(KilterError, match="keep=local"):
        select(drawn(rewards), keep="top", buffer=True)


def test_responses_that_were_cut_are_not_kept_and_a_penalty_counts():
    rollout = drawn([[1.0, 2.0], [0.0, 1.0]], learned=[[True, False], [False, False]])
    select(rollout)
    assert kept(rollout) == {"p0": [0]}
    nothing = drawn([[1.0, 2.0]], learned=[[False, False]])
    select(nothing)
    assert not any(nothing.trees[0].masks[0])
    away = drawn([[1.0, 0.9]])
    away.trees[0].info["reference"] = [np.array([-2.0], dtype=np.float32), np.array([-1.0], dtype=np.float32)]
    select(away, beta=0.5)
    assert kept(away) == {"p0": [1]}
    assert away.trees[0].info["rewards"] == pytest.approx([0.9])


def test_a_buffer_never_falls_and_comes_back_from_the_disk(tmp_path):
    rng, best, memory = np.random.default_rng(0), {}, {}
    for phase in range(6):
        rewards = rng.normal(size=(3, 2))
        rollout = drawn(rewards.tolist(), (10 * phase + np.arange(6).reshape(3, 2)).tolist())
        rollout.memory = memory
        select(rollout, buffer=True)
        for tree, row in zip(rollout.trees, rewards, strict=True):
            due = max(row.max(), best.get(tree.info["id"], (-np.inf,))[0])
            assert tree.info["rewards"] == [due]
            best[tree.info["id"]] = (due, tree.responses[0])
        write(path(tmp_path, phase), rollout, "mark")
        back = read(path(tmp_path, phase), "mark")
        assert [tree.responses for tree in back.trees] == [tree.responses for tree in rollout.trees]
        memory = back.memory
    assert {name: [reward, tokens] for name, (reward, tokens, *_) in memory["best"].items()} == {
        name: [reward, tokens] for name, (reward, tokens) in best.items()
    }


def test_reward_rises_from_phase_to_phase_and_variety_falls(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    for name, options in {"raft": {"samples": 8, "batch_size": 8, "copies": 4}, "raft-top": {"keep": "top"}}.items():
        found, lines = tokens.run("raft", name, steps=16, max_tokens=3, gold="gold", **options)
        rewards = [line["sampled_reward"] for line in lines]
        assert np.mean(rewards[-4:]) > np.mean(rewards[6:10]) > np.mean(rewards[:4])
        assert tokens.reward(found) > tokens.reward(tokens.model()) + 0.5
        assert tokens.entropy(found) < tokens.entropy(tokens.model())
        assert all(line["gold"] == pytest.approx(line["sampled_reward"]) for line in lines)
        assert all(line["kept_reward"] >= line["sampled_reward"] for line in lines)


def test_a_pair_is_the_best_and_the_worst_and_those_alike_teach_nothing():
    rollout = drawn([[0.0, 3.0, 1.0], [2.0, 2.0, 2.0], [1.0, 0.0, -1.0]])
    pair(rollout)
    assert kept(rollout) == {"p0": [1, 0], "p2": [0, 2]}
    assert [tree.info["pairs"] for tree in rollout.trees] == [[(0, 1)], [(0, 1)]]
    assert rollout.state == {"pairs": 2.0}
    alike = drawn([[1.0, 1.0]])
    pair(alike)
    assert alike.trees[0].info["pairs"] == []
    assert not any(alike.trees[0].masks[0])


def test_losses_of_pairs():
    tokens = torch.tensor([-1.0, -2.5, -0.5, -2.0], requires_grad=True)
    policy, group = as_responses(tokens), as_groups(pairs=[(0, 1), (3, 2)])
    reference = as_responses(torch.tensor([-1.5, -2.0, -1.0, -1.0]))
    lead = torch.tensor([1.0, -1.5])
    for loss, due in {
        "sigmoid": -torch.nn.functional.logsigmoid(0.2 * lead),
        "ipo": (lead - 2.5) ** 2,
        "hinge": (1 - 0.2 * lead).relu(),
    }.items():
        torch.testing.assert_close(online_dpo(policy, reference, group, beta=0.2, loss=loss).per_example, due)
    same = dpo(policy, reference, group, beta=0.2)
    torch.testing.assert_close(online_dpo(policy, reference, group, beta=0.2).per_example, same.per_example)


def test_online_dpo_raises_the_true_reward_and_a_larger_beta_stays_closer(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    options = {"steps": 15, "max_tokens": 3, "samples": 2, "batch_size": 16, "copies": 8}
    near, lines = tokens.run("online-dpo", "near", beta=2.0, **options)
    far, _ = tokens.run("online-dpo", "far", beta=0.1, **options)
    assert tokens.reward(far) > tokens.reward(near) > tokens.reward(tokens.model())
    assert tokens.kl(far) > tokens.kl(near) > 0
    assert {"pairs", "kl", "accuracy", "reward", "sampled_reward", "sampled_kl"} <= lines[-1].keys()


def test_a_phase_in_which_all_are_alike_moves_nothing(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    found, lines = tokens.run("online-dpo", steps=2, max_tokens=3, feedback="contains:zzz")
    assert [line["loss"] for line in lines] == [0, 0]
    for one, other in zip(found.parameters(), tokens.model().parameters(), strict=True):
        assert torch.equal(one, other)
