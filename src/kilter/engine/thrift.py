"""What a large vocabulary's gradient costs in memory: once its size, not three times.

Where one matrix is embedding and head, autograd makes a gradient for each and a third for their sum. While one process
learns, the head's tiles add to the parameter's gradient as it lies there (tiles.py), and the embedding's comes as the
rows of the tokens that were read, which are added to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from kilter.engine import head, tiles
from kilter.engine.trunk import below


def shared_vocabulary(model: Any) -> nn.Embedding | None:
    """Return the embedding that is also the head and is learned; None where they are two, or of another kind."""
    plain = below(model)
    embedding, head = plain.get_input_embeddings(), plain.get_output_embeddings()
    if type(embedding) is not nn.Embedding or head is None or getattr(head, "weight", None) is not embedding.weight:
        return None
    return embedding if embedding.weight.requires_grad else None


@contextmanager
def thrifty(model: Any) -> Iterator[None]:
    """Within this gradients of `model` are gathered so, where its head goes by tiles; where one process learns alone.

    Several sum their gradients as autograd makes them, and would not hear of these.
    """
    embedding = shared_vocabulary(model)
    if embedding is None or not head.by_tiles(embedding.weight):
        yield
        return
    before, embedding.sparse = embedding.sparse, True
    tiles.gathered.add(id(embedding.weight))
    try:
        yield
    finally:
        embedding.sparse = before
        tiles.gathered.discard(id(embedding.weight))
