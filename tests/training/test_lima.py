"""LIMA's course, and that a hundred clean demonstrations beat a thousand of which a third are wrong."""

import random

import pytest
import torch

from kilter import registry
from kilter.engine.loop import LoopOptions, train
from kilter.training.lima import lima
from kilter.training.run import options_of
from worlds.tokens import TokenWorld


def test_the_course_is_the_paper_s():
    fields = options_of(registry.find("lima", "training")).model_fields
    told = {name: fields[name].default for name in fields}
    paper = {"epochs": 15, "batch_size": 32, "learning_rate": 1e-5, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95}
    paper |= {"schedule": "linear", "warmup": 0, "max_length": 2048, "residual_dropout": 0.3}
    assert paper.items() <= told.items()
    assert told["learning_rate"] * told["min_lr_ratio"] == pytest.approx(1e-6)


def test_few_clean_demonstrations_beat_many_of_which_a_third_are_wrong(tmp_path):
    world = TokenWorld(words=4, length=3)
    best = [n for n in range(len(world)) if world.rewards[n] == world.rewards.max()]
    worst = [n for n in range(len(world)) if world.rewards[n] == world.rewards.min()]

    def reward(name, count, wrong, seed):
        draw = random.Random(seed)
        trees = [world.tree([draw.choice(worst if draw.random() < wrong else best)]) for _ in range(count)]
        model = world.model(seed)
        options = LoopOptions(
            steps=12, batch_size=16, learning_rate=2e-2, schedule="linear", precision="fp32", residual_dropout=0.3
        )
        train(model, trees, lima, options, tmp_path / f"{name}{seed}")
        with torch.no_grad():
            return float(world.exact(model).reward)

    for seed in range(3):
        few, many, mixed = (reward(*of, seed) for of in (("few", 100, 0.0), ("many", 1000, 0.0), ("mixed", 1000, 0.3)))
        assert few > mixed + 1.0
        assert abs(few - many) < 0.5 * (few - mixed)
