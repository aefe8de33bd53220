"""The loop: what a step computes does not depend on how it is cut, and a run goes on where it was stopped."""

import math
import os
import signal
from functools import partial

import pytest
import torch

from jsonl import metrics
from kilter.engine import Tree
from kilter.engine.loop import LoopOptions, train
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.training.dpo import dpo
from kilter.training.sft import sft
from tiny_models import make, pair_trees, some_trees

FAST = {"learning_rate": 1e-2, "batch_size": 4, "warmup": 1, "log_every": 2, "precision": "fp32", "checkpoint_every": 0}


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def timeless(out):
    return [{**line, "seconds": 0} for line in metrics(out)]


@pytest.mark.parametrize("objective", [sft, partial(dpo, sft_weight=0.5)])
def test_the_update_does_not_depend_on_micro_batches(tmp_path, objective):
    ends, losses = [], []
    for budget in (10_000, 40, 1):
        model = make()
        options = LoopOptions(**FAST, steps=3, micro_tokens=budget)
        done = train(model, pair_trees(9), objective, options, tmp_path / str(budget))
        ends.append(weights(model))
        losses.append(done.losses)
    for end, loss in zip(ends[1:], losses[1:], strict=True):
        assert float((end - ends[0]).abs().max()) <= 1e-5
        assert loss == pytest.approx(losses[0], abs=1e-5)


def test_a_step_is_adamw_on_the_mean_over_its_tokens(tmp_path):
    trees, model, twin = pair_trees(4), make(), make()
    train(model, trees, sft, LoopOptions(**FAST | {"warmup": 0, "clip": 0}, steps=1, schedule="constant"), tmp_path)
    from tiny_models import ordinary

    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    ordinary(twin, trees).mean().neg().backward()
    optimizer.step()
    assert float((weights(model) - weights(twin)).abs().max()) <= 1e-5


def test_training_learns_and_says_how_it_goes(tmp_path):
    trees = pair_trees(8)
    done = train(make(), trees, sft, LoopOptions(**FAST, epochs=10, weight_decay=0.01), tmp_path)
    assert done.steps == len(done.losses) == 20
    assert done.losses[-1] < 0.7 * done.losses[0]
    assert done.tokens == 10 * sum(len(tree) for tree in trees)
    assert done.peak_memory > 2**20
    told = metrics(tmp_path)
    assert [line["step"] for line in told] == list(range(2, 21, 2))
    assert told[-1]["epoch"] == 10
    assert {"step", "epoch", "loss", "lr", "grad_norm", "tokens", "seconds"} <= told[0].keys()
    assert told[0]["loss"] == pytest.approx(sum(done.losses[:2]) / 2)


def test_dpo_starts_at_ln_2_and_separates_the_pairs(tmp_path):
    done = train(make(), pair_trees(8), dpo, LoopOptions(**FAST, epochs=5), tmp_path)
    assert done.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert done.losses[-1] < 0.5
    last = metrics(tmp_path)[-1]
    assert last["accuracy"] == 1.0
    assert last["reward_margin"] > 0
    assert not (tmp_path / "reference.safetensors").exists()


def test_a_reference_that_is_given_is_used(tmp_path):
    objective, options = dpo, LoopOptions(**FAST, steps=1)
    other = train(make(), pair_trees(4), objective, options, tmp_path / "a", reference=make(seed=1))
    assert other.losses[0] != pytest.approx(math.log(2), abs=1e-3)
    same = train(make(), pair_trees(4), objective, options, tmp_path / "b", reference=make())
    assert same.losses[0] == pytest.approx(math.log(2), abs=1e-6)


def test_trees_may_be_made_step_by_step(tmp_path):
    asked = []

    def provider(step):
        asked.append(step)
        return pair_trees(4, seed=step)

    options = LoopOptions(**FAST, steps=4)
    live = train(make(), provider, dpo, options, tmp_path / "live")
    assert asked == [0, 1, 2, 3]
    assert live.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    with pytest.raises(KilterError, match="steps"):
        train(make(), provider, dpo, LoopOptions(**FAST), tmp_path / "endless")


class Stop(Exception):
    pass


def stopping(at, objective):
    """The objective until its call number `at`, where the process is as good as killed."""
    calls = iter(range(1, 10**6))

    def stop(policy, reference, group):
        if next(calls) == at:
            raise Stop
        return objective(policy, reference, group)

    return stop


def plain(policy, reference, group):
    return dpo(policy, reference, group)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("at", [4, 8])
def test_a_run_that_was_stopped_continues_to_the_same_bits(tmp_path, at, precision):
    options = LoopOptions(**FAST | {"checkpoint_every": 3, "precision": precision}, steps=10, schedule="linear", seed=3)
    whole = make()
    expected = train(whole, pair_trees(9), stopping(0, plain), options, tmp_path / "whole")
    out = tmp_path / "parts"
    with pytest.raises(Stop):
        train(make(), pair_trees(9), stopping(at, plain), options, out)
    assert len(list(out.glob("state-*"))) == 1
    again = make()
    found = train(again, pair_trees(9), stopping(0, plain), options, out)
    assert found.losses == expected.losses
    assert torch.equal(weights(again), weights(whole))
    assert timeless(out) == timeless(tmp_path / "whole")
    assert not list(out.glob("*state-*"))


def test_ctrl_c_keeps_a_state_between_two_steps(tmp_path):
    def pressed(policy, reference, group, calls=iter(range(1, 10**6))):
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return dpo(policy, reference, group)

    options = LoopOptions(**FAST | {"checkpoint_every": 100}, steps=6)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(make(), pair_trees(4), pressed, options, tmp_path / "a")
    assert signal.getsignal(signal.SIGINT) is before
    assert [path.name for path in (tmp_path / "a").glob("state-*")] == ["state-000000003"]
    found = train(make(), pair_trees(4), pressed, options, tmp_path / "a")
    expected = train(make(), pair_trees(4), plain, options, tmp_path / "b")
    assert found.losses == expected.losses


def test_another_run_s_state_is_not_continued(tmp_path):
    options = LoopOptions(**FAST | {"checkpoint_every": 1}, steps=4)
    with pytest.raises(Stop):
        train(make(), pair_trees(4), stopping(3, plain), options, tmp_path)
    with pytest.raises(KilterError, match="unfinished run"):
        train(make(), pair_trees(4), stopping(0, plain), options.model_copy(update={"learning_rate": 1.0}), tmp_path)
    with pytest.raises(KilterError, match="unfinished run"):
        train(make(), pair_trees(4, seed=1), stopping(0, plain), options, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(tmp_path):
    calls = iter(range(10**6))

    def breaks(policy, group):
        good = sft(policy, group)
        return Loss(good.per_example * (math.nan if next(calls) == 5 else 1.0), good.weight)

    options = LoopOptions(**FAST | {"checkpoint_every": 2}, steps=9)
    told = r"loss became nan at step 6; lower learning_rate .*of step 4, is in .*last-good"
    with pytest.raises(KilterError, match=told):
        train(make(), pair_trees(4), breaks, options, tmp_path)
    assert [path.name for path in tmp_path.glob("state-*")] == ["state-000000004"]


def test_nothing_to_train_on_is_said(tmp_path):
    with pytest.raises(KilterError, match="nothing to train on"):
        train(make(), [], sft, LoopOptions(**FAST), tmp_path)


def test_a_step_without_scored_tokens_changes_nothing(tmp_path):
    model = make()
    before = weights(model).clone()
    tree = Tree([5, 6], [[7]], [[False]])
    done = train(model, [tree], sft, LoopOptions(**FAST, steps=1), tmp_path)
    assert done.losses == [0.0]
    assert torch.equal(weights(model), before)


def test_random_numbers_outside_are_left_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    train(make_quietly(), some_trees(), sft, LoopOptions(**FAST, steps=1), tmp_path)
    assert torch.equal(torch.rand(1), expected)


def make_quietly():
    with torch.random.fork_rng():
        return make()
