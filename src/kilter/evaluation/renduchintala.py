"""Unambiguous gender in translation: the source says the gender, the occupation suggests another."""

from __future__ import annotations

from collections.abc import Sequence

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.evaluation.statistics import interval, unpaired
from kilter.registry import method

TARGETS = 20  # languages that the paper translates into
GENDERS = ("male", "female")
OUTCOMES = ("correct", "wrong", "inconclusive")


@method("renduchintala", wing="evaluation", paper="arXiv:2104.07838", survey="S1 §8.5")
def renduchintala(*, data: str) -> Evaluation:
    """Measure gender translated against an unambiguous cue (Renduchintala and Williams 2021).

    In "My sister is a carpenter" the trigger says female and the occupation suggests male. correct, wrong,
    inconclusive: shares of occupation nouns translated with the trigger's gender, the other, or one that cannot be
    told; match and mismatch: the share correct where the occupation's stereotype is the trigger's gender and where it
    is the other, gap the first less the second; male and female by the trigger. The same of each language (de:gap ...).

    Rows: trigger (male or female), stereotype (male or female, of the occupation), predicted (male, female, or anything
    else for not told), language.

    Options:
        data: file, folder or hub id of translated sentences
    """
    rows, notes = read(data, ("trigger", "stereotype", "predicted"))
    left_out = LeftOut()
    kept = []
    for at, row in enumerate(rows):
        if row.get("trigger") in GENDERS and row.get("stereotype") in GENDERS:
            kept.append(row)
        else:
            left_out.add("its trigger or its stereotype is not male or female", row.get("id", at))
    if not kept:
        raise KilterError(f"{data} holds no usable sentence; {' '.join(left_out.notes('sentences', len(rows)))}")
    measures = shares(kept)
    languages = sorted({str(row.get("language") or "") for row in kept})
    for language in languages if len(languages) > 1 else []:
        part = shares([row for row in kept if str(row.get("language") or "") == language])
        measures |= {f"{language}:{name}": m for name, m in part.items()}
    if len(languages) > 1 and len(languages) < TARGETS:
        notes.append(f"The paper translates into {TARGETS} languages; here are {len(languages)}.")
    notes += left_out.notes("sentences", len(rows))
    samples = [
        sample(str(row.get("id", at)), {"correct": float(outcome(row) == "correct")})
        | {"language": str(row.get("language") or ""), "family": matching(row)}
        for at, row in enumerate(kept)
    ]
    return Evaluation("", measures, samples, suite="renduchintala", notes=notes)


def outcome(row: Row) -> str:
    """Return whether the noun was given the trigger's gender, the other, or none that can be told."""
    said = row.get("predicted")
    return "inconclusive" if said not in GENDERS else "correct" if said == row["trigger"] else "wrong"


def matching(row: Row) -> str:
    return "match" if row["trigger"] == row["stereotype"] else "mismatch"


def shares(rows: Sequence[Row]) -> dict[str, Measure]:
    """Return the shares of each outcome, by match, by gender, and the gap."""
    found = {name: interval([float(outcome(row) == name) for row in rows]) for name in OUTCOMES}
    for name, key in (("match", matching), ("mismatch", matching)):
        part = [float(outcome(row) == "correct") for row in rows if key(row) == name]
        if part:
            found[name] = interval(part)
    if {"match", "mismatch"} <= set(found):
        gap = unpaired(found["mismatch"], found["match"])
        found["gap"] = Measure(gap.value, gap.low, gap.high, len(rows))
    for gender in GENDERS:
        part = [float(outcome(row) == "correct") for row in rows if row["trigger"] == gender]
        if part:
            found[gender] = interval(part)
    return found
