"""The valuer: a reward or value model seen as a function from a ragged batch to one number at each place that is read.

The model is transformers' sequence classification with one label: a causal trunk and a linear head without a bias. So a
reward model is an ordinary checkpoint, and what is read here at a response's end is what
`AutoModelForSequenceClassification` says of that conversation. A critic reads the same head before every token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kilter.engine.batch import Ragged
from kilter.engine.scorer import Scorer
from kilter.engine.trunk import Trunk, below
from kilter.engine.virtual import rows
from kilter.errors import KilterError


@dataclass(slots=True)
class Values:
    """What the head says of R responses, in the reward's own unit, fp32.

    tokens [P]: read at the state that predicts each scored token, the value before that token, or None where they were
    not asked for; ends [R]: read at the last token of each response, the score of the whole; marks [M]: read at each
    marked token, the score of a step, or None where nothing is marked. owner [P] and mark_owner [M] name the response
    of each, lengths [R] counts the scored tokens of each.
    """

    tokens: Tensor | None
    ends: Tensor
    owner: Tensor
    lengths: Tensor
    marks: Tensor | None = None
    mark_owner: Tensor | None = None


class Valuer(Trunk):
    """Wraps a transformers sequence-classification model with one label (or a PEFT model of one)."""

    reads = "hidden states"
    reads_some = True

    def __init__(self, model: Any, *, ragged: bool | None = None, bf16: bool = False) -> None:
        """As Trunk; raises KilterError for a model that does not say one number, or not by a linear head `score`."""
        plain = below(model)
        if not is_value_model(plain):
            raise KilterError(
                f"{type(plain).__name__} is no reward model that can be laid out: it has no head 'score' over a causal "
                "trunk; train one with `kilter train reward`."
            )
        if plain.config.num_labels != 1:
            raise KilterError(
                f"This {type(plain).__name__} tells {plain.config.num_labels} classes apart, and a reward model says "
                "one number; choose a checkpoint with num_labels 1."
            )
        super().__init__(model, ragged=ragged, bf16=bf16)

    def forward(self, batch: Ragged, tokens: bool = False) -> Values:
        """Return the differentiable values at the ends and the marks; `tokens` asks for those before each token too."""
        ends = self._ends(batch)
        read = [ends, batch.marks, *([batch.at] if tokens else [])]
        with self._manner(batch):
            state = self._states(batch, torch.cat(read), laid_out=self.ragged)
        return Values(
            tokens=self._value(state(batch.at, batch.owner)) if tokens else None,
            ends=self._value(state(ends, _responses(batch))),
            owner=batch.owner,
            lengths=batch.lengths,
            marks=self._value(state(batch.marks, batch.mark_owner)) if len(batch.marks) else None,
            mark_owner=batch.mark_owner if len(batch.marks) else None,
        )

    def states(self, batch: Ragged) -> Tensor:
        """Return [R, H]: the hidden state at the end of each response, which the head makes its score of; fp32."""
        ends = self._ends(batch)
        with self._manner(batch):
            state = self._states(batch, ends, laid_out=self.ragged)
        return state(ends, _responses(batch)).float()

    def _states(self, batch: Ragged, at: Tensor, *, laid_out: bool) -> _States:
        """Return the hidden states, to be looked up by flat index, which is one of `at` [N], and response."""
        if laid_out:
            return _States(self._hidden(batch, at), None)
        tokens, seen = self._rows(batch)
        given = rows(self.model, self._plain, tokens, seen)
        hidden = self._plain.base_model(**given, use_cache=False).last_hidden_state[:, -tokens.shape[1] :]
        return _States(hidden, batch.positions)

    def _value(self, states: Tensor) -> Tensor:
        """Return the head's number for each of the states [N, H]: fp32 also under autocast, whose 8 bits tie scores."""
        head = self._plain.score
        with torch.autocast(states.device.type, enabled=False):
            found: Tensor = head(states.to(next(head.parameters()).dtype))[:, 0].float()
        return found

    def _ends(self, batch: Ragged) -> Tensor:
        """Return the flat index [R] at which transformers reads the score of each response.

        That is its last token, or where the model's padding token also ends responses the last one before that.
        """
        segments, device = batch.layout.segments, batch.tokens.device
        leaves = [segments[leaf] for leaf in batch.leaves]
        above = [segments[leaf.parent] if leaf.parent >= 0 else None for leaf in leaves]
        starts = torch.tensor([leaf.start for leaf in leaves], device=device)
        last = torch.tensor([leaf.start + leaf.length - 1 for leaf in leaves], device=device)
        forks = [up.start + up.length - 1 if up else leaf.start for up, leaf in zip(above, leaves, strict=True)]
        padding = self._plain.config.get_text_config().pad_token_id
        if padding is None:
            return last
        # For every token the last one up to it that is no padding; nothing here waits for the device.
        places = torch.arange(len(batch.tokens), device=device)
        real = torch.where(batch.tokens != padding, places, 0).cummax(0).values
        return torch.where(real[last] >= starts, real[last], real[torch.tensor(forks, device=device)])

    def _trial(self, batch: Ragged, *, laid_out: bool) -> Tensor:
        ends = self._ends(batch)
        state = self._states(batch, torch.cat((batch.at, ends)), laid_out=laid_out)
        return torch.cat((state(batch.at, batch.owner), state(ends, _responses(batch)))).float()

    def _distance(self, found: Tensor, ordinary: Tensor) -> float:
        """A head may be zero, so the states are compared: the largest difference as a share of the state's norm."""
        return float(((found - ordinary).norm(dim=-1) / ordinary.norm(dim=-1).clamp(min=1e-30)).max())


@dataclass(slots=True)
class _States:
    """Hidden states, [T, H] of a row that is laid out, or [R, L, H] of padded rows with the tokens' positions [T]."""

    hidden: Tensor
    positions: Tensor | None

    def __call__(self, at: Tensor, owner: Tensor) -> Tensor:
        """Return [N, H] for flat indices `at` [N] in the sequences of the responses `owner` [N]."""
        if self.positions is None:
            return self.hidden.index_select(0, at)
        return self.hidden[owner, self.positions[at]]


def _responses(batch: Ragged) -> Tensor:
    return torch.arange(len(batch.lengths), device=batch.tokens.device)


def is_value_model(model: Any) -> bool:
    """Whether `model`, which may be wrapped by PEFT, has the head of transformers' causal sequence classification."""
    return isinstance(getattr(below(model), "score", None), nn.Module)


def module_for(model: Any, *, bf16: bool = False) -> Scorer | Valuer:
    """Return what runs `model` over ragged batches: a Valuer for a reward or value model, else a Scorer."""
    return Valuer(model, bf16=bf16) if is_value_model(model) else Scorer(model, bf16=bf16)
