"""Runs with adapters in processes of their own: killed and continued, and two processes for one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_once import OPTIONS, run_named

from jsonl import metrics

SCRIPT = str(Path(__file__).with_name("train_once.py"))


def weights(folder):
    found = load_file(folder / "adapter_model.safetensors")
    return torch.cat([value.reshape(-1) for _, value in sorted(found.items())])


def test_a_run_that_was_killed_continues_to_the_same_bits_with_dropout(tmp_path):
    out, threads = tmp_path / "lora", str(torch.get_num_threads())
    process = subprocess.Popen([sys.executable, SCRIPT, str(tmp_path), threads, "lora"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(out.glob("state-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error.decode()
    [state] = out.glob("state-*")
    assert all("lora_" in name for name in load_file(state / "model.safetensors"))
    assert not (out / "adapter_config.json").exists()
    found, expected = run_named(out, "lora"), run_named(tmp_path / "whole", "lora")
    assert found.losses == expected.losses
    assert torch.equal(weights(out), weights(tmp_path / "whole"))


def test_two_processes_take_the_same_steps_as_one(tmp_path):
    both, alone, names = tmp_path / "both", tmp_path / "alone", ("lora-dry", "adalora", "prefix")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, SCRIPT, str(both), "1", *names],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names:
        run_named(alone / name, name)
        # A sum in another order moves a weight by Adam's share of rounding, never by a tenth of one step.
        assert float((weights(both / name) - weights(alone / name)).abs().max()) <= OPTIONS.learning_rate / 10
        for one, two in zip(metrics(both / name), metrics(alone / name), strict=True):
            assert {**one, "seconds": 0} == pytest.approx({**two, "seconds": 0}, rel=1e-3, abs=1e-4)
