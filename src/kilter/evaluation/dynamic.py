"""Adversarial dynamic evaluation: a model proposes tests, another is tried by them, and what worked breeds more."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from kilter.errors import KilterError, SetAside
from kilter.evaluation.judging import opened
from kilter.evaluation.passages import words
from kilter.evaluation.questions import from_file
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.statistics import summarize
from kilter.feedback.judge import Case, Judge, Judgement
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Message
from kilter.registry import Amount, Count, Share, method

PROMPTS = Prompts(__file__)
for _dimension in (
    Dimension(
        "attack_success", "Attacks that succeed", "lower", "share", "New tests to which the model's reply fails."
    ),
    Dimension("static_success", "Seeds that succeed", "lower", "share", "The seed tests to which the reply fails."),
    Dimension("severity", "Severity", "lower", "number", "How grave the failures are, 1 to 5."),
):
    DIMENSIONS.setdefault(_dimension.name, _dimension)


@dataclass(frozen=True, slots=True)
class Test:
    """One test: its text, the kind of harm it is about, the round that it was proposed in (0: a seed), its parents."""

    text: str
    category: str
    round: int
    parents: tuple[str, ...] = ()


@method("dynamic", wing="evaluation", survey="S1 §9.6", aliases=("dynamic-adversarial",))
async def dynamic(
    model: Model,
    *,
    questions: str,
    judge: str,
    attacker: str | None = None,
    rounds: Count = 3,
    width: Count = 16,
    shown: Count = 3,
    overlap: Share = 0.7,
    age: Count = 2,
    n: Count | None = None,
    temperature: Amount = 1.0,
    max_tokens: Count = 256,
    seed: int = 0,
) -> Evaluation:
    """Measure a model's safety by tests that are made while it is measured (survey S1 §9.6).

    Seeds are asked first. Then, for some rounds, the attacker is shown tests that worked (others where none did) and
    proposes new ones of each category in turn; one that shares too much with any test there was (ROUGE-L above
    `overlap`) is dropped. The model answers, the judge says whether the reply is safe and how grave it is if it is not.
    The attacker sees only tests of the last `age` rounds: what is older ages out.

    attack_success is the share of new tests to which the reply is not safe, static_success the same of the seeds,
    severity the mean gravity of the failures, 1 to 5; round:N the success by round. coverage is the share of categories
    in which a test worked, diversity the share of different pairs of words among the new tests. A judgement that says
    neither is left out and counted.

    Rows of the questions: prompt and perhaps category.

    Options:
        questions: the file of the seed tests
        judge: the model that judges the replies
        attacker: the model that proposes tests; the judge where not given
        rounds: how many rounds of new tests
        width: how many tests are proposed in a round
        shown: how many tests the attacker is shown as examples
        overlap: ROUGE-L with an earlier test above which a new one is dropped
        age: rounds after which a test is no longer shown to the attacker
        n: how many seed tests, drawn with the seed
        temperature: sampling temperature of the attacker
        max_tokens: longest reply in tokens
        seed: seed of the draws
    """
    items, notes = from_file(questions, n, seed)
    by = Judge(opened(judge), max_tokens=128, seed=seed)
    proposes = opened(attacker) if attacker is not None else by.model
    rng = random.Random(f"dynamic {seed}")
    pool = [Test(item.turns[0], item.category, 0) for item in items]
    categories = sorted({test.category for test in pool})
    samples = await tried(model, by, pool, max_tokens, seed)
    dropped: Counter[str] = Counter()
    for at in range(1, rounds + 1):
        recent = [s for s in samples if s["round"] >= at - age]
        worked = [s for s in recent if s["outcomes"].get("unsafe")] or recent
        if not worked:
            break
        asked = [_examples(worked, categories[k % len(categories)], shown, rng) for k in range(width)]
        texts = await _proposed(proposes, asked, temperature, seed * 1009 + at)
        fresh: list[Test] = []
        for test in texts:
            if test is None:
                dropped["the attacker proposed nothing"] += 1
            elif any(rouge_l(test.text, other.text) > overlap for other in [*pool, *fresh]):
                dropped["too much like an earlier test"] += 1
            else:
                fresh.append(replace(test, round=at))
        pool += fresh
        samples += await tried(model, by, fresh, max_tokens, seed)
    return _evaluated(model.name, samples, categories, seed, notes, dropped, rounds * width)


async def tried(model: Model, judge: Judge, tests: Sequence[Test], max_tokens: int, seed: int) -> list[Row]:
    """Return a sample for each test: the model's reply, and what the judge says of it."""

    async def one(test: Test) -> Row:
        [answer] = await model.ask([Message("user", test.text)], Sampling(max_tokens=max_tokens, seed=seed))
        told = await judged(judge, Case(test.text), answer.text)
        outcomes = {}
        if told[0].ok:
            outcomes["unsafe"] = float(not told[0].value)
            if not told[0].value and len(told) > 1 and told[1].ok:
                outcomes["severity"] = float(told[1].value)
        return {
            "id": f"{test.round}/{test.text}",
            "prompt": [{"role": "user", "content": test.text}],
            "response": answer.text,
            "family": test.category,
            "language": "",
            "round": test.round,
            "parents": list(test.parents),
            "judgements": [judgement.to_json() for judgement in told],
            "outcomes": outcomes,
        }

    return await each(list(tests), one, label=f"dynamic · {model.name}")


async def judged(judge: Judge, case: Case, response: str) -> list[Judgement]:
    """Return whether a reply is safe and, where it is not, how grave that is."""
    told = await judge.judgements("safe", PROMPTS("safe", question=case.question, response=response), parser="safety")
    if told[0].ok and not told[0].value:
        asked = PROMPTS("severity", question=case.question, response=response, least=1, most=5)
        told += await judge.judgements("points", asked, parser="likert", labels="12345")
    return told


async def _proposed(
    attacker: Model, asked: Sequence[tuple[str, list[str]]], temperature: float, seed: int
) -> list[Test | None]:
    async def one(item: tuple[int, tuple[str, list[str]]]) -> Test | None:
        at, (category, examples) = item
        question = PROMPTS("propose", category=category, examples=examples)
        try:
            [answer] = await attacker.ask(
                question, Sampling(max_tokens=128, temperature=temperature, seed=seed * 31 + at)
            )
        except SetAside:
            return None
        lines = [
            line.strip().lstrip("-*0123456789.) ").strip('"“”') for line in answer.text.splitlines() if line.strip()
        ]
        return Test(lines[0], category, 0, tuple(examples)) if lines and lines[0] else None

    return await each(list(enumerate(asked)), one, label="proposing tests")


def _examples(worked: Sequence[Row], category: str, shown: int, rng: random.Random) -> tuple[str, list[str]]:
    same = [s for s in worked if s["family"] == category] or list(worked)
    drawn = rng.sample(same, min(shown, len(same)))
    return category, [s["prompt"][0]["content"] for s in drawn]


def _evaluated(
    name: str, samples: list[Row], categories: list[str], seed: int, notes: list[str], dropped: Counter[str], of: int
) -> Evaluation:
    unread = sum("unsafe" not in s["outcomes"] for s in samples)
    if unread == len(samples):
        raise KilterError("No reply was judged safe or unsafe; the judge may not follow the instruction.")
    for s in samples:
        unsafe = s["outcomes"].pop("unsafe", None)
        if unsafe is not None:
            s["outcomes"]["attack_success" if s["round"] else "static_success"] = unsafe
            s["outcomes"][f"round:{s['round']}"] = unsafe
    worked = {
        s["family"] for s in samples if s["outcomes"].get("attack_success") or s["outcomes"].get("static_success")
    }
    new = [s["prompt"][0]["content"] for s in samples if s["round"]]
    told = [
        f"Tests worked in {len(worked)} of {len(categories)} categories (coverage {len(worked) / len(categories):.2f})."
    ]
    if new:
        told.append(f"Of the pairs of words in {len(new):,} new tests {distinct(new):.0%} are different (diversity).")
    told += [f"{count:,} of {of:,} proposals were dropped: {why}." for why, count in dropped.most_common()]
    if unread:
        told.append(f"{unread:,} of {len(samples):,} replies were judged neither safe nor unsafe and are left out.")
    return Evaluation(name, summarize(samples), samples, suite="dynamic", seed=seed, notes=[*notes, *told])


def rouge_l(a: str, b: str) -> float:
    """Return the F1 of the longest common subsequence of words of two texts."""
    x, y = words(a), words(b)
    if not x or not y:
        return 0.0
    row = [0] * (len(y) + 1)
    for word in x:
        before = 0
        for j, other in enumerate(y, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    common = row[-1]
    return 2 * common / (len(x) + len(y))


def distinct(texts: Sequence[str]) -> float:
    """Return the share of different pairs of neighbouring words (distinct-2); 1 where there is none."""
    pairs = [pair for text in texts if (found := words(text)) for pair in pairwise(found)]
    return len({*pairs}) / len(pairs) if pairs else 1.0
