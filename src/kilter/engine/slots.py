"""Keys and values of sequences that grow together: a fixed number of slots, each with a length of its own.

A sequence sits at the left of its slot, so there is no padding to its left and its positions are the plain ones. Where
several sequences share a prompt, that stands once on a shelf (shelf.py), and a slot holds what comes behind it. One
attention function, registered through `transformers.AttentionInterface`, writes and reads the slots; the model's own
cache is not used. It serves two kinds of forward: `prefill` reads prompts as a ragged row, `step` adds one token to
every slot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from kilter.engine.attention import attention
from kilter.engine.batch import Tree, collate
from kilter.engine.compiled import as_written
from kilter.engine.packed import packed
from kilter.engine.shelf import Prefix, Shelf
from kilter.engine.trunk import below
from kilter.engine.virtual import Front, virtual

NAME = "kilter-slots"
GROWTH = 32  # slots are widened by at least so many tokens at a time


class Slots:
    """`rows` slots for the keys and values of `model`. Use within `attached(model)`.

    The virtual tokens of an adapter stand at the left of every slot, once and for all, and in layers that have fewer of
    them than others right before the sequence. Lengths are without them.
    """

    def __init__(self, model: Any, rows: int, *, shared: bool = False) -> None:
        """`shared`: prompts stand on a shelf, for several sequences each."""
        self.rows = rows
        self.capacity = 0
        self.device = device = model.get_input_embeddings().weight.device
        self.windows: set[int | None] = set()  # sliding windows that layers asked for
        self.layers: Front = {}  # keys and values [rows, Hkv, capacity, D]
        self.shelf = Shelf(rows, device) if shared else None
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self._column = self.lengths  # where in its slot a row's new token goes
        self._places: dict[int, Tensor] = {}  # the same in slots that are one long row, for so many heads
        self._biases: dict[tuple[int | None, int], Tensor] = {}
        self._reading: Front | None = None
        # A mask of four dimensions is taken as ready by every architecture; the attention function does not look at it.
        self._ready = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)
        self.ahead = self._shift = 0  # places at the left of a slot, and how many of them count for positions
        self._front: Front = {}
        if (before := virtual(model)) is not None:
            self._front = before.front or self._read(below(model), **before.alone())
            self.ahead, self._shift = before.ahead, before.count

    def prefill(self, model: Any, prompts: Sequence[Sequence[int]]) -> Prefix:
        """Put `prompts` (none empty) through the model once, side by side."""
        batch = collate([Tree(prompt, [], []) for prompt in prompts]).to(self.device)
        layout = batch.layout.behind(self._front, self.ahead) if self.ahead else batch.layout
        layers = self._read(
            model, input_ids=batch.tokens[None], position_ids=batch.positions[None] + self._shift, layout=layout
        )
        return Prefix(layers, [(segment.start, segment.length) for segment in batch.layout.segments])

    def _read(self, model: Any, **given: Any) -> Front:
        """Put a row through the model, and return the keys and values that its layers made of it."""
        found: Front = {}
        self._reading = found
        try:
            model.base_model(**given, attention_mask=self._ready, use_cache=False, slots=self)
        finally:
            self._reading = None
        return found

    def place(self, prefix: Prefix, which: Sequence[int], rows: Sequence[int]) -> None:
        """Copy prompt `which[i]` of `prefix` into slot `rows[i]`."""
        places = [prefix.places[i] for i in which]
        lengths = torch.tensor([length for _, length in places])
        starts = torch.tensor([start for start, _ in places])
        total = int(lengths.sum())
        column = torch.arange(total) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        source = (starts.repeat_interleave(lengths) + column).to(self.device)
        row = torch.tensor(rows).repeat_interleave(lengths).to(self.device)
        column = (column + self.ahead).to(self.device)
        for layer, (keys, values) in prefix.layers.items():
            for target, new in zip(self._layer(layer, keys, values), (keys, values), strict=True):
                target[row, :, column] = new.index_select(1, source).transpose(0, 1)

    def step(self, model: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Add one token to every slot; return the logits [rows, V] behind it.

        tokens, lengths [rows]: the new tokens, and how many each slot held before.
        """
        self.lengths = lengths + self.ahead
        self._column = self.lengths if self.shelf is None else self.lengths - self.shelf.lengths
        self._biases.clear()
        self._places.clear()
        logits = model(
            input_ids=tokens[:, None],
            position_ids=(lengths + self._shift)[:, None],
            attention_mask=self._ready,
            use_cache=False,
            slots=self,
        ).logits
        return logits[:, -1]

    def fit(self, length: int) -> None:
        """Make every slot wide enough for `length` tokens beside those on the shelf, and not much wider.

        It grows by steps, as products of new shapes cost something too. All of the width is looked at: a product over a
        part of each slot would first be copied together, and that for every token.
        """
        needed = -(-(length + self.ahead) // GROWTH) * GROWTH
        if needed <= self.capacity <= needed + GROWTH:
            return
        before, self.capacity = self.capacity, needed
        before = min(before, self.capacity)
        for layer, pair in self.layers.items():
            wider = []
            for old in pair:
                new = old.new_empty(*old.shape[:2], self.capacity, old.shape[3])
                new[:, :, :before] = old[:, :, :before]
                new[:, :, before:] = 0  # what is not yet written is weighted with 0, which would keep a NaN
                wider.append(new)
            self.layers[layer] = (wider[0], wider[1])

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Leave only the slots `rows`; return them in the order that they have now.

        The last ones move into the gaps, so that next to nothing is copied.
        """
        self.rows = len(rows)
        held = set(rows)
        movers = [row for row in rows if row >= self.rows]
        gaps = [row for row in range(self.rows) if row not in held]
        for layer, (keys, values) in self.layers.items():
            for x in (keys, values):
                x[gaps] = x[movers]
            self.layers[layer] = (keys[: self.rows], values[: self.rows])
        moved = dict(zip(gaps, movers, strict=True))
        order = [moved.get(row, row) for row in range(self.rows)]
        if self.shelf is not None:
            self.shelf.keep(order)
        return order

    def attend(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, rest: dict[str, Any]) -> Tensor:
        """The attention of one layer, in a prefill or a step; returns [N, L, H, D]."""
        self.windows.add(rest.get("sliding_window"))
        layer: int = module.layer_idx  # type: ignore[assignment]
        key = key.to(value.dtype)
        if self._reading is not None:
            self._reading[layer] = (key[0], value[0])
            return attention(module, query, key, value, None, **rest)[0]
        keys, values = self._layer(layer, key[0], value[0])
        if len(key) * key.shape[1] not in self._places:
            first = torch.arange(len(key) * key.shape[1], device=self.device) * self.capacity
            self._places[len(first)] = first + self._column.repeat_interleave(key.shape[1])
        for slots, new in ((keys, key), (values, value)):
            slots.view(-1, slots.shape[-1]).index_copy_(0, self._places[len(key) * key.shape[1]], new.flatten(0, 2))
        return self._look(query.to(value.dtype), keys, values, layer, rest)

    def _layer(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the slots of a layer; the first keys and values [Hkv, T, D] that come tell their shape."""
        if layer not in self.layers:
            pair = tuple(x.new_zeros(self.rows, x.shape[0], self.capacity, x.shape[2]) for x in (key, value))
            if layer in self._front:
                for slots, first in zip(pair, self._front[layer], strict=True):
                    slots[:, :, self.ahead - first.shape[1] : self.ahead] = first
            self.layers[layer] = (pair[0], pair[1])
        return self.layers[layer]

    def _look(self, query: Tensor, keys: Tensor, values: Tensor, layer: int, rest: dict[str, Any]) -> Tensor:
        """One query [rows, H, 1, D] a slot over its keys; scale, softcap, mask, sinks in the order of Gemma 2, GPT-OSS.

        Written out: batched products of thin matrices are what a CPU does faster than fused attention on one query.
        Behind the keys of the slot stand those of the shelf, if there is any.
        """
        rows, heads, _, width = query.shape
        groups, own = keys.shape[1], keys.shape[2]
        shelf = self.shelf if self.shelf is not None and self.shelf.width else None
        scale, softcap, sinks = rest.get("scaling"), rest.get("softcap"), rest.get("s_aux")
        q = query.reshape(rows * groups, heads // groups, width)
        scores = torch.bmm(q, keys.flatten(0, 1).transpose(1, 2)).view(rows, heads, own)
        if shelf is not None:
            scores = torch.cat((scores, shelf.scores(query, layer)), dim=-1)
        scores = scores.float().mul_(width**-0.5 if scale is None else scale)
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.add_(self._bias(rest.get("sliding_window"), layer)[:, None])
        if sinks is not None:
            column = sinks.float().view(1, heads, 1).expand(rows, heads, 1)
            scores = torch.cat((scores, column), dim=-1)
        weights = F.softmax(scores, dim=-1).to(values.dtype)
        out = torch.bmm(weights[..., :own].reshape(rows * groups, heads // groups, own), values.flatten(0, 1))
        out = out.view(rows, 1, heads, -1)
        if shelf is not None:
            out = out + shelf.read(weights[..., own : own + shelf.width], layer)[:, None]
        return out

    def _bias(self, window: int | None, layer: int) -> Tensor:
        """Return [rows, capacity (+ the shelf's width)]: 0 for keys that a slot's new token sees, else -inf."""
        empty = self.ahead - (self._front[layer][0].shape[1] if layer in self._front else 0)
        if (window, empty) not in self._biases:
            column = torch.arange(self.capacity, device=self.device)
            hidden = (column > self._column[:, None]) | (column < empty)
            earliest = None if window is None else (self.lengths - window + 1)[:, None]
            if earliest is not None:
                # What stands behind the virtual tokens comes behind the shelf's, too.
                place = column + (self.lengths - self._column)[:, None] * (column >= self.ahead)
                hidden |= place < earliest
            bias = torch.zeros(hidden.shape, device=self.device).masked_fill_(hidden, -torch.inf)
            if self.shelf is not None and self.shelf.width:
                bias = torch.cat((bias, self.shelf.bias(None if earliest is None else earliest - self.ahead)), dim=-1)
            self._biases[window, empty] = bias
        return self._biases[window, empty]


@contextmanager
def attached(model: Any) -> Iterator[Any]:
    """Put a model's attention on slots, in evaluation mode and without gradients; put back what was there after.

    Yields the transformers model itself (below PEFT's wrapping, whose adapters stay at work).
    """
    plain = below(model)
    attention_before = plain.config._attn_implementation
    # A model in evaluation mode may have parts that are not: an adapter's dropout while it learns.
    modes = {module: True for module in model.modules() if module.training}
    model.eval()
    plain.set_attn_implementation(NAME)
    try:
        with torch.no_grad(), as_written(plain), packed(plain):
            yield plain
    finally:
        plain.set_attn_implementation(attention_before)
        for module, mode in modes.items():
            module.training = mode


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    slots: Slots | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    if slots is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    return slots.attend(module, query, key, value, rest), None


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
