"""What a run left out or cut: the notes of its stages and evaluations, each said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kilter.report import numbers
from kilter.report.read import Evidence, Run


@dataclass(slots=True)
class Note:
    """A sentence on a stage; `models` whose measuring it is about (none: the stage as a whole), in runs of `seeds`."""

    stage: str
    text: str
    models: list[str] = field(default_factory=list)
    seeds: list[int | None] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"stage": self.stage, "models": self.models, "note": self.text}


def gather(runs: Sequence[Run], evidence: Sequence[Evidence]) -> list[Note]:
    """Return the notes of all runs in the order of the stages; what several models or seeds have in common, once."""
    order = list(dict.fromkeys(stage.name for run in runs for stage in run.stages))
    found: dict[tuple[str, str], Note] = {}
    for run, one in zip(runs, evidence, strict=True):
        told = [(stage.name, None, text) for stage in run.stages for text in stage.notes]
        for stage, model, text in [*told, *one.notes]:
            note = found.setdefault((stage, text), Note(stage, text))
            if model is not None and model not in note.models:
                note.models.append(model)
            if run.seed not in note.seeds:
                note.seeds.append(run.seed)
    return sorted(found.values(), key=lambda note: order.index(note.stage))


def shown(notes: Sequence[Note], labels: Sequence[str], runs: int) -> list[tuple[str, str]]:
    """Return (stage, sentence) rows; a sentence that is not about all models or all runs says about which."""
    rows = []
    for note in notes:
        about = [numbers.several(note.models)] if note.models and set(note.models) != set(labels) else []
        if len(note.seeds) < runs:
            seeds = [str(seed) for seed in note.seeds]
            about.append(f"seed{'' if len(seeds) == 1 else 's'} {numbers.several(seeds)}")
        rows.append((f"{note.stage} ({', '.join(about)})" if about else note.stage, note.text))
    return rows
