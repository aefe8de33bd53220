"""Each objective over responses in the enumerable token world: what the world rewards rises, exactly measured.

The same start, the same samples of it and their true rewards for all; three seeds, paired.
"""

import json
import math
from functools import partial

import pytest
import torch
from test_wrong_input import OURS

from kilter import registry
from kilter.engine.loop import LoopOptions, train
from kilter.records import Group
from kilter.training.labels import labelled, with_asides
from kilter.training.objective import kind_of
from worlds.tokens import PROMPTS, TokenWorld

WORLD = TokenWorld(words=3, length=3)
SEEDS = (0, 1, 2)
STEPS = LoopOptions(
    steps=6, learning_rate=1e-2, warmup=0, batch_size=2, precision="fp32", checkpoint_every=0, log_every=6, kl_bound=0
)
TOLD = {"conditional-bc": {"other_weight": 0.0}}


def learned(method, seed):
    """Return the trees of one seed: eight different samples of the start to each prompt, as the method reads them."""
    start, trees = WORLD.model(seed, scale=2.0), []
    for prompt in PROMPTS:
        numbers = WORLD.sample(start, 40, prompt, seed=seed).unique()[:8]
        scores = (WORLD.rewards[numbers] + 0.01 * torch.arange(len(numbers))).tolist()
        group = Group([], [str(int(n)) for n in numbers], scores=scores)
        if kind_of(method.function) == "scores":
            [group], _ = labelled([group])
        rows = [int(text) for text in group.responses]
        known = {"order": group.order(), "pairs": group.pairs(), "labels": group.labels}
        trees.append(WORLD.tree(rows, prompt, **known))
    return start, with_asides(trees) if method.id == "kto" else trees


def worth(model):
    return sum(WORLD.exact(model, prompt).reward.item() for prompt in PROMPTS) / len(PROMPTS)


@pytest.mark.parametrize("name", OURS)
def test_what_the_world_rewards_rises(tmp_path, name):
    method = registry.find(name, "training")
    gains = []
    for seed in SEEDS:
        model, trees = learned(method, seed)
        with torch.no_grad():
            before = worth(model)
            start = WORLD.model(seed, scale=2.0)
        train(model, trees, partial(method.function, **TOLD.get(name, {})), STEPS, tmp_path / str(seed))
        with torch.no_grad():
            gains.append(worth(model) - before)
            kl = WORLD.exact(model, "x", reference=start).kl.item()
        assert math.isfinite(kl)
        assert kl > 0
    mean = sum(gains) / len(gains)
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1) / len(gains))
    assert mean > 2 * error, f"gains {gains}"
    assert mean > 0.05, f"gains {gains}"


@pytest.mark.parametrize("name", ["cringe", "unlikelihood"])
def test_what_is_bad_becomes_rare_and_what_is_clean_stays(tmp_path, name):
    """Labels by one bad word: its chance falls, exactly; clean responses are no less likely than before, by a bound."""
    model, bad = WORLD.model(3, scale=2.0), (WORLD.rewards < 0) & WORLD.ids.eq(WORLD.vocabulary.index("b")).any(1)
    with torch.no_grad():
        before = WORLD.log_probs(model, "x")
    numbers = WORLD.sample(model, 24, "x", seed=4).unique()
    trees = [WORLD.tree(numbers, "x", labels=[not bool(bad[n]) for n in numbers])]
    assert 0 < sum(trees[0].info["labels"]) < len(numbers)
    train(model, trees, registry.find(name, "training").function, STEPS, tmp_path)
    with torch.no_grad():
        after = WORLD.log_probs(model, "x")
    assert after.exp()[bad].sum() < 0.7 * before.exp()[bad].sum()
    clean = torch.where(bad, 0.0, before.exp())
    lost = (clean * (before - after)).sum() / clean.sum()
    assert lost < 0.3, "nats a clean response"


def test_rrhf_puts_a_pair_in_order_step_by_step(tmp_path):
    model = WORLD.model(5, scale=2.0)
    with torch.no_grad():
        logs = WORLD.log_probs(model, "x") / WORLD.lengths
    likely, unlikely = int(logs.argmax()), int(logs.argsort()[len(logs) // 3])
    trees = [WORLD.tree([unlikely, likely], "x", order=[1.0, 0.0], pairs=[(0, 1)])]
    options = STEPS.model_copy(update={"learning_rate": 3e-3, "log_every": 1, "steps": 8})
    train(model, trees, registry.find("rrhf", "training").function, options, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    leads = [json.loads(line)["reward_margin"] for line in lines]
    assert leads[0] < 0
    assert leads == sorted(leads)
