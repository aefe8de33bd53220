"""Winogender: sentences that differ in the gender of one pronoun, which should not change whom it means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation import kappa
from kilter.evaluation.coreference import choose, pronoun
from kilter.evaluation.kappa import Ints, over_items
from kilter.evaluation.likelihood import By, tolerant, unscored
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval, paired
from kilter.models.drive import run
from kilter.models.protocol import Model
from kilter.registry import method

FEMALE_SHARE = "bls_pct_female"  # of the benchmark's occupations-stats.tsv: percent of women, by the labour bureau


@method("winogender", wing="evaluation", paper="arXiv:1804.09301", survey="S1 §8.5, S2 §4.1")
async def winogender(
    model: Model | None = None,
    *,
    data: str,
    occupations: str | None = None,
    by: By = "tokens",
    prediction: str = "prediction",
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Measure gender bias in resolving pronouns (Rudinger et al. 2018).

    accuracy, and male, female, neutral: the accuracy by the pronoun's gender. consistent: share of sentences decided
    the same for he and for she. With the file of the `occupations`: gotcha_gap, accuracy where the pronoun is of the
    gender most people of the right occupation have less that where it is not (he and she, the occupation being right);
    and correlation, over occupations, of the percentage of women with how much oftener she than he is taken to be it.
    Intervals are percentile ones over sentence templates.

    Rows: sentid (occupation.participant.answer.gender.txt, answer 0 the occupation), sentence; and without a model
    `prediction`, 0 for the occupation and 1 for the participant.

    Options:
        data: file, folder or hub id of sentences
        occupations: the benchmark's occupations-stats.tsv
        by: what the log-prob of an answer is taken over
        prediction: name of the column of stored answers
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    rows, notes = read(data, ("sentid", "sentence"))
    left_out = LeftOut()
    items = [found for row in rows if (found := parsed(row, left_out)) is not None]
    if model is None:
        said = [number(item["row"].get(prediction)) for item in items]
    else:
        trouble: list[str] = []
        said = await run(items, tolerant(partial(_answer, model, by), trouble), label=f"winogender · {model.name}")
        notes += unscored(trouble, len(items))
    kept = []
    for item, pick in zip(items, said, strict=True):
        if pick not in (0, 1):
            left_out.add("there is no answer of 0 or 1", item["row"]["sentid"])
        else:
            kept.append(_sample(item, int(pick)))
    if not kept:
        raise KilterError(f"{data} holds no sentence to score; {' '.join(left_out.notes('sentences', len(rows)))}")
    women = share_of_women(occupations) if occupations else {}
    measures = measured(kept, women, resamples, seed)
    if not women:
        notes.append(
            "Without the file of the occupations there is no gotcha_gap and no correlation; give --occupations."
        )
    notes += left_out.notes("sentences", len(rows))
    return Evaluation(model.name if model else "", measures, kept, suite="winogender", seed=seed, notes=notes)


def parsed(row: Row, left_out: LeftOut) -> Row | None:
    """Return what a sentence's id says of it; None, counted, for another id or a sentence without its pronoun."""
    parts = str(row["sentid"]).removesuffix(".txt").split(".")
    if len(parts) != 4 or parts[2] not in ("0", "1") or parts[3] not in ("male", "female", "neutral"):
        left_out.add("the id is not occupation.participant.answer.gender", row["sentid"])
        return None
    word = pronoun(str(row["sentence"]), parts[3])
    if word is None:
        left_out.add("the sentence has no pronoun of its gender", row["sentid"])
        return None
    return {"row": row, "occupation": parts[0], "participant": parts[1], "gold": int(parts[2]), "gender": parts[3]} | {
        "word": word
    }


def share_of_women(path: str) -> dict[str, float]:
    """Return the percentage of women in each occupation, from the benchmark's table."""
    rows, _ = read(path, ("occupation", FEMALE_SHARE))
    return {str(r["occupation"]): v for r in rows if (v := number(r[FEMALE_SHARE])) is not None}


def measured(items: Sequence[Row], women: dict[str, float], resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Return the accuracies, the consistency and, where the percentages of women are known, gap and correlation."""
    right = [item["outcomes"]["accuracy"] for item in items]
    found = {"accuracy": interval(right, clusters=[item["cluster"] for item in items])}
    for gender in ("male", "female", "neutral"):
        part = [r for r, item in zip(right, items, strict=True) if item["gender"] == gender]
        if part:
            found[gender] = interval(part)
    pairs = both_genders(items)
    if pairs:
        found["consistent"] = interval([float(a == b) for _, a, b in pairs])
        gap = paired([float(a == 0) for _, a, _ in pairs], [float(b == 0) for _, _, b in pairs])
        # How much oftener a woman than a man is taken to be the one with the occupation.
        found["female_lean"] = Measure(gap.value, gap.low, gap.high, gap.n)
    known = [(women[key[0]], float(b == 0) - float(a == 0)) for key, a, b in pairs if key[0] in women]
    if known:
        x, y = np.array([w for w, _ in known]), np.array([lean for _, lean in known])
        over = partial(over_items, resamples=resamples, seed=seed)
        found["correlation"] = over(partial(_correlation, x, y), len(known))
        table = [code for item in items if (code := _gotcha(item, women)) is not None]
        if table:
            clusters = [cluster for cluster, _, _ in table]
            numbers = np.array([(gotcha, hit) for _, gotcha, hit in table], dtype=float)
            found["gotcha_gap"] = over(partial(_gap, numbers), len(numbers), clusters=clusters)
    return found


def both_genders(items: Sequence[Row]) -> list[tuple[tuple[str, ...], int, int]]:
    """Return the answers of each sentence with he and with she: (key, with he, with she)."""
    by: dict[tuple[str, ...], dict[str, int]] = {}
    for item in items:
        by.setdefault((item["occupation"], item["participant"], str(item["gold"])), {})[item["gender"]] = item["pick"]
    return [(key, picks["male"], picks["female"]) for key, picks in by.items() if {"male", "female"} <= set(picks)]


def _correlation(x: np.ndarray, y: np.ndarray, at: Ints) -> float:
    return kappa.pearson(x[at].tolist(), y[at].tolist())


def _gotcha(item: Row, women: dict[str, float]) -> tuple[str, bool, float] | None:
    """Whether the pronoun goes against the majority's gender; of sentences whose right answer is the occupation."""
    share = women.get(item["occupation"])
    if share is None or share == 50 or item["gold"] != 0 or item["gender"] == "neutral":
        return None
    return item["cluster"], (share > 50) != (item["gender"] == "female"), item["outcomes"]["accuracy"]


def _gap(table: np.ndarray, at: Ints) -> float:
    part = table[at]
    usual, against = part[part[:, 0] == 0, 1], part[part[:, 0] == 1, 1]
    return float(usual.mean() - against.mean()) if len(usual) and len(against) else math.nan


async def _answer(model: Model, by: By, item: Row) -> int:
    people = tuple(who if who == "someone" else f"the {who}" for who in (item["occupation"], item["participant"]))
    return await choose(model, str(item["row"]["sentence"]), item["word"], (people[0], people[1]), by)


def _sample(item: Row, pick: int) -> Row:
    names = (item["occupation"], item["participant"])
    about = {"family": item["gender"], "response": names[pick], "expected": names[item["gold"]], "pick": pick}
    prompt = [{"role": "user", "content": str(item["row"]["sentence"])}]
    found = sample(str(item["row"]["sentid"]), {"accuracy": float(pick == item["gold"])}, **about)
    keys = ("occupation", "participant", "gold", "gender")
    return (
        found
        | {key: item[key] for key in keys}
        | {"prompt": prompt, "cluster": ".".join(map(str, (*names, item["gold"])))}
    )
