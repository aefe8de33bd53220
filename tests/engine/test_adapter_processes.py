"""Runs with adapters in processes of their own: killed and continued, and two processes for one."""

import pytest
import torch
from safetensors.torch import load_file
from train_once import OPTIONS, killed, run_named, two_processes

from jsonl import metrics


def weights(folder):
    found = load_file(folder / "adapter_model.safetensors")
    return torch.cat([value.reshape(-1) for _, value in sorted(found.items())])


def test_a_run_that_was_killed_continues_to_the_same_bits_with_dropout(tmp_path):
    out = tmp_path / "lora"
    killed(tmp_path, "lora")
    [state] = out.glob("state-*")
    assert all("lora_" in name for name in load_file(state / "model.safetensors"))
    assert not (out / "adapter_config.json").exists()
    found, expected = run_named(out, "lora"), run_named(tmp_path / "whole", "lora")
    assert found.losses == expected.losses
    assert torch.equal(weights(out), weights(tmp_path / "whole"))


def test_two_processes_take_the_same_steps_as_one(tmp_path):
    both, alone, names = tmp_path / "both", tmp_path / "alone", ("lora-dry", "adalora", "prefix")
    two_processes(both, *names)
    for name in names:
        run_named(alone / name, name)
        # A sum in another order moves a weight by Adam's share of rounding, never by a tenth of one step.
        assert float((weights(both / name) - weights(alone / name)).abs().max()) <= OPTIONS.learning_rate / 10
        for one, two in zip(metrics(both / name), metrics(alone / name), strict=True):
            assert {**one, "seconds": 0} == pytest.approx({**two, "seconds": 0}, rel=1e-3, abs=1e-4)
