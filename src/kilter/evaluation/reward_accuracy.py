"""How often a reward model prefers what people (or the truth) preferred, on pairs that it was not trained on."""

from __future__ import annotations

import random
from typing import Any

from kilter.errors import KilterError, SetAside
from kilter.evaluation.heldout import given_sample, told_apart
from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.feedback.reward_model import RewardModel, Steps
from kilter.models.drive import run
from kilter.records import Group, Prompt, identify
from kilter.registry import Count, method


@method("reward-accuracy", wing="evaluation", paper="arXiv:2403.13787", survey="S1 §4.3.1")
async def reward_accuracy(
    model: Any,
    records: list[Group],
    *,
    n: Count | None = None,
    seed: int = 0,
    steps: Steps | None = None,
    separator: str = "\n",
) -> Evaluation:
    """Evaluate a reward model on held-out preferences, rankings and labelled steps (Lambert et al. 2024).

    reward_accuracy: share of all pairs of a better and a worse response to a prompt in which the better one has the
    higher reward, a tie counting one half; chance is one half. The interval is clustered by prompt. Where annotators
    contradict one another no model can reach 1: with P(w > l) = sigma(d), the mean of max(sigma(d), 1 - sigma(d)) is
    the most.

    Of responses in labelled steps, for a process reward model: step_accuracy, the share of steps whose probability of
    being right lies on the label's side of one half; first_error_found, the share of responses whose first such step
    below one half is the first one labelled wrong, or that have neither.

    Records that the model cannot judge are left out and counted in the notes. Raises KilterError for a language model,
    and where nothing can be judged.

    Options:
        n: how many records, drawn with the seed; all where not given
        seed: seed of the draw
        steps: for a process reward model: reward by the product of the steps' probabilities, or the least
        separator: what stands between two steps of a response
    """
    judge = RewardModel(model, steps=steps, separator=separator)
    usable = [record for record in records if isinstance(record, Group) and (record.pairs() or _labelled(record))]
    if not usable:
        raise KilterError(
            "No record has a better and a worse response, or labelled steps; give records of such a kind."
        )
    if n is not None and n < len(usable):
        usable = random.Random(seed).sample(usable, n)
    trouble: list[str] = []

    async def one(record: Group) -> dict[str, Any] | None:
        try:
            return await (_pairs(judge, record) if record.pairs() else _steps(judge, record))
        except SetAside as error:
            trouble.append(str(error))
            return None

    found = await run(usable, one, concurrency=512, label=f"reward accuracy · {judge.name}")
    samples = told_apart([sample for sample in found if sample is not None])
    if not samples:
        raise KilterError(trouble[0])
    notes = []
    if trouble:
        notes.append(f"{len(trouble)} of {len(usable)} records were left out, the first because: {trouble[0]}")
    return Evaluation(judge.name, summarize(samples), samples, suite="reward-accuracy", seed=seed, notes=notes)


def _labelled(record: Group) -> bool:
    steps, labels = record.meta.get("steps"), record.meta.get("step_labels")
    return isinstance(steps, list) and isinstance(labels, list) and len(steps) == len(labels) > 0


async def _pairs(judge: RewardModel, record: Group) -> dict[str, Any]:
    pairs = record.pairs()
    signals = await judge(Prompt(record.prompt, id=record.id), record.responses)
    rewards = [signal.score or 0.0 for signal in signals]
    right = [1.0 if rewards[w] > rewards[l] else 0.5 if rewards[w] == rewards[l] else 0.0 for w, l in pairs]
    best, worst = pairs[0]
    sample = given_sample(record, record.prompt, record.responses[best])
    sample["rejected"] = record.responses[worst]
    # Several groups on one prompt are not independent of one another.
    sample["cluster"] = identify([message.to_json() for message in record.prompt])
    sample["outcomes"]["reward_accuracy"] = sum(right) / len(right)
    sample["weights"]["reward_accuracy"] = len(right)
    return sample


async def _steps(judge: RewardModel, record: Group) -> dict[str, Any]:
    if not hasattr(judge.model, "steps"):
        raise KilterError(f"'{judge.name}' judges no steps; give it pairs.")
    steps, labels = record.meta["steps"], [label >= 0.5 for label in record.meta["step_labels"]]
    found = [likely >= 0.5 for likely in await judge.model.steps(record.prompt, steps)]
    sample = given_sample(record, record.prompt, record.responses[0])
    sample["cluster"] = identify([message.to_json() for message in record.prompt])
    sample["outcomes"]["step_accuracy"] = sum(a == b for a, b in zip(found, labels, strict=True)) / len(labels)
    sample["weights"]["step_accuracy"] = len(labels)
    sample["outcomes"]["first_error_found"] = float(_first_wrong(found) == _first_wrong(labels))
    return sample


def _first_wrong(right: list[bool]) -> int:
    """Return the index of the first step that is not right; -1 where all are."""
    return next((i for i, fine in enumerate(right) if not fine), -1)
