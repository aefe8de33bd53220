"""The last layer for the tokens alone whose hidden states are read.

What a prompt's tokens do for a response they do through attention, and behind the last layer nothing attends: there
only the keys and values of a token that no log-prob is read from are wanted. Its query, what it would attend to, and
what is made of that need not be. Of prompts three times as long as their responses that is half a layer's work.
Whether a model's layer can be cut so is not looked up but tried (trunk.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kilter.engine import recurring
from kilter.engine.layers import layers_of
from kilter.engine.layout import Layout

# What nearly all architectures call the parts that work on each token by itself; the others' are computed whole.
NAMES = ("mlp", "self_attn.q_proj", "self_attn.o_proj")
# The tokens that are read now. Of a tensor that is found by way of torch's own modules a compiler takes it that its
# length is for ever. So there is one for all models, and of models in several threads one at a time is cut.
_reading: dict[str, Tensor] = {}
_turn = threading.RLock()


class LastLayer:
    """The parts of the last layer, and its attention, cut to the tokens that are read; in use only within `only`."""

    def __init__(self, number: int, parts: list[_Part]) -> None:
        self.number, self.parts = number, parts

    @classmethod
    def of(cls, plain: Any) -> LastLayer | None:
        """Return that of a transformers model, None where no such parts are to be found."""
        layers = layers_of(plain)
        named = dict(layers[-1].named_modules()) if layers else {}
        found = [_Part(named[name]) for name in NAMES if name in named and "forward" not in vars(named[name])]
        return cls(len(layers) - 1, found) if layers and found else None

    @contextmanager
    def only(self, at: Tensor, layout: Layout, grain: int) -> Iterator[Layout]:
        """Give a layout with which, within this, the tokens `at` [N] alone are computed (flat indices, in any order).

        What others become is nobody's business; some are computed to make a multiple of `grain`.
        """
        read = torch.unique(at)
        extra = recurring.lacking(len(read), grain)
        with _turn:
            _reading["rows"] = _with_others(read, layout.length, extra) if extra else read
            for part in self.parts:
                part.whole.forward = part
            try:
                yield layout.cut_to(self.number, read)
            finally:
                for part in self.parts:
                    del part.whole.forward


class _Part:
    """Stands in for the `forward` of a part."""

    def __init__(self, whole: nn.Module) -> None:
        self.whole, self.forward = whole, whole.forward

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return [1, T, H'] for [1, T, H], 0 where nothing is read."""
        rows = _reading["rows"]
        found = self.forward(hidden.index_select(1, rows))
        return found.new_zeros(1, hidden.shape[1], found.shape[2]).index_copy(1, rows, found)


def _with_others(read: Tensor, length: int, count: int) -> Tensor:
    """Return the tokens `read` [N], in their order, with the first `count` others of a row."""
    unread = torch.ones(length, dtype=torch.bool, device=read.device).index_fill_(0, read, False)
    return torch.cat((read, unread.nonzero()[:count, 0])).sort().values
