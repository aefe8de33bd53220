"""Reward over-optimisation with proxies that were trained: a small one misleads, and one that saw more does so later.

Unlike in test_overoptimised.py no mistake is planted: what is wrong with a proxy is what it learned of comparisons.
"""

import json

import numpy as np
import pytest
import torch
from proxy_runs import LOOP, ProxyRuns, clear

from kilter.records import Message
from kilter.training.run import train
from worlds.hidden import Excess
from worlds.preferences import Annotator
from worlds.tokens import PROMPTS, TokenWorld

SEEDS = (0, 1, 2)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    return lambda world: ProxyRuns(world, tmp_path, monkeypatch)


def small(world):
    """Return a language model of one layer of width 8, that a proxy begins as."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    plain = world.model().config.to_dict()
    plain |= {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 4}
    made = LlamaForCausalLM(LlamaConfig.from_dict(plain))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    return made


def test_a_policy_that_learns_from_a_small_proxy_gains_and_then_loses(runs):
    """Two good words are better than one, three are too many, and the start says three once in 343 times.

    A proxy of width 8 learns from 100 prompts that more is better; the policy goes on to where it has seen nothing. By
    hand, on eight seeds: on each of them the true reward rises from 0.3 to about 0.9 and falls to below -1.
    """
    runs = runs(Excess(words=3, length=3))
    little = runs.world.save(runs.folder / "small", small(runs.world))
    lost = []
    for seed in SEEDS:
        out = runs.train(
            "reward-overopt", f"small-{seed}", seed, runs.world.prompts(copies=50), gold="gold", by="reinforce++",
            proxy_model=str(little), noise=0.5, samples=8, max_tokens=3, steps=20, learning_rate=5e-3, batch_size=8,
            judge_epochs=4, judge_learning_rate=3e-3,
        )  # fmt: skip
        points = [json.loads(line) for line in (out / "points.jsonl").read_text(encoding="utf-8").splitlines()]
        proxy, gold = (np.array([point[name] for point in points]) for name in ("proxy", "gold"))
        thirds = [part.mean() for part in np.array_split(proxy, 3)]
        assert thirds == sorted(thirds)
        found = json.loads((out / "laws.json").read_text(encoding="utf-8"))
        assert found["b"] > 0
        assert found["peak"] < points[-1]["d"]
        # What was sampled, over three rollouts, against what is exact.
        highest = np.convolve(gold, np.ones(3) / 3, "valid").max()
        assert highest > runs.worth(runs.start(seed)) + 0.25
        lost.append(highest - runs.worth(out))
    assert clear(lost, 1.0), lost


def climbed(logs, scores, worth, furthest=6.0):
    """Return d = sqrt(KL) and the expected worth of the best policies by `scores` [2, N], from near to far.

    The best policy by r at a KL is pi_start e^(r / beta), where reinforcement learning ends; `logs` [2, N] are those of
    the start, worth [N].
    """
    found = []
    for beta in torch.logspace(1.5, -2, 80, dtype=torch.float64):
        at = torch.log_softmax(logs + scores / beta, 1)
        kl = float((at.exp() * (at - logs)).sum(1).mean())
        if kl <= furthest:
            found.append((kl**0.5, float((at.exp() * worth).sum(1).mean())))
    return np.array(found).T


def test_the_more_comparisons_a_proxy_learned_from_the_later_is_the_peak(runs):
    """Proxies of full size, trained on 12 and on 192 comparisons by an annotator who errs, for as many steps.

    What is good is easy here; what misleads is the noise in the few comparisons. The policies are exact. Seen by hand
    on eight seeds: on each the peak is later, by 0.9 to 2 in sqrt(KL), and higher, by 0.5 to 2.8.
    """
    runs = runs(TokenWorld(words=3, length=3))
    world, later, higher = runs.world, [], []
    for seed in SEEDS:
        start, people = runs.start(seed), Annotator(tau=1.0, seed=seed)
        begun, logs, drawn = world.save(runs.folder / f"begun-{seed}", start), runs.logs(start), []
        for prompt in PROMPTS:
            pairs = world.sample(start, 240, prompt, seed=seed).view(-1, 2)
            told = [(prompt, int(one), int(other)) for one, other in pairs if one != other]
            drawn.append(told[:96])
        asked = [pair for both in zip(*drawn, strict=True) for pair in both]
        groups = [
            people.pair([Message("user", prompt)], world.text(a), world.text(b), world.rewards[[a, b]].tolist())
            for prompt, a, b in asked
        ]
        peaks = []
        for count in (12, 192):
            out = runs.folder / f"proxy-{seed}-{count}"
            told = {"model": begun, "data": groups[:count], "out": out, "say": lambda notes: None, "seed": seed}
            train("rm-bt", **told, **LOOP | {"steps": 48, "batch_size": 16, "learning_rate": 3e-3})
            d, gold = climbed(logs, runs.says(out), world.rewards)
            peaks.append((d[gold.argmax()], gold.max()))
        later.append(peaks[1][0] - peaks[0][0])
        higher.append(peaks[1][1] - peaks[0][1])
    assert clear(later, 0.3), later
    assert clear(higher, 0.5), higher
