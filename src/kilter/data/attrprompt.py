"""Labelled texts that differ in named attributes."""

from __future__ import annotations

import random

import numpy as np

from kilter.data.drafts import Batch, settled, sound
from kilter.data.replies import listed
from kilter.data.self_instruct import verdict
from kilter.data.vectors import similarities, vectors
from kilter.errors import KilterError
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2306.15895"
PROMPTS = Prompts(__file__)
BAND = 50  # words that a text may be longer than it is asked to be


@method("attrprompt", wing="data", paper=PAPER, survey="S2 §2.2")
async def attrprompt(
    model: Model,
    *,
    labels: str,
    task: str = "a text",
    n: Count = 1000,
    attributes: str = "",
    n_attributes: Count = 3,
    of_class: str = "",
    values: Count = 10,
    words: Whole = 30,
    simple: bool = False,
    temperature: Amount = 1.0,
    max_tokens: Count = 512,
    seed: int = 0,
) -> list[Demonstration]:
    """Write texts for each class whose attributes are drawn at random (AttrPrompt, Yu et al. 2023).

    1. Attributes by which such texts differ: given, or named by the model. 2. Values of each, by the model; those of an
    attribute in `of_class` are asked for class by class, and one that, asked for each other class, the model says fits
    it is left out. 3. Each text has a class in turn and one value of every attribute, drawn with equal chances; the
    request names them with a length of n to n + 50 words, and says that it must not fit the other classes. `simple` is
    the baseline: the class alone. The record asks for the class of the text, with the class as its answer. meta: label,
    attrs. `aps` measures the average pairwise similarity, which attributes lower.

    Options:
        labels: names of the classes, with commas
        task: what kind of text it is, as "a review of a product"
        n: texts that are wanted, the same number of each class
        attributes: names of attributes, with commas; without them the model names some
        n_attributes: how many attributes the model names
        of_class: attributes whose values belong to a class, with commas
        values: values of each attribute
        words: fewest words of a text; 0 asks for no length
        simple: the class alone is named, no attribute
        temperature: of the texts; names and values are greedy
        max_tokens: longest text
        seed: seed of the draws and of the model's samples
    """
    classes = _names(labels)
    if len(classes) < 2:
        raise KilterError(f"labels is '{labels}'; name two classes or more, with commas.")
    table: dict[str, dict[str, list[str]]] = {label: {} for label in classes}
    if not simple:
        names = _names(attributes)
        if not names:
            asked = PROMPTS("attributes", task=task, labels=classes, count=n_attributes)
            named = await each([0], _listing(model, asked, n_attributes), label=f"attributes · {model.name}")
            if not named:
                raise KilterError("The model named no attribute; give their names with attributes=A,B.")
            names = named[0]
        table = await _values(model, task, classes, names, _names(of_class), values)

    async def one(k: int) -> Demonstration:
        label = classes[k % len(classes)]
        drawn = drawn_values(table[label], seed, k)
        asked = PROMPTS(
            "text", task=task, label=label, attrs=drawn, values=list(drawn.values()), words=words, most=words + BAND,
            others=[other for other in classes if other != label],
        )  # fmt: skip
        answer = await sound(model, asked, Sampling(max_tokens, temperature, seed=seed * 1_000_003 + k))
        text = answer.text.strip()
        origin = Origin("attrprompt", PAPER, answer.model, (), seed, asked.version)
        messages = [*PROMPTS("classify", text=text, labels=classes), Message("assistant", label)]
        return Demonstration(messages, origin=origin, meta={"label": label, "attrs": drawn, "text": text})

    made = await each(range(n), one, label=f"texts · {model.name}")
    batch: Batch[Demonstration] = Batch()
    seen: set[str] = set()
    for record in made:
        if record.meta["text"] in seen and not simple:
            batch.drop(record, "duplicate", "The same text was written before.")
        else:
            seen.add(record.meta["text"])
            batch.items.append(record)
    return settled([batch])


def drawn_values(table: dict[str, list[str]], seed: int, k: int) -> dict[str, str]:
    """Return one value of each attribute for the k-th text, each with equal chances."""
    draw = random.Random(f"attrprompt {seed} {k}")
    return {name: draw.choice(options) for name, options in table.items()}


def aps(texts: list[str]) -> float:
    """Return the average pairwise similarity: the mean cosine of tf-idf vectors over all pairs; 0 without a pair."""
    if len(texts) < 2:
        return 0.0
    found = vectors(texts, common=1.0)
    total = sum(float(np.sum(cosines)) for _, cosines in similarities(found, found))
    return (total - float(found.multiply(found).sum())) / (len(texts) * (len(texts) - 1))


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _listing(model: Model, asked, most: int):  # type: ignore[no-untyped-def]
    async def one(_: int) -> list[str]:
        return listed((await sound(model, asked, Sampling(512), cut=True)).text, most)

    return one


async def _values(
    model: Model, task: str, classes: list[str], names: list[str], of_class: list[str], many: int
) -> dict[str, dict[str, list[str]]]:
    """Return the values of each attribute for each class; those that fit another class are in the rejects."""
    unknown = [name for name in of_class if name not in names]
    if unknown:
        raise KilterError(f"of_class names '{unknown[0]}', which is no attribute; there are {', '.join(names)}.")
    wanted = [(name, label) for name in names for label in (classes if name in of_class else [""])]

    async def one(item: tuple[str, str]) -> Batch[tuple[str, str, list[str]]]:
        name, label = item
        others = [other for other in classes if other != label] if label else []
        asked = PROMPTS("values", task=task, attribute=name, label=label, others=others, count=many)
        found = listed((await sound(model, asked, Sampling(1024), cut=True)).text, many)
        batch: Batch[tuple[str, str, list[str]]] = Batch()
        kept = []
        for value in found:
            fits = [other for other in others if await _fits(model, task, name, value, other)]
            if fits:
                told = {"attribute": name, "label": label, "value": value}
                batch.drop(told, "fits another class", f"It fits {fits[0]} as well.")
            else:
                kept.append(value)
        batch.items.append((name, label, kept))
        return batch

    table: dict[str, dict[str, list[str]]] = {label: {} for label in classes}
    for name, label, kept in settled(await each(wanted, one, label=f"values · {model.name}")):
        for these in [label] if label else classes:
            if kept:
                table[these][name] = kept
    empty = [(name, label) for name in names for label in classes if name not in table[label]]
    if empty:
        raise KilterError(f"There is no value of '{empty[0][0]}' for '{empty[0][1]}'; give other attributes.")
    return table


async def _fits(model: Model, task: str, name: str, value: str, label: str) -> bool:
    asked = PROMPTS("fits", task=task, attribute=name, value=value, label=label)
    return verdict((await sound(model, asked, Sampling(8), cut=True)).text)
