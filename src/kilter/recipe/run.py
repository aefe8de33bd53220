"""Runs a recipe: its stages in order, each kept once it is finished, then the report.

A run is a folder. A stage is done again only if something that it depends on is other than it was (`fingerprint`). A
stage that was interrupted goes on in its own folder: training from its last checkpoint, an evaluation with the next
model. So the same command after Ctrl-C, a crash or a power cut ends with the same result.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kilter import report
from kilter.errors import KilterError
from kilter.files import write_text
from kilter.recipe import fingerprint, stages
from kilter.recipe.account import Account
from kilter.recipe.ledger import Ledger
from kilter.recipe.plan import Step, check_literals, plan
from kilter.recipe.resolve import resolve
from kilter.recipe.schema import Recipe, within
from kilter.store import Run

Say = Callable[[str], None]


def run(
    recipe: str | Path | Mapping[str, Any],
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    say: Say | None = None,
    command: str | None = None,
) -> Path:
    """Run `recipe` (a path, the name of one that ships, or its content) and return the path of its report.html.

    `set` overrides inputs and options (`{"seed": 1, "dpo.beta": 0.2}`); `out` is the run's folder, by default
    `runs/NAME`, or `runs/NAME-SEED` for another seed than 0; `say` is given each line of progress. Raises KilterError
    before anything runs if a part of the recipe could not work.
    """
    resolved = resolve(recipe, set)
    steps = plan(resolved)
    check_literals(steps)
    folder = Path(out) if out else default_folder(resolved)
    return _run(resolved, steps, folder, say or (lambda line: None), command)


def run_seeds(
    recipe: str | Path | Mapping[str, Any],
    seeds: Iterable[int],
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    say: Say | None = None,
    command: str | None = None,
) -> Path:
    """Run `recipe` once a seed, in `out/seed-N`, and return the path of the report of them all together."""
    chosen = list(dict.fromkeys(seeds))
    if not chosen:
        raise KilterError("No seed was given; write --seeds as numbers, for example --seeds 0,1,2.")
    resolved = [resolve(recipe, {**(set or {}), "seed": seed}) for seed in chosen]
    whole = Path(out) if out else Path("runs") / f"{resolved[0].name}-seeds"
    for one in resolved:
        check_literals(plan(one))
    for one in resolved:
        _run(one, plan(one), whole / f"seed-{one.seed}", say or (lambda line: None), command)
    return report.combine([whole / f"seed-{seed}" for seed in chosen], whole)


def default_folder(recipe: Recipe) -> Path:
    return Path("runs") / (recipe.name if recipe.seed == 0 else f"{recipe.name}-{recipe.seed}")


def _run(recipe: Recipe, steps: list[Step], folder: Path, say: Say, command: str | None) -> Path:
    say(f"Running {recipe.name} (seed {recipe.seed}) in {folder}")
    width = max(len(name) for name in [*recipe.stages, "report"])
    with Run(folder) as store:
        ledger = Ledger(store.folder, recipe, command)
        text = yaml.safe_dump(recipe.model_dump(exclude_unset=True), sort_keys=False, allow_unicode=True)
        write_text(store.folder / "recipe.yaml", text)
        files = fingerprint.Files()
        prints: dict[str, str] = {}
        for step in steps:
            prints[step.name] = fingerprint.of_step(step, prints, files)
            with within(step.name):
                line = _step(step, store, prints[step.name], ledger)
            say(f"{step.name:<{width}}  {line}")
            for note in ledger.notes(step.name):
                say(f"{'':<{width}}  {note}")
            gc.collect()
        ledger.finish()
        page = folder / report.build(store.folder).name
    say(f"{'report':<{width}}  {page}")
    return page


def _step(step: Step, store: Run, print_: str, ledger: Ledger) -> str:
    """Run one stage unless it is done; return its line: what it made, how long that took."""
    stage = store.stage(step.name, print_)
    if stage.done:
        ledger.stage(step, stage.folder, "kept", stage.facts)
        return f"{_made(stage.facts)}  kept"
    account = Account(ledger.spent(step.name, print_))
    ledger.stage(step, stage.folder, "running", {"fingerprint": print_})
    try:
        made = stages.RUNNERS[step.kind](step, stage.folder, store.folder)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        ledger.stage(step, stage.folder, status, {"fingerprint": print_, **account.close()})
        raise
    facts = {**account.close(), **made}
    stage.finish(facts)
    ledger.stage(step, stage.folder, "done", facts)
    return f"{_made(facts)}  {duration(facts['seconds'])}"


def _made(facts: dict[str, Any]) -> str:
    """What a stage made, in words, as wide as its column."""
    parts = []
    for key, word in (("records", "record"), ("models", "model"), ("steps", "step")):
        if key in facts:
            parts.append(f"{facts[key]:,} {word}{'' if facts[key] == 1 else 's'}")
    if facts.get("tokens"):
        parts.append(f"{_short(facts['tokens'])} tokens")
    return f"{', '.join(parts):<28}"


def _short(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else f"{count:,}"


def duration(seconds: float) -> str:
    """`2.1 s`, `3 min 05 s` or `1 h 02 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
