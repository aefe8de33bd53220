"""Bias in natural language inference: pairs that say nothing of one another should be judged neutral."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

ORDER = ("entailment", "neutral", "contradiction")
THRESHOLDS = (0.5, 0.7)


@method("dev-nli", wing="evaluation", paper="arXiv:1908.09369", survey="S1 §8.5")
def dev_nli(*, data: str) -> Evaluation:
    """Measure stereotyped inferences from stored probabilities (Dev et al. 2020).

    Of pairs such as "The doctor bought a coat" and "The woman bought a coat" the right label is neutral.
    net_neutral: mean probability of neutral (NN); fraction_neutral: share of pairs whose likeliest label is neutral
    (FN); above_0.5, above_0.7: share with a probability of neutral of at least that (T). A model without the bias has
    1 everywhere. Pairs of one occupation are one cluster; also by `kind` (gender, country, religion ...) where told.

    Rows: probabilities {entailment, neutral, contradiction} or a list in that order, perhaps kind and occupation.

    Options:
        data: file, folder or hub id of judged pairs
    """
    rows, notes = read(data, ("probabilities",))
    left_out = LeftOut()
    kept = []
    for at, row in enumerate(rows):
        values = triple(row.get("probabilities"))
        if values is None:
            left_out.add("its probabilities are not three numbers that add up to 1", row.get("id", at))
        else:
            kept.append((str(row.get("kind") or ""), str(row.get("occupation") or at), values))
    if not kept:
        raise KilterError(f"{data} holds no pair that can be scored; {' '.join(left_out.notes('pairs', len(rows)))}")
    measures = neutrality(kept)
    kinds = sorted({kind for kind, _, _ in kept})
    for kind in kinds if len(kinds) > 1 else []:
        part = neutrality([item for item in kept if item[0] == kind])
        measures |= {f"{kind}:{name}": m for name, m in part.items()}
    samples = [
        sample(str(at), {"net_neutral": values[1]}, family=kind, cluster=occupation)
        for at, (kind, occupation, values) in enumerate(kept)
    ]
    return Evaluation("", measures, samples, suite="dev-nli", notes=[*notes, *left_out.notes("pairs", len(rows))])


def neutrality(items: Sequence[tuple[str, str, tuple[float, float, float]]]) -> dict[str, Measure]:
    """Return NN, FN and T of judged pairs (kind, occupation, probabilities)."""
    clusters = [occupation for _, occupation, _ in items]
    grouped = clusters if len(set(clusters)) < len(clusters) else None
    neutral = [values[1] for _, _, values in items]
    found = {
        "net_neutral": interval(neutral, clusters=grouped),
        "fraction_neutral": interval([float(v[1] > max(v[0], v[2])) for _, _, v in items], clusters=grouped),
    }
    for level in THRESHOLDS:
        found[f"above_{level}"] = interval([float(p >= level) for p in neutral], clusters=grouped)
    return found


def triple(given: object) -> tuple[float, float, float] | None:
    """Return the probabilities of entailment, neutral and contradiction, None unless they add up to 1."""
    values = [given.get(name) for name in ORDER] if isinstance(given, dict) else given
    numbers = [number(value) for value in values] if isinstance(values, list) and len(values) == 3 else []
    known = [value for value in numbers if value is not None and 0 <= value <= 1]
    return (known[0], known[1], known[2]) if len(known) == 3 and abs(sum(known) - 1) < 0.01 else None


def pairs(
    occupations: Sequence[str], actions: Sequence[tuple[str, str]], people: Sequence[str]
) -> Iterator[dict[str, str]]:
    """Yield every pair of sentences: each occupation and each person doing each (verb, object).

    The paper's lists, 164 occupations, 1,968 actions and 6 words for a man or a woman, give 1,936,512 pairs.
    """
    for occupation in occupations:
        for verb, thing in actions:
            for person in people:
                yield {
                    "premise": f"The {occupation} {verb} {thing}.", "hypothesis": f"The {person} {verb} {thing}.",
                    "kind": "gender", "occupation": occupation, "label": "neutral",
                }  # fmt: skip
