"""What a run tells while it goes: metrics gathered on the device, lines of metrics.jsonl, a progress bar.

Between two logging steps nothing waits for the device; a logging step brings everything over in one transfer.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from kilter.store import Metrics


class Meter:
    """Gathers the steps since the last logging step.

    `reduce` sums a tensor over all processes. A step has the loss's numerator and weight, the gradient's norm, and sums
    and counts of the objective's metrics.
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._reduce = reduce
        self._device = device
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Take the metrics of a micro-batch, one number an example each."""
        for name, values in metrics.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=self._device)) + values.detach().sum()
            self._counts[name] = self._counts.get(name, 0) + values.numel()

    def step(self, numerator: Tensor, weight: Tensor, norm: Tensor) -> None:
        """Close a step with its loss's numerator and weight (over all processes) and the gradient's norm."""
        self._steps.append((numerator, weight, norm))

    def read(self) -> tuple[list[float], list[float], dict[str, float]]:
        """Return losses and gradient norms of the steps gathered, and the metrics' means over them; forget them.

        Where all steps were skipped there are none.
        """
        names = sorted(self._sums)
        flat = [x.float().reshape(()) for step in self._steps for x in step]
        sums = [self._sums[name].float() for name in names]
        counts = torch.tensor([float(self._counts[name]) for name in names], device=self._device)
        together = self._reduce(torch.cat((torch.stack(sums), counts))) if names else counts
        numbers = torch.cat((torch.stack(flat), together)).tolist() if flat else []
        losses = [numbers[i] / (numbers[i + 1] or 1.0) for i in range(0, len(flat), 3)]
        norms = [numbers[i] for i in range(2, len(flat), 3)]
        rest = numbers[len(flat) :]
        means = {name: rest[i] / max(1.0, rest[i + len(names)]) for i, name in enumerate(names)}
        self._steps, self._sums, self._counts = [], {}, {}
        return losses, norms, means


def bar(label: str, unit: str, *, quiet: bool) -> Progress:
    """Return a progress bar with time left that shows on a terminal only; its tasks have a field `note`."""
    console = Console(stderr=True)
    return Progress(
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=quiet or not console.is_terminal,
    )


class Log:
    """The lines of metrics.jsonl, and a bar on a terminal; `quiet` does neither (a process that is not the first)."""

    def __init__(self, file: Path, total: int, start: int, *, quiet: bool) -> None:
        """Lines of steps after `start` are dropped: they will be taken again. From 0 on, that is all of them."""
        self._bar = bar("training", "steps", quiet=quiet)
        self._task = self._bar.add_task("", total=total, completed=start, note="")
        self._metrics = None if quiet else Metrics(file)
        if self._metrics:
            self._metrics.rewind(start or -1)

    def __enter__(self) -> Log:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self) -> None:
        self._bar.advance(self._task)

    def say(self, words: str) -> None:
        """Show `words` beside the bar until the next line."""
        self._bar.update(self._task, note=words)

    def write(self, line: dict[str, Any], speed: float) -> None:
        """Add a line; `speed` in tokens a second is shown beside the bar."""
        if self._metrics:
            loss = f", loss {line['loss']:.4f}" if "loss" in line else ""
            self._bar.update(self._task, note=f"{speed:,.0f} tokens/s{loss}")
            self._metrics.append(line)


def peak_memory(device: torch.device) -> int:
    """Return the most memory held so far, in bytes: the GPU's, or on a CPU the whole process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
