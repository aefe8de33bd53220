"""Training runs in a process of their own: `python train_once.py OUT THREADS sft|dpo|slow...`, also under torchrun.

With other options: lora (slowly, with dropout), and the others of TOLD. With "shared-" before its name a run's weights
are shared out among the processes. With HALT=N in the environment "halts" ends at its Nth micro-batch.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from kilter.engine.loop import LoopOptions, train
from kilter.training.dpo import dpo
from kilter.training.sft import sft
from tiny_models import make, pair_trees

TWO = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
OPTIONS = LoopOptions(
    steps=12,
    learning_rate=1e-2,
    batch_size=4,
    warmup=1,
    log_every=2,
    precision="fp32",
    checkpoint_every=2,
    micro_tokens=40,
)


def slowly(policy, reference, group):
    """DPO with time between micro-batches in which the process can be killed."""
    time.sleep(0.05)
    return dpo(policy, reference, group)


class Halt(Exception):
    """The process is as good as killed."""


def halting(policy, reference, group, calls=[]):  # noqa: B006 - it counts
    """DPO that ends the process in the middle of a run."""
    calls.append(1)
    if len(calls) == int(os.environ.get("HALT", "0")):
        raise Halt
    return dpo(policy, reference, group)


OBJECTIVES = {"sft": sft, "dpo": dpo, "slow": slowly, "halts": halting, "held": sft, "held-slow": slowly}
# Of the four trees that are held out the last is measured alone: a second process has nothing of its own.
HELD = {"eval_share": 0.5, "eval_every": 1, "batch_size": 3}
# Dropout is another in every process, so that two of them could not do what one does.
RANKED = {"adapter_rank": 4, "adapter_dropout": 0.0}
TOLD = {
    "lora": {"adapter": "lora", "adapter_targets": "all"},
    "lora-dry": {"adapter": "lora", **RANKED},
    "adalora": {"adapter": "adalora", **RANKED},
    "prefix": {"adapter": "prefix", "virtual_tokens": 5},
    "frugal": {"gradient_checkpointing": True},
    "held": HELD | {"patience": 4},
    "held-slow": HELD,
}


def run(out, objective, **options):
    # 9 trees and 4 a step: every third step has one tree, and so nothing for a second process.
    return train(make(), pair_trees(9), objective, OPTIONS.model_copy(update=options), out)


def run_named(out, name, **options):
    objective = OBJECTIVES.get(name, slowly if name == "lora" else dpo)
    return run(out, objective, **TOLD.get(name, {}), **options)


def killed(folder, name):
    """Start the run `name` below `folder` in a process of its own, and kill it once a state is there."""
    threads = str(torch.get_num_threads())
    process = subprocess.Popen([sys.executable, __file__, str(folder), threads, name], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((folder / name).glob("state-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error.decode()


def two_processes(folder, *names, **environment):
    """Take the runs `names` below `folder` in two processes."""
    done = subprocess.run(
        [*TWO, __file__, str(folder), "1", *names],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    for name in sys.argv[3:]:
        plain = name.removeprefix("shared-")
        with contextlib.suppress(Halt):
            run_named(Path(sys.argv[1]) / name, plain, shard=plain != name)
