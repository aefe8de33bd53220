"""Data of textbook quality: code that teaches, textbooks, exercises with their solutions."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kilter.data.drafts import Batch, settled, sound
from kilter.data.oss_instruct import sources
from kilter.data.replies import grade
from kilter.data.table import rows
from kilter.data.vectors import vectors
from kilter.errors import SetAside
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, identify
from kilter.registry import Amount, Count, method
from kilter.sandbox import check, tried

PAPER = "arXiv:2306.11644"
PROMPTS = Prompts(__file__)
AUDIENCES = (
    "school children", "students in their first year", "working programmers", "teachers",
    "people who come from another subject",
)  # fmt: skip
TOPICS = (
    "sums", "products", "texts", "lists", "filters", "sorting", "recursion", "dictionaries", "searching", "dates",
    "matrices", "graphs", "probability", "files", "errors", "iterators",
)  # fmt: skip
_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
Source = tuple[str, str, str]


@method("phi1", wing="data", paper=PAPER, survey="S2 §2.2", aliases=("phi-1", "textbooks"))
async def phi1(
    model: Model,
    *,
    part: Literal["exercises", "textbooks", "filter"] = "exercises",
    n: Count = 1000,
    topics: str = "",
    code: str = "",
    labelled: Count = 100_000,
    keep: Annotated[float, Field(ge=1, le=10)] = 6.0,
    benchmark: str = "",
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.95,
    temperature: Amount = 1.0,
    max_tokens: Count = 2048,
    seed: int = 0,
) -> list[Demonstration]:
    """Make one of the three parts of phi-1's data (Gunasekar et al. 2023).

    filter: the model grades `labelled` files of `code` by what a learner gains (1 to 10); a random forest on their
    tf-idf vectors (the paper: on CodeGen's embeddings) predicts the others; what has `keep` or more is kept.
    textbooks: `n` sections, each for a topic and an audience, every pair as often as any other.
    exercises: `n` functions with a docstring, a solution and tests. One is kept that `ast.parse` reads, that passes its
    own tests in the sandbox, that is there once, and that is nowhere near a solution of `benchmark`: the ratio of
    matching parts of the two syntax trees (names apart) is below `similarity`, which the paper has at 0.95 to 0.8.

    meta: edu_score; topic, audience; topic, signature, docstring, tests. The paper has about 6 B tokens of filtered
    code, 1 B of textbooks and 180 M of exercises, of GPT-3.5.

    Options:
        part: exercises, textbooks or filter
        n: how many sections or exercises are asked for
        topics: topics, with commas; without them sixteen of our own
        code: folder of code, or file of rows with the column content, for filter
        labelled: most files that the model grades
        keep: lowest grade of a file that is kept
        benchmark: file of rows with the column prompt (and canonical_solution) that no exercise may resemble
        similarity: from which on an exercise resembles one of the benchmark
        temperature: of sections and exercises; grades are greedy
        max_tokens: longest reply
        seed: seed of the draws and of the model's samples
    """
    if part == "filter":
        return await _filtered(model, list(sources(code)), labelled, keep, seed)
    names = [name.strip() for name in topics.split(",") if name.strip()] or list(TOPICS)
    hot = Sampling(max_tokens=max_tokens, temperature=temperature)
    if part == "textbooks":
        return await _textbooks(model, names, n, hot, seed)
    check()
    return await _exercises(model, names, n, hot, seed, benchmark, similarity)


async def _filtered(model: Model, files: list[Source], labelled: int, keep: float, seed: int) -> list[Demonstration]:
    draw = random.Random(f"phi1 {seed}")
    graded = sorted(draw.sample(range(len(files)), min(labelled, len(files))))

    async def one(number: int) -> tuple[int, float, str]:
        asked = PROMPTS("grade", code=files[number][2])
        answer = await sound(model, asked, Sampling(64), cut=True)
        return number, grade(answer.text, 1, 10), answer.model

    told = await each(graded, one, label=f"grading · {model.name}")
    scores = {number: value for number, value, _ in told}
    others = [number for number in range(len(files)) if number not in set(graded)]
    if others and scores:
        scores |= dict(
            zip(others, predicted([files[i][2] for i in [*scores, *others]], [*scores.values()], seed), strict=True)
        )
    batch: Batch[Demonstration] = Batch()
    for number, (path, language, text) in enumerate(files):
        if number not in scores:
            continue  # set aside, with its reason, when it was graded
        if scores[number] < keep:
            batch.drop({"file": path, "score": scores[number]}, f"grade under {keep:g}", "A learner gains too little.")
            continue
        messages = [Message("user", f"Write the file {path} in {language}."), Message("assistant", text)]
        origin = Origin("phi1", PAPER, model.name, (identify("code", path, text),), seed)
        meta = {"edu_score": round(scores[number], 3), "file": path, "graded": number in set(graded)}
        batch.items.append(Demonstration(messages, origin=origin, meta=meta))
    return settled([batch])


def predicted(texts: list[str], grades: list[float], seed: int = 0) -> list[float]:
    """Return the grades of the texts after the first len(`grades`), by a random forest that learned from those."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.ensemble import RandomForestRegressor

    found = vectors(texts, common=1.0)
    size = max(1, min(64, len(texts) - 1))
    points = TruncatedSVD(size, random_state=seed).fit_transform(found)
    forest = RandomForestRegressor(n_estimators=100, random_state=seed, n_jobs=1)
    forest.fit(points[: len(grades)], np.asarray(grades))
    return [float(value) for value in forest.predict(points[len(grades) :])]


async def _textbooks(model: Model, names: list[str], n: int, hot: Sampling, seed: int) -> list[Demonstration]:
    pairs = [(topic, audience) for topic in names for audience in AUDIENCES]
    random.Random(f"phi1 {seed}").shuffle(pairs)

    async def one(k: int) -> Demonstration:
        topic, audience = pairs[k % len(pairs)]
        asked = PROMPTS("textbook", topic=topic, audience=audience)
        answer = await sound(model, asked, Sampling(hot.max_tokens, hot.temperature, seed=seed * 1_000_003 + k))
        request = f"Write a section of a textbook on {topic} for {audience}."
        origin = Origin("phi1", PAPER, answer.model, (), seed, asked.version)
        messages = [Message("user", request), Message("assistant", answer.text.strip())]
        return Demonstration(messages, origin=origin, meta={"topic": topic, "audience": audience})

    made = await each(range(n), one, label=f"textbooks · {model.name}")
    return settled([_once(made)])


async def _exercises(
    model: Model, names: list[str], n: int, hot: Sampling, seed: int, benchmark: str, similarity: float
) -> list[Demonstration]:
    banned = [found for text in _solutions(benchmark) if (found := shape(text))]

    async def one(k: int) -> Demonstration:
        topic = names[k % len(names)]
        asked = PROMPTS("exercise", topic=topic, number=k)
        answer = await sound(model, asked, Sampling(hot.max_tokens, hot.temperature, seed=seed * 1_000_003 + k))
        solution, tests = parts(answer.text)
        signature, docstring = described(solution)
        outcome = await tried(f"{solution}\n\n{tests}\n")
        if not outcome.ok:
            why = outcome.detail or outcome.status
            raise SetAside(f"The solution does not pass its tests: {why}.", "tests failed")
        near = max((alike(shape(solution), other) for other in banned), default=0.0)
        if near >= similarity:
            raise SetAside(f"It resembles one of the benchmark ({near:.2f}).", "in benchmark")
        request = f'{signature}\n    """{docstring}"""'
        origin = Origin("phi1", PAPER, answer.model, (), seed, asked.version)
        meta = {"topic": topic, "signature": signature, "docstring": docstring, "tests": tests}
        return Demonstration([Message("user", request), Message("assistant", solution)], origin=origin, meta=meta)

    made = await each(range(n), one, label=f"exercises · {model.name}", concurrency=64)
    return settled([_once(made)])


def _solutions(benchmark: str) -> list[str]:
    """Return prompt and solution of each row of a benchmark, as one program."""
    if not benchmark:
        return []
    texts = [[row.get(name) or "" for name in ("prompt", "canonical_solution", "code")] for _, row in rows(benchmark)]
    return ["".join(map(str, text)) for text in texts]


def _once(made: Iterable[Demonstration]) -> Batch[Demonstration]:
    batch: Batch[Demonstration] = Batch()
    seen: set[str] = set()
    for record in made:
        text = record.messages[-1].content
        if text in seen:
            batch.drop(record, "duplicate", "The same was written before.")
        else:
            seen.add(text)
            batch.items.append(record)
    return batch


def parts(reply: str) -> tuple[str, str]:
    """Return solution and tests of a reply with two fences; raise SetAside where there are not two."""
    found = [block.strip() for block in _FENCE.findall(reply)]
    if len(found) != 2 or "assert" not in found[1]:
        raise SetAside("The reply has not two fences, a solution and tests with assert.", "two parts")
    return found[0], found[1]


def described(solution: str) -> tuple[str, str]:
    """Return the head and the docstring of the first function; raise SetAside where there is none, or no Python."""
    try:
        tree = ast.parse(solution)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SetAside(f"The solution is no Python ({type(error).__name__}).", "syntax") from None
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef)), None)
    docstring = ast.get_docstring(function) if function is not None else None
    if function is None or not docstring:
        raise SetAside("The solution has no function with a docstring.", "no docstring")
    return f"def {function.name}({ast.unparse(function.args)}):", docstring


def shape(code: str) -> list[str]:
    """Return the parts of a program's syntax tree in order, without names, constants and docstrings; [] for none."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: list[str] = []

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return
        found.append(type(node).__name__)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(tree)
    return found


def alike(one: list[str], other: list[str]) -> float:
    """Return how alike two shapes are, 2 M / T of their M matching of T parts: 1 for the same, 0 for nothing."""
    return SequenceMatcher(None, one, other, autojunk=False).ratio() if one and other else 0.0
