"""Each objective over responses in the enumerable token world: what the world rewards rises, exactly measured.

The same start, the same samples of it and their true rewards for all; three seeds, paired.
"""

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
