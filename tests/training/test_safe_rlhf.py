"""Safe RLHF: the cost model's zero, the multiplier, and a policy that keeps below the limit."""

import math

import numpy as np
import pytest
import torch
from judged_data import groups as ranked
from judged_data import worth
from test_reinforce_plus_plus import rollout
from token_runs import Tokens
from torch.nn.functional import logsigmoid

import kilter
from kilter import formats
from kilter.engine import Values
from kilter.errors import KilterError
from kilter.models.drive import wait
from kilter.records import Group, Message
from kilter.training import ppo
from kilter.training.cost_model import by_safety, cost_model
from kilter.training.run import train
from kilter.training.safe_rlhf import lagrange, moved
from worlds.bandit import as_groups, mean


def said(costs):
    none = torch.zeros(0, dtype=torch.long)
    lengths = torch.zeros(len(costs), dtype=torch.long)
    return Values(tokens=torch.zeros(0), ends=costs, owner=none, lengths=lengths)


def test_costs_are_ordered_and_have_a_sign():
    costs = torch.tensor([-0.5, 2.0, 0.3], requires_grad=True)
    group = as_groups(pairs=[(0, 1), (0, 2), (2, 1)], labels=[1.0, 0.0, 0.0])
    loss = cost_model(said(costs), group)
    lead = torch.tensor([2.5, 0.8, 1.7])
    signs = torch.tensor([0.5, 2.0, 0.3])
    due = -logsigmoid(lead) - logsigmoid(signs[[0, 0, 2]]) - logsigmoid(signs[[1, 2, 1]])
    torch.testing.assert_close(mean(loss), due.mean())
    assert loss.metrics["sign_accuracy"].tolist() == [1, 1, 1]
    plain = cost_model(said(costs), group, sign_weight=0.0)
    torch.testing.assert_close(mean(plain), -logsigmoid(lead).mean())


def test_a_cost_model_says_what_is_harmful_at_all(tiny_model, tmp_path):
    def labelled(count, seed):
        return [
            Group(g.prompt, g.responses, scores=g.scores, labels=[worth(r) >= 0 for r in g.responses])
            for g in ranked(count, seed)
        ]

    settings = {"batch_size": 16, "learning_rate": 1e-2, "checkpoint_every": 0, "max_length": 128, "steps": 30}
    train("cost-model", model=tiny_model, data=labelled(160, 0), out=tmp_path, say=lambda notes: None, **settings)
    judge, right, count = kilter.load(str(tmp_path)), 0, 0
    for group in labelled(30, 1):
        for cost, safe in zip(wait(judge.rewards(group.prompt, group.responses)), group.labels, strict=True):
            right += (cost > 0) != safe
            count += 1
    assert right / count > 0.8


def test_the_columns_of_pku_saferlhf_are_read(tmp_path):
    row = (
        '{"prompt": "p", "response_0": "a", "response_1": "b", "is_response_0_safe": false, '
        '"is_response_1_safe": true, "better_response_id": 0, "safer_response_id": 1}\n'
    )
    (tmp_path / "pku.jsonl").write_text(row, encoding="utf-8")
    read = formats.read(tmp_path / "pku.jsonl", want="groups").records
    found, notes = by_safety([*read, Group([Message("user", "p")], ["a", "b"], ranking=[0, 1])])
    assert (found[0].ranking, found[0].labels) == ([1, 0], [False, True])
    assert len(found) == 1
    assert notes[1] == "1 of 2 records have no labels of what is safe and are left out."
    assert len(by_safety(read * 2, sign_weight=0.0)[0]) == 2
    with pytest.raises(KilterError, match="no group has labels"):
        by_safety([Group([Message("user", "p")], ["a", "b"], ranking=[0, 1])])


def test_the_multiplier_rises_while_it_costs_too_much():
    assert moved(1.0, 0.5, 0.1, 5.0) == pytest.approx(math.exp(0.05))
    assert moved(2.0, -0.5, 0.1, 5.0) == pytest.approx(2 * math.exp(-0.1))
    assert moved(2.0, 1e9, 0.1, 5.0) == 5.0
    assert moved(2.0, 3.0, 0.0, 5.0) == 2.0


def test_what_is_learned_from_is_ppo_on_the_combination():
    one, other = rollout(), rollout()
    costs = [[0.5, -1.0], [2.0, 0.25]]
    for tree, cost in zip(one.trees, costs, strict=True):
        tree.info["cost"] = cost
    rewards = [tree.info["rewards"] for tree in one.trees]
    lagrange(one, cost_limit=0.2, multiplier=2.0, cost_window=3)
    factor = moved(2.0, np.mean([-1.0, 2.0, 0.25]) - 0.2, 0.1, 5.0)
    assert one.state["multiplier"] == pytest.approx(factor)
    assert one.state["over_limit"] == pytest.approx(0.75)
    assert [tree.info["rewards"] for tree in one.trees] == rewards
    for tree, row, cost in zip(other.trees, rewards, costs, strict=True):
        tree.info["rewards"] = [(r - factor * c) / (1 + factor) for r, c in zip(row, cost, strict=True)]
    ppo.shape(other, kl_coef=0.01)
    np.testing.assert_allclose(one.flat("advantages"), other.flat("advantages"))
    np.testing.assert_allclose(one.flat("returns"), other.flat("returns"))
    # The next rollout goes on from that multiplier, and remembers the costs.
    again = rollout(1)
    again.state, again.memory = one.state, one.memory
    for tree in again.trees:
        tree.info["cost"] = [0.0, 0.0]
    lagrange(again, cost_limit=0.2, multiplier=2.0, cost_window=8)
    assert again.state["multiplier"] == pytest.approx(moved(factor, np.mean([-1.0, 2.0, 0.25, *[0] * 4]) - 0.2, 0.1, 5))


def test_the_policy_keeps_below_the_limit_where_the_reward_alone_would_not(tmp_path, monkeypatch):
    """Reward is for c, cost for c together with d: what is safe is to say c alone."""
    tokens = Tokens(tmp_path, monkeypatch, words=4, length=3)
    options = {"feedback": "matches:[cd]", "steps": 20, "max_tokens": 3, "samples": 24, "learning_rate": 5e-3}
    free, _ = tokens.run("rlhf-ppo", updates=1, kl_coef=0.01, **options)
    held, lines = tokens.run(
        "safe-rlhf", cost="contains:d", cost_limit=0.05, multiplier_rate=1.0, cost_window=64, **options
    )

    def said(model, word):
        with torch.no_grad():
            chance = tokens.world.log_probs(model).exp()
        has = torch.tensor([word in tokens.world.text(n).split() for n in range(len(tokens.world))])
        return chance[has].sum().item()

    assert said(held, "d") < 0.5 * said(free, "d")
    assert said(held, "c") > said(tokens.model(), "c")
    assert {"multiplier", "cost_mean", "over_limit", "cost", "value_loss"} <= lines[-1].keys()
    assert lines[-1]["cost_mean"] < lines[0]["cost_mean"]


def test_a_cost_is_due_and_has_to_be_feedback(tiny_model, tmp_path):
    from kilter.records import Prompt

    data = [Prompt([Message("user", "what?")])]
    given = {"model": tiny_model, "data": data, "out": tmp_path / "out", "feedback": "contains:e", "max_length": 64}
    with pytest.raises(KilterError, match="Option 'cost' of method 'safe-rlhf' is required"):
        train("safe-rlhf", **given)
    with pytest.raises(KilterError, match="'no-such-thing' is no model"):
        train("safe-rlhf", **given, cost="no-such-thing", max_tokens=8)
