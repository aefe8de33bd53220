"""Instruction Mining: the loss after fine-tuning, predicted from cheap indicators of each record."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from kilter.data.sieve import leave_out, said
from kilter.data.tokens import tokenise
from kilter.data.vectors import neighbour_distances, vectors
from kilter.errors import KilterError
from kilter.models.drive import run
from kilter.models.protocol import Model
from kilter.records import Demonstration, Group, Origin
from kilter.registry import method

RULES: dict[str, dict[str, float]] = {
    "v1": {"constant": 1.0694, "reward": -0.1498, "length_out": 8.257e-5, "knn6": -0.9350},
    "v3": {
        "constant": 0.0274,
        "reward": -0.0078,
        "understandability": 0.4421,
        "naturalness": -0.3212,
        "coherence": -0.1520,
    },
}
"""Coefficients of the linear rules for log L, of the paper's first and third version (as secondary texts have them)."""
NEIGHBOUR = 6


@method("instruct-mining", wing="data", paper="arXiv:2307.06290", survey="S2 §2.4")
async def instruct_mining(
    records: list[Demonstration | Group],
    model: Model | None = None,
    *,
    rule: Literal["v1", "v3"] = "v1",
    n: Annotated[int, Field(gt=0)] = 2532,
) -> list[Demonstration | Group]:
    """Keep the records of lowest predicted loss (Cao et al. 2023).

    v1: log L ~ 1.0694 - 0.1498 reward + 8.257e-5 length_out - 0.9350 knn6
    v3: log L ~ 0.0274 - 0.0078 reward + 0.4421 understandability - 0.3212 naturalness - 0.1520 coherence
    reward is what `kilter data score` writes (or meta["reward"]), length_out the tokens of the response, knn6 the
    distance to the sixth nearest other record (here of tf-idf vectors of its words), and the last three are UniEval's,
    read from the meta. 2,532 of 100,000 is where the paper's search for a size ends (`best_size` does the search).
    meta["indicators"] of what is kept also has length_in, mtld (lexical diversity) and, with a model, ppl.

    Options:
        rule: v1 or v3
        n: how many records are kept
    """
    perplexities = await _perplexities(records, model) if model is not None else [None] * len(records)
    found = indicators(records)
    predicted = np.array([predict(row, RULES[rule], record.id) for row, record in zip(found, records, strict=True)])
    order = np.argsort(predicted, kind="stable")
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(len(order))
    kept = []
    for record, row, ppl, loss, rank in zip(records, found, perplexities, predicted, ranks, strict=True):
        if rank >= n:
            leave_out(record, "predicted loss", f"Its predicted log loss {loss:.4f} is rank {rank + 1}.")
            continue
        told = {**row, **({} if ppl is None else {"ppl": ppl})}
        kept.append(_told(record, {"indicators": told, "predicted_loss": float(loss), "rank": int(rank) + 1}))
    return kept


async def _perplexities(records: Sequence[Demonstration | Group], model: Model) -> list[float | None]:
    async def one(record: Demonstration | Group) -> float | None:
        asked, answer = _parts(record)
        if not answer:
            return None
        scores = await model.score(asked, answer)
        return math.exp(-sum(scores) / len(scores))

    return await run(list(records), one, label="perplexity")


def _parts(record: Demonstration | Group) -> tuple[list[Any], str]:
    if isinstance(record, Group):
        return record.prompt, record.responses[0] if record.responses else ""
    last = record.messages[-1] if record.messages else None
    return (record.messages[:-1], last.content) if last and last.role == "assistant" else (record.messages, "")


def indicators(records: Sequence[Demonstration | Group]) -> list[dict[str, float]]:
    """Return what can be told of each record without a model, and what its scores and its meta say."""
    asked = tokenise([said(record, "prompt") for record in records])
    answers = tokenise([_parts(record)[1] for record in records])
    distances = neighbour_distances(vectors([said(record) for record in records]), NEIGHBOUR)
    found = []
    for i, record in enumerate(records):
        words = answers.hashes[answers.starts[i] : answers.starts[i + 1]].tolist()
        row: dict[str, float] = {
            "length_in": float(asked.lengths[i]),
            "length_out": float(answers.lengths[i]),
            "mtld": mtld(words),
            "knn6": float(distances[i]),
        }
        if isinstance(record, Group) and record.scores:
            row["reward"] = float(record.scores[0])
        for name in ("reward", "understandability", "naturalness", "coherence"):
            value = record.meta.get(name, record.meta.get("extra", {}).get(name))
            if isinstance(value, int | float):
                row[name] = float(value)
        found.append(row)
    return found


def predict(row: Mapping[str, float], rule: Mapping[str, float], where: str = "") -> float:
    """Return the linear rule's value; raise KilterError for an indicator that the record `where` lacks."""
    total = rule["constant"]
    for name, weight in rule.items():
        if name == "constant":
            continue
        if name not in row:
            remedy = "score it with `kilter data score`" if name == "reward" else f"put '{name}' into its meta"
            raise KilterError(f"Record {where} has no {name}, which the rule needs; {remedy}, or use another rule.")
        total += weight * row[name]
    return total


def fit(rows: Sequence[Mapping[str, float]], losses: Sequence[float]) -> dict[str, float]:
    """Return the rule that least squares give for log of `losses`, measured after fine-tuning on each row's set."""
    names = sorted(set.intersection(*(set(row) for row in rows)))
    if len(rows) <= len(names):
        raise KilterError(f"{len(rows)} runs cannot tell the weights of {len(names)} indicators; measure more sets.")
    table = np.array([[1.0, *(row[name] for name in names)] for row in rows])
    weights, *_ = np.linalg.lstsq(table, np.log(np.asarray(losses, float)), rcond=None)
    return dict(zip(("constant", *names), weights.tolist(), strict=True))


def best_size(loss: Callable[[int], float], low: int, high: int, *, tries: int = 40) -> int:
    """Return the size of lowest `loss` between `low` and `high`, which is called `tries` times at most.

    The loss over the size has two dips, so that going downhill alone may end in the wrong one: half of the tries look
    everywhere, evenly in the logarithm, and the others halve the steps round the best one found. (The paper uses
    BlendSearch, which mixes global and local search too.)
    """
    known: dict[int, float] = {}

    def at(size: int) -> float:
        if size not in known:
            known[size] = loss(size)
        return known[size]

    grid = np.unique(np.round(np.geomspace(low, high, max(3, tries // 2))).astype(int)).tolist()
    best = min(grid, key=at)
    while len(known) < tries:
        below = max((size for size in known if size < best), default=best)
        above = min((size for size in known if size > best), default=best)
        nearer = [size for size in ((below + best) // 2, (best + above + 1) // 2) if size not in known]
        if not nearer:
            break
        best = min([best, *nearer[: tries - len(known)]], key=at)
    return best


def mtld(words: Sequence[Any], threshold: float = 0.72) -> float:
    """Return the measure of textual lexical diversity (McCarthy and Jarvis 2010), 0 for no words.

    Mean length of runs in which the share of different words stays over the threshold, forwards and backwards.
    """
    if not words:
        return 0.0
    return (_one_way(words, threshold) + _one_way(words[::-1], threshold)) / 2


def _one_way(words: Sequence[Any], threshold: float) -> float:
    factors, seen, length = 0.0, set(), 0
    for word in words:
        seen.add(word)
        length += 1
        if len(seen) / length < threshold:
            factors, seen, length = factors + 1, set(), 0
    if length:
        factors += (1 - len(seen) / length) / (1 - threshold)
    return len(words) / factors if factors else float(len(words))


def _told(record: Demonstration | Group, more: dict[str, Any]) -> Demonstration | Group:
    found = copy.copy(record)
    found.meta = {**record.meta, **more}
    found.origin = record.origin or Origin("instruct-mining", "arXiv:2307.06290", parents=(record.id,))
    return found
