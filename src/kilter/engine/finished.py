"""What stands in a folder before training starts there: nothing, the very run that is asked for, or something else.

A finished run left `training.json` beside its weights. Weights are never trained over unless that was said; then the
old ones stop being a checkpoint before the first step, so that a killed run does not leave them looking like its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kilter.engine import checkpoint
from kilter.engine.checkpoint import CONFIGS
from kilter.errors import KilterError
from kilter.files import explaining

FILE = "training.json"


def admit(out: Path, mark: str, settings: Mapping[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """Return what `training.json` says where the run of this `mark` is finished in `out`, None where it may start.

    With `overwrite` it may always start, from the beginning unless a state of this mark is there. Raises KilterError
    where `out` holds another run or a model of other origin; `settings` are compared to name what differs.
    """
    state = checkpoint.find_state(out)
    ours = state is not None and checkpoint.read_facts(state).get("mark") == mark
    told, complete = _told(out), _complete(out)
    if overwrite:
        _clear(out, keep=state.name if state and ours else None)
        return None
    if told.get("mark") == mark and complete:
        return told
    if ours or not (complete or state):
        return None
    what = "an unfinished run" if not complete else "a finished run" if told else "a model"
    raise KilterError(
        f"{out} holds {what}{_difference(told, settings) if complete and told else _other(state)}; "
        "choose another folder, or say --overwrite (overwrite=True) to put the new one in its place."
    )


def retract(out: Path) -> None:
    """Have the model in `out`, if there is a whole one, be no checkpoint any more; an unfinished run is left alone."""
    if _complete(out):
        _clear(out, keep=None)


def _complete(out: Path) -> bool:
    return any((out / name).is_file() for name in CONFIGS)


def _told(out: Path) -> dict[str, Any]:
    try:
        told = json.loads((out / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _clear(out: Path, keep: str | None) -> None:
    with explaining(out, "clear"):
        for name in (FILE, *CONFIGS):
            (out / name).unlink(missing_ok=True)
    checkpoint.drop_states(out, keep=keep)


def _other(state: Path | None) -> str:
    return " with another model, data or options" if state else ""


def _difference(told: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Name the settings that differ; where none does, the weights or the data must."""
    before = told.get("options") or {}
    differs = [
        f"{name} is {before[name]} there and {value} here"
        for name, value in settings.items()
        if name in before and before[name] != value
    ]
    if not differs:
        return " with another model or other data"
    more = f", and {len(differs) - 3} more" if len(differs) > 3 else ""
    return f" with other settings ({', '.join(differs[:3])}{more})"
