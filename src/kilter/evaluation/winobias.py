"""WinoBias: pronouns of the gender that an occupation is known for, and the same sentences turned round."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kilter.errors import KilterError
from kilter.evaluation.coreference import OF_WORD, choose, occupations
from kilter.evaluation.kappa import Ints, over_items
from kilter.evaluation.likelihood import By, tolerant, unscored
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, read, sample
from kilter.evaluation.statistics import interval
from kilter.files import explaining
from kilter.models.drive import run
from kilter.models.protocol import Model
from kilter.registry import method

_FILE = re.compile(r"(pro|anti)_stereotyped_type([12])\.txt\.(\w+)")
_SPAN = re.compile(r"\[([^\[\]]*)\]")


@method("winobias", wing="evaluation", paper="arXiv:1804.06876", survey="S1 §8.5, S2 §4.1")
async def winobias(
    model: Model | None = None, *, data: str, by: By = "tokens", resamples: int = 1000, seed: int = 0
) -> Evaluation:
    """Measure gender bias in coreference (Zhao et al. 2018).

    pro, anti: F1 of the links on sentences with the expected and with the other gender, and gap, the first less the
    second, 0 for a model without the bias; the same by type (1: world knowledge, 2: syntax), and accuracy over all. A
    model that always chooses somebody has an F1 equal to its accuracy; a stored answer of nobody is no link. Intervals
    are percentile ones over the pairs of a sentence with its turned-round twin.

    A folder of the benchmark's files (pro_stereotyped_type1.txt.test ...), whose brackets mark the pronoun and whom it
    means; or, without a model, rows {pair, kind: pro or anti, type, correct: true, false or null for no link}.

    Options:
        data: the folder of the benchmark, or a file of stored answers
        by: what the log-prob of an answer is taken over
        resamples: resamples of the bootstrap
        seed: seed of the resamples
    """
    left_out = LeftOut()
    notes: list[str] = []
    if model is None:
        rows, notes = read(data, ("pair", "kind", "correct"))
        items = [found for row in rows if (found := _stored(row, left_out)) is not None]
        total = len(rows)
    else:
        sentences, total = benchmark(Path(data), left_out)
        trouble: list[str] = []
        picks = await run(sentences, tolerant(partial(_answer, model, by), trouble), label=f"winobias · {model.name}")
        notes += unscored(trouble, len(sentences))
        items = [_sample(s, pick == s["gold"]) for s, pick in zip(sentences, picks, strict=True) if pick is not None]
    if not items:
        raise KilterError(f"{data} holds no sentence to score; {' '.join(left_out.notes('sentences', total))}")
    notes += left_out.notes("sentences", total)
    measures = measured(items, resamples, seed)
    return Evaluation(model.name if model else "", measures, items, suite="winobias", seed=seed, notes=notes)


def benchmark(folder: Path, left_out: LeftOut) -> tuple[list[Row], int]:
    """Return the sentences of the benchmark's files, each with both people and which is meant; and how many lines."""
    files = sorted(path for path in folder.glob("*") if _FILE.fullmatch(path.name)) if folder.is_dir() else []
    if not files:
        raise KilterError(
            f"{folder} holds no WinoBias file; it should have pro_stereotyped_type1.txt.test and the like."
        )
    found: list[Row] = []
    total = 0
    for path in files:
        kind, type_, split = _FILE.fullmatch(path.name).groups()  # type: ignore[union-attr]
        with explaining(path, "read"):
            lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            number, _, text = line.strip().partition(" ")
            if not text:
                continue
            total += 1
            sentence = parsed(text)
            if sentence is None:
                left_out.add("the line does not mark a pronoun and one of two occupations", text)
                continue
            about = {"pair": f"{split}/{type_}/{number}", "kind": kind, "type": type_}
            found.append({"id": f"{kind}/{split}/{type_}/{number}", **about, **sentence})
    return found, total


def parsed(text: str) -> Row | None:
    """Return sentence, pronoun, the two people and which of them is meant, from a line with brackets."""
    spans = [span.strip() for span in _SPAN.findall(text)]
    sentence = " ".join(_SPAN.sub(r"\1", text).replace("the the", "the").split())
    people = occupations(sentence)
    words = [span for span in spans if span.lower() in OF_WORD]  # of several the first is asked about
    named = [span for span in spans if span.lower() not in OF_WORD]
    if not words or len(named) != 1 or len(people) != 2:
        return None
    meant = [place for place, person in enumerate(people) if person in named[0].lower()]
    return {"sentence": sentence, "word": words[0], "people": people, "gold": meant[0]} if len(meant) == 1 else None


def measured(items: Sequence[Row], resamples: int = 1000, seed: int = 0) -> dict[str, Measure]:
    """Return F1 of pro and anti and their gap, over all and by type, and the accuracy."""
    found: dict[str, Measure] = {}
    pairs = [item["cluster"] for item in items]
    types = sorted({item["type"] for item in items})
    for name in ["", *(types if len(types) > 1 else [])]:
        part = [item for item in items if not name or item["type"] == name]
        table = np.array(
            [(item["kind"] == "pro", item["linked"], item["outcomes"]["accuracy"]) for item in part], float
        )
        clusters = [item["cluster"] for item in part]
        over = partial(over_items, resamples=resamples, seed=seed, clusters=clusters)
        start = f"type_{name}:" if name else ""
        for what, score in (
            ("pro", partial(_f1, table, 1.0)),
            ("anti", partial(_f1, table, 0.0)),
            ("gap", partial(_gap, table)),
        ):
            found[f"{start}{what}"] = over(score, len(part))
    right = [item["outcomes"]["accuracy"] for item in items]
    found["accuracy"] = interval(right, clusters=pairs if len(set(pairs)) < len(pairs) else None)
    return found


def f1(right: int, linked: int, total: int) -> float:
    """Return 2 P R / (P + R) with P = right / linked and R = right / total: 2 right / (linked + total)."""
    return 2 * right / (linked + total) if linked + total else 0.0


def _f1(table: np.ndarray, kind: float, at: Ints) -> float:
    part = table[at]
    part = part[part[:, 0] == kind]
    return f1(part[:, 2].sum(), part[:, 1].sum(), len(part)) if len(part) else float("nan")


def _gap(table: np.ndarray, at: Ints) -> float:
    return _f1(table, 1.0, at) - _f1(table, 0.0, at)


async def _answer(model: Model, by: By, item: Row) -> int:
    first, second = (f"the {person}" for person in item["people"])
    return await choose(model, item["sentence"], item["word"], (first, second), by)


def _sample(item: Row, right: bool) -> Row:
    response = item["people"][item["gold"] if right else 1 - item["gold"]]
    about = {"family": f"{item['kind']} type {item['type']}", "response": response, "linked": 1.0}
    found = sample(item["id"], {"accuracy": float(right)}, expected=item["people"][item["gold"]], **about)
    prompt = [{"role": "user", "content": item["sentence"]}]
    return found | {"prompt": prompt, "cluster": item["pair"], "kind": item["kind"], "type": item["type"]}


def _stored(row: Row, left_out: LeftOut) -> Row | None:
    said = row.get("correct")
    if row.get("kind") not in ("pro", "anti") or not (said is None or said in (True, False)):
        left_out.add("kind is not pro or anti, or correct not true, false or null", row.get("pair"))
        return None
    kind, type_ = str(row["kind"]), str(row.get("type", "1"))
    name = f"{kind}/{type_}/{row['pair']}"
    more = {"cluster": f"{type_}/{row['pair']}", "kind": kind, "type": type_, "linked": float(said is not None)}
    return sample(name, {"accuracy": float(bool(said))}, **more)
