"""A worker's end of the alternation: it works for one turn when told to, and says how long that took.

Both sides are timed by the same hook, which torch calls after every optimizer step: a turn runs from the end of one
step to the end of another, so that everything between two steps counts (data, batch, forward, backward, clipping,
optimizer, logging), and nothing before the first one does.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook


class Finished(BaseException):
    """The runner needs no more turns. Raised out of the middle of a training run, whatever trainer it is."""


class Turns:
    """Messages to and from the runner: one JSON object a line, over two pipes."""

    def __init__(self, reads: int, writes: int, device: str) -> None:
        self._reads, self._writes = os.fdopen(reads), os.fdopen(writes, "w")
        self._device = device

    def of_steps(self, steps: int, warm: int) -> None:
        """From now on every `steps` optimizer steps are a turn, after `warm` steps that are none."""
        taken, since, cpu = 0, 0.0, 0.0

        def after(*_: Any) -> None:
            nonlocal taken, since, cpu
            taken += 1
            if taken < warm or (taken - warm) % steps:
                return
            self._settle()
            if taken == warm:
                self.tell(ready=True)
            else:
                self.tell(seconds=time.perf_counter() - since, cpu_seconds=time.process_time() - cpu)
            self._await()
            since, cpu = time.perf_counter(), time.process_time()

        register_optimizer_step_post_hook(after)

    def of_calls(self, call: Callable[[], None]) -> None:
        """Every call is a turn, after one that is none. Does not return."""
        call()
        self._settle()
        self.tell(ready=True)
        while True:
            self._await()
            since, cpu = time.perf_counter(), time.process_time()
            call()
            self._settle()
            self.tell(seconds=time.perf_counter() - since, cpu_seconds=time.process_time() - cpu)

    def tell(self, **facts: Any) -> None:
        """Send facts to the runner; those sent before "ready" are kept there with the worker."""
        self._writes.write(json.dumps(facts) + "\n")
        self._writes.flush()

    def _await(self) -> None:
        if self._reads.readline().strip() != "go":
            raise Finished

    def _settle(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()
