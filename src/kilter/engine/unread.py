"""The last layer's feed-forward part, for the tokens alone whose hidden states are read.

What a prompt's tokens do for a response they do through attention, and behind the last layer nothing attends: there a
state that no log-prob is read from need not be finished. Of prompts three times as long as their responses that is a
fifth of a layer's work and more. Whether a model's layer can be cut so is not looked up but tried (trunk.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kilter.engine.layers import layers_of

NAME = "mlp"  # what nearly all architectures call it; the others' layers are computed whole


class LastLayer:
    """Stands in for the feed-forward part of the last layer; in use only within `only`."""

    def __init__(self, part: nn.Module) -> None:
        self.part, self.whole = part, part.forward
        self.rows = torch.empty(0, dtype=torch.long)

    @classmethod
    def of(cls, plain: Any) -> LastLayer | None:
        """Return that of a transformers model, None where there is no such part to be found."""
        layers = layers_of(plain)
        part = getattr(layers[-1], NAME, None) if layers else None
        return cls(part) if isinstance(part, nn.Module) and "forward" not in vars(part) else None

    @contextmanager
    def only(self, at: Tensor) -> Iterator[None]:
        """Within this compute the tokens `at` [N] alone (flat indices, in any order), and leave 0 for others."""
        self.rows = torch.unique(at)
        self.part.forward = self
        try:
            yield
        finally:
            del self.part.forward

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return [1, T, H] for [1, T, H]."""
        found = self.whole(hidden.index_select(1, self.rows))
        return found.new_zeros(1, hidden.shape[1], found.shape[2]).index_copy(1, self.rows, found)
