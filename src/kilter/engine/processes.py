"""The processes of a run, as accelerate sees them: those that torchrun started, or this one alone."""

from __future__ import annotations

import atexit
import os

import torch
from accelerate import Accelerator

from kilter.errors import KilterError

# What `accelerate launch` says of shardings that would go round the engine, which shares out by itself (sharding.py).
SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def accelerator() -> Accelerator:
    """Return accelerate's view of the processes; raise KilterError where it was told to share the weights out."""
    for variable, name in SHARDED.items():
        if os.environ.get(variable, "false").lower() in ("1", "true", "yes", "on"):
            raise KilterError(
                f"The processes were started for {name}, and the engine shares weights out by itself; start them with "
                "torchrun (or accelerate launch without it) and set shard=true."
            )
    ours = torch.distributed.is_available() and not torch.distributed.is_initialized()
    # Without being told, accelerate takes several processes on CPUs for as many runs of one.
    found = Accelerator(cpu=not torch.accelerator.is_available())
    if ours and torch.distributed.is_initialized():
        # gloo's threads abort a process that ends with the group still open.
        atexit.register(_leave)
    return found


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
