"""Having responses judged by a reward model: `kilter score`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kilter.cli.verbs import emit, verb

PANEL = "One step at a time"


def enter(app: typer.Typer) -> None:
    @verb(app, "score", panel=PANEL, examples=["kilter score --model models/reward --data p.jsonl --out scored.jsonl"])
    def score(
        model: Annotated[str, typer.Option("--model", metavar="RM", help="A reward model: a folder or hub id.")],
        data: Annotated[str, typer.Option("--data", metavar="FILE", help="Prompts with responses in any known shape.")],
        out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Groups of responses with scores.")],
        steps: Annotated[
            Literal["product", "least"] | None,
            typer.Option("--steps", help="For a process reward model: how the steps' probabilities become one score."),
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Score responses with a reward model; higher is better."""
        from kilter import formats
        from kilter.recipe import api

        groups = api.make("score", model=model, records=data, rejects=formats.rejects_beside(out), steps=steps)
        lost = formats.write(groups, out)
        scores = [value for group in groups for value in getattr(group, "scores", None) or ()]
        mean = sum(scores) / len(scores)
        if as_json:
            told = {"out": str(out), "records": len(groups), "responses": len(scores), "lost": lost}
            emit({**told, "mean": mean, "low": min(scores), "high": max(scores)})
        else:
            many = f"{len(scores):,} responses to {len(groups):,} prompts"
            print(f"{many}, mean {mean:.3f} ({min(scores):.3f} to {max(scores):.3f}): {out}")
