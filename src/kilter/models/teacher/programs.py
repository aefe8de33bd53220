"""Small programming exercises with their solutions and tests: what the teacher knows of code, all of it Python."""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass

NUMBERS = tuple(range(2, 20))
LETTERS = tuple("abcdefghiklmnoprstuw")


@dataclass(frozen=True, slots=True)
class Exercise:
    """A function to be written: what it is to do, how it is written rightly and wrongly, and what it must pass."""

    name: str
    arguments: str
    task: str  # "returns ..." as it follows the function's name
    body: str
    mistake: str
    tests: tuple[str, ...]
    topic: str

    @property
    def request(self) -> str:
        return f"Write a Python function {self.name}({self.arguments}) that {self.task}."

    @property
    def signature(self) -> str:
        return f"def {self.name}({self.arguments}):"

    def code(self, wrong: bool = False, documented: bool = True) -> str:
        """Return the function, with a docstring where it is to be documented."""
        told = f'    """{self.task[0].upper()}{self.task[1:]}."""\n' if documented else ""
        return f"{self.signature}\n{told}    {self.mistake if wrong else self.body}\n"


_ITEMS = [17, 3, 40, 8, 25, 11, 30, 2, 19, 6, 33, 14, 9, 21, 5, 28, 12, 37, 1, 16, 23]
_TEXT = "bold tones in a quiet old frame"


def _numbered(k: int) -> list[Exercise]:
    """Return the exercises with the number `k` in them."""
    items, divisible = _ITEMS, [n for n in _ITEMS if n % k == 0]
    rows = [
        ("add", "x", f"returns x plus {k}", f"x + {k}", f"x - {k}", f"(10) == {10 + k}", "sums"),
        ("times", "x", f"returns x times {k}", f"x * {k}", f"x + {k}", f"(7) == {7 * k}", "products"),
        ("repeat", "text", f"returns the text {k} times over", f"text * {k}", "text",
         f"('ab') == {'ab' * k!r}", "texts"),
        ("first", "items", f"returns the first {k} of the items", f"items[:{k}]", f"items[{k}:]",
         f"({items}) == {items[:k]}", "lists"),
        ("last", "items", f"returns the last {k} of the items", f"items[-{k}:]", f"items[:{k}]",
         f"({items}) == {items[-k:]}", "lists"),
        ("above", "numbers", f"returns the numbers that are greater than {k}", f"[n for n in numbers if n > {k}]",
         f"[n for n in numbers if n < {k}]", f"({items}) == {[n for n in items if n > k]}", "filters"),
        ("divisible_by", "numbers", f"returns those of the numbers that {k} divides",
         f"[n for n in numbers if n % {k} == 0]", "numbers", f"({items}) == {divisible}", "filters"),
        ("every", "items", f"returns every item whose place, counted from 0, {k} divides", f"items[::{k}]",
         f"items[{k}:]", f"({items}) == {items[::k]}", "lists"),
        ("sorted_modulo", "numbers", f"sorts the numbers by what is left of them when divided by {k}",
         f"sorted(numbers, key=lambda n: n % {k})", "numbers",
         f"({items}) == {sorted(items, key=lambda n: n % k)}", "sorting"),
    ]  # fmt: skip
    return [_exercise(f"{row[0]}_{k}", *row[1:]) for row in rows]


def _lettered(c: str) -> list[Exercise]:
    """Return the exercises with the letter `c` in them."""
    text, starting = _TEXT, [word for word in _TEXT.split() if word.startswith(c)]
    rows = [
        ("count", "text", f"counts how often the letter {c} stands in the text", f"text.count('{c}')", "len(text)",
         f"({text!r}) == {text.count(c)}", "texts"),
        ("without", "text", f"returns the text without the letter {c}", f"text.replace('{c}', '')", "''",
         f"({text!r}) == {text.replace(c, '')!r}", "texts"),
        ("starting_with", "text", f"returns the words of the text that start with {c}",
         f"[word for word in text.split() if word.startswith('{c}')]", "text.split()",
         f"({text!r}) == {starting}", "filters"),
    ]  # fmt: skip
    return [_exercise(f"{row[0]}_{c}", *row[1:]) for row in rows]


def _exercise(name: str, arguments: str, task: str, right: str, wrong: str, test: str, topic: str) -> Exercise:
    return Exercise(name, arguments, task, f"return {right}", f"return {wrong}", (name + test,), topic)


@functools.cache
def exercises() -> dict[str, Exercise]:
    """Return every exercise by its name."""
    found = [one for k in NUMBERS for one in _numbered(k)] + [one for c in LETTERS for one in _lettered(c)]
    return {one.name: one for one in found}


def solution(task: str, *, wrong: bool = False) -> str | None:
    """Return the code that a task asks for, fenced; None where it names no function of an exercise."""
    one = find(task)
    return None if one is None else f"```python\n{one.code(wrong)}```"


def find(text: str) -> Exercise | None:
    """Return the exercise whose function `text` names first."""
    for name in re.findall(r"\b([a-z_]+\d*)\(", text):
        if name in exercises():
            return exercises()[name]
    return None


def draw(rng: random.Random, topics: list[str] | None = None, other_than: frozenset[str] = frozenset()) -> Exercise:
    """Draw an exercise, of one of `topics` where they name any."""
    every = [one for one in exercises().values() if one.name not in other_than]
    return rng.choice([one for one in every if topics and one.topic in topics] or every or list(exercises().values()))
