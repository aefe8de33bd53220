"""AlpacaFarm's simulated annotators: a pool of thirteen who disagree as people do, one drawn for each pair."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kilter.errors import KilterError
from kilter.evaluation.judging import Baseline, Way, conversation, evaluated, opened
from kilter.evaluation.options import spread
from kilter.evaluation.questions import Item, from_file
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.scoring import scored
from kilter.feedback.judge import Judge, Judgement, case_of
from kilter.models.each import each
from kilter.models.mixed import members
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Message
from kilter.registry import Share, method

PROMPTS = Prompts(__file__)
# How many of the pool each tier of judges has, from the strongest: GPT-4, GPT-3.5 and davinci-003 in the paper.
TIERS = (5, 4, 4)
# How the annotators of a tier differ: reasons first, worked examples, pairs in one question.
FORMS = ((False, False, 1), (True, False, 1), (False, False, 4), (True, True, 1), (False, False, 5))
_VERDICT = re.compile(r"^\s*(?:pair\s*)?(\d+)\s*[:.)]\s*\(?([AB])\b", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Annotator:
    """One of the pool: its model, and how it is asked."""

    number: int
    judge: Judge
    batch: int


@method("alpacafarm", wing="evaluation", paper="arXiv:2305.14387", survey="S1 §8.4", aliases=("alpaca-farm",))
@spread(orders="random", reason=False, judge_temperature=1.0, judge_tokens=64, probes=0)
async def alpacafarm(model: Model, *, questions: str, noise: Share = 0.0, way: Way) -> Evaluation:
    """Compare a model with a baseline by simulated annotators (AlpacaFarm, Dubois et al. 2023).

    The pool has thirteen annotators, five of the strongest judge, four of the next and four of the last (judges named
    with commas, the strongest first; one alone has all thirteen). They differ in whether reasons are asked for first,
    in worked examples and in how many pairs stand in one question (1, 4 or 5), and answer at T = 1. Each pair is shown
    to one of them, drawn by the pair, in an order drawn as well. At the rate `noise` a verdict is turned round: 0.25
    for training, as in the paper, 0 for evaluation. Where a question of several pairs is answered with a verdict
    missing, the missing pairs are asked again, one by one.

    win_rate is the share of pairs won, ties one half; category:NAME the same by category. A verdict that cannot be read
    is left out and counted. judge:longer is the preference for the longer answer.

    Rows of the questions: id, instruction, perhaps input.

    Options:
        questions: the file of the instructions
        noise: rate at which verdicts are turned round
    """
    if way.baseline is None:
        raise KilterError("Annotators compare with a baseline; name a model or a file of answers with --baseline.")
    if way.judge is None:
        raise KilterError("Name the model that is to judge with --judge, such as --judge kilter/teacher.")
    items, notes = from_file(questions, way.n, way.seed)
    other = Baseline(way.baseline)
    annotators = pool(members(opened(way.judge)), way)

    async def answers(item: Item) -> tuple[Item, str, str]:
        mine, theirs = await conversation(model, item, way.sampling), await other.answers(item, way.sampling)
        return item, mine[0], theirs[0]

    pairs = await each(items, answers, label=f"alpacafarm · {model.name}")
    drawn: dict[int, list[tuple[Item, str, str]]] = {}
    for pair in pairs:
        drawn.setdefault(draw(pair[0], len(annotators), way.seed), []).append(pair)
    batches = [
        (annotators[number], some[at : at + annotators[number].batch])
        for number, some in sorted(drawn.items())
        for at in range(0, len(some), annotators[number].batch)
    ]

    async def one(batch: tuple[Annotator, list[tuple[Item, str, str]]]) -> list[Row]:
        annotator, some = batch
        told = await judged_together(annotator, some, way.seed)
        verdicts = [turned(said, pair[0], noise, way.seed) for pair, said in zip(some, told, strict=True)]
        return [_sample(annotator, *pair, said) for pair, said in zip(some, verdicts, strict=True)]

    samples = [row for rows in await each(batches, one, label="annotating") for row in rows]
    order = {item.id: at for at, item in enumerate(items)}
    samples.sort(key=lambda row: order[row["id"]])
    used = len({row["annotator"] for row in samples})
    notes.append(f"{used} of the {len(annotators)} annotators of the pool were drawn.")
    return evaluated(model.name, samples, suite="alpacafarm", seed=way.seed, notes=notes)


def pool(models: Sequence[Model], way: Way) -> list[Annotator]:
    """Return the thirteen annotators: the models in turn have the tiers, the last of them those that are left."""
    found: list[Annotator] = []
    for tier, size in enumerate(TIERS):
        for reason, shots, batch in FORMS[:size]:
            number = len(found)
            judge = Judge(
                opened(models[min(tier, len(models) - 1)]), orders="random", reason=reason, shots=shots,
                temperature=way.judge_temperature, max_tokens=way.judge_tokens * (4 if reason else 1),
                seed=way.seed * 1009 + number,
            )  # fmt: skip
            found.append(Annotator(number, judge, batch))
    return found


def draw(item: Item, of: int, seed: int) -> int:
    """Return which annotator an item goes to: by the item, so that another file changes nobody else's."""
    return random.Random(f"annotator {seed} {item.id}").randrange(of)


async def judged_together(annotator: Annotator, pairs: Sequence[tuple[Item, str, str]], seed: int) -> list[Judgement]:
    """Return an annotator's verdict on each pair; of several in one question those that are missing are asked alone."""
    judge = annotator.judge
    if len(pairs) == 1:
        return [await alone(judge, *pairs[0])]
    swapped = [random.Random(f"order {seed} {item.id}").random() < 0.5 for item, _, _ in pairs]
    shown = [
        {"question": item.turns[0], "first": b if turn else a, "second": a if turn else b}
        for (item, a, b), turn in zip(pairs, swapped, strict=True)
    ]
    asked = PROMPTS("batch", pairs=shown)
    sampling = Sampling(max_tokens=judge.max_tokens * len(pairs), temperature=judge.temperature, seed=judge.seed)
    [answer] = await judge.model.ask(asked, sampling)
    told = read_batch(answer.text, len(pairs))
    found = []
    for at, letter in enumerate(told):
        if letter is None:
            found.append(alone(judge, *pairs[at]))
        else:
            found.append(_kept(judge, letter, asked.version, swapped[at]))
    return list(await asyncio.gather(*found))


async def alone(judge: Judge, item: Item, mine: str, theirs: str) -> Judgement:
    """Return the verdict on one pair by itself."""
    [told] = await judge.compare(case_of([*item.before, Message("user", item.turns[0])]), mine, theirs)
    return told


async def _kept(judge: Judge, letter: str, version: str, swapped: bool) -> Judgement:
    text = f"[[{letter}]]"
    return Judgement("compare", judge.name, text, "mtbench-pair@2", float(letter == "A"), True, version, swapped)


def read_batch(text: str, of: int) -> list[str | None]:
    """Return the verdict on each pair of a question by its number; None for one that is missing or said in two ways."""
    told: dict[int, set[str]] = {}
    for number, letter in _VERDICT.findall(text):
        told.setdefault(int(number), set()).add(letter.upper())
    return [found.pop() if len(found := set(told.get(at, ()))) == 1 else None for at in range(1, of + 1)]


def turned(judgement: Judgement, item: Item, noise: float, seed: int) -> Judgement:
    """Return a verdict turned round at the rate `noise`, drawn by the item; a tie and what is no verdict stay so."""
    if judgement.value not in (0.0, 1.0) or random.Random(f"noise {seed} {item.id}").random() >= noise:
        return judgement
    value = 1.0 - judgement.value
    # The last verdict of a text counts, so that the stored words say the same when they are read again.
    text = f"{judgement.text}\n(turned round by the noise) [[{'A' if value else 'B'}]]"
    return replace(judgement, text=text, value=value)


def _sample(annotator: Annotator, item: Item, mine: str, theirs: str, told: Judgement) -> Row:
    return scored(
        item.sample(mine)
        | {
            "baseline": [theirs],
            "annotator": annotator.number,
            "scoring": "compared",
            "merge": "agree",
            "judgements": [told.to_json()],
        }
    )
