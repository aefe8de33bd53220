"""Runs in processes of their own: killed and continued, and two processes for one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from train_once import OPTIONS, run, run_named, slowly

from jsonl import metrics

SCRIPT = str(Path(__file__).with_name("train_once.py"))


def weights(folder):
    return torch.cat([value.reshape(-1) for _, value in sorted(load_file(folder / "model.safetensors").items())])


def test_a_run_that_was_killed_continues_to_the_same_bits(tmp_path):
    out, threads = tmp_path / "slow", str(torch.get_num_threads())
    process = subprocess.Popen([sys.executable, SCRIPT, str(tmp_path), threads, "slow"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(out.glob("state-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error.decode()
    assert not (out / "config.json").exists()
    found, expected = run(out, slowly), run(tmp_path / "whole", slowly)
    assert found.losses == expected.losses
    assert torch.equal(weights(out), weights(tmp_path / "whole"))


def test_two_processes_take_the_same_steps_as_one(tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, SCRIPT, str(both), "1", "sft", "dpo", "held"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
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
