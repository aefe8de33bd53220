"""Annotation by people: who gets which item, and what their answers come to."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kilter.data.sieve import leave_out
from kilter.data.table import cell, rows
from kilter.errors import KilterError
from kilter.feedback import agreement
from kilter.feedback.numbers import number
from kilter.notes import tell
from kilter.records import Demonstration, Group, Message, Origin, Prompt
from kilter.registry import Count, Share, method

PAPER = "arXiv:2203.02155"
Kind = Literal["choose", "rate", "compare", "write"]
Item = Prompt | Demonstration | Group


@method("human-annotation", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.1", aliases=("crowdsourcing",))
def human_annotation(
    records: list[Prompt | Demonstration | Group],
    *,
    kind: Kind = "choose",
    annotators: str = "",
    each: Count = 3,
    guidelines: str = "",
    answers: str = "",
    least: Share = 0.5,
    adjudicator: str = "",
    seed: int = 0,
) -> list[Prompt | Demonstration | Group]:
    """Deal items out to annotators, or collect what they said (as in Ouyang et al. 2022, appendix B).

    Without `answers`: every record is dealt to `each` of the `annotators` (names with commas), who get about as many
    items each, in orders of their own; nobody gets an item twice. A record a task comes back, whose meta["task"] says
    item, annotator, kind and guidelines: a file that a queue can serve.

    With `answers`, rows of item, annotator and answer (and seconds, paid where they are told), each record comes back
    once with what was said of it, by kind:

        choose   a label: the one that more than the share `least` gave
        rate     a number: the median; scores of a group with one response
        compare  the number (from 1) of the best response of a group, 0 for a tie; as choose, becomes its ranking
        write    a text: the answer; of several, the first that the adjudicator did not replace

    Where no label has its share, the adjudicator's answer decides; without one the record is left out. So are records
    that nobody annotated; a second answer of one annotator to one item counts nothing and is told. Agreement (mean
    pairwise Cohen's kappa, Fleiss' kappa where all items have as many answers, Krippendorff's alpha) is told, with the
    time and the pay. meta["annotation"]: answer, answers by annotator, share, adjudicated.

    Options:
        kind: what an annotator does with an item
        annotators: names of those who annotate, with commas
        each: annotators of an item
        guidelines: name or version of the guidelines that they work by
        answers: file of what they said
        least: share of the answers that a label has to exceed
        adjudicator: name of the annotator whose answer decides where the others do not agree
        seed: seed of the dealing
    """
    if len({record.id for record in records}) < len(records):
        raise KilterError("Two records have one id, so that answers could not be told apart; give each its own.")
    if answers:
        return _collected(records, kind, answers, least, adjudicator)
    names = list(dict.fromkeys(name.strip() for name in annotators.split(",") if name.strip()))
    if len(names) < each:
        raise KilterError(f"Each item goes to {each} annotators and there are {len(names)}; name more, or lower each.")
    return _dealt(records, kind, names, each, guidelines, seed)


def _dealt(
    records: Sequence[Item], kind: Kind, names: list[str], each: int, guidelines: str, seed: int
) -> list[Prompt | Demonstration | Group]:
    draw = random.Random(f"annotators {seed}")
    load = [(0, draw.random(), name) for name in names]
    heapq.heapify(load)
    tasks: dict[str, list[Item]] = {name: [] for name in names}
    for record in records:
        taken = [heapq.heappop(load) for _ in range(each)]
        for count, _, name in taken:
            task = {"item": record.id, "annotator": name, "kind": kind, "guidelines": guidelines}
            tasks[name].append(_like(record, f"{record.id}/{name}", {**record.meta, "task": task}))
            heapq.heappush(load, (count + 1, draw.random(), name))
    for name in names:
        draw.shuffle(tasks[name])
    return [task for name in names for task in tasks[name]]


def _like(record: Item, identity: str, meta: dict[str, Any]) -> Item:
    origin = record.origin or Origin("human-annotation", PAPER, None, (record.id,))
    if isinstance(record, Group):
        parts = (record.scores, record.ranking, record.labels, record.critiques)
        return Group(list(record.prompt), list(record.responses), *parts, identity, origin, meta)
    return type(record)(list(record.messages), identity, origin, meta)


def _collected(
    records: Sequence[Item], kind: Kind, source: str, least: float, adjudicator: str
) -> list[Prompt | Demonstration | Group]:
    given, notes = _answers(source, {record.id for record in records}, kind)
    found = []
    for record in records:
        said = dict(given.get(record.id, {}))
        last = said.pop(adjudicator, None) if adjudicator else None
        if not said and last is None:
            leave_out(record, "not annotated", "Nobody annotated it.")
            continue
        answer, share = verdict(list(said.values()), kind, least)
        if answer is None or (kind == "write" and last is not None):
            answer = last
        if answer is None:
            leave_out(record, "no agreement", f"No answer has more than {least:.0%} ({dict(Counter(said.values()))}).")
            continue
        told = {"answer": answer, "answers": said, "share": share, "adjudicated": last is not None and answer == last}
        found.append(_annotated(record, kind, answer, {**record.meta, "annotation": told}))
    everybody = {item: {n: a for n, a in said.items() if n != adjudicator} for item, said in given.items()}
    tell([*notes, *_agreement(everybody, kind)])
    return found


def verdict(said: Sequence[str], kind: Kind, least: float) -> tuple[str | None, float | None]:
    """Return what annotators' answers come to, None where they do not agree, and the share that gave it."""
    if not said:
        return None, None
    if kind == "rate":
        return f"{statistics.median(float(answer) for answer in said):g}", None
    if kind == "write":
        return said[0], None
    [(answer, count)] = Counter(said).most_common(1)
    share = count / len(said)
    return (answer if share > least else None), share


def _annotated(record: Item, kind: Kind, answer: str, meta: dict[str, Any]) -> Item:
    found = _like(record, record.id, meta)
    if kind == "write" and isinstance(found, Prompt):
        return Demonstration([*found.messages, Message("assistant", answer)], record.id, found.origin, meta)
    if isinstance(found, Group) and kind == "rate" and len(found.responses) == 1:
        found.scores = [float(answer)]
    if isinstance(found, Group) and kind == "compare":
        best = int(answer)
        if not 0 <= best <= len(found.responses):
            raise KilterError(f"The best response of {record.id} is said to be {best}, of {len(found.responses)}.")
        found.scores, found.ranking = None, [0 if best in (0, k + 1) else 1 for k in range(len(found.responses))]
    return found


def _answers(source: str, items: set[str], kind: Kind) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return answer by item and annotator, and what there is to say of the file."""
    given: dict[str, dict[str, str]] = {}
    seconds, paid, twice, unknown = 0.0, 0.0, 0, 0
    for place, row in rows(source):
        item, who, answer = cell(row, "item", "id"), cell(row, "annotator", "worker"), cell(row, "answer", "label")
        if not item or not who or not answer:
            raise KilterError(f"{place} lacks its item, annotator or answer; give rows that have all three.")
        if (kind == "rate" and number(answer) is None) or (kind == "compare" and not answer.isdigit()):
            raise KilterError(f"{place} answers {answer!r}, and a number is due where items are to {kind}.")
        seconds += number(row.get("seconds")) or 0
        paid += number(row.get("paid")) or 0
        unknown += item not in items
        if who in given.setdefault(item, {}):
            twice += 1
        else:
            given[item][who] = answer
    total = sum(map(len, given.values()))
    notes = [f"{total:,} answers to {len(given):,} items; {seconds / 3600:.1f} hours, paid {paid:,.2f}."]
    if twice:
        notes.append(f"{twice:,} second answers of an annotator to the same item count nothing.")
    if unknown:
        notes.append(f"{unknown:,} answers are to items that are not among the records.")
    return {item: said for item, said in given.items() if item in items}, notes


def _agreement(given: dict[str, dict[str, str]], kind: Kind) -> list[str]:
    """Return what there is to say of how far annotators agree."""
    several = [said for said in given.values() if len(said) > 1]
    if kind == "write" or not several:
        return []
    labels = sorted({answer for said in several for answer in said.values()})
    if kind == "rate":
        labels.sort(key=float)
    place = {label: k for k, label in enumerate(labels)}
    counts = np.zeros((len(several), len(labels)))
    for i, said in enumerate(several):
        for answer in said.values():
            counts[i, place[answer]] += 1
    values = [float(label) for label in labels] if kind == "rate" else list(range(len(labels)))
    alpha = agreement.krippendorff(counts, values, "interval" if kind == "rate" else "nominal")
    told = [f"Krippendorff's alpha {alpha:.3f}"]
    if len({len(said) for said in several}) == 1:
        told.append(f"Fleiss' kappa {agreement.fleiss(counts):.3f}")
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for said in several:
        names = sorted(said)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                pairs.setdefault((one, other), []).append((place[said[one]], place[said[other]]))
    kappas = [agreement.cohen([a for a, _ in both], [b for _, b in both], len(labels)) for both in pairs.values()]
    finite = [kappa for kappa in kappas if math.isfinite(kappa)]
    if finite:
        told.append(f"mean Cohen's kappa {statistics.fmean(finite):.3f} over {len(finite)} pairs of annotators")
    if math.isnan(alpha):
        return ["All answers are the same, so that agreement beyond chance has no value."]
    return [f"Agreement on {len(several):,} items: {', '.join(told)}."]
