"""Runs in processes of their own: killed and continued, and two processes for one."""

import json

import pytest
import torch
from safetensors.torch import load_file
from train_once import OPTIONS, killed, run, run_named, slowly, two_processes

from jsonl import metrics


def weights(folder):
    return torch.cat([value.reshape(-1) for _, value in sorted(load_file(folder / "model.safetensors").items())])


def test_a_run_that_was_killed_continues_to_the_same_bits(tmp_path):
    out = tmp_path / "slow"
    killed(tmp_path, "slow")
    assert not (out / "config.json").exists()
    found, expected = run(out, slowly), run(tmp_path / "whole", slowly)
    assert found.losses == expected.losses
    assert torch.equal(weights(out), weights(tmp_path / "whole"))


def test_two_processes_take_the_same_steps_as_one(tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    two_processes(both, "sft", "dpo", "held")
    for name in ("sft", "dpo", "held"):
        found = run_named(alone / name, name)
        told = json.loads((both / name / "training.json").read_text(encoding="utf-8"))
        assert (told["steps"], told["kept_step"]) == (found.steps, found.kept_step)
        if name == "held":
            assert 0 < found.kept_step < found.steps < OPTIONS.steps
        # A sum in another order moves a weight by Adam's share of rounding, never by a tenth of one step.
        assert float((weights(both / name) - weights(alone / name)).abs().max()) <= OPTIONS.learning_rate / 10
        for one, two in zip(metrics(both / name), metrics(alone / name), strict=True):
            assert {**one, "seconds": 0} == pytest.approx({**two, "seconds": 0}, rel=1e-3, abs=1e-4)
