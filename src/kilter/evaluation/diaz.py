"""Age bias: do sentences about the old get a worse rating than the same sentences about the young?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import paired
from kilter.registry import method

GROUPS = ("old", "young")


@method("diaz", wing="evaluation", paper="10.1145/3173574.3173986", survey="S1 §8.5")
def diaz(*, data: str) -> Evaluation:
    """Measure age bias in sentiment from stored ratings (Díaz et al. 2018).

    odds_ratio: the odds that a sentence with a word for the young is rated positive, over those with a word for the
    old: 1 is no bias; with the interval of Woolf's logarithm (Haldane's half added where a cell is empty).
    matched_odds: the same from pairs that differ in the word alone, discordant pairs one way over those the other. gap:
    share positive of the young less that of the old, paired where pairs are told. By tool where several rated.

    Rows: group (old or young), positive (true or false, or a score above 0), perhaps pair and tool.

    Options:
        data: file, folder or hub id of rated sentences
    """
    rows, notes = read(data, ("group", "positive"))
    left_out = LeftOut()
    kept = [found for at, row in enumerate(rows) if (found := rated(row, at, left_out)) is not None]
    if {group for group, *_ in kept} != set(GROUPS):
        raise KilterError(f"{data} needs rated sentences of both groups, old and young; check the group column.")
    measures = biases(kept)
    tools = sorted({tool for *_, tool in kept})
    for tool in tools if len(tools) > 1 else []:
        part = [item for item in kept if item[3] == tool]
        if {item[0] for item in part} == set(GROUPS):
            measures |= {f"{tool}:{name}": m for name, m in biases(part).items()}
    samples = [
        sample(f"{tool}/{pair}/{group}#{at}", {"positive": positive}, family=group, cluster=pair)
        for at, (group, positive, pair, tool) in enumerate(kept)
    ]
    return Evaluation("", measures, samples, suite="diaz", notes=[*notes, *left_out.notes("ratings", len(rows))])


Rated = tuple[str, float, str, str]  # group, positive, pair, tool


def rated(row: Row, at: int, left_out: LeftOut) -> Rated | None:
    """Return a row as a rating; None, counted, for another group or a rating that is none."""
    said = row.get("positive")
    value = float(said) if isinstance(said, bool) else number(said)
    if row.get("group") not in GROUPS or value is None:
        left_out.add("its group is not old or young, or its rating no number", row.get("text", at))
        return None
    return str(row["group"]), float(value > 0), str(row.get("pair", "")), str(row.get("tool") or "")


def biases(items: Sequence[Rated]) -> dict[str, Measure]:
    """Return the odds ratios and the gap."""
    table = np.array([[sum(1 for g, p, *_ in items if g == group and p == value) for value in (1, 0)]
                      for group in ("young", "old")], dtype=float)  # fmt: skip
    found = {"odds_ratio": odds_ratio(table, len(items))}
    cells: dict[tuple[str, str], dict[str, list[float]]] = {}
    for group, positive, pair, tool in items:
        if pair:
            cells.setdefault((tool, pair), {}).setdefault(group, []).append(positive)
    both = [(c["old"][0], c["young"][0]) for c in cells.values() if {*GROUPS} <= set(c)]
    if both:
        up, down = sum(y > o for o, y in both), sum(y < o for o, y in both)
        found["matched_odds"] = matched(up, down, len(both))
        gap = paired([o for o, _ in both], [y for _, y in both])
        found["gap"] = Measure(gap.value, gap.low, gap.high, gap.n)
    else:
        young, old = table[0, 0] / table[0].sum(), table[1, 0] / table[1].sum()
        error = math.sqrt(sum(p * (1 - p) / n for p, n in ((young, table[0].sum()), (old, table[1].sum()))))
        reach = float(stats.norm.ppf(0.975)) * error
        found["gap"] = Measure(young - old, young - old - reach, young - old + reach, len(items))
    return found


def odds_ratio(table: np.ndarray, n: int) -> Measure:
    """Return (a d) / (b c) of [[a, b], [c, d]] with Woolf's interval."""
    cells = table + 0.5 if (table == 0).any() else table
    log = float(np.log(cells[0, 0] * cells[1, 1] / (cells[0, 1] * cells[1, 0])))
    reach = float(stats.norm.ppf(0.975)) * math.sqrt(float((1 / cells).sum()))
    return Measure(math.exp(log), math.exp(log - reach), math.exp(log + reach), n)


def matched(up: int, down: int, n: int) -> Measure:
    """Return the conditional odds ratio of matched pairs, up / down, with the exact binomial interval."""
    if not up + down:
        return Measure(1.0, 0.0, math.inf, n)
    ends = stats.binomtest(up, up + down).proportion_ci(method="exact")
    low, high = (p / (1 - p) if p < 1 else math.inf for p in (ends.low, ends.high))
    return Measure(up / down if down else math.inf, low, high, n)
