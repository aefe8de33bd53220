"""Online runs in processes of their own: killed and continued, two for one, and one of two that dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from online_runs import LOOP, Letters, run
from safetensors.torch import load_file

from jsonl import metrics

SCRIPT = str(Path(__file__).with_name("online_runs.py"))
TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", SCRIPT]
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}


def weights(folder):
    (file,) = folder.glob("*model.safetensors")
    return torch.cat([value.reshape(-1) for _, value in sorted(load_file(file).items())])


@pytest.fixture(autouse=True)
def one_thread():
    """The same as the processes have, for the same bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def until(found, process):
    """Wait until `found()`, or the process has ended; it hangs then, so that nothing depends on how long this takes."""
    deadline = time.monotonic() + 300
    while not found() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def test_a_killed_run_goes_on_to_the_same_bits(tiny_model, tmp_path):
    out = tmp_path / "grpo"
    command = [sys.executable, SCRIPT, str(tiny_model), str(tmp_path), "grpo"]
    # It hangs in the third of three rollouts; the state, of step 6, is in the middle of the second.
    process = subprocess.Popen(command, env={**ALONE, "HANG": "13"}, stderr=subprocess.PIPE)
    until(lambda: (out / "state-000000006").exists(), process)
    process.send_signal(signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error.decode()
    assert not (out / "config.json").exists()
    assert list((out / "rollouts").iterdir())
    whole = tmp_path / "whole"
    found, expected = (run("grpo", tiny_model, folder, checkpoint_every=3) for folder in (out, whole))
    assert found.losses == expected.losses
    assert torch.equal(weights(out), weights(whole))
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_two_processes_learn_what_one_does(tiny_model, tmp_path):
    both, alone = tmp_path / "both", tmp_path / "alone"
    ways = {"grpo": ["grpo", "shared-grpo"], "ppo": ["ppo", "shared-ppo"]}
    ways |= {"masked-grpo": ["masked-grpo"], "lora-ppo": ["lora-ppo"]}
    done = subprocess.run(
        [*TWO, str(tiny_model), str(both), *(name for names in ways.values() for name in names)],
        env=ALONE,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, names in ways.items():
        run(name, tiny_model, alone / name, checkpoint_every=3)
        for folder in (both / other for other in names):
            for one, two in zip(metrics(folder), metrics(alone / name), strict=True):
                assert {**one, "seconds": 0} == pytest.approx({**two, "seconds": 0}, rel=1e-3, abs=1e-4)
            assert float((weights(folder) - weights(alone / name)).abs().max()) <= LOOP["learning_rate"] / 10
    for name in ("ppo", "shared-ppo"):
        critics = [weights(folder / "critic") for folder in (both / name, alone / "ppo")]
        assert float((critics[0] - critics[1]).abs().max()) <= LOOP["learning_rate"] / 10


def test_a_process_that_dies_ends_the_run_with_a_sentence_and_the_run_goes_on(tiny_model, tmp_path):
    out, command = tmp_path / "grpo", [*TWO, str(tiny_model), str(tmp_path), "grpo"]
    # Each process asks for three of six prompts a rollout; the second one hangs in the third rollout.
    hanging = {**ALONE, "HANG": "7", "HANG_RANK": "1"}
    process = subprocess.Popen(command, env=hanging, stderr=subprocess.PIPE, text=True)
    until(lambda: (out / "state-000000006").exists(), process)
    workers = [pid for pid in children(process.pid) if rank_of(pid) == "1"]
    assert len(workers) == 1
    os.kill(workers[0], signal.SIGKILL)
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "give the same command again" in error, error[-3000:]
    again = subprocess.run(command, env=ALONE, capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 0, again.stderr[-3000:]
    whole = tmp_path / "whole"
    run("grpo", tiny_model, whole, Letters(), checkpoint_every=3)
    assert float((weights(out) - weights(whole)).abs().max()) <= LOOP["learning_rate"] / 10


def children(pid):
    """Return the processes that `pid` started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    return [int(child) for child in found.split()]


def rank_of(pid):
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((entry[5:].decode() for entry in environment if entry.startswith(b"RANK=")), None)
