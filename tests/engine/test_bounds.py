"""A run that diverges is stopped with a sentence, and what was good by then is kept as a checkpoint."""

from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM

from kilter.engine import bounds
from kilter.engine.loop import LoopOptions, train
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.training.sft import sft
from tiny_models import make, pair_trees

FAST = {
    "learning_rate": 1e-3,
    "batch_size": 4,
    "steps": 9,
    "warmup": 0,
    "schedule": "constant",
    "log_every": 1,
    "checkpoint_every": 2,
    "precision": "fp32",
}


def rising(at, factor):
    """Return an objective whose loss is multiplied by `factor` from step `at` on."""
    calls = iter(range(10**6))

    def objective(policy, group):
        good = sft(policy, group)
        return Loss(good.per_example * (factor if next(calls) >= at else 1.0), good.weight)

    return objective


def drifting(policy, group, *, beta=0.1):
    good = sft(policy, group)
    return Loss(good.per_example, good.weight, {"kl": torch.full((2,), 30.0 * beta)})


def test_a_loss_past_its_bound_stops_the_run_and_keeps_the_last_good_model(tmp_path):
    model, states = make(), []
    objective = rising(5, 1e4)

    def watched(policy, group):
        states.append({name: p.detach().clone() for name, p in model.named_parameters()})
        return objective(policy, group)

    with pytest.raises(KilterError, match="the option loss_bound moves that") as raised:
        train(model, pair_trees(4), watched, LoopOptions(**FAST), tmp_path)
    told = str(raised.value)
    assert "diverged; lower learning_rate (it is 0.001)" in told
    assert f"The last good model, of step 4, is in {tmp_path / 'last-good'}." in told
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "last-good")
    for name, parameter in kept.named_parameters():
        assert torch.equal(parameter, states[4][name]), name
    # No checkpoint stands where the finished one would be.
    assert not (tmp_path / "config.json").exists()


def test_bounds_can_be_moved_and_taken_away(tmp_path):
    for name, bound in (("wide", 1e6), ("none", 0.0)):
        options = LoopOptions(**FAST, loss_bound=bound)
        assert train(make(), pair_trees(4), rising(5, 1e4), options, tmp_path / name).steps == 9
    # They are no part of what a run is known by: a stopped one goes on where its bound is moved.
    with pytest.raises(KilterError, match="it diverged"):
        train(make(), pair_trees(4), rising(5, 1e4), LoopOptions(**FAST), tmp_path / "moved")
    done = train(make(), pair_trees(4), rising(0, 1.0), LoopOptions(**FAST, loss_bound=0.0), tmp_path / "moved")
    assert done.steps == 9
    assert not (tmp_path / "moved" / "last-good").exists()


def test_a_policy_far_from_its_reference_is_stopped_and_told_of_beta(tmp_path):
    told = r"3 nats a response away from its reference at step 1, .* or raise beta \(it is 0.1\).*No state was kept yet"
    options = LoopOptions(**FAST, kl_bound=2.0)
    with pytest.raises(KilterError, match=told):
        train(make(), pair_trees(4), partial(drifting, beta=0.1), options, tmp_path)


def test_what_is_within_its_bounds_is_no_trouble():
    def found(losses, means=None, first=0.69, **options):
        norms = [1.0] * len(losses)
        return bounds.trouble(0, losses, norms, means or {}, first, LoopOptions(**options), {})

    assert found([0.7, 3.0, 20.0]) is None
    assert "began at 0.69" in found([60.0])
    assert found([-1e6]) is None
    assert found([25.0], first=-3.0) is None
    assert found([0.5], {"kl": 900.0}) is None
    assert "lower learning_rate (it is 2e-05)." in found([0.5], {"kl": float("nan")})
    assert "gradient's norm" in bounds.trouble(3, [1.0], [float("inf")], {}, 1.0, LoopOptions(), {})
