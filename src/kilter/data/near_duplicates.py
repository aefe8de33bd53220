"""Records that say nearly the same as one before them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import Field

from kilter.data.grams import grams
from kilter.data.overlap import Pool, dice_of_jaccard, distinct
from kilter.data.sieve import Part, Record, batches, leave_out
from kilter.data.tokens import Tokens, tokenise
from kilter.registry import method


@method("near-duplicates", wing="data", paper="arXiv:2107.06499", survey="S2 §2.4", aliases=("minhash",))
def near_duplicates(
    records: Iterable[Record],
    *,
    jaccard: Annotated[float, Field(gt=0, le=1)] = 0.8,
    shingle: Annotated[int, Field(ge=1)] = 3,
    part: Part = "all",
) -> Iterator[Record]:
    """Keep each record that is not nearly the same as one kept before it (Lee et al. 2022, §4.2, without its estimate).

    Two records are near duplicates where the Jaccard coefficient |A & B| / |A | B| of their sets of runs of `shingle`
    tokens is at least `jaccard`. MinHash estimates it; here it is counted, for those pairs that could reach it
    (data/overlap.py), so that every such pair is found and no other one. Words are tokens, and single characters where
    a script has no spaces; a text shorter than a shingle is one shingle.

    Options:
        jaccard: records this similar are duplicates, above 0 up to 1
        shingle: tokens in a shingle; 1 compares sets of words
        part: what is compared: all, prompt, instruction or response
    """
    pool = Pool(dice_of_jaccard(jaccard))
    for held, texts in batches(records, part):
        kept, nearest = pool.sift(shingles(texts, shingle))
        for record, keep, number in zip(held, kept.tolist(), nearest.tolist(), strict=True):
            if keep:
                yield record
            else:
                leave_out(record, "near duplicate", f"Nearly the same as record {number + 1}, which is kept.")


def shingles(texts: Sequence[str], size: int) -> Tokens:
    """Return the set of runs of `size` tokens of each text."""
    return distinct(grams(tokenise(texts), size))
