"""Weights that are shared out among the processes: the same steps as with whole ones, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file
from train_once import OPTIONS, run_named, two_processes

from jsonl import metrics
from kilter.engine.checkpoint import find_state, read_facts
from kilter.engine.loop import LoopOptions, train
from kilter.errors import KilterError
from kilter.training.sft import sft
from tiny_models import make, some_trees


def same(folder, other, file):
    one, two = load_file(folder / file), load_file(other / file)
    assert one.keys() == two.keys()
    # A sum in another order moves a weight by Adam's share of rounding, never by a tenth of one step.
    for name, value in one.items():
        assert float((value - two[name]).abs().max()) <= OPTIONS.learning_rate / 10, name


def test_shared_weights_take_the_same_steps_as_whole_ones(tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    names = ("sft", "dpo", "frugal", "held", "lora-dry", "prefix")
    two_processes(both, *(f"shared-{name}" for name in names))
    for name in names:
        run_named(alone / name, name)
        [file] = [path.name for path in (alone / name).glob("*model.safetensors")]
        same(both / f"shared-{name}", alone / name, file)
        for one, two in zip(metrics(both / f"shared-{name}"), metrics(alone / name), strict=True):
            assert {**one, "seconds": 0} == pytest.approx({**two, "seconds": 0}, rel=1e-3, abs=1e-4)


def test_a_state_is_whole_whoever_goes_on_from_it(tmp_path):
    two_processes(tmp_path, "shared-halts", HALT="9")
    out = tmp_path / "shared-halts"
    state = find_state(out)
    assert state is not None
    kept = load_file(state / "model.safetensors")
    assert {name: value.shape for name, value in kept.items()} == {n: p.shape for n, p in make().named_parameters()}
    begun = read_facts(state)["losses"]
    assert 0 < len(begun) < OPTIONS.steps
    # One process, whole weights.
    found, expected = run_named(out, "halts"), run_named(tmp_path / "whole", "halts")
    assert found.losses[: len(begun)] == begun
    assert found.losses == pytest.approx(expected.losses, rel=1e-3, abs=1e-4)
    same(out, tmp_path / "whole", "model.safetensors")


def test_one_process_has_nothing_to_share_out(tmp_path):
    model = make()
    train(model, some_trees(), sft, LoopOptions(steps=2, shard=True), tmp_path / "shared")
    train(make(), some_trees(), sft, LoopOptions(steps=2), tmp_path / "whole")
    for name, value in load_file(tmp_path / "shared/model.safetensors").items():
        assert torch.equal(value, load_file(tmp_path / "whole/model.safetensors")[name])


@pytest.mark.parametrize(
    ("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_processes_started_for_another_sharding_are_refused_in_a_sentence(tmp_path, monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(KilterError, match=f"started for {name}.*shard=true"):
        train(make(), some_trees(), sft, LoopOptions(steps=1), tmp_path / "out")
    assert not list((tmp_path / "out").glob("state-*"))
