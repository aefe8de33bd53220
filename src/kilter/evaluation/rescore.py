"""Judged results scored again from the judge's stored words: by a newer parser, or another way of merging."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kilter.errors import KilterError
from kilter.evaluation import result
from kilter.evaluation.judging import evaluated
from kilter.evaluation.result import Evaluation
from kilter.evaluation.scoring import judgements, scored
from kilter.feedback.parsers import find
from kilter.registry import method


@method("rescore", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4")
def rescore(*, data: str, parser: str | None = None, merge: Literal["agree", "mean"] | None = None) -> Evaluation:
    """Score a judged result file again, without asking anybody anything (inspect_ai's manner).

    Every judgement is read by the newest version of the parser that read it, or by the one named, and all measures are
    computed anew. What changed is in the notes.

    Options:
        data: a result file of a judged suite
        parser: read all judgements by this parser, NAME or NAME@VERSION
        merge: what becomes of two orders of a pair: a win in both or a tie, or the mean; as it was where not given
    """
    before = result.read(Path(data))
    if parser is not None:
        find(parser)
    judged = [sample for sample in before.samples if sample.get("judgements")]
    if not judged:
        raise KilterError(f"{data} holds no judgements; give a result file of a judged suite.")
    changed = total = 0
    for sample in judged:
        old = judgements(sample)
        new = [one.again(parser) for one in old]
        changed += sum(a.value != b.value for a, b in zip(old, new, strict=True))
        total += len(new)
        sample["judgements"] = [one.to_json() for one in new]
        if merge is not None and "merge" in sample:
            sample["merge"] = merge
        scored(sample)
    verb = "is" if changed == 1 else "are"
    notes = [f"{changed:,} of {total:,} judgements {verb} read otherwise than before."]
    return evaluated(before.model, judged, suite=before.suite, seed=before.seed, notes=notes)
