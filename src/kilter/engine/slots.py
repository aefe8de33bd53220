"""Keys and values of sequences that grow together: a fixed number of slots, each with a length of its own.

A sequence sits at the left of its slot, so there is no padding to its left and its positions are the plain ones. On a
CPU slots stand in banks (bank.py), each as wide as its longest sequence needs. Where
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
from kilter.engine.bank import Bank
from kilter.engine.batch import Tree, collate
from kilter.engine.compiled import as_written
from kilter.engine.packed import packed
from kilter.engine.shelf import Prefix, Shelf
from kilter.engine.trunk import below
from kilter.engine.virtual import Front, virtual

NAME = "kilter-slots"
BANK = 16  # slots of a bank: reading what is not there costs a CPU more than some more calls, an accelerator less


class Slots:
    """`rows` slots for the keys and values of `model`. Use within `attached(model)`.

    The virtual tokens of an adapter stand at the left of every slot, once and for all, and in layers that have fewer of
    them than others right before the sequence. Lengths are without them.
    """

    def __init__(self, model: Any, rows: int, *, shared: bool = False) -> None:
        """`shared`: prompts stand on a shelf, for several sequences each."""
        self.rows = rows
        self.device = device = model.get_input_embeddings().weight.device
        self.windows: set[int | None] = set()  # sliding windows that layers asked for
        self.shelf = Shelf(rows, device) if shared else None
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self._column = self.lengths  # where in its slot a row's new token goes
        self._biases: dict[tuple[Bank, int | None, int], Tensor] = {}
        self._reading: Front | None = None
        # A mask of four dimensions is taken as ready by every architecture; the attention function does not look at it.
        self._ready = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)
        self.ahead = self._shift = 0  # places at the left of a slot, and how many of them count for positions
        self._front: Front = {}
        if (before := virtual(model)) is not None:
            self._front = before.front or self._read(below(model), **before.alone())
            self.ahead, self._shift = before.ahead, before.count
        # What is sampled behind shared prompts is about equally long.
        size = rows if shared or device.type != "cpu" else BANK
        self.banks = [Bank(i, min(size, rows - i), self._front, self.ahead) for i in range(0, rows, size)]

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
        for bank in self.banks:
            own = [(prefix.places[i], row - bank.first) for i, row in zip(which, rows, strict=True) if bank.has(row)]
            if not own:
                continue
            starts, lengths = (torch.tensor([place[i] for place, _ in own]) for i in range(2))
            column = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
            source = (starts.repeat_interleave(lengths) + column).to(self.device)
            row = torch.tensor([row for _, row in own]).repeat_interleave(lengths).to(self.device)
            column = (column + self.ahead).to(self.device)
            for layer, (keys, values) in prefix.layers.items():
                for target, new in zip(bank.of(layer, keys, values), (keys, values), strict=True):
                    target[row, :, column] = new.index_select(1, source).transpose(0, 1)

    def step(self, model: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Add one token to every slot; return the logits [rows, V] behind it.

        tokens, lengths [rows]: the new tokens, and how many each slot held before.
        """
        self.lengths = lengths + self.ahead
        self._column = self.lengths if self.shelf is None else self.lengths - self.shelf.lengths
        self._biases.clear()
        for bank in self.banks:
            bank.turn_to(self._column[bank.own])
        logits = model(
            input_ids=tokens[:, None],
            position_ids=(lengths + self._shift)[:, None],
            attention_mask=self._ready,
            use_cache=False,
            slots=self,
        ).logits
        return logits[:, -1]

    def fit(self, lengths: Sequence[int]) -> None:
        """Make the slots wide enough for so many tokens [rows] beside those on the shelf; see Bank.fit."""
        for bank in self.banks:
            bank.fit(max(lengths[bank.own]) + self.ahead)

    def keep(self, rows: Sequence[int]) -> list[int]:
        """Leave only the slots `rows`; return them in the order that they have now."""
        order: list[int] = []
        for bank in self.banks:
            kept = bank.keep([row - bank.first for row in rows if bank.has(row)])
            bank.first, before = len(order), bank.first
            order += [before + row for row in kept]
        self.banks = [bank for bank in self.banks if bank.rows]
        self.rows = len(order)
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
        query, found = query.to(value.dtype), []
        for bank in self.banks:
            keys, values = bank.write(layer, key[bank.own], value[bank.own])
            found.append(self._look(query[bank.own], keys, values, self._bias(bank, layer, rest), layer, rest))
        return torch.cat(found) if len(found) > 1 else found[0]

    def _look(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, layer: int, rest: dict[str, Any]
    ) -> Tensor:
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
        scores = scores.add_(bias[:, None])
        if sinks is not None:
            column = sinks.float().view(1, heads, 1).expand(rows, heads, 1)
            scores = torch.cat((scores, column), dim=-1)
        weights = F.softmax(scores, dim=-1).to(values.dtype)
        out = torch.bmm(weights[..., :own].reshape(rows * groups, heads // groups, own), values.flatten(0, 1))
        out = out.view(rows, 1, heads, -1)
        if shelf is not None:
            out = out + shelf.read(weights[..., own : own + shelf.width], layer)[:, None]
        return out

    def _bias(self, bank: Bank, layer: int, rest: dict[str, Any]) -> Tensor:
        """Return [rows, capacity (+ the shelf's width)]: 0 for keys that a slot's new token sees, else -inf."""
        window: int | None = rest.get("sliding_window")
        empty = self.ahead - (self._front[layer][0].shape[1] if layer in self._front else 0)
        if (bank, window, empty) not in self._biases:
            lengths, newest = self.lengths[bank.own], self._column[bank.own]
            column = torch.arange(bank.capacity, device=self.device)
            hidden = (column > newest[:, None]) | (column < empty)
            earliest = None if window is None else (lengths - window + 1)[:, None]
            if earliest is not None:
                # What stands behind the virtual tokens comes behind the shelf's, too.
                place = column + (lengths - newest)[:, None] * (column >= self.ahead)
                hidden |= place < earliest
            bias = torch.zeros(hidden.shape, device=self.device).masked_fill_(hidden, -torch.inf)
            if self.shelf is not None and self.shelf.width:
                bias = torch.cat((bias, self.shelf.bias(None if earliest is None else earliest - self.ahead)), dim=-1)
            self._biases[bank, window, empty] = bias
        return self._biases[bank, window, empty]


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
