"""Judges with known habits, as models that are asked: what measures of their biases have to find again."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from kilter.models.protocol import Answer, Sampling
from kilter.records import Message

SECTION = re.compile(
    r"^\[(Question|Answer A|Answer B|Answer|Reference answer[^\]]*)\](?: \(([^)\n]*)\))?$", re.MULTILINE
)


def sections(text: str) -> dict[str, tuple[str, str]]:
    """The parts of a judge's prompt: name -> (its text, the claim beside its heading)."""
    found = list(SECTION.finditer(text))
    ends = [*(m.start() for m in found[1:]), len(text)]
    parts = {}
    for m, end in zip(found, ends, strict=True):
        body = re.split(r"\n\n(?:Compare|Give|Begin|Reply)", text[m.end() : end])[0].strip()
        parts[m.group(1)] = (body, m.group(2) or "")
    return parts


class Planted:
    """Judges by `worth(question, answer)`; at the given rates it takes the first, the longer, the listed, its own."""

    def __init__(
        self,
        worth: Callable[[str, str], float],
        *,
        position: float = 0.0,
        verbosity: float = 0.0,
        format: float = 0.0,
        own: float = 0.0,
        silent: float = 0.0,
        name: str = "planted",
    ) -> None:
        self.worth, self.silent, self.name, self.asked = worth, silent, name, 0
        self.rates = {"position": position, "verbosity": verbosity, "format": format, "own": own}

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        self.asked += 1
        text = messages[-1].content
        rng = random.Random(f"{sampling.seed} {text}")
        said = [self._said(text, rng) for _ in range(sampling.n)]
        return [Answer(one, 1, None, "stop", self.name) for one in said]

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        raise NotImplementedError

    def _said(self, text: str, rng: random.Random) -> str:
        if rng.random() < self.silent:
            return "I would rather not say."
        parts = sections(text)
        question = parts["Question"][0]
        if "Answer" in parts:
            answer, claim = parts["Answer"]
            points = self.worth(question, answer)
            for habit, bonus in (("verbosity", answer.count("In other words")), ("format", "**Answer**" in answer)):
                points += 9 * self.rates[habit] * bool(bonus)
            return f"Reasons. Rating: [[{min(10, max(1, points + 9 * self.rates['own'] * ('yourself' in claim))):g}]]"
        first, second = parts["Answer A"], parts["Answer B"]
        habits = {
            "position": 1,
            "verbosity": (len(first[0]) > len(second[0])) - (len(first[0]) < len(second[0])),
            "format": ("**Answer**" in first[0]) - ("**Answer**" in second[0]),
            "own": ("yourself" in first[1]) - ("yourself" in second[1]),
        }
        draw = rng.random()
        for habit, rate in self.rates.items():
            if 0 <= draw < rate and habits[habit]:
                return f"[[{'A' if habits[habit] > 0 else 'B'}]]"
            draw -= rate
        a, b = self.worth(question, first[0]), self.worth(question, second[0])
        return f"Reasons. [[{'A' if a > b else 'B' if b > a else 'C'}]]"


class Says:
    """A model that answers with what `answer(messages, sampling, k)` gives for each of its samples."""

    def __init__(self, answer: Callable[[Sequence[Message], Sampling, int], str], name: str = "says") -> None:
        self.answer, self.name = answer, name
        self.asked: list[str] = []

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        self.asked.append("\n".join(message.content for message in messages))
        return [Answer(self.answer(messages, sampling, k), 1, None, "stop", self.name) for k in range(sampling.n)]

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        raise NotImplementedError
