"""Sampling from a causal language model, with the log-probs of what was sampled.

A prompt goes through the model once for all of its samples. Sequences sit in slots (slots.py); one that ends leaves
its slot, and the next in line takes it. The noise of a token depends on the seed, the prompt, the sample and the step
alone, so that results do not depend on how sequences were batched (but for rounding, where two tokens tie).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from kilter.engine.choose import Asked, Ending, Shaping, choose, limits_of, noise_key, uniform
from kilter.engine.plain import obstacle, run_plainly
from kilter.engine.shelf import Prefix
from kilter.engine.slots import Slots, attached
from kilter.engine.virtual import room
from kilter.errors import KilterError

PREFILL = 8192  # prompt tokens that go through the model at once, at most (one prompt may be longer)
REFILL = 1 / 8  # slots are refilled when this share of them is empty: a prefill costs little more for many than for one


@dataclass(slots=True)
class Completion:
    """What was sampled: token ids, with the one that ended it if any did, and their log-probs in nats.

    A log-prob is that of the distribution the token was drawn from, after temperature and truncation; for greedy
    sampling that of the model itself. `finish_reason` is "stop" where it ended by itself.
    """

    tokens: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    n: int = 1,
    max_tokens: int | Sequence[int] = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    min_p: float = 0.0,
    stop_ids: Collection[int] = (),
    stop: Callable[[list[int]], bool] | None = None,
    seed: int = 0,
    keys: Sequence[int] | None = None,
    batch_size: int = 64,
    progress: Callable[[int, int], None] | None = None,
    ready: Callable[[int, list[Completion]], None] | None = None,
) -> list[list[Completion]]:
    """Return `n` completions of each prompt, from a transformers causal language model (or a PEFT model of one).

    `max_tokens` holds for all prompts or is one number each. A completion ends at a token of `stop_ids`, where
    `stop(tokens so far)` says so, or at the end of the model's positions. `keys` stand for the prompts in the noise
    (default: their indices). `batch_size` is the number of sequences that grow at a time. `progress` is told, after
    every step, how many completions are finished and how many tokens were sampled; `ready` gets a prompt's index and
    its completions as soon as it has them all.

    Raises KilterError for a prompt that is empty or leaves no position free, and for impossible sampling options.
    """
    shaping = Shaping(temperature, top_p, top_k, min_p)
    limits = limits_of(prompts, max_tokens, room(model))
    if n < 1 or batch_size < 1:
        raise KilterError("n and batch_size have to be at least 1.")
    if not prompts:
        return []
    # Long prompts first: memory runs out at once or not at all.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    named = range(len(prompts)) if keys is None else keys
    line = [Asked(prompts[i], i, limits[i], noise_key(seed, named[i], k)) for i in order for k in range(n)]
    ending = Ending(frozenset(stop_ids), stop)
    found: list[dict[int, Completion]] = [{} for _ in prompts]
    finished = 0

    def done(at: int, tokens: list[int], logprobs: list[float], stopped: bool) -> None:
        nonlocal finished
        finished += 1
        own = found[line[at].of]
        own[at] = Completion(tokens, finite(logprobs), "stop" if stopped else "length")
        if ready is not None and len(own) == n:
            ready(line[at].of, [own[k] for k in sorted(own)])

    def told(sampled: int) -> None:
        if progress is not None:
            progress(finished, sampled)

    if why := obstacle(model):
        warnings.warn(f"{type(model).__name__} is sampled by `generate`, which is slower: {why}.", stacklevel=2)
        run_plainly(model, line, shaping, ending, batch_size, done, told)
    else:
        with attached(model) as plain:
            slots = Slots(model, min(batch_size, len(line)), shared=n > 1)
            _run_in_slots(plain, slots, line, shaping, ending, done, told)
    return [[own[at] for at in sorted(own)] for own in found]


def finite(logprobs: list[float]) -> list[float]:
    """Return the log-probs of a completion; raise KilterError where they are no numbers."""
    if not np.isfinite(logprobs).all():
        raise KilterError("The model gives numbers that are not finite; it diverged in training, take an earlier one.")
    return logprobs


def _run_in_slots(
    model: Any,
    slots: Slots,
    line: Sequence[Asked],
    shaping: Shaping,
    ending: Ending,
    done: Callable[[int, list[int], list[float], bool], None],
    told: Callable[[int], None],
) -> None:
    """Sample every sequence of `line`; tell `done` its place in it, tokens, log-probs and whether it stopped."""
    table = _Table(model, slots, line)
    stop_ids = np.fromiter(ending.ids, dtype=np.int64)
    sampled = 0
    while table.refill():
        tokens = table.advance(shaping)
        live = table.owner >= 0
        sampled += int(live.sum())
        stopped = np.isin(tokens, stop_ids)
        if ending.stop is not None:
            for row in np.flatnonzero(live & ~stopped):
                stopped[row] = ending.stop(table.tokens[row, : table.made[row]].tolist())
        ended = np.flatnonzero(live & (stopped | (table.made >= table.limit)))
        for row in ended:
            made = table.made[row]
            done(
                int(table.owner[row]),
                table.tokens[row, :made].tolist(),
                table.logprobs[row, :made].tolist(),
                bool(stopped[row]),
            )
        table.release(ended)
        told(sampled)


class _Table:
    """The sequences that have a slot, as arrays [rows], and the line of those that wait."""

    COLUMNS = ("owner", "token", "length", "made", "limit", "noise", "tokens", "logprobs")

    def __init__(self, model: Any, slots: Slots, line: Sequence[Asked]) -> None:
        self.model, self.slots, self.line = model, slots, line
        self.device, rows = slots.device, slots.rows
        self.next = 0  # first of the line without a slot
        self.owner = np.full(rows, -1)  # place in the line of the sequence in each slot; -1: empty
        self.token = np.zeros(rows, dtype=np.int64)  # the newest token, not yet in the slot
        self.length = np.zeros(rows, dtype=np.int64)  # tokens in the slot
        self.made = np.zeros(rows, dtype=np.int64)  # tokens sampled
        self.limit = np.ones(rows, dtype=np.int64)
        self.noise = np.zeros(rows, dtype=np.uint64)
        most = max(asked.limit for asked in line)
        self.tokens = np.zeros((rows, most), dtype=np.int64)
        self.logprobs = np.zeros((rows, most), dtype=np.float32)
        self.read: dict[int, tuple[Prefix, int]] = {}  # prompts whose keys and values are still at hand

    def refill(self) -> bool:
        """Give empty slots to those who wait, once enough are empty; take away slots that nobody waits for.

        Returns False when nothing is left to do.
        """
        empty = np.flatnonzero(self.owner < 0)
        waiting = len(self.line) - self.next
        if not waiting and len(empty) == len(self.owner):
            return False
        if waiting and len(empty) >= min(waiting, max(1, int(len(self.owner) * REFILL))):
            self._admit(empty[:waiting])
        elif not waiting and len(empty) > len(self.owner) // 4:
            kept = self.slots.keep(np.flatnonzero(self.owner >= 0).tolist())
            for name in self.COLUMNS:
                setattr(self, name, getattr(self, name)[kept])
        return True

    def _admit(self, rows: np.ndarray) -> None:
        """Seat the next of the line in the slots `rows`."""
        entries = range(self.next, self.next + len(rows))
        self.next += len(rows)
        seated = [self.line[entry] for entry in entries]
        self._read(seated)
        for row, entry, asked in zip(rows.tolist(), entries, seated, strict=True):
            self.owner[row], self.made[row], self.limit[row] = entry, 0, asked.limit
            self.noise[row] = asked.noise
            # The last token of the prompt is the first step's; what stands before it is in the slot or on the shelf.
            self.token[row], self.length[row] = asked.prompt[-1], len(asked.prompt) - 1
        if (shelf := self.slots.shelf) is not None:
            shelf.seat(rows.tolist(), [asked.of if len(asked.prompt) > 1 else None for asked in seated])
            return
        self.slots.fit((self.length + 1).tolist())
        placing: dict[int, tuple[Prefix, list[int], list[int]]] = {}
        for row, asked in zip(rows.tolist(), seated, strict=True):
            if asked.of in self.read:
                prefix, which = self.read[asked.of]
                _, chosen, targets = placing.setdefault(id(prefix), (prefix, [], []))
                chosen.append(which)
                targets.append(row)
        for prefix, chosen, targets in placing.values():
            self.slots.place(prefix, chosen, targets)

    def _read(self, seated: Sequence[Asked]) -> None:
        """Put the prompts of `seated` through the model, but for those that were just read or stand on the shelf."""
        prompts = {asked.of: asked.prompt[:-1] for asked in seated if len(asked.prompt) > 1}
        self.read = {of: self.read[of] for of in prompts if of in self.read}
        shelf = self.slots.shelf
        chunks: list[list[int]] = []
        room = 0
        for of, prompt in prompts.items():
            if of in self.read or (shelf is not None and shelf.holds(of)):
                continue
            if len(prompt) > room:
                chunks.append([])
                room = PREFILL
            chunks[-1].append(of)
            room -= len(prompt)
        for chunk in chunks:
            prefix = self.slots.prefill(self.model, [prompts[of] for of in chunk])
            if shelf is not None:
                shelf.put(chunk, prefix, wanted=prompts)
            else:
                self.read.update((of, (prefix, which)) for which, of in enumerate(chunk))

    def advance(self, shaping: Shaping) -> np.ndarray:
        """Sample one token for every slot; return the tokens [rows], those of empty slots among them."""
        shelf = self.slots.shelf
        self.slots.fit((self.length + 1 - (0 if shelf is None else shelf.counts)).tolist())
        token, length = (torch.from_numpy(x).to(self.device) for x in (self.token, self.length))
        logits = self.slots.step(self.model, token, length)
        numbers = torch.from_numpy(uniform(self.noise, self.made)).to(self.device)
        tokens, logprobs = (x.cpu().numpy() for x in choose(logits.float(), numbers, shaping))
        number = np.arange(len(self.owner))
        self.tokens[number, self.made], self.logprobs[number, self.made] = tokens, logprobs
        self.made += 1
        self.length += 1
        self.token = tokens
        return tokens

    def release(self, rows: np.ndarray) -> None:
        """Take the sequences in slots `rows` out."""
        self.owner[rows] = -1
        idle = self.owner < 0
        self.length[idle] = self.made[idle] = self.token[idle] = 0
        if self.slots.shelf is not None and len(rows):
            self.slots.shelf.seat(rows.tolist(), [None] * len(rows))
