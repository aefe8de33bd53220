"""Records that were there before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from kilter.data.grams import whole
from kilter.data.sieve import Part, Record, batches, leave_out
from kilter.data.tokens import Hashes, tokenise
from kilter.registry import method


@method("exact-duplicates", wing="data", paper="arXiv:2107.06499", survey="S2 §2.4", aliases=("dedup",))
def exact_duplicates(records: Iterable[Record], *, part: Part = "all", loose: bool = False) -> Iterator[Record]:
    """Keep the first of equal records (Lee et al. 2022).

    With `loose`, texts are equal that differ in case, spacing, punctuation and Unicode form only. Of every text 8 bytes
    are remembered: among ten million different ones two are taken for equal with a probability of 3e-6.

    Options:
        part: what has to be equal: all, prompt, instruction or response
        loose: whether case, spacing and punctuation may differ
    """
    seen = Seen()
    for held, texts in batches(records, part):
        fresh = seen.fresh(whole(tokenise(texts)) if loose else _hashes(texts))
        for record, new in zip(held, fresh.tolist(), strict=True):
            if new:
                yield record
            else:
                leave_out(record, "exact duplicate", "An equal record was there before.")


def _hashes(texts: list[str]) -> Hashes:
    raw = b"".join(hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=8).digest() for t in texts)
    return np.frombuffer(raw, np.uint64)


class Seen:
    """A set of 64-bit numbers in 8 bytes each: sorted runs, of which equally long ones are merged."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def fresh(self, numbers: Hashes) -> np.ndarray:
        """Enter `numbers` [N]; return whether each is there for the first time, earlier ones of N counted [N]."""
        order = np.argsort(numbers, kind="stable")
        ordered = numbers[order]
        first = np.ones(len(numbers), bool)
        first[1:] = ordered[1:] != ordered[:-1]
        for run in self._runs:
            place = np.minimum(np.searchsorted(run, ordered), len(run) - 1)
            first &= run[place] != ordered
        if first.any():
            self._runs.append(ordered[first])
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(np.sort(np.concatenate([before, last]), kind="stable"))
        found = np.empty(len(numbers), bool)
        found[order] = first
        return found
