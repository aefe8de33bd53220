"""The teacher as a Model: its name with options, its noise, its lengths."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from urllib.parse import parse_qsl

from kilter.errors import KilterError, nearest
from kilter.models.protocol import Answer, Sampling, Usage
from kilter.models.teacher.kinds import KINDS, Options, Request
from kilter.records import Message, identify
from kilter.store import hash_path

NAME = "kilter/teacher"

_TOKEN = re.compile("[\u3400-\u9fff]|[^\\W\u3400-\u9fff]+|[^\\w\\s]")


def is_teacher(name: str) -> bool:
    """Whether `name` names the teacher, with or without options."""
    return name.partition("?")[0] == NAME


class Teacher:
    """The world's scripted teacher: an answer depends on the request, the sampling and the options alone."""

    def __init__(self, name: str = NAME) -> None:
        """`name` is `kilter/teacher`, with `?errors=0.1&position=0.2&verbosity=0.2&seed=1` or any of them.

        Raises KilterError for an option that there is not, and for a value out of range.
        """
        self.name = name
        self.options = _options(name)
        self.usage = Usage()

    @property
    def tokens(self) -> int:
        """Words read and written."""
        return self.usage.tokens

    async def identity(self) -> str:
        """Return a text that is another where the teacher would say something else."""
        return f"{self.name} {hash_path(Path(__file__).parent)}"

    def regards(self, messages: Sequence[Message]) -> str:
        """Return what of a request shapes the answer beside its text: its kind and its variables."""
        return identify(getattr(messages, "kind", ""), getattr(messages, "variables", {}))

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` answers; at temperature 0 the seed changes nothing and they are all the same.

        Raises KilterError for a request of a kind that it does not know.
        """
        kind = getattr(messages, "kind", "") or "answer"
        if kind not in KINDS:
            hint = nearest(kind, KINDS) or f" It knows {', '.join(sorted(KINDS))}."
            raise KilterError(f"{NAME} knows no requests of the kind '{kind}'; ask another model.{hint}")
        told = sum(_count(message.content) for message in messages)
        self.usage += Usage(requests=1, prompt_tokens=told)
        return [self._answer(kind, messages, sampling, k) for k in range(sampling.n)]

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Raise KilterError: it has no log-probs."""
        raise KilterError(
            f"{NAME} is a script, which has no log-probs; name a model with weights, such as kilter/nano."
        )

    def _answer(self, kind: str, messages: Sequence[Message], sampling: Sampling, k: int) -> Answer:
        variables = dict(getattr(messages, "variables", {}))
        noise = [sampling.seed, k] if sampling.temperature > 0 else []
        told = variables if variables else [message.to_json() for message in messages]
        rng = random.Random(identify(self.options.seed, kind, told, noise))
        wrong = rng.random() < self.options.errors
        text = KINDS[kind](Request(kind, variables, messages, self.options, rng, wrong))
        for stop in sampling.stop:
            text = text.partition(stop)[0] if stop else text
        text, tokens, cut = _cut(text, sampling.max_tokens)
        self.usage += Usage(completion_tokens=tokens)
        logprobs = [0.0] * tokens if sampling.logprobs else None
        return Answer(text, tokens, logprobs, "length" if cut else "stop", self.name)


def _options(name: str) -> Options:
    given = name.partition("?")[2]
    known = {field.name: field.type for field in fields(Options)}
    found: dict[str, float | int] = {}
    for key, value in parse_qsl(given, keep_blank_values=True):
        if key not in known:
            hint = nearest(key, known) or f" It has {', '.join(known)}."
            raise KilterError(f"{NAME} has no option '{key}'.{hint}")
        try:
            found[key] = int(value) if key == "seed" else float(value)
        except ValueError:
            raise KilterError(f"The option {key} of {NAME} is '{value}'; give a number.") from None
        if key != "seed" and not 0 <= found[key] <= 1:
            raise KilterError(f"The option {key} of {NAME} is {value}; it is a share, from 0 to 1.")
    if given and not found:
        raise KilterError(f"'{name}' has no options after the question mark; write {NAME}?errors=0.1.")
    return Options(**found)  # type: ignore[arg-type]


def _count(text: str) -> int:
    return sum(1 for _ in _TOKEN.finditer(text))


def _cut(text: str, limit: int) -> tuple[str, int, bool]:
    """Return at most `limit` words of `text`, how many they are, and whether there were more."""
    tokens = 0
    for found in _TOKEN.finditer(text):
        if tokens == limit:
            return text[: found.start()].rstrip(), tokens, True
        tokens += 1
    return text, tokens, False
