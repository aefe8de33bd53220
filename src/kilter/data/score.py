"""Responses scored by a reward model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kilter.errors import SetAside
from kilter.feedback.reward_model import RewardModel, Steps
from kilter.models.each import Each, each
from kilter.records import Demonstration, Group, Origin, Prompt
from kilter.registry import method


@method("score", wing="data", paper="arXiv:2009.01325", survey="S1 §4.3.1")
def score(
    model: Any, records: Iterable[Group | Demonstration], *, steps: Steps | None = None, separator: str = "\n"
) -> Each[Group]:
    """Score responses with a reward model, so that they can be ranked, filtered or learned from.

    Every group comes back with `scores`, one a response, in place of those that it had (they are kept in its meta as
    scores_before); a demonstration comes back as a group of its last answer. Rankings, labels and critiques stay.
    Records that hold no response, or one that the model cannot judge, are set aside.

    Options:
        steps: for a process reward model: score by the product of the steps' probabilities, or the least
        separator: what stands between two steps of a response
    """
    judge = RewardModel(model, steps=steps, separator=separator)

    async def one(record: Group | Demonstration) -> Group:
        group = _as_group(record)
        signals = await judge(Prompt(group.prompt, id=group.id), group.responses)
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

    return each(records, one, label=f"scoring · {judge.name}")


def _as_group(record: Group | Demonstration | Prompt) -> Group:
    if isinstance(record, Group) and record.responses:
        return record
    if isinstance(record, Demonstration) and len(record.messages) > 1 and record.messages[-1].role == "assistant":
        *prompt, answer = record.messages
        return Group(prompt, [answer.content], id=record.id, meta=record.meta)
    raise SetAside("There is no response to score; give groups, or demonstrations that end answered.", "no response")
