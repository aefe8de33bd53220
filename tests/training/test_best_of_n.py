"""Best of n: order statistics, the distance that it can be away, and a model that learned it."""

import itertools
import json
import math
import random

import pytest
import torch
from token_runs import OPTIONS, Tokens

from kilter.errors import KilterError
from kilter.training import best_of_n as module
from kilter.training.best_of_n import best_of, kl
from kilter.training.run import train
from worlds.tokens import Gold


@pytest.mark.parametrize("n", [2, 4, 16])
def test_the_distance_is_exact_for_rewards_that_differ_and_a_bound_for_others(n):
    actions = 4000
    even = torch.full((actions,), 1 / actions, dtype=torch.float64)
    at_most = even.cumsum(0)
    best = at_most**n - (at_most - even) ** n
    assert (best * (best / even).log()).sum().item() == pytest.approx(kl(n), abs=2e-3)
    coarse = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    at_most = coarse.cumsum(0)
    best = at_most**n - (at_most - coarse) ** n
    assert (best * (best / coarse).log()).sum().item() < kl(n)


def test_the_mean_of_the_best_of_k_is_that_over_all_choices():
    rewards = [random.Random(1).gauss(0, 1) for _ in range(6)]
    for k in range(1, 7):
        chosen = list(itertools.combinations(rewards, k))
        assert best_of(rewards, k) == pytest.approx(sum(map(max, chosen)) / len(chosen))
        gold = [-r * r for r in rewards]
        assert best_of(rewards, k, gold) == pytest.approx(sum(-(max(c) ** 2) for c in chosen) / len(chosen))


def test_the_model_answers_as_the_best_of_its_own_did(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    plain = module.named
    monkeypatch.setattr(module, "named", lambda name: Gold(tokens.world) if name == "gold" else plain(name))
    given = {name: OPTIONS[name] for name in ("learning_rate", "warmup", "precision", "max_length", "checkpoint_every")}
    told = {"model": tokens.start, "data": tokens.world.prompts(copies=24), "say": lambda notes: None, **given}
    settings = {"feedback": "gold", "gold": "contains:a", "n": 8, "max_tokens": 3, "steps": 20, "batch_size": 16}
    done = train("best-of-n", out=tmp_path / "out", **told, **settings)
    assert tokens.reward(tokens.model(done.out)) > tokens.reward(tokens.model()) + 0.5
    lines = [json.loads(line) for line in (done.out / "best_of.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["n"] for line in lines] == list(range(1, 9))
    assert [line["reward"] for line in lines] == sorted(line["reward"] for line in lines)
    assert lines[7]["gold"] > lines[0]["gold"] > 0
    error = 4 * 1.2 / math.sqrt(48 * 8)
    assert lines[0]["reward"] == pytest.approx(tokens.reward(tokens.model()), abs=error)
    assert lines[3]["kl"] == pytest.approx(math.log(4) - 0.75)
    assert train("best-of-n", out=tmp_path / "out", **told, **settings).kept
    with pytest.raises(KilterError, match="Option 'n'"):
        train("best-of-n", out=tmp_path / "other", **told, **settings | {"n": 1})
