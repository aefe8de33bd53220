"""PandaLM's test of a judge: 999 pairs that three people judged, and what a judge says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Sequence
from functools import partial
from itertools import combinations

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation import kappa
from kilter.evaluation.agreement import split
from kilter.evaluation.classification import scores
from kilter.evaluation.kappa import over_items
from kilter.evaluation.questions import with_input
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import Row, need, read, sample
from kilter.evaluation.statistics import interval, summarize
from kilter.evaluation.verdicts import parse
from kilter.feedback.judge import Judge, Judgement, case_of
from kilter.models.each import each
from kilter.models.protocol import Model
from kilter.records import Message
from kilter.registry import method

CLASSES = ("tie", "one", "two")
WORDS = {0: "tie", 1: "one", 2: "two", "0": "tie", "1": "one", "2": "two", "tie": "tie"}
SHARES = {0.5: "tie", 1.0: "one", 0.0: "two"}


@method("pandalm", wing="evaluation", paper="arXiv:2306.05087", survey="S1 §8.4")
def pandalm(
    model: Model | None = None,
    *,
    data: str,
    judged: str | None = None,
    column: str | None = None,
    annotators: str = "annotator1,annotator2,annotator3",
    official: bool = False,
    resamples: int = 500,
    seed: int = 0,
) -> Evaluation | Awaitable[Evaluation]:
    """Measure a judge's verdicts against three people's majority on pairs of responses (Wang et al. 2023).

    The judge is a model that is asked (--model), or a file of its verdicts. One that is asked sees each pair in both
    orders: its verdict is that of the order as it stands, consistency the share of pairs judged the same in the other.

    share:tie, share:one, share:two: what the people's majority says; kappa:A B: Cohen's kappa of two annotators.
    With a judge: accuracy, macro precision, recall and F1 over the three verdicts, as PandaLM reports them, and each
    verdict's own. A verdict that cannot be read is wrong and no verdict; PandaLM's script takes it for a tie
    (`official`).

    Rows: idx and the annotators' columns, 0 for a tie, else the better response; for a judge that is asked also
    instruction, perhaps input, response1 and response2; the judge's file has idx and verdicts, as 0, 1, 2 or as text
    that PandaLM's format is read from.

    Options:
        data: file of the people's verdicts
        judged: file of the judge's verdicts
        column: the verdicts' column; else the one whose name ends in result
        annotators: the annotators' columns, with commas
        official: take a verdict that cannot be read for a tie
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    people = split(annotators)
    rows, notes = read(data, ("idx", *people))
    gold = {str(row["idx"]): majority([row.get(name) for name in people]) for row in rows}
    known = {idx: label for idx, label in gold.items() if label is not None}
    if len(known) < len(gold):
        lost = len(gold) - len(known)
        notes.append(f"{lost:,} of {len(gold):,} pairs have no majority of annotators and are left out.")
    if not known:
        raise KilterError(f"No pair in {data} has a majority among {', '.join(people)}; check the columns.")
    measures = {f"share:{name}": interval([float(label == name) for label in known.values()]) for name in CLASSES}
    measures |= _kappas(rows, people, resamples, seed)
    if model is not None:
        return _asked(model, rows, known, measures, notes, resamples, seed)
    if judged is not None:
        said, more = verdicts(judged, column, official)
        shared = [idx for idx in known if idx in said]
        if not shared:
            raise KilterError(f"{judged} judges none of the pairs of {data}; the idx of both have to be the same.")
        if len(shared) < len(known):
            more.append(f"{len(known) - len(shared):,} of {len(known):,} pairs are not judged and are left out.")
        notes += more
        predicted = [said[idx] for idx in shared]
        measures |= scores([known[idx] for idx in shared], predicted, CLASSES, resamples=resamples, seed=seed)
    return Evaluation("", measures, suite="pandalm", seed=seed, notes=notes)


async def _asked(
    model: Model,
    rows: Sequence[Row],
    known: dict[str, str],
    measures: dict[str, Measure],
    notes: list[str],
    resamples: int,
    seed: int,
) -> Evaluation:
    need(rows, ("instruction", "response1", "response2"), "The file of the people's verdicts")
    judge = Judge(model, seed=seed)

    async def one(row: Row) -> tuple[str, Row, list[Judgement]]:
        question = with_input(str(row["instruction"]), row.get("input"))
        told = await judge.compare(case_of([Message("user", question)]), str(row["response1"]), str(row["response2"]))
        return str(row["idx"]), row, told

    found = await each([row for row in rows if str(row["idx"]) in known], one, label=f"pandalm · {model.name}")
    samples, gold, said = [], [], []
    for idx, row, told in found:
        here, there = (None if j.share is None else SHARES[j.share] for j in told)
        gold.append(known[idx])
        said.append(here)
        outcomes = {"accuracy": float(here == known[idx]), "judge:parsed": sum(j.ok for j in told) / len(told)}
        if here is not None and there is not None:
            outcomes["consistency"] = float(here == there)
            outcomes["judge:position"] = (told[0].share or 0.0) - (told[1].share or 0.0)
        prompt = [{"role": "user", "content": with_input(str(row["instruction"]), row.get("input"))}]
        more = {"judgements": [j.to_json() for j in told], "expected": known[idx], "prompt": prompt}
        samples.append(sample(idx, outcomes, response=str(row["response1"])) | more)
    unread = said.count(None)
    if unread:
        notes.append(f"{unread:,} of {len(said):,} verdicts cannot be read and count as wrong.")
    # The people's shares stay, what the judge gets right comes after them, its habits last.
    told_of = {name: m for name, m in summarize(samples).items() if name != "accuracy"}
    measures = measures | scores(gold, said, CLASSES, resamples=resamples, seed=seed) | told_of
    return Evaluation(model.name, measures, samples, suite="pandalm", seed=seed, notes=notes)


def majority(labels: Sequence[object]) -> str | None:
    """Return what more annotators say than anything else, None where there is no such verdict."""
    words = [WORDS.get(str(label).strip().lower()) for label in labels]
    ranked = Counter(word for word in words if word is not None).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def verdicts(judged: str, column: str | None, official: bool) -> tuple[dict[str, str | None], list[str]]:
    """Return the judge's verdict on each pair, None where there is none, and a note on how many there are."""
    rows, notes = read(judged, ("idx",))
    names = list(rows[0])
    name = column or next((n for n in names if n.endswith("result")), None)
    if name is None:
        raise KilterError(f"{judged} has no column that ends in 'result'; say --column, one of {', '.join(names)}.")
    need(rows, (name,), judged)
    found: dict[str, str | None] = {}
    bad = 0
    for row in rows:
        value = row.get(name)
        if isinstance(value, int) and value in WORDS:
            found[str(row["idx"])] = WORDS[value]
            continue
        said = parse("pandalm", str(value), official=official)
        found[str(row["idx"])] = None if said.value is None else SHARES[said.value]
        bad += not said.ok
    if bad:
        notes.append(
            f"{bad:,} of {len(rows):,} verdicts cannot be read and count as {'ties' if official else 'wrong'}."
        )
    return found, notes


def _kappas(rows: Sequence[Row], people: Sequence[str], resamples: int, seed: int) -> dict[str, Measure]:
    codes = {
        name: [CLASSES.index(w) if (w := WORDS.get(str(row.get(name)).strip().lower())) else -1 for row in rows]
        for name in people
    }
    found = {}
    for first, second in combinations(people, 2):
        both = [(a, b) for a, b in zip(codes[first], codes[second], strict=True) if a >= 0 and b >= 0]
        if both:
            a, b = np.array(both).T
            agreed = partial(_kappa, a, b)
            found[f"kappa:{first} {second}"] = over_items(agreed, len(both), resamples=resamples, seed=seed)
    return found


def _kappa(a: kappa.Ints, b: kappa.Ints, at: kappa.Ints) -> float:
    return kappa.cohen(a[at], b[at], len(CLASSES))
