"""Responses scored by a reward model."""

from __future__ import annotations

from typing import Any

from kilter.errors import KilterError
from kilter.feedback.reward_model import RewardModel, Steps
from kilter.models.drive import run
from kilter.notes import tell
from kilter.records import Demonstration, Group, Origin, Prompt
from kilter.registry import method


@method("score", wing="data", paper="arXiv:2009.01325", survey="S1 §4.3.1")
async def score(
    model: Any, records: list[Group | Demonstration], *, steps: Steps | None = None, separator: str = "\n"
) -> list[Group]:
    """Score responses with a reward model, so that they can be ranked, filtered or learned from.

    Every group comes back with `scores`, one a response, in place of those that it had (they are kept in its meta as
    scores_before); a demonstration comes back as a group of its last answer. Rankings, labels and critiques stay.
    Records that the model cannot judge are left out, and that is told.

    Options:
        steps: for a process reward model: score by the product of the steps' probabilities of being right, or the least
        separator: what stands between two steps of a response
    """
    judge = RewardModel(model, steps=steps, separator=separator)
    groups = [group for record in records if (group := _as_group(record)) is not None]
    if not groups:
        raise KilterError("There is no response to score; give groups or demonstrations.")
    trouble: list[str] = []

    async def one(group: Group) -> Group | None:
        try:
            signals = await judge(Prompt(group.prompt, id=group.id), group.responses)
        except KilterError as error:
            trouble.append(str(error))
            return None
        before = {} if group.scores is None else {"scores_before": group.scores}
        return Group(
            group.prompt,
            group.responses,
            scores=[float(signal.score or 0.0) for signal in signals],
            ranking=group.ranking,
            labels=group.labels,
            critiques=group.critiques,
            id=group.id,
            origin=Origin("score", None, judge.name, (group.id,)),
            meta=group.meta | before,
        )

    found = [group for group in await run(groups, one, label=f"scoring · {judge.name}") if group is not None]
    if not found:
        raise KilterError(trouble[0])
    if left := len(records) - len(found):
        why = f", the first because: {trouble[0]}" if trouble else ": they hold no response"
        tell([f"{left} of {len(records)} records were left out{why}"])
    return found


def _as_group(record: Group | Demonstration | Prompt) -> Group | None:
    if isinstance(record, Group):
        return record if record.responses else None
    if isinstance(record, Demonstration) and len(record.messages) > 1 and record.messages[-1].role == "assistant":
        *prompt, answer = record.messages
        return Group(prompt, [answer.content], id=record.id, meta=record.meta)
    return None
