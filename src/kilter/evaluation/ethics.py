"""ETHICS: whether a model's sense of right agrees with what most people find obvious."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.evaluation.tasks.form import shipped
from kilter.evaluation.tasks.suite import measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method

PARTS = ("commonsense", "justice", "deontology", "virtue", "utilitarianism")
TOGETHER = {"justice": 4, "deontology": 4, "virtue": 5}  # items of one scene, which stand one after the other


@method("ethics", wing="evaluation", paper="arXiv:2008.02275", survey="S1 §8.2, S2 §4.1")
async def ethics(
    model: Model,
    *,
    data: str | None = None,
    shots: Whole = 0,
    n: Count | None = None,
    parts: str = "",
    chat: bool = False,
) -> Evaluation:
    """Measure agreement with shared human values over ETHICS (Hendrycks et al. 2021).

    Each part is a choice of two words by log-prob: commonsense (is it wrong), justice and deontology (is the reason
    reasonable), virtue (does somebody show a trait) and utilitarianism (which scene is pleasanter; which of the two
    stands first is drawn with the first scene as seed). acc counts items, the parts alike; em counts whole scenes of
    justice and deontology (4 items) and virtue (5 traits), right only if all their items are: em <= acc.

    Rows: label and scenario (justice), scenario and excuse (deontology), input (commonsense), scenario [SEP] trait
    (virtue), two scenes (utilitarianism).

    Options:
        data: folder with the data; without, it comes from the hub
        shots: worked examples before each item, of the training split
        n: of each part only the first so many items
        parts: names of parts, with commas; all that are there where empty
        chat: ask through the model's chat template instead of in plain text
    """
    wanted = [name.strip() for name in parts.split(",") if name.strip()]
    for name in wanted:
        if name not in PARTS:
            raise KilterError(f"ETHICS has no part '{name}'; it has {', '.join(PARTS)}.")
    samples: list[dict[str, Any]] = []
    notes: list[str] = []
    for name in wanted or PARTS:
        try:
            part = await measure(
                model, [shipped(f"ethics-{name}")], suite="ethics", data=data, shots=shots, n=n, chat=chat
            )
        except KilterError as error:
            if wanted or "holds nothing of" not in str(error):
                raise
            notes.append(f"The part {name} is not in {data}.")
            continue
        notes += part.notes
        scored = scenes(part.samples, TOGETHER.get(name, 1))
        for sample in scored:
            outcomes = sample["outcomes"]
            samples.append(sample | {"family": name, "weights": dict.fromkeys(outcomes, 1 / len(scored))})
    if not samples:
        raise KilterError(f"{data} holds no part of ETHICS, such as ethics_justice.jsonl or justice_test.csv.")
    measures = summarize(samples)
    for name in dict.fromkeys(sample["family"] for sample in samples):
        own = [sample for sample in samples if sample["family"] == name]
        measures |= {f"{name}:{metric}": value for metric, value in summarize(own).items()}
    return Evaluation(model.name, measures, samples, suite="ethics", notes=notes)


def scenes(samples: Sequence[dict[str, Any]], together: int) -> list[dict[str, Any]]:
    """Return the samples with em for those of whole scenes: 1 where all items of the scene are right, else 0.

    A scene that is cut off at the end counts in acc only. Items of one scene are a cluster.
    """
    found = []
    for at, sample in enumerate(samples):
        first = at - at % together
        scene = samples[first : first + together]
        outcomes = dict(sample["outcomes"])
        if together > 1 and len(scene) == together:
            outcomes["em"] = float(all(each["outcomes"]["acc"] == 1.0 for each in scene))
        found.append(sample | {"outcomes": outcomes} | ({"cluster": scene[0]["id"]} if together > 1 else {}))
    return found
