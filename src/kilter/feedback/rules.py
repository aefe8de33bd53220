"""Rules and verifiers: what can be said of a response by looking at it, without a model's opinion.

A rule is written as `NAME` or `NAME:ARGUMENT`. Scores are in [0, 1]; the verdict is whether the score is 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kilter.errors import KilterError, nearest
from kilter.feedback.edits import is_valid
from kilter.feedback.protocol import Signal
from kilter.records import Prompt

# A word, or a character of a script that puts no spaces between words.
_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_]+(?:['’-][^\W_]+)*")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
ANSWERS = ("answer", "target", "label", "solution", "reference")


class Rule:
    """One rule as feedback, by its name and argument ("contains:blue", "at-most:40", "answer")."""

    def __init__(self, text: str) -> None:
        """Raises KilterError for a rule that there is not, and for an argument that it cannot take."""
        kind, _, argument = text.partition(":")
        if kind not in RULES:
            raise KilterError(
                f"There is no rule '{kind}'.{nearest(kind, RULES) or ' Rules: ' + ', '.join(RULES) + '.'}"
            )
        takes, self._make = RULES[kind]
        if takes and not argument:
            raise KilterError(f"The rule '{kind}' needs {takes}; write it as '{kind}:...'.")
        if argument and not takes:
            raise KilterError(f"The rule '{kind}' takes nothing after it, and '{text}' has '{argument}'; leave it out.")
        self.name = text
        self._score = self._make(argument)

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise KilterError if there is a prompt that the rule can say nothing of."""
        if self._make is _answer and (left := [p for p in prompts if known_answer(p) is None]):
            raise KilterError(
                f"The rule 'answer' knows no answer to {len(left)} of {len(prompts)} prompts; give data with a column "
                f"{', '.join(ANSWERS[:-1])}, or with the answer as the assistant's last turn."
            )

    async def __call__(self, prompt: Prompt, responses: list[str]) -> list[Signal]:
        scores = [self._score(prompt, response) for response in responses]
        return [Signal(score=score, verdict=score == 1.0) for score in scores]


Score = Callable[[Prompt, str], float]


def words(text: str) -> list[str]:
    """Return the words of `text`; where a script has no spaces, its characters."""
    return _WORD.findall(text)


def known_answer(prompt: Prompt) -> str | None:
    """Return the right answer to `prompt`, where its record says one: beside it, or as the turn that followed."""
    for place in (prompt.meta, prompt.meta.get("extra") or {}):
        for name in ANSWERS:
            found: Any = place.get(name)
            if isinstance(found, str | int | float) and not isinstance(found, bool) and str(found).strip():
                # GSM8K works the answer out and puts it behind four signs.
                return str(found).rpartition("####")[2].strip()
    return None


def _contains(argument: str) -> Score:
    return lambda prompt, response: float(argument.casefold() in response.casefold())


def _lacks(argument: str) -> Score:
    return lambda prompt, response: float(argument.casefold() not in response.casefold())


def _matches(argument: str) -> Score:
    try:
        pattern = re.compile(argument)
    except re.error as error:
        raise KilterError(f"The rule 'matches:{argument}' is no regular expression ({error}); mend it.") from None
    return lambda prompt, response: float(pattern.search(response) is not None)


def _at_most(argument: str) -> Score:
    if not argument.isdecimal() or not int(argument):
        raise KilterError(f"The rule 'at-most:{argument}' needs a number of words above 0; write at-most:40.")
    most = int(argument)
    # A little too long is a little wrong: there is something to learn from before the limit is met.
    return lambda prompt, response: min(1.0, most / max(1, len(words(response))))


def _no_repeats(argument: str) -> Score:
    def score(prompt: Prompt, response: str) -> float:
        found = words(response.casefold())
        runs = Counter(zip(found, found[1:], found[2:], strict=False))
        return len(runs) / runs.total() if runs else 1.0

    return score


def _answer(argument: str) -> Score:
    def score(prompt: Prompt, response: str) -> float:
        due = known_answer(prompt)
        if due is None:
            raise KilterError(f"The rule 'answer' knows no answer to prompt {prompt.id}; give data that has one.")
        said = _BOXED.findall(response)
        given = said[-1] if said else response.rpartition("####")[2]
        if _NUMBER.fullmatch(due):
            numbers = _NUMBER.findall(given)
            return float(bool(numbers) and _value(numbers[-1]) == _value(due))
        return float(words(given.casefold()) == words(due.casefold()))

    return score


def _edits(argument: str) -> Score:
    def score(prompt: Prompt, response: str) -> float:
        drafts = [message.content for message in prompt.messages if message.role == "assistant"]
        return float(bool(drafts) and is_valid(response.strip(), drafts[-1].strip()))

    return score


def _value(number: str) -> float:
    return float(number.replace(",", ""))


# Name -> what the argument is ("" where there is none), and what makes the score.
RULES: dict[str, tuple[str, Callable[[str], Score]]] = {
    "contains": ("a text that has to be in the response", _contains),
    "lacks": ("a text that must not be in the response", _lacks),
    "matches": ("a regular expression that has to be found in the response", _matches),
    "at-most": ("a number of words", _at_most),
    "no-repeats": ("", _no_repeats),
    "answer": ("", _answer),
    "edits": ("", _edits),
}
