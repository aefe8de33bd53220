"""Runs the league: one start a seed, then every row on every seed, several at a time, each kept once it is finished.

    OUT/stages/start.SEED/    the fine-tuned model, and what all learn from
    OUT/stages/ROW.SEED/      what a row found (result.json); its weights only where they are wanted
    OUT/league.md, .json      the table

A row that fails stands in the table with its sentence, and the others go on; the same command tries it again. A row is
run again where its method, its settings or what it starts from is other than it was.
"""

from __future__ import annotations

import ast
import functools
import gc
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import kilter
from kilter import registry
from kilter.errors import KilterError
from kilter.league import jobs
from kilter.league.settings import Line, Settings, chosen, options_for, read
from kilter.recipe.run import duration
from kilter.registry import Method
from kilter.store import Run, fingerprint
from kilter.store.run import Stage

Say = Callable[[str], None]
BEGINNING = "start"
ALWAYS = ("feedback", "models", "engine", "world", "league")  # parts of the package on which every row stands


@dataclass
class Job:
    """One thing for a worker: the start of a seed (`line` None) or a row on it."""

    row: str
    seed: int
    line: Line | None
    stage: Stage
    error: str = ""

    @property
    def name(self) -> str:
        return f"{self.row}.{self.seed}"


@dataclass
class Outcome:
    """What there is of one row on one seed: where its result is, what it cost, or why there is none."""

    row: str
    seed: int
    folder: Path | None = None
    cost: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def league(
    out: str | Path,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    settings: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    workers: int | None = None,
    keep: bool = False,
    say: Say | None = None,
) -> list[Outcome]:
    """Run the league in the folder `out` and return what came of every row and seed, starts first.

    `rows` are some of the settings' (default: all), `settings` a file in the place of league.yaml, `set` overrides of
    it; `workers` run at a time (default: one a core), each on its share of the cores. `keep` keeps the weights of every
    row. Raises KilterError, before anything runs, for a row or an option that there is not.
    """
    found = read(settings, set)
    lines = chosen(found, list(rows or ()))
    order = list(dict.fromkeys(seeds))
    if not order:
        raise KilterError("No seed was given; write --seeds as numbers, for example --seeds 0,1,2.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    many = min(workers or cores, len(order) * (len(lines) + 1))
    prints = _prints(found, lines, order)
    with Run(out) as store:
        work = _Work(store, found, lines, order, prints, keep, say or (lambda line: None))
        return work.done(many, _threads(cores // many))


def _threads(share: int) -> int:
    """Return the threads of a worker: its share of the cores, or fewer where the environment says so."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(share, int(told)) if told.isdigit() else share)


def _prints(settings: Settings, lines: Mapping[str, Line], seeds: Sequence[int]) -> dict[tuple[str, int], str]:
    """Return the fingerprint of every start and row; raise KilterError for options that a method does not take."""
    found: dict[tuple[str, int], str] = {}
    rules = settings.model_dump(include={"start", "data", "measuring"})
    begin = _sources(registry.find("sft", "training"))
    for seed in seeds:
        found[BEGINNING, seed] = fingerprint(rules, seed, begin, kilter.__version__)
        for row, line in lines.items():
            told: Any = line.model
            if line.model is None:
                method = registry.find(line.method or row, "training")
                told = [method.id, options_for(settings, row, line, seed), _sources(method)]
            about = line.model_dump(include={"learns", "make", "first"})
            judges = [_sources(registry.find(judge.method, "training")) for judge in line.first.values()]
            found[row, seed] = fingerprint(found[BEGINNING, seed], told, about, judges)
    return found


@functools.cache
def _sources(method: Method) -> str:
    """Return a hash of the modules that `method` is made of: its own, what that imports of its wing, the driver's.

    What every row stands on is among them; so an edit of one objective runs that row again, and not all.
    """
    package = Path(kilter.__file__).parent
    wing = package / method.wing
    known, open_ = set[Path](), [_module(method.function.__module__), wing / "run.py"]
    while open_:
        file = open_.pop()
        if file in known or not file.is_file():
            continue
        known.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"kilter.{method.wing}"):
                open_ += [_module(node.module or ""), *(_module(f"{node.module}.{a.name}") for a in node.names)]
    everywhere = [file for part in ALWAYS for file in (package / part).rglob("*.py")]
    files = sorted({*known, *everywhere})
    return fingerprint([[str(file.relative_to(package)), file.read_text(encoding="utf-8")] for file in files])


def _module(name: str) -> Path:
    """Return the file of a module of this package; a package's own file holds only imports and is not looked at."""
    return Path(kilter.__file__).parent.joinpath(*name.split(".")[1:]).with_suffix(".py")


class _Work:
    """The jobs of one call, and the workers that do them."""

    def __init__(
        self,
        store: Run,
        settings: Settings,
        lines: Mapping[str, Line],
        seeds: Sequence[int],
        prints: Mapping[tuple[str, int], str],
        keep: bool,
        say: Say,
    ) -> None:
        self.store, self.settings, self.keep, self.say = store, settings, keep, say

        def job(row: str, seed: int, line: Line | None) -> Job:
            name = re.sub(r"[^\w.-]", "-", row)  # as a folder may be called
            return Job(row, seed, line, store.stage(f"{name}.{seed}", prints[row, seed]))

        starts = [job(BEGINNING, seed, None) for seed in seeds]
        # A row on all seeds before the next: what an interrupted league has is whole rows.
        self.jobs = starts + [job(row, seed, line) for row, line in lines.items() for seed in seeds]
        self.width = max(len(job.name) for job in self.jobs)
        self.starts = {job.seed: job for job in starts}
        self.waiting = [job for job in self.jobs if not job.stage.done]
        self.count = 0

    def done(self, workers: int, threads: int) -> list[Outcome]:
        """Do what is not done yet; return what there is of everything."""
        if kept := len(self.jobs) - len(self.waiting):
            self.say(f"{kept} of {len(self.jobs)} were finished before and are kept.")
        self.count = kept
        if self.waiting:
            self._work(min(workers, len(self.waiting)), threads)
        return [self._outcome(job) for job in self.jobs]

    def _work(self, workers: int, threads: int) -> None:
        log = str(self.store.folder / "workers.log")
        places: list[ProcessPoolExecutor | None] = [None] * workers
        running: dict[Future[dict[str, Any]], tuple[Job, int]] = {}
        free = list(range(workers))
        gc.collect()
        try:
            while True:
                while free and (job := self._next()) is not None:
                    place = free.pop()
                    # A process each, so that one that dies takes only its own job with it.
                    own = places[place] or ProcessPoolExecutor(
                        1, get_context("spawn"), initializer=jobs.begin, initargs=(threads, log)
                    )
                    places[place] = own
                    running[own.submit(jobs.tried, *self._task(job))] = (job, place)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, place = running.pop(future)
                    free.append(place)
                    if not self._settle(job, future):
                        places[place] = None
        finally:
            for pool in places:
                if pool is not None:
                    pool.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> Job | None:
        """Return the next job that can begin, and take those off whose start has failed."""
        for job in list(self.waiting):
            start = self.starts[job.seed]
            if job is not start and start.error:
                self.waiting.remove(job)
                job.error = f"Its start failed: {start.error}"
            elif job is start or start.stage.done:
                self.waiting.remove(job)
                return job
        return None

    def _task(self, job: Job) -> tuple[Any, ...]:
        folder = job.stage.folder
        if job.line is None:
            return jobs.start, self.settings, job.seed, folder
        begun = self.starts[job.seed].stage.folder
        return jobs.row, self.settings, job.row, job.line, job.seed, begun, folder, self.keep

    def _settle(self, job: Job, future: Future[dict[str, Any]]) -> bool:
        """Keep what a job found, or why it failed; return whether its worker can go on."""
        alive, self.count = True, self.count + 1
        try:
            cost = future.result()
            job.error = cost.get("error", "")
        except BrokenProcessPool:
            alive, job.error = False, "Its process died, perhaps for want of memory; see workers.log."
        if not job.error:
            job.stage.finish(cost)
        line = f"failed: {job.error}" if job.error else duration(cost["seconds"])
        self.say(f"{self.count:>4}/{len(self.jobs)}  {job.name:<{self.width}}  {line}")
        return alive

    def _outcome(self, job: Job) -> Outcome:
        if job.stage.done:
            return Outcome(job.row, job.seed, job.stage.folder, job.stage.facts)
        return Outcome(job.row, job.seed, error=job.error or "It has not run.")
