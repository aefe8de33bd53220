"""Sampling from several distributions at once: what one model says, steered by what others, or other prompts, say.

Each stream is a model with a prompt of its own for every sequence. At every step all streams give their log-probs of
the next token, a function makes one distribution of them, and the token that is drawn from it goes to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kilter.engine.choose import Shaping, choose, noise_key, uniform
from kilter.engine.plain import obstacle
from kilter.engine.sampler import Completion
from kilter.engine.slots import Slots, attached
from kilter.engine.virtual import room
from kilter.errors import KilterError

# Log-probs [N, V] of the model itself and of each other stream, to log-probs [N, V], which need not be normalised.
Steering = Callable[[Tensor, list[Tensor]], Tensor]


class Stream:
    """One model that takes part, with its prompts, one a sequence."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.model, self.prompts = model, prompts

    def check(self, limits: Sequence[int]) -> None:
        """Raise KilterError where a prompt with its answer has no room, or the model cannot be sampled in slots."""
        positions = room(self.model)
        for prompt, limit in zip(self.prompts, limits, strict=True):
            if not 0 < len(prompt) <= positions - limit:
                raise KilterError(
                    f"A prompt of {len(prompt)} tokens and an answer of {limit} do not fit into the {positions} "
                    "positions of a model that steers; ask for fewer tokens."
                )
        if why := obstacle(self.model):
            raise KilterError(f"{type(self.model).__name__} cannot be steered: {why}; take another model.")


def sample(
    streams: Sequence[Stream],
    steer: Steering,
    *,
    max_tokens: Sequence[int],
    shaping: Shaping,
    stop_ids: Collection[int] = (),
    stop: Callable[[list[int]], bool] | None = None,
    noise: Sequence[tuple[int, int, int]],
    batch_size: int = 64,
    check: Callable[[], None] = lambda: None,
) -> list[Completion]:
    """Return one completion a sequence; the first stream is the model itself. `noise` is (seed, prompt, sample) each.

    Log-probs are those of the steered distribution that a token was drawn from. Raises KilterError as Stream.check
    does, and where a stream gives numbers that are not finite.
    """
    for stream in streams:
        stream.check(max_tokens)
    found: list[Completion] = []
    with ExitStack() as held:
        plains: dict[int, Any] = {}
        for stream in streams:
            if id(stream.model) not in plains:
                plains[id(stream.model)] = held.enter_context(attached(stream.model))
        for first in range(0, len(noise), batch_size):
            rows = range(first, min(first + batch_size, len(noise)))
            lines = [_Line(stream, plains[id(stream.model)], rows) for stream in streams]
            limits = np.array([max_tokens[row] for row in rows])
            keys = np.array([noise_key(*noise[row]) for row in rows], dtype=np.uint64)
            found += _run(lines, steer, limits, keys, shaping, frozenset(stop_ids), stop, check)
    return found


class _Line:
    """A stream at work: its slots, and what each of them holds."""

    def __init__(self, stream: Stream, plain: Any, rows: Sequence[int]) -> None:
        prompts = [stream.prompts[row] for row in rows]
        self.plain, self.slots = plain, Slots(stream.model, len(prompts))
        self.length = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.slots.device)
        self.token = torch.tensor([prompt[-1] for prompt in prompts], device=self.slots.device)
        self.slots.fit((self.length + 1).tolist())
        long = [row for row, prompt in enumerate(prompts) if len(prompt) > 1]
        if long:
            self.slots.place(self.slots.prefill(plain, [prompts[row][:-1] for row in long]), range(len(long)), long)

    def next(self) -> Tensor:
        """Return the log-probs [rows, V] of what comes next."""
        self.slots.fit((self.length + 1).tolist())
        logits = self.slots.step(self.plain, self.token, self.length)
        self.length = self.length + 1
        return logits.float().log_softmax(-1)

    def keep(self, rows: Sequence[int]) -> list[int]:
        order = self.slots.keep(rows)
        self.length = self.length[order]
        return order


def _run(
    lines: Sequence[_Line],
    steer: Steering,
    limits: np.ndarray,
    keys: np.ndarray,
    shaping: Shaping,
    stop_ids: frozenset[int],
    stop: Callable[[list[int]], bool] | None,
    check: Callable[[], None],
) -> list[Completion]:
    """Grow the sequences of all lines together until each has ended."""
    made: list[list[int]] = [[] for _ in limits]
    told: list[list[float]] = [[] for _ in limits]
    ended: dict[int, bool] = {}
    place = list(range(len(limits)))  # which sequence sits in each slot
    while True:
        check()
        own, *others = [line.next() for line in lines]
        steps = np.array([len(made[at]) for at in place])
        numbers = torch.from_numpy(uniform(keys[place], steps)).to(own.device)
        tokens, logprobs = choose(steer(own, others), numbers, shaping)
        if not bool(torch.isfinite(logprobs).all()):
            raise KilterError("A model that steers gives numbers that are not finite; take others, or other options.")
        for at, token, logprob in zip(place, tokens.tolist(), logprobs.tolist(), strict=True):
            if at in ended:
                continue
            made[at].append(token)
            told[at].append(logprob)
            stopped = token in stop_ids or (stop is not None and stop(made[at]))
            if stopped or len(made[at]) >= limits[at]:
                ended[at] = stopped
        if len(ended) == len(limits):
            return [Completion(made[at], told[at], "stop" if ended[at] else "length") for at in range(len(limits))]
        live = [slot for slot, at in enumerate(place) if at not in ended]
        if 2 * len(live) <= len(place):
            order, *_ = [line.keep(live) for line in lines]
            place, tokens = [place[slot] for slot in order], tokens[order]
        for line in lines:
            line.token = tokens


@torch.no_grad()
def score(streams: Sequence[Stream], steer: Steering, responses: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the log-prob (nats) of every token of each response, given what was said before it, as it is steered."""
    found = []
    for row, response in enumerate(responses):
        parts = []
        for stream in streams:
            prompt = list(stream.prompts[row])
            device = stream.model.get_input_embeddings().weight.device
            ids = torch.tensor([prompt + list(response)], device=device)
            logits = stream.model(input_ids=ids, use_cache=False).logits[0]
            parts.append(logits[-len(response) - 1 : -1].float().log_softmax(-1))
        steered = steer(parts[0], parts[1:]).log_softmax(-1)
        wanted = torch.tensor(list(response), device=steered.device)
        found.append(steered.gather(1, wanted[:, None])[:, 0].tolist())
    return found
