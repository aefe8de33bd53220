"""The five parts of the Chinese Open Instruction Generalist: translated, exams, values, corrections, code."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from kilter.data.drafts import sound
from kilter.data.replies import answer_of, asked_of, listed
from kilter.data.sieve import leave_out, said
from kilter.data.table import cell, rows
from kilter.data.translation import translated
from kilter.errors import KilterError, SetAside
from kilter.formats.shape import Row
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2304.07987"
Part = Literal["translated", "exam", "values", "counterfactual", "code"]
MOST_ROUNDS = 5
_MATHS = re.compile(r"数学|\\(frac|sqrt|sum|int|lim)\b|\$[^$]+\$")
_PICTURE = re.compile(r"如图|图中|图示|下图|<img|!\[")


@method("coig", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.1")
async def coig(
    model: Model | None = None,
    records: list[Demonstration] | None = None,
    *,
    part: Part = "translated",
    rows: str = "",
    reviews: str = "",
    about: str = "中国人共同的价值观",
    n: Count = 10,
    rounds: Count = MOST_ROUNDS,
    max_tokens: Count = 1024,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[Demonstration] | list[Demonstration]:
    """Chinese instructions of five kinds (Zhang et al. 2023, COIG).

        translated      the records into Chinese, in three phases: machine translation by the model (where there is
                        one), then what people say of each translation in `reviews`: rows of id, ok, and where it was
                        not, instruction, input and output as they corrected them. meta["phases"] keeps which phases a
                        record went through: machine, verified, corrected. With reviews, what nobody verified, and
                        what was refused and not corrected, is left out.
        exam            `rows` of questions (question, answer, analysis, and instruction, context, subject where there
                        are) become question -> reasoning, then the answer. Mathematics and questions about pictures
                        are left out, and what has no answer.
        values          the records are seeds about `about` (once for what is shared, once for a region); the model
                        writes `n` more instructions from a few of them and answers those.
        counterfactual  `rows` of facts (subject, relation, object) of a knowledge graph: a student believes something
                        else, which another fact of the relation gives, and a teacher corrects it, in at most `rounds`
                        (5) rounds. Left out where the teacher does not name the fact.
        code            `rows` of problems (description, code) become description -> code and code -> description.

    Options:
        part: which of the five
        rows: file of the rows that exam, counterfactual and code are made of
        reviews: file of what people say of translations
        about: what the seeds of values are about
        n: how many new instructions of values
        rounds: most rounds of a counterfactual conversation
        max_tokens: longest text that is asked for
        temperature: sampling temperature; translations are greedy
        seed: seed of draws and answers
    """
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    if part in ("exam", "code"):
        return list(_exam(rows) if part == "exam" else _code(rows))
    if part == "translated":
        return await _translated(model, _needed(records, part), reviews, Sampling(max_tokens=max_tokens, seed=seed))
    if model is None:
        raise KilterError(f"The part '{part}' asks a model; give it one.")
    if part == "values":
        return await _values(model, _needed(records, part), about, n, sampling)
    return _counterfactual(model, rows, min(rounds, MOST_ROUNDS), sampling)


def _needed(records: list[Demonstration] | None, part: Part) -> list[Demonstration]:
    if not records:
        raise KilterError(f"The part '{part}' reads records; give it some.")
    return records


# ------------------------------------------------------------------------------------------------ translated


async def _translated(
    model: Model | None, records: list[Demonstration], reviews: str, sampling: Sampling
) -> list[Demonstration]:
    if model is None and not reviews:
        raise KilterError("Nothing would be done to the records; give a model that translates, or people's reviews.")
    if model is not None:
        records = await each(records, _machine(model, sampling), label=f"translating · {model.name}")
    if not reviews:
        return records
    said_of = {cell(row, "id"): row for _, row in rows(reviews)}
    found = []
    for record in records:
        try:
            found.append(_reviewed(record, said_of.get(record.id)))
        except SetAside as why:
            leave_out(record, why.rule, str(why))
    return found


def _machine(model: Model, sampling: Sampling) -> Any:
    async def one(record: Demonstration) -> Demonstration:
        given = record.meta.get("input")
        parts = [said(record, "instruction"), given if isinstance(given, str) else "", answer_of(record.messages)]
        chinese = [(await translated(model, part, "zh", sampling)).text if part else "" for part in parts]
        origin = Origin("coig", PAPER, model.name, (record.id,), sampling.seed)
        # The id stays, for the reviews say which record they are about.
        return _triple(chinese, record.id, origin, {**_without_input(record.meta), "phases": ["machine"]})

    return one


def _reviewed(record: Demonstration, review: Row | None) -> Demonstration:
    """Return the record as its reviewer left it; raise SetAside where nobody did, or refused it."""
    if review is None:
        raise SetAside("Nobody verified it.", "not verified")
    phases = [*record.meta.get("phases", ["machine"]), "verified"]
    if review.get("ok") in (True, 1, "true", "yes", "1"):
        return _with(record, record.messages, {**record.meta, "phases": phases})
    if not cell(review, "output") and not cell(review, "instruction"):
        raise SetAside("It was found wrong and nobody corrected it.", "wrong")
    given = record.meta.get("input")
    old = [said(record, "instruction"), given if isinstance(given, str) else "", record.messages[-1].content]
    texts = [cell(review, name) or before for name, before in zip(("instruction", "input", "output"), old, strict=True)]
    return _triple(texts, record.id, record.origin, {**_without_input(record.meta), "phases": [*phases, "corrected"]})


def _triple(texts: Sequence[str], name: str, origin: Origin | None, meta: dict[str, Any]) -> Demonstration:
    instruction, given, output = texts
    asked = f"{instruction}\n\n{given}" if given else instruction
    meta = {**meta, **({"input": given} if given else {})}
    return Demonstration([Message("user", asked), Message("assistant", output)], name, origin, meta)


def _without_input(meta: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in meta.items() if name != "input"}


def _with(record: Demonstration, messages: list[Message], meta: dict[str, Any]) -> Demonstration:
    return Demonstration(messages, record.id, record.origin, meta)


# ------------------------------------------------------------------------------------------------ exams and code


def _exam(source: str) -> Iterator[Demonstration]:
    for place, row in rows(source):
        instruction = cell(row, "textbox_q_instruction", "instruction")
        context = cell(row, "textbox_q_context", "context")
        question = cell(row, "textbox_question", "question")
        answer = cell(row, "textbox_answer", "answer")
        analysis = cell(row, "textbox_answer_analysis", "analysis", "explanation")
        asked = "\n".join(part for part in (instruction, context, question) if part)
        prompt = Prompt([Message("user", asked)])
        if not question or not answer:
            leave_out(prompt, "no answer", f"{place} lacks its question or its answer.")
        elif "数学" in cell(row, "subject", "major", "category") or _MATHS.search(asked):
            leave_out(prompt, "mathematics", f"{place} is mathematics, which the exams leave out.")
        elif row.get("img_list") or _PICTURE.search(asked):
            leave_out(prompt, "picture", f"{place} asks about a picture.")
        else:
            text = f"{analysis}\n所以答案是：{answer}" if analysis else answer
            meta = {"part": "exam", "source": place, "answer": answer, "reasoned": bool(analysis)}
            yield Demonstration([*prompt.messages, Message("assistant", text)], origin=_made(), meta=meta)


def _code(source: str) -> Iterator[Demonstration]:
    for place, row in rows(source):
        description = cell(row, "description", "content", "question", "title")
        code = cell(row, "code", "solution", "answer")
        language = cell(row, "language", "lang") or "Python"
        if not description or not code:
            leave_out(Prompt([Message("user", description)]), "no answer", f"{place} lacks its description or code.")
            continue
        for name, asked, answer in (
            ("write", f"用{language}解决下面的问题：\n\n{description}", code),
            ("explain", f"下面这段{language}代码解决的是什么问题？\n\n{code}", description),
        ):
            meta = {"part": "code", "source": place, "direction": name}
            yield Demonstration([Message("user", asked), Message("assistant", answer)], origin=_made(), meta=meta)


def _made() -> Origin:
    return Origin("coig", PAPER)


# ------------------------------------------------------------------------------------------------ values, corrections


async def _values(
    model: Model, seeds: list[Demonstration], about: str, n: int, sampling: Sampling
) -> Each[Demonstration]:
    draw = random.Random(f"coig values {sampling.seed}")
    known = {asked_of(seed.messages).strip() for seed in seeds}
    new: dict[str, tuple[str, ...]] = {}
    while len(new) < n:
        some = draw.sample(seeds, min(3, len(seeds)))
        examples = [asked_of(seed.messages) for seed in some]
        asked = PROMPTS("value", about=about, examples=examples, n=min(10, n - len(new)), what="instructions")
        fresh = [text for text in listed((await sound(model, asked, sampling)).text) if text not in {*known, *new}]
        if not fresh:
            break
        new.update(dict.fromkeys(fresh, tuple(seed.id for seed in some)))

    async def one(item: tuple[str, tuple[str, ...]]) -> Demonstration:
        text, parents = item
        turn = Message("user", text)
        reply = await sound(model, [turn], sampling)
        origin = Origin("coig", PAPER, reply.model, parents, sampling.seed, PROMPTS.version("value"))
        meta = {"part": "values", "about": about}
        return Demonstration([turn, Message("assistant", reply.text.strip())], origin=origin, meta=meta)

    return each(list(new.items())[:n], one, label=f"values · {model.name}")


def _counterfactual(model: Model, source: str, rounds: int, sampling: Sampling) -> Each[Demonstration]:
    facts = []
    for place, row in rows(source):
        fact = {name: cell(row, name) for name in ("subject", "relation", "object")}
        if not all(fact.values()):
            missing = next(name for name, value in fact.items() if not value)
            raise KilterError(f"{place} is no fact: it lacks '{missing}'; give rows of subject, relation and object.")
        facts.append(fact)

    async def one(item: tuple[int, dict[str, str]]) -> Demonstration:
        i, fact = item
        draw = random.Random(f"coig {sampling.seed} {i}")
        same = (fact["subject"], fact["relation"])
        true = {other["object"] for other in facts if (other["subject"], other["relation"]) == same}
        others = {other["object"] for other in facts if other["relation"] == fact["relation"]} - true
        if not others:
            raise SetAside("No other fact of that relation says what a student could take it for.", "no rival")
        given = {**fact, "wrong": draw.choice(sorted(others))}
        turns: list[Message] = []
        for _ in range(draw.randint(1, rounds)):
            question = (await sound(model, PROMPTS("student", history=turns, **given), sampling)).text.strip()
            turns = [*turns, Message("user", question)]
            reply = await sound(model, PROMPTS("teacher", history=turns, **given), sampling)
            turns = [*turns, Message("assistant", reply.text.strip())]
        if fact["object"] not in turns[1].content:
            raise SetAside("The teacher does not name the fact, so that nothing is corrected.", "not corrected")
        origin = Origin("coig", PAPER, reply.model, (), sampling.seed, PROMPTS.version("teacher"))
        return Demonstration(turns, origin=origin, meta={"part": "counterfactual", **given})

    return each(list(enumerate(facts)), one, label=f"corrections · {model.name}")
