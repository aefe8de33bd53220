"""ChatEval: judges in several roles who talk to one another before each gives a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kilter.evaluation.judging import Way, run
from kilter.evaluation.options import spread
from kilter.evaluation.questions import from_records
from kilter.evaluation.result import Evaluation
from kilter.feedback.judge import Judge, Judgement
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import Count, method

PROMPTS = Prompts(__file__)
Protocol = Literal["one-by-one", "simultaneous", "summarizer"]
ROLES = {
    "member of the public": "You have no training in the field and care whether the answer helps you.",
    "critic": "You look for mistakes, gaps and weak arguments, and you say so.",
    "scientist": "You check facts and reasoning step by step.",
    "editor": "You care for clear, well-ordered writing that fits its reader.",
    "psychologist": "You care how the answer meets the person who asks, and whether it could hurt.",
}


@dataclass(frozen=True, slots=True)
class Said:
    """One turn: who said it in which round. `role` "" is the summariser."""

    round: int
    role: str
    text: str


@method("chateval", wing="evaluation", paper="arXiv:2308.07201", survey="S1 §8.4")
@spread(probes=4)
async def chateval(
    model: Model,
    records: list[Prompt | Demonstration | Group],
    *,
    protocol: Protocol = "one-by-one",
    roles: Count = 3,
    rounds: Count = 2,
    diverse: bool = True,
    way: Way,
) -> Evaluation:
    """Judge answers by a discussion among judges of different roles (ChatEval, Chan et al. 2023).

    The judge model takes several roles and talks for some rounds; then each role gives its verdict, and the verdicts
    are averaged (ratings) or voted on (comparisons). Who hears what: one-by-one, a role hears everything said before
    it, in its own round too; simultaneous, all of earlier rounds and nothing of its own; summarizer, as simultaneous,
    but in place of the earlier rounds a summary of them. Without `diverse` roles all judges have the same description,
    which the paper found to take away what the discussion gains.

    Scores, win rates and the judges' biases are as in `kilter show judge`; a role's verdict is one evidence.

    Options:
        protocol: one-by-one, simultaneous or summarizer
        roles: how many roles of: member of the public, critic, scientist, editor, psychologist
        rounds: how often each role speaks, the last time with its verdict
        diverse: give the roles different descriptions
    """
    judge = Panel(way.opened(), protocol, list(ROLES)[:roles], rounds, diverse)
    return await run(model, from_records(records, way.n, way.seed), way, suite="chateval", judge=judge)


class Panel(Judge):
    """A judge that is several: what it says is the last words of each role, as so many evidences."""

    def __init__(
        self, judge: Judge, protocol: Protocol, roles: Sequence[str], rounds: int, diverse: bool = True
    ) -> None:
        super().__init__(
            judge.model, orders=judge.orders, reason=judge.reason, shots=judge.shots, criterion=judge.criterion,
            temperature=judge.temperature, max_tokens=judge.max_tokens, seed=judge.seed,
        )  # fmt: skip
        self.protocol, self.roles, self.rounds, self.diverse = protocol, list(roles), rounds, diverse

    async def judgements(
        self, kind: str, asked: Any, *, parser: str | None = None, labels: Sequence[str] = (), **more: Any
    ) -> list[Judgement]:
        """Hold the discussion about what `asked` shows, and return each role's verdict."""
        talk: list[Said] = []
        verdicts: list[Judgement] = []
        for at in range(1, self.rounds + 1):
            last = at == self.rounds
            if self.protocol == "one-by-one":
                told = [await self._speak(kind, asked, role, at, talk, parser, more) for role in self.roles]
            else:
                before = list(talk)
                told = list(
                    await asyncio.gather(
                        *(self._speak(kind, asked, role, at, before, parser, more) for role in self.roles)
                    )
                )
                talk += [Said(at, role, one.text) for role, one in zip(self.roles, told, strict=True)]
            verdicts = told
            if self.protocol == "summarizer" and not last:
                talk.append(Said(at, "", await self._summary(talk, at)))
        return verdicts

    async def _speak(
        self, kind: str, asked: Any, role: str, at: int, talk: list[Said], parser: str | None, more: dict[str, Any]
    ) -> Judgement:
        heard = visible(self.protocol, talk, at)
        told = {"role": role, "about": ROLES[role if self.diverse else self.roles[0]]}
        heading = PROMPTS("role", **told, heard=[(one.role or "summary", one.text) for one in heard])
        question = type(asked)([*heading, *asked], asked.version, asked.kind, {**asked.variables, "heard": len(heard)})
        other = self.anew(self.roles.index(role) * 101 + at) if self.temperature else self
        [judgement] = await Judge.judgements(other, kind, question, parser=parser, **more)
        if self.protocol == "one-by-one":
            talk.append(Said(at, role, judgement.text))
        return judgement

    async def _summary(self, talk: Sequence[Said], at: int) -> str:
        asked = PROMPTS("summary", said=[(one.role, one.text) for one in talk if one.round == at and one.role])
        [answer] = await self.model.ask(asked, Sampling(max_tokens=self.max_tokens, seed=self.seed))
        return answer.text


def visible(protocol: Protocol, talk: Sequence[Said], at: int) -> list[Said]:
    """Return what a role hears in round `at` of all that was said so far."""
    if protocol == "one-by-one":
        return list(talk)
    if protocol == "simultaneous":
        return [one for one in talk if one.round < at]
    return [one for one in talk if one.round == at - 1 and not one.role]
