"""A rule model as feedback: one model that reads any rule in words and says how likely a response keeps it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

from kilter.errors import KilterError
from kilter.feedback.protocol import Signal
from kilter.feedback.reward_model import Judge, RewardModel
from kilter.files import explaining
from kilter.records import Message, Prompt

PREFIX = "rules:"
HEAD = "Rule: {rule}\n\n"


def with_rule(messages: Sequence[Message], rule: str) -> list[Message]:
    """Return the conversation with the rule at the head of its first user's turn, where a rule model reads it."""
    first = next((i for i, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        return [Message("user", HEAD.format(rule=rule).strip()), *messages]
    told = Message("user", HEAD.format(rule=rule) + messages[first].content)
    return [*messages[:first], told, *messages[first + 1 :]]


def rules_in(path: str | Path) -> list[str]:
    """Return the rules of a file, one a line; empty lines and those that begin with # say nothing.

    Raises KilterError where it cannot be read or holds none.
    """
    with explaining(Path(path), "read"):
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    if not (rules := [line for line in lines if line and not line.startswith("#")]):
        raise KilterError(f"{path} holds no rule; write one on each line.")
    return list(dict.fromkeys(rules))


class RuleModel:
    """Scores are the mean over `rules` of the probability that a response keeps the rule (Glaese et al. 2022, §2.6.2).

    The verdict is whether it keeps each of them rather than not; the critique names those that it does not.
    """

    def __init__(self, model: str | Judge, rules: Sequence[str]) -> None:
        """`model` was trained by `kilter train sparrow`. Raises KilterError where it is no reward model."""
        if not rules:
            raise KilterError("A rule model is asked about rules, and there is none; give at least one.")
        self.model, self.rules = RewardModel(model), list(rules)
        self.name = f"{PREFIX}{self.model.name}"

    async def kept(self, prompt: Prompt, responses: list[str]) -> list[list[float]]:
        """Return for each response the probability that it keeps each of the rules."""
        asked = [Prompt(with_rule(prompt.messages, rule), meta=prompt.meta) for rule in self.rules]
        found = await asyncio.gather(*(self.model(one, responses) for one in asked))
        return [[_sigmoid(signals[k].score or 0.0) for signals in found] for k in range(len(responses))]

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        signals = []
        for kept in await self.kept(prompt, responses):
            broken = [rule for rule, chance in zip(self.rules, kept, strict=True) if chance < 0.5]
            signals.append(Signal(sum(kept) / len(kept), not broken, "\n".join(broken)))
        return signals


def rule_model(name: str) -> RuleModel:
    """Return the feedback that `rules:MODEL@FILE` names; raise KilterError where one of the two is not there."""
    model, at, path = name.removeprefix(PREFIX).rpartition("@")
    if not at or not model or not path:
        raise KilterError(f"'{name}' names no rules; write {PREFIX}MODEL@FILE, the file holding a rule on each line.")
    return RuleModel(model, rules_in(path))


def _sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number)) if number >= 0 else 1 - 1 / (1 + math.exp(number))
