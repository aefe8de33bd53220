"""Reward over-optimisation: gold rises and falls while its proxy rises, by the laws, and later the better the proxy."""

import json
import math

import numpy as np
import pytest
import torch
from token_runs import OPTIONS, Tokens

import kilter
from kilter.errors import KilterError
from kilter.feedback.overoptimised import fitted
from kilter.feedback.protocol import Signal
from kilter.training import best_of_n, online_setup, reward_overopt
from kilter.training.best_of_n import kl
from kilter.training.run import train
from worlds.tokens import Gold, TokenWorld

WORTH = (0.0, 1.0, 2.0, -1.0)


class Wanted:
    """What is meant: good words, but not three of them; the proxy, which counts them, does not know."""

    name = "wanted"

    def check(self, prompts):
        pass

    async def __call__(self, prompt, responses):
        return [Signal(score=WORTH[response.split().count("a")]) for response in responses]


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    known = {"gold": lambda: Gold(tokens.world), "wanted": Wanted}
    for module in (reward_overopt, online_setup, best_of_n):
        plain = module.named
        monkeypatch.setattr(module, "named", lambda name, plain=plain: known[name]() if name in known else plain(name))
    return tokens


def run(tokens, out, **options):
    told = {"model": tokens.start, "data": tokens.world.prompts(copies=8), "say": lambda notes: None}
    shared = {name: OPTIONS[name] for name in ("warmup", "schedule", "precision", "max_length", "checkpoint_every")}
    return train("reward-overopt", out=tokens.folder / out, **told, **shared | {"max_tokens": 3, **options})


def test_a_policy_learns_the_proxy_s_mistakes_and_is_told_from_where_on(tokens):
    options = {"gold": "wanted", "feedback": "gold", "by": "reinforce++", "samples": 32, "batch_size": 4, "steps": 30}
    done = run(tokens, "rl", learning_rate=1e-2, **options)
    points = [json.loads(line) for line in (done.out / "points.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(points) == 30
    assert points[0]["d"] == pytest.approx(0, abs=1e-3)
    assert points[-1]["d"] > 1
    third = [np.mean([p["proxy"] for p in points[k : k + 10]]) for k in (0, 10, 20)]
    assert third == sorted(third)
    gold = [p["gold"] for p in points]
    assert max(gold) > gold[0] + 0.5
    assert gold[-1] < max(gold) - 0.5
    found = json.loads((done.out / "laws.json").read_text(encoding="utf-8"))
    assert found["law"] == "rl"
    assert found["b"] > 0
    assert 0 < found["peak"] < points[-1]["d"]
    assert found["lost"] > 0.3
    assert any("The proxy rose by" in note for note in done.notes)
    # The evaluation reads the same run, by the same laws.
    same = kilter.evaluate("reward-overopt", data=str(done.out / "policy"), resamples=20)
    assert same.measures["a"].value == pytest.approx(found["a"])
    assert same.measures["lost"].value == pytest.approx(found["lost"])


def test_a_proxy_is_learned_from_comparisons_by_the_gold_reward(tokens):
    options = {"gold": "gold", "by": "best-of-n", "samples": 8, "batch_size": 8, "steps": 2, "learning_rate": 3e-3}
    done = run(tokens, "learned", comparisons=12, judge_epochs=4, **options)
    assert (done.out / "proxy" / "config.json").is_file()
    [kept] = done.out.glob("comparisons-*.jsonl")
    groups = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert 0 < len(groups) <= 12
    assert all(group["origin"]["method"] == "reward-overopt" for group in groups)
    points = [json.loads(line) for line in (done.out / "points.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [p["d"] for p in points] == pytest.approx([math.sqrt(kl(n)) for n in range(1, 9)])
    assert [p["proxy"] for p in points] == sorted(p["proxy"] for p in points)
    assert json.loads((done.out / "laws.json").read_text(encoding="utf-8"))["law"] == "best-of-n"
    assert tokens.model(done.out).config.vocab_size == len(tokens.world.vocabulary)
    assert run(tokens, "learned", comparisons=12, judge_epochs=4, **options).kept
    with pytest.raises(KilterError, match="Option 'kl_coef'"):
        run(tokens, "other", kl_coef=0.0, **options)


def test_the_more_comparisons_the_later_the_peak():
    """Exactly, by all responses of the token world: a proxy knows a response the better the oftener it was seen."""
    world = TokenWorld(words=3, length=3)
    chance = world.log_probs(world.model(seed=1, scale=2.0)).exp().detach()
    noise = torch.randn(len(world), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = [2**k for k in range(9)]
    d = np.sqrt([kl(n) for n in counts])
    peaks = []
    for seen in (10, 100, 1000):
        proxy = world.rewards + 6 * noise / (1 + seen * chance).sqrt()
        order = proxy.argsort()
        at_most = chance[order].cumsum(0)
        below = at_most - chance[order]
        best = [at_most**n - below**n for n in counts]
        gold = np.array([float(share @ world.rewards[order]) for share in best])
        told = [float(share @ proxy[order]) for share in best]
        assert told == sorted(told)
        peaks.append(fitted(d, gold - gold[0], "best-of-n")["peak"])
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[-1]
    assert gold[-1] > gold[0]


def test_too_few_distances_give_no_curve():
    line = {"sampled_kl": 1.0, "sampled_reward": 1.0, "gold": 2.0}
    # Several steps on one rollout are one point.
    points = reward_overopt.distances([line, line | {"step": 2}, {"loss": 1.0}])
    assert points == [{"d": 1.0, "proxy": 1.0, "gold": 2.0}]
    assert reward_overopt.laws(points, "rl") == {}
