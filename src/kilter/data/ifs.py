"""Instruction Following Score: does a model answer, or does it go on writing the question?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy import sparse

from kilter.data.grams import grams
from kilter.data.sieve import said
from kilter.data.tokens import tokenise
from kilter.errors import KilterError
from kilter.models.each import answered, each
from kilter.models.protocol import Model, Sampling
from kilter.notes import tell
from kilter.records import Demonstration, Group, Message, Origin
from kilter.registry import method

_COLUMNS = 1 << 17
_FIRST = 12  # tokens at the beginning of an output


@dataclass(frozen=True)
class Score:
    """Shares of answer-like outputs: of all, of fragments and of whole requests; None where there are none."""

    all: float
    partial: float | None
    full: float | None


@method("ifs", wing="data", paper="arXiv:2307.03692", survey="S2 §2.4", aliases=("instruction-following-score",))
async def ifs(
    model: Model,
    records: list[Demonstration],
    *,
    n: Annotated[int, Field(gt=0)] = 7340,
    fragments: Annotated[float, Field(ge=0, le=1)] = 0.5,
    max_tokens: int = 64,
    seed: int = 0,
) -> list[Group]:
    """Ask a model the requests of demonstrations, half of them broken off, and tell answers from continuations.

    From half of the records a classifier learns, on the text of outputs alone: the response R is answer-like; the rest
    of a request after a random cut, Ic, is not, nor is Ic with R after it (AlShikh et al. 2023, §3). The model is asked
    the others' requests, the share `fragments` of them up to such a cut. IFS is the share of answer-like outputs; it
    rises early in instruction tuning and then stays (`plateau`), while more training changes the model in other ways.

    Comes back: a group a request with the output, its label (answer-like or not) and score (the classifier's
    probability); meta["partial"] says whether the request was broken off. The paper's classifier is a BERT; this one is
    a logistic regression on words, by place where they begin the output, and its accuracy on records held out is told.

    Options:
        n: most requests that are asked
        fragments: share of the requests that are broken off
        max_tokens: longest output
        seed: seed of the split and of the cuts
    """
    pairs = [(said(record, "instruction"), record) for record in records]
    pairs = [(asked, r) for asked, r in pairs if asked.strip() and r.messages and r.messages[-1].role == "assistant"]
    if len(pairs) < 20:
        raise KilterError(f"{len(pairs)} demonstrations are too few to learn what an answer is; give 20 or more.")
    draw = random.Random(f"ifs {seed}")
    draw.shuffle(pairs)
    half = len(pairs) // 2
    classifier, accuracy = _learned([(asked, r.messages[-1].content) for asked, r in pairs[:half]], seed)
    asked = pairs[half : half + n]
    broken = set(draw.sample(range(len(asked)), round(fragments * len(asked))))
    items = [(i in broken, cut(text, draw)[0] if i in broken else text, r) for i, (text, r) in enumerate(asked)]

    async def one(item: tuple[bool, str, Demonstration]) -> tuple[bool, str, Demonstration, str]:
        partial, request, record = item
        output = await answered(model, [Message("user", request)], Sampling(max_tokens), cut=True, empty=True)
        return partial, request, record, output.text

    outputs = await each(items, one, label="asking")
    likely = classifier.answer_like([output for *_, output in outputs])
    found = [
        Group(
            [Message("user", request)],
            [output],
            scores=[float(probability)],
            labels=[bool(probability > 0.5)],
            origin=Origin("ifs", "arXiv:2307.03692", model.name, (record.id,), seed),
            meta={"partial": partial},
        )
        for (partial, request, record, output), probability in zip(outputs, likely, strict=True)
    ]
    told = score(found)
    parts = [
        f"{name} {value:.3f}"
        for name, value in (("fragments", told.partial), ("whole", told.full))
        if value is not None
    ]
    tell([f"IFS {told.all:.3f} ({', '.join(parts)}); the classifier is right on {accuracy:.1%} of records held out."])
    return found


def cut(text: str, draw: random.Random) -> tuple[str, str]:
    """Return `text` in two at a random place between words, or between characters where there are no spaces."""
    words = text.split(" ")
    if len(words) < 4:
        place = draw.randrange(1, max(2, len(text)))
        return text[:place], text[place:]
    place = draw.randrange(1, len(words))
    return " ".join(words[:place]), " ".join(words[place:])


def score(groups: Sequence[Group]) -> Score:
    """Return IFS of what `ifs` made: share of fragments times IFS_partial + that of whole requests times IFS_full."""

    def share(these: Sequence[Group]) -> float | None:
        labels = [bool(group.labels[0]) for group in these if group.labels]
        return sum(labels) / len(labels) if labels else None

    whole = share(groups)
    if whole is None:
        raise KilterError("There are no labelled outputs to score; give what `kilter data ifs` wrote.")
    return Score(
        whole,
        share([g for g in groups if g.meta.get("partial")]),
        share([g for g in groups if not g.meta.get("partial")]),
    )


def plateau(scores: Sequence[float], *, tolerance: float = 0.02) -> int | None:
    """Return the index of the first of `scores` (over training) after which none is more than `tolerance` higher.

    That is where the paper would stop training. None while the scores still rise, or are fewer than three.
    """
    if len(scores) < 3:
        return None
    for i, value in enumerate(scores[:-2]):
        if max(scores[i + 1 :]) <= value + tolerance:
            return i
    return None


class Classifier:
    """Tells answer-like texts from continuations of a request, by logistic regression on their words."""

    def __init__(self, texts: Sequence[str], answers: Sequence[bool]) -> None:
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression(max_iter=1000, C=10.0).fit(_features(texts), np.asarray(answers))

    def answer_like(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability that each text is an answer [N]; a text without words is none."""
        if not texts:
            return np.empty(0)
        found: np.ndarray = self._model.predict_proba(_features(texts))[:, 1]
        found[[not text.strip() for text in texts]] = 0.0
        return found


def _features(texts: Sequence[str]) -> sparse.csr_matrix:
    """Return for each text its words and pairs of words (by hash), those at its beginning marked, and how it begins."""
    tokens = tokenise(texts)
    parts = []
    for size in (1, 2):
        found = grams(tokens, size)
        rows = np.repeat(np.arange(len(texts)), found.lengths)
        place = np.arange(len(rows)) - np.repeat(found.starts[:-1], found.lengths)
        columns = (found.hashes >> np.uint64(46)).astype(np.int64)
        # The first two, those soon after, and all: a continuation shows itself at once, an answer after it later.
        for early, shift in ((place < 2, 1), (place < _FIRST, 2), (place >= 0, 3)):
            here = (np.ones(early.sum()), (rows[early], columns[early] * shift % _COLUMNS))
            parts.append(sparse.csr_matrix(here, shape=(len(texts), _COLUMNS)))
    begins = [[text[:1].isupper(), text[:1].islower(), text[:1].isspace(), len(text) < 200] for text in texts]
    parts.append(sparse.csr_matrix(np.array(begins, float).reshape(len(texts), 4)))
    table = sparse.hstack(parts).tocsr()
    table.data = np.log1p(table.data)
    return table


def _learned(pairs: Sequence[tuple[str, str]], seed: int) -> tuple[Classifier, float]:
    """Return a classifier learned from requests and responses, and its accuracy on a fifth that was held out."""
    draw = random.Random(f"ifs cuts {seed}")
    held = max(2, len(pairs) // 5)
    parts = []
    for some in (pairs[held:], pairs[:held]):
        texts: list[str] = []
        answers: list[bool] = []
        for request, response in some:
            rest = cut(request, draw)[1]
            texts += [response, rest, f"{rest}\n{response}"]
            answers += [True, False, False]
        parts.append((texts, answers))
    classifier = Classifier(*parts[0])
    right = (classifier.answer_like(parts[1][0]) > 0.5) == np.asarray(parts[1][1])
    return classifier, float(right.mean())
