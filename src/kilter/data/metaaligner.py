"""Examples for a model that corrects answers towards whichever objectives it is told."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.replies import answer_of
from kilter.data.sieve import leave_out, said
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Origin
from kilter.registry import Count, Share, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2403.17141"
OBJECTIVES = {
    "harmless": "harmlessness: no harm, no offence, nothing dangerous",
    "helpful": "helpfulness: useful and complete for the one who asks",
    "humour": "humour: cheerful and amusing",
    "instruction": "following the instructions: all that was asked and nothing else",
    "honest": "honesty: as sure as it may be, and open about what it does not know",
    "truthful": "truthfulness: everything it says is true",
}


@method("metaaligner", wing="data", paper=PAPER, survey="S3 §imitation")
def metaaligner(
    records: Iterable[Demonstration | Group],
    model: Model | None = None,
    *,
    step: Literal["warm-up", "equal", "contrast", "correct"] = "contrast",
    objectives: str = "harmless,helpful,humour",
    descriptions: str = "",
    subset: Share = 0.5,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> Iterator[Demonstration] | Each[Demonstration]:
    """Data of a policy-agnostic corrector with several objectives (Yang et al. 2024, MetaAligner).

    The corrector learns pi(y* | objectives, x, y): the objectives stand as text in its request, in a drawn order, so
    that others may stand there later. The three steps of its training read records and ask nobody:

        warm-up     y* = y: the answer of a demonstration, or of a group at random, is returned as it is
        equal       two answers of equal rank: one becomes the other ("just as good")
        contrast    y is worse and y* is better (every group gives its best and a worse one); the objectives are those
                    that y* is better in: of meta["objectives"], {name: [a score each answer]}, where a group has it,
                    else a drawn subset of all

    correct: the model, such a corrector or any other, edits the answers of demonstrations for all `objectives`; the
    record gets the edited answer. meta: objectives, step.

    Options:
        step: which data are made, or correct
        objectives: names of the objectives, with commas
        descriptions: texts of objectives that are not known here, as name=text;name=text
        subset: chance of each objective to be drawn, where nothing says in which ones an answer is better
        max_tokens: longest edited answer
        seed: seed of the draws
    """
    texts = _texts(objectives, descriptions)
    if step != "correct":
        return _examples(records, step, texts, subset, seed)
    if model is None:
        raise KilterError("The step 'correct' asks a model; give it one.")
    corrector = model

    async def one(record: Demonstration | Group) -> Demonstration:
        if isinstance(record, Group):
            raise SetAside("It is a group; give demonstrations, whose answers are to be edited.", "no answer")
        draw = random.Random(f"metaaligner {seed} {record.id}")
        names = draw.sample(list(texts), len(texts))
        response = answer_of(record.messages)
        told = [texts[name] for name in names]
        asked = PROMPTS("correct", question=said(record, "prompt"), response=response, objectives=told)
        reply = await sound(corrector, asked, Sampling(max_tokens=max_tokens, seed=seed), of=response)
        origin = Origin("metaaligner", PAPER, reply.model, (record.id,), seed, asked.version)
        meta = {**record.meta, "step": "correct", "objectives": names, "before": response}
        return Demonstration(
            [*record.messages[:-1], Message("assistant", reply.text.strip())], origin=origin, meta=meta
        )

    return each(records, one, label=f"corrections · {model.name}")


def _texts(objectives: str, descriptions: str) -> dict[str, str]:
    known = dict(OBJECTIVES)
    for part in filter(None, (part.strip() for part in descriptions.split(";"))):
        name, equals, text = part.partition("=")
        if not equals or not text.strip():
            raise KilterError(f"'{part}' describes no objective; write name=text;name=text.")
        known[name.strip()] = text.strip()
    names = list(dict.fromkeys(name.strip() for name in objectives.split(",") if name.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise KilterError(
            f"There is no objective '{', '.join(unknown)}' (known: {', '.join(known)}); describe it with descriptions."
        )
    return {name: known[name] for name in names}


def _examples(
    records: Iterable[Demonstration | Group], step: str, texts: dict[str, str], subset: float, seed: int
) -> Iterator[Demonstration]:
    for record in records:
        draw = random.Random(f"metaaligner {seed} {record.id}")
        drawn = [name for name in texts if draw.random() < subset] or [draw.choice(list(texts))]
        try:
            before, after, names = _pair(record, step, drawn, draw)
        except SetAside as why:
            leave_out(record, why.rule, str(why))
            continue
        names = [name for name in names if name in texts]
        if not names:
            leave_out(record, "no objective", "The better answer is better in none of the objectives.")
            continue
        draw.shuffle(names)
        told = [texts[name] for name in names]
        question = said(record, "prompt")
        asked = PROMPTS(
            "correct" if step == "contrast" else "same", question=question, response=before, objectives=told
        )
        origin = Origin("metaaligner", PAPER, None, (record.id,), seed, asked.version)
        yield Demonstration(
            [*asked, Message("assistant", after)], origin=origin, meta={"step": step, "objectives": names}
        )


def _pair(
    record: Demonstration | Group, step: str, drawn: list[str], draw: random.Random
) -> tuple[str, str, list[str]]:
    """Return (answer, edited answer, objectives); raise SetAside where the record has none of the kind."""
    if step == "warm-up":
        texts = record.responses if isinstance(record, Group) else [answer_of(record.messages)]
        if not texts:
            raise SetAside("It has no answer.", "no answer")
        text = draw.choice(texts)
        return text, text, drawn
    order = record.order() if isinstance(record, Group) else None
    if not isinstance(record, Group) or order is None:
        raise SetAside("It is no group of answers with scores or ranks; give such groups.", "no preference")
    numbers = range(len(order))
    if step == "equal":
        pairs = [(i, j) for i in numbers for j in numbers if i != j and order[i] == order[j]]
    else:
        pairs = [(i, j) for i in numbers for j in numbers if order[i] < order[j] == max(order)]
    if not pairs:
        raise SetAside("It has no two answers of equal rank." if step == "equal" else "No answer is better.", "no pair")
    worse, better = draw.choice(pairs)
    scores = record.meta.get("objectives")
    if isinstance(scores, dict):
        drawn = [
            name for name, values in scores.items()
            if (values[better] > values[worse] if step == "contrast" else values[better] == values[worse])
        ]  # fmt: skip
    return record.responses[worse], record.responses[better], drawn
