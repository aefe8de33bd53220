"""Exercises with solutions that come to the right answer: new wordings, backward questions, programs, rationales."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from kilter import sandbox
from kilter.data.answers import due_of, equal, final, right, value
from kilter.data.drafts import sound
from kilter.data.replies import asked_of, model_of
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2309.12284"
Way = Literal[
    "answer",
    "rephrase",
    "self-verification",
    "fobar",
    "harder",
    "easier",
    "program",
    "interleaved",
    "back",
    "rationale",
]
PAPERS = {
    "harder": "arXiv:2308.09583", "easier": "arXiv:2308.09583", "program": "arXiv:2309.05653",
    "interleaved": "arXiv:2310.03731", "back": "arXiv:2402.16352", "rationale": "arXiv:2305.02301",
}  # fmt: skip
_CODE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\d)")
_UNKNOWN = re.compile(r"\bx\b")
UNKNOWN = "If we know that the answer to this is {answer}, what is the value of the unknown x?"
_ROUNDS = 6  # programs in one interleaved solution


@dataclass(frozen=True)
class Backward:
    """A question with one of its numbers hidden as x; `number` is that, and `original` the question with it."""

    text: str
    number: str
    original: str

    def with_number(self) -> str:
        """Return the question with the number in the place of x again."""
        return _UNKNOWN.sub(self.number, self.text, count=1)


@method("math-distill", wing="data", paper=PAPER, survey="S3 §imitation", aliases=("metamath", "mammoth", "mathcoder"))
def math_distill(
    model: Model,
    records: Iterable[Prompt | Demonstration],
    *,
    way: Way = "answer",
    samples: Count = 1,
    agree: Annotated[float, Field(gt=0, le=1)] = 0.5,
    weight: Amount = 1.0,
    verifier: str = "",
    seconds: Annotated[float, Field(gt=0)] = 5.0,
    max_tokens: Count = 1024,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[list[Demonstration]]:
    """Solutions of a strong model, of which only those stay that are verified (MetaMath, Yu et al. 2023, and others).

        answer              solutions of the exercise; those that come to its answer stay (MetaMath)
        rephrase            the exercise in other words, solved; as above
        self-verification   question and answer as a statement, a number of the question hidden as x, solved for x
        fobar               a number of the exercise hidden as x, its answer told, solved for x (forward-backward);
                            both stay where the solution comes to the number
        harder, easier      an exercise made out of it (WizardMath); nobody knows the answer, so solutions stay that
                            come to what the share `agree` of 3 or more samples come to
        program             a program that prints the answer; where none does, a solution in words that comes to it
                            (MAmmoTH: program of thought first, chain of thought else)
        interleaved         text, programs, what they print, and so on to the answer (MathCoder)
        back                a new solution by the model of `records`' one, the exercise of it, and a program of the
                            verifier that comes to the same answer (MathGenie)
        rationale           two records an exercise, each under its prefix: [label] question -> answer, and [rationale]
                            question -> solution with meta["weight"] lambda = `weight`; with 0 there is only the first
                            (Distilling step-by-step: L = L_label + lambda L_rationale)

    The right answer is a record's (answer, solution, ... beside it, or its last turn). Numbers are compared by value.
    Programs run in the sandbox (`kilter.sandbox`) and nowhere else. meta: aug_type, answer, verified, question_id.

    Options:
        way: what is made
        samples: solutions an exercise
        agree: share of the samples that have to come to one answer, where no right one is known
        weight: lambda, the weight of the rationales
        verifier: model that writes the verifying programs of `back`; without it the same model
        seconds: longest a program may run
        max_tokens: longest solution
        temperature: sampling temperature of solutions
        seed: seed of the solutions
    """
    maker = _Maker(
        model, model_of(verifier, model), way, samples, agree, weight, seconds, max_tokens, temperature, seed
    )
    if way in ("program", "interleaved", "back"):
        sandbox.check()
    return each(records, maker.one, label=f"{way} · {model.name}")


def hidden(question: str) -> list[Backward]:
    """Return `question` with each of its numbers in turn hidden as x; none where an x would be ambiguous."""
    if _UNKNOWN.search(question):
        return []
    return [
        Backward(f"{question[: found.start()]}x{question[found.end() :]}", found[0], question)
        for found in _NUMBER.finditer(question)
    ]


@dataclass(frozen=True)
class _Maker:
    model: Model
    verifier: Model
    way: Way
    samples: int
    agree: float
    weight: float
    seconds: float
    max_tokens: int
    temperature: float
    seed: int

    async def one(self, record: Prompt | Demonstration) -> list[Demonstration]:
        question = asked_of(record.messages).strip()
        due = due_of(record)
        if self.way in ("harder", "easier"):
            return await self._evolved(record, question)
        if not due:
            raise SetAside("It tells no right answer, so that nothing could be verified.", "no answer")
        if self.way == "back":
            return await self._back(record, question)
        if self.way in ("fobar", "self-verification"):
            return await self._backward(record, question, due)
        if self.way == "rephrase":
            asked = PROMPTS("rephrase", instruction=question)
            question = (await sound(self.model, asked, self._sampling(0))).text.strip()
        if self.way in ("program", "interleaved"):
            return await self._programs(record, question, due)
        solutions = await self._solutions(question, due)
        if self.way != "rationale":
            return [self._made(record, question, solution, due) for solution in solutions]
        label = self._made(record, f"[label] {question}", due, due, weight=1.0)
        rationales = [
            self._made(record, f"[rationale] {question}", solution, due, weight=self.weight) for solution in solutions
        ]
        return [label, *(rationales if self.weight else [])]

    async def _solutions(self, question: str, due: str) -> list[str]:
        """Return the different solutions that come to `due`; raise SetAside where none does."""
        found: dict[str, None] = {}
        for k in range(self.samples):
            reply = await sound(self.model, PROMPTS("solve", question=question), self._sampling(k))
            if right(due, reply.text):
                found[reply.text.strip()] = None
        if not found:
            raise SetAside(f"No solution comes to the answer {due[:40]!r}.", "wrong answer")
        return list(found)

    async def _backward(self, record: Prompt | Demonstration, question: str, due: str) -> list[Demonstration]:
        text = question
        if self.way == "self-verification":
            asked = PROMPTS("declare", question=question, answer=due)
            text = (await sound(self.model, asked, self._sampling(0))).text.strip()
        numbers = {found.number for found in hidden(question)}
        masked = [found for found in hidden(text) if found.number in numbers]
        if not masked:
            raise SetAside("No number of the question can be hidden.", "no number")
        made = []
        for found in masked[: self.samples]:
            ending = UNKNOWN.format(answer=due) if self.way == "fobar" else "What is the value of the unknown x?"
            asked_for = f"{found.text}\n{ending}"
            try:
                solutions = await self._solutions(asked_for, found.number)
            except SetAside:
                continue
            told = {"original": found.original, "masked": found.text}
            made += [self._made(record, asked_for, solution, found.number, **told) for solution in solutions]
        if not made:
            raise SetAside("No solution comes to the number that was hidden.", "wrong answer")
        return made

    async def _evolved(self, record: Prompt | Demonstration, question: str) -> list[Demonstration]:
        operation = "deepen" if self.way == "harder" else "simplify"
        asked = PROMPTS("evolve", instruction=question, operation=operation)
        new = (await sound(self.model, asked, self._sampling(0))).text.strip()
        if new == question:
            raise SetAside("The exercise comes back as it was.", "unchanged")
        count = max(3, self.samples)
        replies = [await sound(self.model, PROMPTS("solve", question=new), self._sampling(k)) for k in range(count)]
        found = [(final(reply.text), reply.text.strip()) for reply in replies]
        keys = [str(value(answer) if value(answer) is not None else answer.casefold()) for answer, _ in found]
        [(key, most)] = Counter(keys).most_common(1)
        if most / count < self.agree or not key:
            raise SetAside(f"Its solutions come to {len(set(keys))} different answers.", "no agreement")
        kept = dict.fromkeys(text for this, (_, text) in zip(keys, found, strict=True) if this == key)
        return [self._made(record, new, text, final(text)) for text in list(kept)[: self.samples]]

    async def _programs(self, record: Prompt | Demonstration, question: str, due: str) -> list[Demonstration]:
        for k in range(self.samples):
            solve = self._program if self.way == "program" else self._interleaved
            text, output = await solve(question, k)
            if equal(due, output):
                return [self._made(record, question, text, due, programs=True)]
        if self.way == "interleaved":
            raise SetAside(f"No solution with programs comes to the answer {due[:40]!r}.", "wrong answer")
        solutions = await self._solutions(question, due)
        return [self._made(record, question, solution, due, programs=False) for solution in solutions[:1]]

    async def _program(self, question: str, k: int, model: Model | None = None) -> tuple[str, str]:
        """Return a program, and the last line that it prints; "" where it did not end."""
        asked = PROMPTS("program", question=question)
        reply = await sound(model or self.model, asked, self._sampling(k))
        code = _CODE.findall(reply.text)
        return reply.text.strip(), final(await self._printed(code[0])) if code else ""

    async def _interleaved(self, question: str, k: int) -> tuple[str, str]:
        """Return a solution of text, programs and what they print, and the answer that its text ends with."""
        steps: list[dict[str, str]] = []
        for _ in range(_ROUNDS):
            asked = PROMPTS("interleave", question=question, steps=steps)
            text = (await sound(self.model, asked, self._sampling(k))).text.strip()
            code = _CODE.findall(text)
            if not code:
                whole = [f"{step['text']}\n```output\n{step['output']}\n```" for step in steps]
                return "\n".join([*whole, text]), final(text) if steps else ""
            # What stands behind the first program was written without knowing what it prints.
            cut = text[: text.index(code[0]) + len(code[0])] + "```"
            steps.append({"text": cut, "output": (await self._printed(code[0])).strip()})
        return "", ""

    async def _back(self, record: Prompt | Demonstration, question: str) -> list[Demonstration]:
        told = (
            record.messages[-1].content
            if record.messages[-1].role == "assistant"
            else str(record.meta.get("solution", ""))
        )
        asked = PROMPTS("augment", question=question, solution=told)
        solution = (await sound(self.model, asked, self._sampling(0))).text.strip()
        new = (await sound(self.model, PROMPTS("ask", text=solution), self._sampling(0))).text.strip()
        _, output = await self._program(new, 0, self.verifier)
        if not equal(final(solution), output):
            raise SetAside(
                f"A program comes to {output[:40]!r} and the solution to {final(solution)[:40]!r}.", "not verified"
            )
        return [self._made(record, new, solution, final(solution))]

    async def _printed(self, code: str) -> str:
        limits = sandbox.Limits(seconds=self.seconds)
        outcome = await sandbox.tried(code, limits=limits)
        return outcome.stdout if outcome.ok else f"({outcome.status}: {outcome.detail})"

    def _sampling(self, k: int) -> Sampling:
        return Sampling(self.max_tokens, self.temperature, seed=self.seed + k)

    def _made(
        self, record: Prompt | Demonstration, question: str, solution: str, answer: str, **more: object
    ) -> Demonstration:
        paper = PAPERS.get(self.way, PAPER)
        meta = {"aug_type": self.way, "answer": answer, "verified": True, "question_id": record.id, **more}
        return Demonstration(
            [Message("user", question), Message("assistant", solution)],
            origin=Origin("math-distill", paper, self.model.name, (record.id,), self.seed, PROMPTS.version("solve")),
            meta=meta,
        )
