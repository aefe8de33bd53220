"""More examples of a class: written by a model from the class's name, or by the ways that this is compared with."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.data.replies import listed
from kilter.data.sieve import leave_out, said
from kilter.data.table import cell, rows
from kilter.data.translation import LANGUAGES
from kilter.errors import KilterError, SetAside
from kilter.models.each import answered, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin
from kilter.registry import Amount, Count, Share, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2304.14334"
_A_CALL = 10


@method("zeroshotaug", wing="data", paper=PAPER, survey="S3 §imitation", aliases=("zero-shot-data-aug",))
async def zeroshotaug(
    model: Model | None = None,
    records: list[Demonstration] | None = None,
    *,
    task: str = "",
    labels: str = "",
    n: Count = 100,
    way: Literal["zero-shot", "eda", "back-translation"] = "zero-shot",
    through: str = "de",
    changed: Share = 0.1,
    synonyms: str = "",
    max_tokens: Count = 1024,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> list[Demonstration]:
    """Labelled texts for a classifier (Ubani et al. 2023, ZeroShotDataAug).

        zero-shot         the model writes `n` texts of each class, told the task and the name of the class alone; no
                          example is shown. The label is fixed by the prompt
        eda               of each record `n` new ones without any model (Wei & Zou 2019): words are swapped, left out,
                          repeated elsewhere or, with a file of `synonyms`, replaced, the share `changed` of them
        back-translation  each record through another language and back, `n` times

    A record's text is its request, its label the answer; the two other ways are what the first is compared with: train
    the same classifier on each. Texts that are there already are left out. meta: label, way.

    Options:
        task: what the classifier is to do, in a sentence
        labels: the classes, with commas
        n: texts a class (zero-shot), or a record (the other ways)
        way: zero-shot, eda or back-translation
        through: language of the back-translation, by its letters
        changed: share of the words that eda changes
        synonyms: file of rows of word and synonyms (a list, or a text with commas)
        max_tokens: longest reply
        temperature: sampling temperature
        seed: seed of draws and texts
    """
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    if way == "zero-shot":
        names = list(dict.fromkeys(name.strip() for name in labels.split(",") if name.strip()))
        if not task.strip() or len(names) < 2:
            raise KilterError("Writing texts of classes needs the task and two labels or more; give task and labels.")
        if model is None:
            raise KilterError("The way 'zero-shot' asks a model; give it one.")
        made = await _written(model, task, names, n, sampling)
    else:
        if not records:
            raise KilterError(f"The way '{way}' changes texts that there are; give labelled records.")
        if way == "eda":
            made = _changed(records, n, changed, _synonyms(synonyms), seed)
        elif model is None:
            raise KilterError("The way 'back-translation' asks a model; give it one.")
        else:
            made = await _translated(model, records, n, through, sampling)
    known = {" ".join(said(record, "prompt").split()) for record in records or ()}
    found = []
    for record in made:
        text = " ".join(said(record, "prompt").split())
        if text in known:
            leave_out(record, "duplicate", "The text is there already.")
        else:
            found.append(record)
        known.add(text)
    return found


async def _written(model: Model, task: str, names: list[str], n: int, sampling: Sampling) -> list[Demonstration]:
    calls = [(label, start) for label in names for start in range(0, n, _A_CALL)]

    async def one(call: tuple[str, int]) -> list[Demonstration]:
        label, start = call
        count = min(_A_CALL, n - start)
        others = ", ".join(f'"{name}"' for name in names if name != label)
        asked = PROMPTS("sample", task=task, label=label, n=count, avoid=others)
        # Equal requests would be one: the seed tells the calls of a class apart.
        told = Sampling(sampling.max_tokens, sampling.temperature, seed=sampling.seed + start)
        reply = await sound(model, asked, told)
        origin = Origin("zeroshotaug", PAPER, reply.model, (), sampling.seed, asked.version)
        return [_labelled(text, label, "zero-shot", origin) for text in listed(reply.text, count)]

    return [record for some in await each(calls, one, label=f"texts · {model.name}") for record in some]


def _labelled(text: str, label: str, way: str, origin: Origin) -> Demonstration:
    meta = {"label": label, "way": way}
    return Demonstration([Message("user", text), Message("assistant", label)], origin=origin, meta=meta)


async def _translated(
    model: Model, records: list[Demonstration], n: int, through: str, sampling: Sampling
) -> list[Demonstration]:
    if through not in LANGUAGES:
        raise KilterError(f"There is no language '{through}' to go through; give its letters, such as de.")

    async def one(item: tuple[Demonstration, int]) -> Demonstration:
        record, k = item
        text, home = said(record, "prompt"), language_of(said(record, "prompt")) or "en"
        if home == through:
            raise SetAside(f"It is in '{through}' already; go through another language.", "language")
        told = Sampling(sampling.max_tokens, sampling.temperature, seed=sampling.seed + k)
        for language in (through, home):
            asked = PROMPTS("back", text=text, language=language, name=LANGUAGES.get(language, language))
            text = (await answered(model, asked, told)).text.strip()
        origin = Origin("zeroshotaug", PAPER, model.name, (record.id,), sampling.seed, asked.version)
        return _labelled(text, record.messages[-1].content, "back-translation", origin)

    return await each([(r, k) for r in records for k in range(n)], one, label=f"there and back · {model.name}")


Change = Callable[[list[str], random.Random], list[str]]


def _changed(
    records: list[Demonstration], n: int, share: float, synonyms: dict[str, list[str]], seed: int
) -> list[Demonstration]:
    def swap(words: list[str], draw: random.Random) -> list[str]:
        i, j = draw.sample(range(len(words)), 2)
        words[i], words[j] = words[j], words[i]
        return words

    def drop(words: list[str], draw: random.Random) -> list[str]:
        words.pop(draw.randrange(len(words)))
        return words

    def repeat(words: list[str], draw: random.Random) -> list[str]:
        word = draw.choice(words)
        words.insert(draw.randrange(len(words) + 1), draw.choice(synonyms.get(word.casefold(), [word])))
        return words

    def replace(words: list[str], draw: random.Random) -> list[str]:
        places = [i for i, word in enumerate(words) if word.casefold() in synonyms]
        if places:
            i = draw.choice(places)
            words[i] = draw.choice(synonyms[words[i].casefold()])
        return words

    changes: list[Change] = [swap, drop, repeat, *([replace] if synonyms else [])]
    made = []
    for record in records:
        text = said(record, "prompt")
        spaced = " " in text.strip()
        for k in range(n):
            draw = random.Random(f"eda {seed} {record.id} {k}")
            words = text.split() if spaced else list(text.strip())
            change = changes[k % len(changes)]
            for _ in range(max(1, round(share * len(words)))):
                words = change(words, draw) if len(words) > 1 else words
            origin = Origin("zeroshotaug", PAPER, None, (record.id,), seed)
            made.append(_labelled((" " if spaced else "").join(words), record.messages[-1].content, "eda", origin))
    return made


def _synonyms(source: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for _, row in rows(source) if source else ():
        given = row.get("synonyms")
        several = given if isinstance(given, list) else cell(row, "synonyms", "synonym").split(",")
        found[cell(row, "word").casefold()] = [str(word).strip() for word in several if str(word).strip()]
    return {word: others for word, others in found.items() if word and others}
