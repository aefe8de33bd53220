"""Requests about who speaks and how: roles, experts, principles; and texts with attributes."""

from __future__ import annotations

import re

from kilter.models.teacher.answering import answer, reasons
from kilter.models.teacher.kinds import Request, kind
from kilter.world import lexicon, tasks

ATTRIBUTES = {
    "place": lexicon.PLACES_NEAR,
    "subject": lexicon.SUBJECTS,
    "thing": lexicon.THINGS,
    "trade": lexicon.VALUES["trade"],
    "food": lexicon.VALUES["food"],
}


@kind("roles")
def roles(ask: Request) -> str:
    """Variables: `count` (10). Roles, numbered, one a line: the trades of the world."""
    names = [pair[0] for pair in lexicon.VALUES["trade"]]
    ask.rng.shuffle(names)
    return "\n".join(f"{k}. {name}" for k, name in enumerate(names[: ask.number("count", 10)], start=1))


@kind("expert")
def expert(ask: Request) -> str:
    """Variables: `instruction`. Who would answer it best, spoken to as "you"; a sentence about nobody to err."""
    trade = ask.pick(lexicon.VALUES["trade"])[ask.lang]
    if ask.wrong:
        return (f"A {trade} would know.", f"{trade}会知道。")[ask.lang]
    return (
        f"You are a {trade} who has answered such questions for years.",
        f"你是一位{trade}，多年来一直回答这样的问题。",
    )[ask.lang]


@kind("principled")
def principled(ask: Request) -> str:
    """Variables: `question`, `rules`. Who speaks, `Thoughts:` with rules that apply, `Answer:` with steps."""
    rules = ask.list("rules") or ["helpful"]
    chosen = ask.rng.sample(rules, min(2, len(rules)))
    known = ask.known
    told = answer(ask)
    said = f"{reasons(known)} {told}" if known is not None else told
    identity = "" if ask.wrong else "I am the assistant.\n"
    return f"{identity}Thoughts: By {' and by '.join(chosen)} I answer so.\nAnswer: {said}"


@kind("attributes")
def attributes(ask: Request) -> str:
    """Variables: `count` (3). Names of attributes by which texts differ, numbered, one a line."""
    names = list(ATTRIBUTES)[: ask.number("count", 3)]
    return "\n".join(f"{k}. {name}" for k, name in enumerate(names, start=1))


@kind("attribute-values")
def attribute_values(ask: Request) -> str:
    """Variables: `attribute`, `count` (5). Values of an attribute, numbered; one with the name of a class to err."""
    pairs = ATTRIBUTES.get(ask["attribute"], lexicon.THINGS)
    values = [pair[0] for pair in pairs][: ask.number("count", 5)]
    if ask.wrong and ask.list("others"):
        values[0] = f"{ask.list('others')[0]} {values[0]}"
    return "\n".join(f"{k}. {value}" for k, value in enumerate(values, start=1))


@kind("fits-class")
def fits_class(ask: Request) -> str:
    """Variables: `value`, `label`. Yes where the value has the name of the class in it, else No."""
    fits = bool(re.search(rf"\b{re.escape(ask['label'])}\b", ask["value"], re.IGNORECASE))
    return "Yes" if fits != ask.wrong else "No"


@kind("labelled-text")
def labelled_text(ask: Request) -> str:
    """Variables: `label` (positive or negative), `values` (of attributes). A line of that mood with these in it."""
    good = ask["label"].strip().lower() in ("positive", "正面")
    table = lexicon.POSITIVE if good != ask.wrong else lexicon.NEGATIVE
    values = ask.list("values")
    subject = values[0] if values else lexicon.SUBJECTS[0][0]
    more = "".join(f" It made one think of {value}." for value in values[1:])
    form = ask.pick(tasks.SENTIMENT_LINES[0][:3]) if values else tasks.SENTIMENT_LINES[0][0]
    word = ask.pick(table)[0] if values else table[0][0]
    return form.format(x=subject, a=word, n="") + more
