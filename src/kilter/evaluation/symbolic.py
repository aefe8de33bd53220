"""Coin flips and last letters: reasoning over symbols, made by rule, so that every right answer is known."""

from __future__ import annotations

import random

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Row, shipped
from kilter.evaluation.tasks.suite import measure
from kilter.models.protocol import Model
from kilter.registry import Count, Whole, method

NAMES = [
    "Ada", "Alan", "Amara", "Anton", "Bao", "Bela", "Bruno", "Carla", "Chen", "Dario", "Devi", "Elif", "Emil",
    "Farah", "Felix", "Gita", "Hana", "Hugo", "Ines", "Ivan", "Jamal", "Jana", "Kai", "Keiko", "Lena",
    "Liang", "Mara", "Milo", "Nadia", "Noor", "Olga", "Omar", "Pavel", "Priya", "Quinn", "Rosa", "Ravi",
    "Sana", "Sven", "Tariq", "Thea", "Uma", "Viktor", "Wanda", "Xenia", "Yara", "Yusuf", "Zara",
]  # fmt: skip
FLIPS = {True: "{name} flips the coin.", False: "{name} does not flip the coin."}


@method("symbolic", wing="evaluation", paper="arXiv:2201.11903", survey="S1 §8.1, S2 §4.1")
async def symbolic(
    model: Model,
    *,
    data: str | None = None,
    n: Count = 500,
    names: Count = 4,
    shots: Whole = 4,
    seed: int = 0,
    subjects: str = "",
    max_tokens: Count = 32,
    chat: bool = False,
) -> Evaluation:
    """Measure reasoning over symbols: coin flips and last letters (Wei et al. 2022).

    coin_flip: a coin is heads up, each person flips it or does not; it is still heads up if they flip it an
    even number of times. last_letters: the last letters of the names, joined. Both are drawn by rule, n of
    each, or read from --data (coin_flip.jsonl, last_letters.jsonl: question, answer), of which the labels are
    checked against the rule. --names more than the shots' 4 measures whether a model goes beyond the length
    that it was shown.

    Options:
        data: folder with the authors' files; without, items are drawn
        n: how many items of each kind
        names: how many people or names an item has
        shots: worked examples before each item, of 4 names (of as many as the item's where that is less)
        seed: seed of the draw
        subjects: coin_flip, last_letters, or both where empty
        max_tokens: longest answer in tokens
        chat: ask through the model's chat template instead of in plain text
    """
    task = shipped("symbolic")
    task.generation_kwargs.max_gen_toks = max_tokens
    kinds = [name.strip() for name in subjects.split(",") if name.strip()] or list(MADE)
    for kind in kinds:
        if kind not in MADE:
            raise KilterError(f"There is no kind '{kind}'; known are {', '.join(MADE)}.")
    draw = random.Random(f"shots {seed}")
    task.fewshot_config.samples = {kind: [MADE[kind](draw, min(4, names)) for _ in range(shots)] for kind in kinds}
    rows = None
    if data is None:
        source = random.Random(seed)
        rows = {kind: [MADE[kind](source, names) for _ in range(n)] for kind in kinds}
    found = await measure(
        model, [task], suite="symbolic", data=data, rows=rows, shots=shots, n=n, subjects=",".join(kinds), chat=chat
    )
    wrong = sum(not agrees(sample["prompt"][-1]["content"], sample["expected"]) for sample in found.samples)
    if wrong:
        found.notes.append(
            f"{wrong:,} of {len(found.samples):,} labels are not what the rule says, as with names of two words."
        )
    return found


def coin_flip(draw: random.Random, names: int) -> Row:
    """Draw an item: who flips the coin, and whether it is heads up in the end."""
    people = draw.sample(NAMES, names) if names <= len(NAMES) else draw.choices(NAMES, k=names)
    flips = [draw.random() < 0.5 for _ in people]
    told = " ".join(FLIPS[flip].format(name=name) for name, flip in zip(people, flips, strict=True))
    question = f'A coin is heads up. {told} Is the coin still heads up? Note that "flip" here means "reverse".'
    return {"question": question, "answer": heads(question)}


def last_letters(draw: random.Random, names: int) -> Row:
    """Draw an item: names, and their last letters joined."""
    words = draw.sample(NAMES, names) if names <= len(NAMES) else draw.choices(NAMES, k=names)
    question = f'Take the last letters of each words in "{" ".join(words)}" and concatenate them.'
    return {"question": question, "answer": letters(question)}


MADE = {"coin_flip": coin_flip, "last_letters": last_letters}


def heads(question: str) -> str:
    """Return yes where the coin of the question is flipped an even number of times, else no."""
    return "no" if question.count(" flips the coin") % 2 else "yes"


def letters(question: str) -> str:
    """Return the last letters of the words between the first quotation marks, joined, in lower case."""
    words = question.partition('"')[2].partition('"')[0].split()
    return "".join(word[-1] for word in words).lower()


def agrees(prompt: str, label: str) -> bool:
    """Return whether a label is what the rule says of the last question of a prompt."""
    question = prompt.rpartition("Q: ")[2]
    rule = heads if "coin" in question else letters
    return rule(question) == label.strip().lower()
