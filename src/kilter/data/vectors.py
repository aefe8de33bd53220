"""Texts as sparse vectors of weighted words, for distances that need no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kilter.data.tokens import tokenise

COLUMNS = 1 << 18
_BLOCK = 512  # rows whose similarities with all others are held at a time


def vectors(texts: Sequence[str], *, common: float = 0.2) -> sparse.csr_matrix:
    """Return tf-idf vectors of length 1 [N, 2^18]; their products are cosine similarities.

    The weight of a word is (1 + log of its count) log(N / texts that have it); words that more than the share `common`
    of a hundred texts or more have say nothing and are left out. A text without any other word is all zeros.
    """
    tokens = tokenise(texts)
    rows = np.repeat(np.arange(len(texts)), tokens.lengths)
    columns = (tokens.hashes >> np.uint64(46)).astype(np.int64)
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(texts), COLUMNS))
    there = np.bincount(counts.indices, minlength=COLUMNS)
    weights = np.log((1 + len(texts)) / (1 + there)) + (1 if len(texts) < 100 else 0)
    if len(texts) >= 100:
        weights[there > common * len(texts)] = 0
    counts.data = (1 + np.log(counts.data)) * weights[counts.indices]
    counts.eliminate_zeros()
    lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.where(lengths > 0, lengths, 1)) @ counts)


def similarities(these: sparse.csr_matrix, those: sparse.csr_matrix) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield (number of the first row, cosine similarities [B, N]) for blocks of rows of `these` with all of `those`."""
    other = those.T.tocsr()
    for start in range(0, these.shape[0], _BLOCK):
        yield start, (these[start : start + _BLOCK] @ other).toarray()


def neighbour_distances(found: sparse.csr_matrix, k: int) -> NDArray[np.float64]:
    """Return the distance of each vector to its k-th nearest one, sqrt(2 - 2 cos) [N]; 0 where there are fewer."""
    rows = found.shape[0]
    distances = np.zeros(rows)
    if rows <= k:
        return distances
    for start, cosines in similarities(found, found):
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf  # itself
        nearest = -np.partition(-cosines, k - 1, axis=1)[:, k - 1]
        distances[start : start + len(cosines)] = np.sqrt(np.maximum(2 - 2 * nearest, 0))
    return distances
