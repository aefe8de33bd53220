"""The data wing's filters beside what people use: ROUGE-L novelty, near duplicates, decontamination.

    python bench/data_managing.py [--data DIR] [--turns 3] [--rows novelty,near,decontamination] [--out FILE]

Ours and theirs work by turns in this process, on 52,002 records of Alpaca that are in memory; the ratio is the median
of theirs over the median of ours and is printed last. Peers are rouge-score and datasketch (the extra `bench`). Each
row checks that both found the same, or how much of it. Functions `novelty`, `near_duplicates` and `decontamination`
return a row each, for `make bench-data`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import sparse

from kilter.data.decontaminate import Benchmarks, benchmark_texts
from kilter.data.near_duplicates import shingles
from kilter.data.novelty import Novel
from kilter.data.overlap import Pool, dice_of_jaccard
from kilter.data.sieve import BATCH

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
LEAST = {"novelty": 500.0, "near duplicates": 5.0, "decontamination": 10.0}


def shared() -> Path:
    """Return the folder with instructions/ and evaluation/: KILTER_SHARED's data, else that beside the repository."""
    return Path(os.environ.get("KILTER_SHARED", ROOT.parent / "shared")) / "data"


def records(data: Path) -> list[dict[str, str]]:
    with (data / "instructions" / "alpaca_52k.jsonl").open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def turns(ours: Callable[[], Any], theirs: Callable[[], Any], count: int) -> tuple[list[float], list[float], Any, Any]:
    """Call both by turns; return the seconds of each call, and what the last calls returned."""
    times: tuple[list[float], list[float]] = ([], [])
    last: list[Any] = [None, None]
    for turn in range(count):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            start = time.perf_counter()
            last[side] = (ours, theirs)[side]()
            times[side].append(time.perf_counter() - start)
    return times[0], times[1], last[0], last[1]


def row(name: str, against: str, ours: list[float], theirs: list[float], scale: float = 1.0, **facts: Any) -> Row:
    """Return a row of the table; `scale` is what theirs is multiplied by, where only a part of it was done."""
    found = {"row": name, "against": against, **facts, "ours_seconds": [round(t, 3) for t in ours]}
    found["theirs_seconds"] = [round(t * scale, 3) for t in theirs]
    found["least"] = LEAST[name]
    found["ratio"] = round(median(theirs) * scale / median(ours), 2)
    return found


def by_batches(texts: list[str]) -> list[list[str]]:
    return [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]


def novelty(data: Path, count: int = 3, candidates: int = 40, pool: int = 2000, compared: int = 600) -> Row:
    """ROUGE-L F of each instruction with all before it, at most 0.7: all of ours, theirs from some candidates.

    Theirs is Self-Instruct's loop over `rouge_score`; its time a pair, of `candidates` new instructions with a pool of
    `pool`, is multiplied by the pairs that it would compare. The decisions on `compared` instructions are those of the
    whole loop, at 0.7 and at 0.5, where far more are left out.
    """
    from rouge_score import rouge_scorer

    texts = [record["instruction"] for record in records(data)]
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    draw = random.Random(0)
    new = [texts[i] for i in sorted(draw.sample(range(pool, len(texts)), candidates))]

    def ours() -> list[bool]:
        filter_ = Novel(0.7)
        return [bool(kept) for batch in by_batches(texts) for kept in filter_.sift(batch)[0]]

    def theirs() -> list[float]:
        return [max(scorer.score(one, other)["rougeL"].fmeasure for other in texts[:pool]) for one in new]

    mine, pairwise, kept, _ = turns(ours, theirs, count)
    before = np.concatenate(([0], np.cumsum(kept)[:-1]))  # what is in the pool when each comes
    same = all(_decided(texts[:compared], t, scorer) == Novel(t).sift(texts[:compared])[0].tolist() for t in (0.7, 0.5))
    english = Novel(0.7, "english")
    letter = [bool(k) for batch in by_batches(texts) for k in english.sift(batch)[0]]
    return row(
        "novelty",
        "rouge-score, pair by pair",
        mine,
        pairwise,
        float(before.sum()) / (candidates * pool),
        instructions=len(texts),
        kept=sum(kept),
        pairs=int(before.sum()),
        their_microseconds_a_pair=round(median(pairwise) / (candidates * pool) * 1e6, 1),
        same_decisions=f"{same} ({compared} instructions at 0.7 and 0.5, all pairs)",
        same_as_by_rouge_s_own_tokens=f"{kept == letter} (all {len(texts):,} at 0.7)",
    )


def _decided(texts: list[str], threshold: float, scorer: Any) -> list[bool]:
    pool: list[str] = []
    found = []
    for text in texts:
        found.append(all(scorer.score(text, other)["rougeL"].fmeasure <= threshold for other in pool))
        if found[-1]:
            pool.append(text)
    return found


def near_duplicates(data: Path, count: int = 3, size: int = 3, part: str = "all") -> Row:
    """Near duplicates at Jaccard 0.8 of shingles: pairs that are found, against all that there are."""
    from datasketch import MinHash, MinHashLSH

    parts = ("instruction", "input", "output") if part == "all" else (part,)
    texts = ["\n".join(record[name] for name in parts) for record in records(data)]

    def ours() -> set[tuple[int, int]]:
        pool = Pool(dice_of_jaccard(0.8))
        found: set[tuple[int, int]] = set()
        for batch in by_batches(texts):
            for pairs in pool.pairs(shingles(batch, size)):
                found |= set(zip(pairs.earlier.tolist(), pairs.later.tolist(), strict=True))
        return found

    def theirs() -> set[tuple[int, int]]:
        index = MinHashLSH(threshold=0.8, num_perm=128)
        found = set()
        for i, text in enumerate(texts):
            words = re.findall("[a-z0-9]+", text.lower())
            sketch = MinHash(num_perm=128)
            sketch.update_batch([" ".join(g).encode() for g in _shingles(words, size)])
            found |= {(other, i) for other in index.query(sketch)}
            index.insert(i, sketch)
        return found

    mine, sketched, found, estimated = turns(ours, theirs, count)
    right = all_pairs(texts, size, 0.8)
    return row(
        "near duplicates",
        "datasketch MinHashLSH, 128 permutations",
        mine,
        sketched,
        records=len(texts),
        text=part,
        shingle=size,
        pairs=len(right),
        recall=_share(found & right, right),
        their_recall=_share(estimated & right, right),
        wrong=len(found - right),
        their_wrong=len(estimated - right),
    )


def _share(some: set[Any], all_: set[Any]) -> float | None:
    return round(len(some) / len(all_), 4) if all_ else None


def _shingles(words: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def all_pairs(texts: list[str], size: int, jaccard: float) -> set[tuple[int, int]]:
    """Return every pair of texts whose sets of shingles have this Jaccard coefficient, by counting all overlaps."""
    numbers: dict[tuple[str, ...], int] = {}
    rows: list[int] = []
    columns: list[int] = []
    for i, text in enumerate(texts):
        for shingle in _shingles(re.findall("[a-z0-9]+", text.lower()), size):
            rows.append(i)
            columns.append(numbers.setdefault(shingle, len(numbers)))
    table = sparse.csr_matrix((np.ones(len(rows), np.int32), (rows, columns)), shape=(len(texts), len(numbers)))
    sizes, other = np.asarray(table.sum(axis=1)).ravel(), table.T.tocsr()
    found = set()
    for start in range(0, len(texts), 256):
        both = (table[start : start + 256] @ other).tocoo()
        first, second = both.row + start, both.col
        union = sizes[first] + sizes[second] - both.data
        close = (second < first) & (both.data >= jaccard * union - 1e-9)
        found |= set(zip(second[close].tolist(), first[close].tolist(), strict=True))
    return found


_CHARACTER = "\u0e00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc"
_TOKEN = re.compile(f"[{_CHARACTER}]|[^\\W_{_CHARACTER}]+")


def _words(text: str) -> list[str]:
    return _TOKEN.findall(text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower())


def decontamination(data: Path, count: int = 3, n: int = 13) -> Row:
    """Records of Alpaca with n tokens in a row of any benchmark's file; both name the file.

    Theirs is a plain loop: a set of n-grams for each file, a set for each record, and whether they are disjoint. Beside
    it, for what the file's name costs: one set for all files.
    """
    texts = ["\n".join(record.values()) for record in records(data)]
    benchmarks = list(benchmark_texts(data / "evaluation"))

    def grams(words: list[str]) -> list[tuple[str, ...]]:
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    def ours() -> list[bool]:
        known = Benchmarks(benchmarks, n)
        return [bool(met >= 0) for batch in by_batches(texts) for met in known.met(batch)]

    def theirs() -> list[bool]:
        sets = {file: {gram for text in some for gram in grams(_words(text))} for file, some in benchmarks}
        found = []
        for text in texts:
            mine = set(grams(_words(text)))
            found.append(next((file for file, known in sets.items() if not known.isdisjoint(mine)), None) is not None)
        return found

    def one_set() -> list[bool]:
        known = {gram for _, some in benchmarks for text in some for gram in grams(_words(text))}
        return [not known.isdisjoint(grams(_words(text))) for text in texts]

    mine, looped, met, found = turns(ours, theirs, count)
    _, single, _, _ = turns(lambda: None, one_set, count)
    return row(
        "decontamination",
        "a Python loop over the files' sets of n-grams",
        mine,
        looped,
        records=len(texts),
        files=len(benchmarks),
        n=n,
        met=sum(met),
        same=met == found,
        one_set_seconds=[round(t, 3) for t in single],
        ratio_to_one_set=round(median(single) / median(mine), 2),
    )


def rows(data: Path, count: int = 3, only: str = "") -> list[Row]:
    """Return the rows; of near duplicates those of whole records, and of instructions as sets of words."""
    wanted = {name.strip() for name in only.split(",") if name.strip()} or {"novelty", "near", "decontamination"}
    found = []
    if "novelty" in wanted:
        found.append(novelty(data, count))
    if "near" in wanted:
        found.append(near_duplicates(data, count))
        found.append(near_duplicates(data, count, size=1, part="instruction"))
    if "decontamination" in wanted:
        found.append(decontamination(data, count))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=shared(), help="folder with instructions/ and evaluation/")
    parser.add_argument("--turns", type=int, default=3, help="turns of each side")
    parser.add_argument("--rows", default="", help="novelty, near, decontamination; with commas between")
    parser.add_argument("--out", type=Path, default=None, help="a JSON file to write")
    given = parser.parse_args()
    if not (given.data / "instructions" / "alpaca_52k.jsonl").exists():
        parser.error(f"{given.data} does not hold instructions/alpaca_52k.jsonl; name the folder with --data")
    found = rows(given.data, given.turns, given.rows)
    for one in found:
        print(json.dumps(one, ensure_ascii=False, indent=1))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for one in found:
        mark = "" if one["ratio"] >= one["least"] else "  (too little)"
        print(f"{one['row']:<18} {one['ratio']:>10,.1f} x {one['against']}; at least {one['least']:g} x{mark}")


if __name__ == "__main__":
    main()
