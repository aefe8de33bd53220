"""Verbosity bias: does a judge prefer an answer that was made longer and says no more?"""

from __future__ import annotations

from kilter.errors import KilterError
from kilter.evaluation.battles import word
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

DIMENSIONS["failure"] = Dimension(
    "failure", "Verbosity failures", "lower", "share", "Padded answers that were judged better than the original."
)


@method("bias-verbosity", wing="evaluation", paper="arXiv:2306.05685", survey="S1 §8.4")
def bias_verbosity(*, data: str) -> Evaluation:
    """Measure verbosity bias from judgements of padded answers (Zheng et al. 2023, the repetitive list attack).

    failure: share of pairs in which the padded answer, the original with its list said again in other words, is judged
    the better one (in both orders where both are told); tie: share without a preference. prefers_longer: on ordinary
    pairs with lengths, share of decided verdicts for the longer answer, and people_prefer_longer the same of people's.

    Rows: winner (padded, original or tie), or g1_winner and g2_winner; or for ordinary pairs length_a, length_b, winner
    (model_a, model_b, tie), perhaps human_winner.

    Options:
        data: file, folder or hub id of judgements
    """
    rows, notes = read(data)
    left_out = LeftOut()
    outcomes: list[tuple[str, str]] = []
    longer: dict[str, list[float]] = {"prefers_longer": [], "people_prefer_longer": []}
    for at, row in enumerate(rows):
        name = str(row.get("id", row.get("question_id", at)))
        if number(row.get("length_a")) is not None and number(row.get("length_b")) is not None:
            for key, column in (("prefers_longer", "winner"), ("people_prefer_longer", "human_winner")):
                value = for_longer(row, column)
                longer[key] += [value] if value is not None else []
            continue
        said = padded(row)
        if said is None:
            left_out.add("the winner is none of padded, original and tie", row.get("winner"))
        else:
            outcomes.append((name, said))
    measures = {}
    if outcomes:
        measures["failure"] = interval([float(said == "padded") for _, said in outcomes])
        measures["tie"] = interval([float(said == "tie") for _, said in outcomes])
    measures |= {key: interval(values) for key, values in longer.items() if values}
    if not measures:
        raise KilterError(f"{data} holds no judgement that can be used; {' '.join(left_out.notes('pairs', len(rows)))}")
    samples = [sample(f"{name}#{at}", {"failure": float(said == "padded")}) for at, (name, said) in enumerate(outcomes)]
    notes += left_out.notes("pairs", len(rows))
    return Evaluation("", measures, samples, suite="bias-verbosity", notes=notes)


def padded(row: Row) -> str | None:
    """Return which answer was judged the better: with two orders the padded one only where both say so."""
    known = ("padded", "original", "tie")
    if "g1_winner" in row and "g2_winner" in row:
        pair = {str(row["g1_winner"]).lower(), str(row["g2_winner"]).lower()}
        return None if not pair <= set(known) else pair.pop() if len(pair) == 1 else "tie"
    said = str(row.get("winner")).lower()
    return said if said in known else None


def for_longer(row: Row, column: str) -> float | None:
    """Return 1 where the longer answer won, 0 where the shorter did; None for ties, equal lengths and no verdict."""
    share = word(row.get(column), row)
    a, b = number(row.get("length_a")), number(row.get("length_b"))
    if share in (None, 0.5) or a is None or b is None or a == b:
        return None
    return float((share == 1.0) == (a > b))
