"""A judge is any model that is asked what answers are worth. Its words are kept, and read by a versioned parser.

Against what is known to lead judges astray there are options: both orders of a pair, several evidences, reasons before
the verdict, worked examples, a reference answer, and the probabilities of the verdicts in the place of one draw.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from kilter.errors import KilterError, SetAside
from kilter.feedback.labels import probabilities
from kilter.feedback.parsers import parse
from kilter.feedback.protocol import Signal
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Asked, Prompts
from kilter.records import Message, Prompt

PROMPTS = Prompts(__file__)
PARSERS = {("rate", "text"): "mtbench-score", ("compare", "text"): "mtbench-pair"}
PARSERS |= {
    ("rate", "logprobs"): "label-mean",
    ("compare", "logprobs"): "label-share",
    ("scores", "text"): "both-scores",
}
LABELS = {"rate": tuple(str(n) for n in range(1, 11)), "compare": ("A", "B", "C")}
LOWEST, HIGHEST = 1.0, 10.0  # of a rating
SHOTS: dict[str, list[dict[str, Any]]] = {
    "rate": [
        {
            "question": "What is 17 + 25?",
            "response": "It is 43.",
            "reason": "17 + 25 is 42, so the only thing that was asked for is wrong, though the answer is clear.",
            "rating": 2,
        },
        {
            "question": "Name a fruit that is yellow.",
            "response": "A banana.",
            "reason": "Bananas are yellow, and nothing more was asked.",
            "rating": 10,
        },
    ],
    "compare": [
        {
            "question": "What is 17 + 25?",
            "first": "Adding step by step, and taking great care with every single digit, we arrive at 43.",
            "second": "42",
            "reason": "17 + 25 is 42. Answer A has more words and the wrong sum; answer B is right.",
            "verdict": "B",
        },
        {
            "question": "Name a fruit that is yellow.",
            "first": "A banana.",
            "second": "A lemon, for example.",
            "reason": "Both fruits are yellow, and neither answer says anything wrong.",
            "verdict": "C",
        },
    ],
}


@dataclass(frozen=True, slots=True)
class Case:
    """What was asked: the last question, the conversation before it as text, and the right answer where it is known.

    `messages` are the whole conversation, for a prompt that shows its turns otherwise.
    """

    question: str
    history: str = ""
    reference: str = ""
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """One text of a judge. `value` is what `parser` read in it: a rating, the share of what was shown first, scores.

    `swapped` says that the pair was shown the other way round, `probe` for which measurement of a bias it was asked,
    `turn` which turn of a conversation it judges; `prompt` is the version of the prompt's file. Where nothing could be
    read `ok` is false and the value None.
    """

    kind: str
    judge: str
    text: str
    parser: str
    value: Any
    ok: bool
    prompt: str
    swapped: bool = False
    probe: str = ""
    turn: int = 1

    @property
    def share(self) -> float | None:
        """The first argument's share of the win, wherever it was shown; None where there is no verdict."""
        if self.value is None:
            return None
        if isinstance(self.value, list):
            first, second = self.value
            shown = 1.0 if first > second else 0.0 if second > first else 0.5
        else:
            shown = float(self.value)
        return 1 - shown if self.swapped else shown

    @property
    def scores(self) -> tuple[float, float] | None:
        """The scores of the first and the second argument, wherever they were shown; None where it gives none."""
        if not isinstance(self.value, list) or len(self.value) != 2:
            return None
        first, second = self.value
        return (second, first) if self.swapped else (first, second)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Judgement:
        """Raises KilterError for a row that is no judgement."""
        known = {f.name for f in fields(cls)}
        try:
            return cls(**{name: value for name, value in data.items() if name in known})
        except TypeError:
            raise KilterError(
                "A stored judgement lacks its kind, judge, text, parser, value, ok or prompt; judge that answer again."
            ) from None

    def again(self, parser: str | None = None) -> Judgement:
        """Return the judgement as `parser` reads its text, or the newest version of the parser that it was read by."""
        said = parse(parser or self.parser.partition("@")[0], self.text)
        told = asdict(self) | {"value": said.value, "ok": said.ok, "parser": said.parser}
        return Judgement(**told)


class Judge:
    """`model` as a judge. A judgement that cannot be read is one all the same, and says so."""

    def __init__(
        self,
        model: Model,
        *,
        form: Literal["verdict", "scores"] = "verdict",
        orders: Literal["both", "random"] = "both",
        evidences: int = 1,
        reason: bool = True,
        shots: bool = False,
        by: Literal["text", "logprobs"] = "text",
        criterion: str = "",
        temperature: float = 0.0,
        max_tokens: int = 512,
        seed: int = 0,
    ) -> None:
        """`orders` of a pair, both or one that is drawn, `evidences` of each; reasons first; worked examples or none.

        A pair is compared by a verdict, or, in the `form` of scores, by a score for each of the two.
        By "logprobs" the verdict is P(A) + P(C)/2 and a rating the mean under the model's probabilities of 1 to 10; no
        text is drawn then. `criterion` takes the place of what is to be weighed.
        """
        self.model, self.name = model, model.name
        self.form = form if by == "text" else "verdict"
        self.orders, self.evidences, self.by = orders, evidences if by == "text" else 1, by
        self.reason, self.shots, self.criterion = reason and by == "text", shots, criterion
        self.temperature, self.max_tokens, self.seed = temperature, max_tokens, seed

    def anew(self, again: int) -> Judge:
        """Return the same judge with other noise, for one whose words held no verdict."""
        other = copy.copy(self)
        other.seed, other.temperature = self.seed + again, self.temperature or 1.0
        return other

    async def rate(
        self, case: Case, response: str, *, claim: str = "", probe: str = "", turn: int = 1
    ) -> list[Judgement]:
        """Return the judge's ratings of `response`, 1 to 10, one for each evidence. `claim` is said of who wrote it.

        Raises SetAside where the model cannot be asked this.
        """
        asked = self._asked("rate", case, response=response, claim=claim)
        return await self.judgements("rate", asked, probe=probe, turn=turn)

    async def compare(
        self, case: Case, first: str, second: str, *, claims: tuple[str, str] = ("", ""), probe: str = "", turn: int = 1
    ) -> list[Judgement]:
        """Return the judge's verdicts on two answers, one for each order and evidence. Raises SetAside as `rate`."""
        orders = [(False, first, second, claims), (True, second, first, (claims[1], claims[0]))]
        # Drawn by what is compared, so that the order in which items are asked changes nothing.
        draw = random.Random(f"{self.seed} {case.question} {first} {second}").random() < 0.5
        shown = orders if self.orders == "both" or probe else [orders[draw]]
        form = "scores" if self.form == "scores" else "compare"
        told = await asyncio.gather(
            *(
                self.judgements(
                    form,
                    self._asked(form, case, first=a, second=b, first_claim=said[0], second_claim=said[1]),
                    swapped=swapped,
                    probe=probe,
                    turn=turn,
                )
                for swapped, a, b, said in shown
            )
        )
        return [one for some in told for one in some]

    def _asked(self, kind: str, case: Case, **more: str) -> Any:
        shots = SHOTS.get(kind, []) if self.shots else []
        return PROMPTS(
            kind,
            question=case.question, history=case.history, reference=case.reference, criterion=self.criterion,
            messages=list(case.messages),
            reason=self.reason, by=self.by, shots=shots, **more,
        )  # fmt: skip

    async def judgements(
        self, kind: str, asked: Asked, *, parser: str | None = None, labels: Sequence[str] = (), **more: Any
    ) -> list[Judgement]:
        """Return what the judge says to any prompt, one for each evidence, read by `parser`.

        With `labels` a judge that goes by its probabilities tells those of the labels. `more` are fields of the
        judgements. Raises SetAside where the model cannot be asked this.
        """
        if self.by == "logprobs" and (labels or kind in LABELS):
            told = await probabilities(self.model, asked, labels or LABELS[kind])
            texts = [json.dumps({label: round(p, 9) for label, p in told.items()})]
            parser = PARSERS.get((kind, self.by), "label-mean")
        else:
            parser = parser or PARSERS[kind, "text"]
            texts = await self._said(asked)
        found = [parse(parser, text) for text in texts]
        return [
            Judgement(kind, self.name, text, said.parser, said.value, said.ok, asked.version, **more)
            for text, said in zip(texts, found, strict=True)
        ]

    async def _said(self, asked: Any) -> list[str]:
        # Several evidences of a judge that always says its likeliest would be one.
        temperature = self.temperature or (1.0 if self.evidences > 1 else 0.0)
        sampling = Sampling(max_tokens=self.max_tokens, temperature=temperature, n=self.evidences, seed=self.seed)
        return [answer.text for answer in await self.model.ask(asked, sampling)]


class JudgeFeedback:
    """A judge's ratings as scores from 0 (rated 1) to 1 (rated 10), with its words as the critique.

    Where its words hold no rating it is asked again, with other noise, `tries` times in all.
    """

    def __init__(self, judge: Judge, *, tries: int = 3) -> None:
        self.judge, self.tries = judge, tries
        self.name = f"judge:{judge.name}"

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        """Return a score for each response; raise SetAside where the judge's words hold no rating of one."""
        case = case_of(prompt.messages, reference_of(prompt))
        return list(await asyncio.gather(*(self._one(case, response) for response in responses)))

    async def compare(self, prompt: Prompt, first: str, second: str) -> int | None:
        """Return 0 where `first` is preferred, 1 where `second` is, None where neither is.

        Raises SetAside where an order has no verdict.
        """
        told = await self.judge.compare(case_of(prompt.messages, reference_of(prompt)), first, second)
        shares = [one.share for one in told if one.share is not None]
        if {one.swapped for one in told if one.ok} != {one.swapped for one in told}:
            raise SetAside(f"The judge '{self.judge.name}' gives no verdict: {told[0].text[:80]!r}.", "no verdict")
        mean = sum(shares) / len(shares)
        return None if mean == 0.5 else int(mean < 0.5)

    async def _one(self, case: Case, response: str) -> Signal:
        told = await self.judge.rate(case, response)
        for again in range(1, self.tries):
            if any(one.ok for one in told):
                break
            told = await self.judge.anew(again).rate(case, response)
        values = [one.value for one in told if one.ok]
        if not values:
            raise SetAside(f"The judge '{self.judge.name}' gives no rating: {told[0].text[:80]!r}.", "no rating")
        score = (sum(values) / len(values) - LOWEST) / (HIGHEST - LOWEST)
        return Signal(score=score, critique=next(one.text for one in told if one.ok))


def case_of(messages: Sequence[Message], reference: str = "") -> Case:
    """Return a conversation that waits for an answer as a case. Raises KilterError for one without a turn."""
    if not messages:
        raise KilterError("There is a prompt without a message, which nothing can be an answer to; leave it out.")
    before = "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages[:-1])
    return Case(messages[-1].content, before, reference, tuple(messages))


def reference_of(prompt: Prompt) -> str:
    """Return the right answer that a prompt comes with, an empty text where it comes with none."""
    for name in ("reference", "answer", "target", "solution"):
        value = prompt.meta.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
    return ""
