"""Workers by turns, and what comes of it: rates, and the median of the turns' ratios with their range.

Every side is a process of its own with its own environment (TRL's default gets the allocator that its user gets). All
are made ready first; then one works while the others wait for their pipe. The order of the sides turns round after
every round, so that a machine that slows down does so for all. TRL's best setting is searched for in the same way: what
is tried takes turns with the best so far.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from kilter import allocator

ROOT = Path(__file__).parents[2]
# What Kilter sets for its user on a CPU (engine/memory.py), as the environment of a process that does not. Written out:
# to import it would set this process's own environment, and so that of TRL's default. And the malloc that the command
# begins with, where it is installed (allocator.py).
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(2**27), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "LRU_CACHE_CAPACITY": "256",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256",
}  # fmt: skip


class WorkerError(Exception):
    """A worker ended before it was ready, with the last lines of what it wrote."""


@dataclass(slots=True)
class Measured:
    """Seconds of every turn of one side, and what the side told of itself."""

    setting: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def whole(self, epochs: int) -> list[float]:
        """Seconds of each turn (an epoch) with its share of a pass of the reference over the data."""
        extra = float(self.facts.get("reference_seconds", 0.0)) / epochs
        return [seconds + extra for seconds in self.seconds]


class Worker:
    """One side in a process of its own."""

    def __init__(self, side: str, job: dict[str, Any], python: str, log: Path) -> None:
        """Start it; it works up to the first turn and waits."""
        self.side, self.log = side, log
        self.found = Measured(job["setting"])
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False, encoding="utf-8") as file:
            json.dump(job, file)
        self._file = Path(file.name)
        ours_reads, theirs_writes = os.pipe()
        theirs_reads, ours_writes = os.pipe()
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        if chosen := job["setting"].get("allocator"):
            environment |= ALLOCATOR
        if side == "ours" or chosen not in (None, allocator.SYSTEM):
            environment |= allocator.environment(environment)
        if job["device"] == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as written:
            self._process = subprocess.Popen(
                [python, "-m", "bench.engine.worker", side, str(self._file), str(theirs_reads), str(theirs_writes)],
                cwd=ROOT, env=environment, stdout=written, stderr=subprocess.STDOUT,
                pass_fds=(theirs_reads, theirs_writes),
            )  # fmt: skip
        os.close(theirs_reads)
        os.close(theirs_writes)
        self._reads, self._writes = os.fdopen(ours_reads), os.fdopen(ours_writes, "w")
        while not self.found.facts.get("ready"):
            self.found.facts |= self._hear()

    def turn(self) -> None:
        """Let it work for one turn, and note the seconds that the turn took, by the clock and of processors."""
        self._writes.write("go\n")
        self._writes.flush()
        heard = self._hear()
        self.found.seconds.append(float(heard["seconds"]))
        self.found.cpu_seconds.append(float(heard["cpu_seconds"]))

    def stop(self) -> None:
        """Let it end."""
        try:
            self._writes.write("stop\n")
            self._writes.close()
            self._process.wait(timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            self._reads.close()
            self._file.unlink(missing_ok=True)

    def _hear(self) -> dict[str, Any]:
        line = self._reads.readline()
        if not line:
            self._process.wait()
            told = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            where = os.path.relpath(self.log, ROOT)
            raise WorkerError(f"{self.side}: {told[-1] if told else 'it wrote nothing'} (see {where})")
        heard: dict[str, Any] = json.loads(line)
        return heard


def alternate(
    jobs: Sequence[tuple[str, dict[str, Any]]], pythons: dict[str, str], turns: int, logs: Path
) -> list[Measured]:
    """Run every (side, job) for `turns` turns, one after the other; raises WorkerError where one of them fails."""
    workers: list[Worker] = []
    try:
        for number, (side, job) in enumerate(jobs):
            workers.append(Worker(side, job, pythons[side], logs / f"{number}-{side}.log"))
        by_turns(workers, turns)
    finally:
        for worker in workers:
            worker.stop()
    return [worker.found for worker in workers]


def by_turns(workers: Sequence[Worker], turns: int) -> None:
    """Let each work `turns` times, in an order that turns round."""
    for turn in range(turns):
        for worker in workers if turn % 2 == 0 else reversed(workers):
            worker.turn()


def fastest(
    job: dict[str, Any],
    start: dict[str, Any],
    changes: Sequence[dict[str, Any]],
    python: str,
    epochs: int,
    logs: Path,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the fastest setting of theirs found by making one change after the other, and all that was tried.

    A change stays if it makes a turn shorter by 2 % at least (the better of two turns) than the best so far takes by
    turns with it. One that TRL refuses or that fails is written down with its reason. Of batch sizes the next is tried
    only where the last one was faster.
    """
    tried: list[dict[str, Any]] = []
    best: Worker | None = None
    slower = False
    try:
        for change in ({}, *changes):
            size = change.keys() == {"batch"}
            if slower and size:
                continue
            told = {"setting": (best.found.setting if best else start) | change}
            tried.append(told)
            before, best = best, race(best, job, told, python, epochs, logs / f"try-{len(tried)}.log")
            slower = slower or (size and best is before)
    finally:
        if best is not None:
            best.stop()
    return best.found.setting if best else start, tried


def race(
    best: Worker | None, job: dict[str, Any], told: dict[str, Any], python: str, epochs: int, log: Path
) -> Worker | None:
    """Return the faster of `best` and what is `told`, to which is added how it went; the other is ended."""
    worker = None
    try:
        worker = Worker("theirs", job | {"setting": told["setting"]}, python, log)
        by_turns([best, worker] if best else [worker], 2)
    except WorkerError as error:
        told |= {"seconds": None, "failed": str(error)}
        if worker is not None:
            worker.stop()
        return best
    told["seconds"] = round(min(worker.found.whole(epochs)), 4)
    if best is None:
        return worker
    told["beside"] = round(min(best.found.whole(epochs)[-2:]), 4)
    faster, other = (worker, best) if told["seconds"] < 0.98 * told["beside"] else (best, worker)
    other.stop()
    return faster


def ratios(theirs: list[float], ours: list[float]) -> tuple[float, float, float]:
    """Median, least and greatest of the turns' ratios of their seconds to ours."""
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    return median(each), min(each), max(each)
