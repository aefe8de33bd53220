"""Blind comparison by people: which of two unnamed responses is better, the sides drawn at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.evaluation.statistics import interval, wilson
from kilter.records import identify
from kilter.registry import method

CHOICES = {"left": 1.0, "a": 1.0, "right": 0.0, "b": 0.0, "tie": 0.5, "both": 0.5, "neither": 0.5}


@method("pairwise-human", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.3, S2 §4.2")
def pairwise_human(*, data: str, key: str | None = None, model: str | None = None) -> Evaluation:
    """Count a blind comparison of two models by people, as Alpaca and Vicuna were compared (Taori et al. 2023).

    win_rate: share of comparisons that the model wins, a tie being half, votes on one item being one cluster.
    decided: share that are no tie. wins: share of wins among those, with Wilson's interval; its p-value against an even
    chance is the exact binomial test's, told in the notes. left: share of wins of whatever stood on the left, which
    should be even: if it is not, people looked at the side.

    Rows: id, choice (left, right or tie; A and B are left and right), and left and right (the models), or `key`, the
    file of the sides that were kept from the raters. `blind` in Python makes both.

    Options:
        data: file of the votes
        key: file of the sides: id, left, right
        model: the model whose wins are counted; else the first by the alphabet
    """
    votes, notes = read(data, ("id", "choice"))
    sides = {str(row["id"]): row for row in (read(key, ("id", "left", "right"))[0] if key else votes)}
    left_out = LeftOut()
    shown = [found for row in votes if (found := unblind(row, sides, left_out)) is not None]
    if not shown:
        why = " ".join(left_out.notes("votes", len(votes)))
        raise KilterError(f"{data} holds no vote that can be counted; {why}")
    models = sorted({name for left, right, _ in (vote for _, vote in shown) for name in (left, right)})
    if len(models) != 2:
        raise KilterError(f"A blind comparison is of two models, not {len(models)}; rate more with bradley-terry.")
    mine = model or models[0]
    if mine not in models:
        raise KilterError(f"The model '{mine}' is not compared in {data}; it is {' or '.join(models)}.")
    other = next(name for name in models if name != mine)
    return _counted(shown, mine, other, [*notes, *left_out.notes("votes", len(votes))])


Vote = tuple[str, tuple[str, str, float]]  # the item; left, right, the share of the left


def _counted(shown: Sequence[Vote], mine: str, other: str, notes: list[str]) -> Evaluation:
    items = [name for name, _ in shown]
    clusters = items if len(set(items)) < len(items) else None
    share = [first if left == mine else 1 - first for _, (left, _, first) in shown]
    wins, losses = sum(s == 1 for s in share), sum(s == 0 for s in share)
    measures = {"win_rate": interval(share, clusters=clusters)}
    measures["decided"] = interval([float(s != 0.5) for s in share], clusters=clusters)
    if wins + losses:
        low, high = wilson(wins, wins + losses)
        measures["wins"] = Measure(wins / (wins + losses), low, high, wins + losses)
    measures["left"] = interval([first for _, (_, _, first) in shown], clusters=clusters)
    p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    told = f"{mine} wins {wins}, {other} wins {losses}, {len(share) - wins - losses} are ties: p = {p:.3g} (sign test)."
    samples = [
        sample(f"{name}#{at}", {"win_rate": value}, cluster=name)
        for at, (name, value) in enumerate(zip(items, share, strict=True))
    ]
    return Evaluation(mine, measures, samples, suite="pairwise-human", notes=[told, *notes])


def blind(pairs: Sequence[Row], seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Return the sheet for the raters and the key to it, for `pairs` of {prompt, responses: {model: text}}.

    On the sheet a pair has an id, the prompt and the texts on the left and right; the key says which model is where.
    The side depends on the seed and the pair, not on the order of the pairs.
    """
    sheet: list[Row] = []
    key: list[Row] = []
    for pair in pairs:
        texts: dict[str, Any] = pair["responses"]
        if len(texts) != 2:
            raise KilterError(f"A pair has the responses of two models, not of {len(texts)}: {', '.join(texts)}.")
        name = str(pair.get("id") or identify("pair", pair["prompt"], sorted(texts.items())))
        models = sorted(texts)
        if random.Random(f"{seed} {name}").random() < 0.5:
            models.reverse()
        sheet.append({"id": name, "prompt": pair["prompt"], "left": texts[models[0]], "right": texts[models[1]]})
        key.append({"id": name, "left": models[0], "right": models[1]})
    return sheet, key


def unblind(row: Row, sides: dict[str, Row], left_out: LeftOut) -> Vote | None:
    """Return the item, the two models and the share of the left one; None, counted, where the vote cannot be used."""
    name, where = str(row["id"]), sides.get(str(row["id"]))
    share = CHOICES.get(str(row.get("choice")).strip().lower())
    if where is None or not where.get("left") or not where.get("right"):
        left_out.add("its sides are not known", name)
        return None
    if share is None:
        left_out.add("the choice is none of left, right and tie", row.get("choice"))
        return None
    return name, (str(where["left"]), str(where["right"]), share)
