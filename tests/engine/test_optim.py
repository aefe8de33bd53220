"""Learning rates by step, weight decay of matrices only, clipping."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from kilter.engine.optim import adamw, rate, scale_and_clip


def course(schedule, total=10, **options):
    options = {"warmup": 0.2, "floor": 0.1, **options}
    return [rate(step, total, schedule=schedule, **options) for step in range(total)]


def test_warm_up_rises_and_then_the_schedule_falls():
    for schedule in ("cosine", "linear"):
        rates = course(schedule)
        assert rates[0] == pytest.approx(1 / 3)
        assert rates[2] == 1.0
        assert all(a > b for a, b in pairwise(rates[2:]))
        assert 0.1 < rates[-1] < 0.25


def test_constant_and_wsd_are_flat_where_they_should_be():
    assert course("constant")[2:] == [1.0] * 8
    rates = course("wsd")
    assert rates[2:9] == [1.0] * 7
    assert rates[9] == pytest.approx(0.55)


def test_warm_up_counts_steps_from_one_on():
    assert course("constant", warmup=5)[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0])
    assert course("constant", warmup=0)[0] == 1.0


def test_only_matrices_decay():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = adamw(model, learning_rate=0.1, weight_decay=0.5, betas=(0.9, 0.95), epsilon=1e-8)
    assert [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [(1, 0.5), (3, 0.0)]


def test_clipping_scales_first():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([30.0, 40.0])
    norm = scale_and_clip([parameter], torch.tensor(0.1), 1.0)
    assert norm.item() == pytest.approx(5.0)
    assert parameter.grad.norm().item() == pytest.approx(1.0, rel=1e-4)
    parameter.grad = torch.tensor([30.0, 40.0])
    scale_and_clip([parameter], torch.tensor(0.1), 0)
    assert parameter.grad.norm().item() == pytest.approx(5.0)
