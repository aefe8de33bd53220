"""How likely given continuations are: log-probs and whether greedy decoding would say the same, many requests at once.

What requests begin with alike is computed once (forest.py), choices of one token are read off one hidden state, and
logits exist for the scored places only, a chunk at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kilter.engine.forest import Ids, cut, grow, ordered
from kilter.engine.scorer import Scorer

# Logits of a chunk, in elements. Without a way back they are only read once, so that a chunk may be large enough to
# use the matrix of the vocabulary well.
CHUNK = {"cpu": 2**23, "cuda": 2**27}
TOKENS = {"cpu": 8192, "cuda": 65536}  # of one forward
ATTENDED = {"cpu": 2**22, "cuda": 2**27}  # pairs of query and key of one forward


class Pair(NamedTuple):
    """Token ids of a context, at least one, and of what is to be weighed after it, at least one."""

    context: Sequence[int]
    continuation: Sequence[int]


class Weight(NamedTuple):
    """Summed log-prob (nats) of a continuation, whether each of its tokens is the likeliest, and their number."""

    logprob: float
    greedy: bool
    tokens: int


class Weigher(Scorer):
    """A scorer that also weighs: it wraps a transformers causal language model, whose weights it shares."""

    @torch.no_grad()
    def weigh(
        self, pairs: Sequence[Pair], *, progress: Callable[[int], None] = lambda done: None
    ) -> Iterator[tuple[int, Weight]]:
        """Yield (place in `pairs`, weight), in an order of its own, as they become known.

        The last token of a continuation is only a target, so that several choices of one token are one sequence.
        `progress` is told, before each forward, how many tokens it has.
        """
        inputs = [np.asarray([*pair.context, *pair.continuation][:-1], dtype=np.int64) for pair in pairs]
        of: dict[bytes, list[int]] = {}
        for i, sequence in enumerate(inputs):
            of.setdefault(sequence.tobytes(), []).append(i)
        askers = list(of.values())
        distinct = [inputs[some[0]] for some in askers]
        order = ordered(distinct)
        sequences, askers = [distinct[i] for i in order], [askers[i] for i in order]
        device = next(self._plain.parameters()).device
        for batch in cut(sequences, TOKENS.get(device.type, 8192), ATTENDED.get(device.type, 2**22)):
            some = [sequences[i] for i in batch]
            progress(sum(map(len, some)))
            hidden, places = self._states(some, device)
            owners = [asker for i in batch for asker in askers[i]]
            spans = [_span(places[at], pairs[asker]) for at, i in enumerate(batch) for asker in askers[i]]
            targets = [np.asarray(pairs[asker].continuation, dtype=np.int64) for asker in owners]
            values, greedy = self._read(hidden, np.concatenate(spans), np.concatenate(targets))
            ends = np.cumsum([len(span) for span in spans])
            for asker, end, span in zip(owners, ends.tolist(), spans, strict=True):
                part = slice(end - len(span), end)
                yield asker, Weight(math.fsum(values[part]), all(greedy[part]), len(span))

    def _states(self, sequences: Sequence[Ids], device: torch.device) -> tuple[Tensor, list[Ids]]:
        """Return hidden states of `sequences` in one row, and the places of each sequence's tokens in it.

        Of a model that is run with padding they are its logits already.
        """
        if self.ragged:
            grove = grow(sequences)
            batch = grove.batch.to(device)
            with self._manner(batch):
                return self._hidden(batch), grove.places
        rows = [torch.from_numpy(sequence).to(device) for sequence in sequences]
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        seen = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        width = tokens.shape[1]
        # What an adapter puts before every row has logits too.
        logits = self.model(input_ids=tokens, attention_mask=seen, use_cache=False).logits[:, -width:]
        return logits.flatten(0, 1), [row * width + np.arange(len(s)) for row, s in enumerate(sequences)]

    def _read(self, hidden: Tensor, at: Ids, targets: Ids) -> tuple[list[float], list[bool]]:
        """Return the log-prob of each target after the state `at` its place, and whether it is the likeliest."""
        rows, row_of = np.unique(at, return_inverse=True)
        order = np.argsort(row_of, kind="stable")
        plain = self._plain
        head, config = plain.get_output_embeddings(), plain.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
        bend = getattr(config, "final_logit_softcapping", None)
        states = hidden.index_select(0, torch.from_numpy(rows).to(hidden.device))
        row_of, targets = row_of[order], targets[order]
        step = max(1, CHUNK.get(hidden.device.type, 2**24) // len(head.weight))
        values, likeliest = [], []
        for first in range(0, len(rows), step):
            part = slice(*np.searchsorted(row_of, (first, first + step)).tolist())
            logits = states[first : first + step]
            if self.ragged:
                logits = F.linear(logits.to(head.weight.dtype), head.weight, head.bias)
                logits = logits.float() * scale if scale != 1.0 else logits.float()
                logits = torch.tanh(logits / bend) * bend if bend is not None else logits
            logits = logits.float()
            row = torch.from_numpy(row_of[part] - first).to(logits.device)
            target = torch.from_numpy(targets[part]).to(logits.device)
            values.append(logits[row, target] - torch.logsumexp(logits, -1)[row])
            likeliest.append(logits.argmax(-1)[row] == target)
        back = np.argsort(order)
        found = torch.cat(values).cpu().numpy()[back].tolist()
        return found, torch.cat(likeliest).cpu().numpy()[back].tolist()


def _span(places: Ids, pair: Pair) -> Ids:
    """Return the places of the states that predict the tokens of a continuation."""
    return places[len(pair.context) - 1 : len(pair.context) - 1 + len(pair.continuation)]
