"""Instructions that are no variation of an earlier one, by ROUGE-L."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from kilter.data.lcs import common
from kilter.data.overlap import Flags, Pairs, Pool, counted
from kilter.data.shelf import Shelf
from kilter.data.sieve import Part, Record, batches, leave_out
from kilter.data.tokens import Places, Rule, tokenise
from kilter.registry import method


@method("novelty", wing="data", paper="arXiv:2212.10560", survey="S2 §2.2", aliases=("rouge-l",))
def novelty(
    records: Iterable[Record],
    *,
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7,
    part: Part = "instruction",
    tokens: Rule = "rouge",
) -> Iterator[Record]:
    """Keep each record whose ROUGE-L F with all those kept before it is at most `threshold` (Wang et al. 2022, §2.2).

    F = 2 P R / (P + R), P = LCS / m, R = LCS / n, of the longest common subsequence of two texts of m and n tokens. The
    decisions are those of comparing every pair, as Self-Instruct does. Pairs that cannot exceed the threshold, because
    too few tokens are in both, are told apart first (data/overlap.py). Chinese and Japanese count by characters;
    `tokens=english` is ROUGE's own rule, by which such text has no tokens and is always new.

    Options:
        threshold: highest F that a new record may have, above 0 up to 1
        part: what is compared: instruction, prompt, response or all
        tokens: rouge, words (letters with accents are letters) or english
    """
    pool = Novel(threshold, tokens)
    for held, texts in batches(records, part):
        kept, nearest = pool.sift(texts)
        for record, keep, number in zip(held, kept.tolist(), nearest.tolist(), strict=True):
            if keep:
                yield record
            else:
                leave_out(record, "ROUGE-L", f"ROUGE-L with record {number + 1} is over {threshold:g}.")


class Novel:
    """A pool of texts of which no two have a ROUGE-L F over `threshold`. Methods that write instructions grow one."""

    def __init__(self, threshold: float = 0.7, rule: Rule = "rouge") -> None:
        self.threshold, self._rule = threshold, rule
        self._texts = Shelf()
        self._pool = Pool(threshold, confirm=self._too_similar)

    def sift(self, texts: Sequence[str]) -> tuple[Flags, Places]:
        """Enter those of `texts` that are new, one after the other.

        Returns which were [N], and for each the number (over all calls) of the text it is too similar to, or -1 [N].
        """
        tokens = tokenise(texts, self._rule)
        self._texts.append(tokens.hashes, tokens.lengths)
        return self._pool.sift(counted(tokens))

    def add(self, texts: Sequence[str]) -> None:
        """Enter `texts` whatever they resemble: seeds, which a person has chosen."""
        tokens = tokenise(texts, self._rule)
        self._texts.append(tokens.hashes, tokens.lengths)
        self._pool.add(counted(tokens))

    def _too_similar(self, pairs: Pairs) -> Flags:
        sizes = self._texts.lengths
        n, m = sizes[pairs.earlier], sizes[pairs.later]
        return (
            rouge_l(common(self._texts.take(pairs.earlier), n, self._texts.take(pairs.later), m), n, m) > self.threshold
        )


def rouge_l(lcs: Places, n: Places, m: Places) -> np.ndarray:
    """Return F of ROUGE-L [P], operation by operation as rouge_score has it: at a threshold the last bit decides."""
    precision, recall = lcs / np.maximum(n, 1), lcs / np.maximum(m, 1)
    total = precision + recall
    return np.asarray(np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1.0), 0.0))
