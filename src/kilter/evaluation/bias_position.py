"""Position bias: does a judge's verdict change when the two answers change places?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.classification import scores
from kilter.evaluation.joint import entropy
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.evaluation.verdicts import parse
from kilter.registry import method

NAMES = {1.0: "first", 0.0: "second", 0.5: "tie"}
DIMENSIONS["conflict"] = Dimension(
    "conflict", "Position conflict", "lower", "share", "Pairs whose verdict is another when the answers change places."
)


@method("bias-position", wing="evaluation", paper="arXiv:2305.17926", survey="S1 §8.4")
def bias_position(
    *, data: str, parser: str = "vicuna-scores", top: float = 0.2, resamples: int = 500, seed: int = 0
) -> Evaluation:
    """Measure position bias from judgements in both orders, and what balancing does about it (Wang et al. 2023).

    conflict: share of pairs whose verdict is another in the other order; shown_first: share of decided verdicts for
    what was shown first, 0.5 without bias; consistent: the rest of conflict. balanced verdicts (BPC) compare the mean
    scores over all evidences and orders, or count verdicts: win:first, win:second, win:tie are their shares. diversity
    is the mean entropy of a pair's verdicts (nats), by which the `top` most divided would go to people. Where rows have
    a person's verdict: accuracy and kappa of the single order and of the balanced verdict (single:accuracy,
    balanced:accuracy ...).

    Rows: forward and backward, each a list of evidences (or one): scores [x, y] in the order shown, a verdict of who
    won in the order shown (1 the first shown, 0 the second, 0.5 a tie), or a judge's text; perhaps human (first, second
    or tie, of the forward order). Also rows with review and review_reverse.

    Options:
        data: file, folder or hub id of judgements
        parser: how judges' texts are read
        top: share of pairs that would go to people
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data)
    left_out = LeftOut()
    kept = []
    for at, row in enumerate(rows):
        forward = evidences(row.get("forward", row.get("review")), parser)
        backward = evidences(row.get("backward", row.get("review_reverse")), parser)
        if not forward or not backward:
            left_out.add("an order has no verdict that can be read", row.get("id", at))
        else:
            kept.append((row, forward, [turned(e) for e in backward]))
    if not kept:
        raise KilterError(f"{data} holds no pair judged in both orders; {' '.join(left_out.notes('pairs', len(rows)))}")
    single, other = [verdict(f) for _, f, _ in kept], [verdict(b) for _, _, b in kept]
    balanced = [verdict([*f, *b]) for _, f, b in kept]
    apart = [float(a != b) for a, b in zip(single, other, strict=True)]
    measures = {"conflict": interval(apart), "consistent": interval([1 - x for x in apart])}
    decided = [x for pair in zip(single, (1 - b for b in other), strict=True) for x in pair if x != 0.5]
    if decided:
        measures["shown_first"] = interval(decided)
    for share, name in NAMES.items():
        measures[f"win:{name}"] = interval([float(v == share) for v in balanced])
    spread = [entropy([said(e) for e in [*f, *b]]) for _, f, b in kept]
    measures["diversity"] = interval(spread)
    measures |= against_people([row for row, _, _ in kept], single, balanced, resamples, seed)
    if top > 0:
        divided = float(np.quantile(spread, 1 - top))
        notes.append(f"The {top:.0%} most divided pairs have an entropy of {divided:.3f} nats or more.")
    notes += left_out.notes("pairs", len(rows))
    samples = [
        sample(str(row.get("id", row.get("question_id", at))), {"conflict": c, "win_rate": b}) | {"entropy": e}
        for at, ((row, _, _), c, b, e) in enumerate(zip(kept, apart, balanced, spread, strict=True))
    ]
    return Evaluation("", measures, samples, suite="bias-position", seed=seed, notes=notes)


Evidence = tuple[float, float]  # what the two answers got; a verdict is its share and the rest


def evidences(given: object, parser: str) -> list[Evidence]:
    """Return the evidences of one order as scores of the two answers shown; those that cannot be read are left out."""
    items = given if isinstance(given, list) and not _pair(given) else [given]
    found = []
    for item in items:
        value = parse(parser, item).value if isinstance(item, str) else item
        pair = _pair(value)
        share = number(value) if pair is None else None
        if pair is not None:
            found.append(pair)
        elif share is not None and 0 <= share <= 1:
            found.append((share, 1 - share))
    return found


def turned(evidence: Evidence) -> Evidence:
    """Return an evidence of the other order as one of this order."""
    return evidence[1], evidence[0]


def said(evidence: Evidence) -> float:
    """Return 1, 0 or one half for who has the higher score."""
    return 1.0 if evidence[0] > evidence[1] else 0.0 if evidence[0] < evidence[1] else 0.5


def verdict(found: Sequence[Evidence]) -> float:
    """Return who has the higher mean score over evidences (multiple evidence and balanced position calibration)."""
    first, second = (sum(e[k] for e in found) / len(found) for k in (0, 1))
    return said((round(first, 9), round(second, 9)))


def against_people(
    rows: Sequence[Row], single: Sequence[float], balanced: Sequence[float], resamples: int = 500, seed: int = 0
) -> dict[str, Measure]:
    """Return accuracy and kappa of both kinds of verdict against the people's, where there are any."""
    known = [
        (at, str(row["human"]).lower())
        for at, row in enumerate(rows)
        if str(row.get("human")).lower() in NAMES.values()
    ]
    if not known:
        return {}
    found: dict[str, Measure] = {}
    gold = [label for _, label in known]
    for name, values in (("single", single), ("balanced", balanced)):
        said_ = [NAMES[values[at]] for at, _ in known]
        one = scores(gold, said_, sorted({*gold, *said_}), resamples=resamples, seed=seed, each=False)
        found |= {f"{name}:{what}": one[what] for what in ("accuracy", "kappa")}
    return found


def _pair(value: object) -> Evidence | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    a, b = number(value[0]), number(value[1])
    return None if a is None or b is None else (a, b)
