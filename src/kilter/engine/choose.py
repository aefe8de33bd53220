"""What is asked of a sampler, and how logits become tokens: the distribution, and noise keyed by what is asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kilter.errors import KilterError


@dataclass(frozen=True, slots=True)
class Asked:
    """One sequence to sample: its prompt, the number of that prompt, the most tokens, the key of its noise."""

    prompt: Sequence[int]
    of: int
    limit: int
    noise: np.uint64


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends a sequence before its limit: one of the token `ids`, or `stop(tokens so far)`."""

    ids: frozenset[int]
    stop: Callable[[list[int]], bool] | None

    def reached(self, tokens: list[int]) -> bool:
        return tokens[-1] in self.ids or (self.stop is not None and self.stop(tokens))


@dataclass(frozen=True, slots=True)
class Shaping:
    """How logits become a distribution: temperature, then top-k, top-p, min-p, as in transformers. 0: greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        for name, value, fits, wanted in (
            ("temperature", self.temperature, 0 <= self.temperature < math.inf, "at least 0"),
            ("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("top_k", self.top_k, self.top_k >= 0, "at least 0"),
            ("min_p", self.min_p, 0 <= self.min_p <= 1, "between 0 and 1"),
        ):
            if not fits:
                raise KilterError(f"The sampling option {name} is {value}; it has to be {wanted}.")


def choose(logits: Tensor, uniform: Tensor, shaping: Shaping) -> tuple[Tensor, Tensor]:
    """Return a token [N] and its log-prob [N] of each row of logits [N, V] (fp32), by uniform [N] numbers in [0, 1).

    The token is where the cumulated probability, in the order of the vocabulary, first exceeds the number.
    """
    if shaping.temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
    logits = logits / shaping.temperature
    if shaping.top_p < 1 or shaping.top_k or shaping.min_p:
        logits = logits.masked_fill(logits < least(logits, shaping), -torch.inf)
    probabilities = logits.softmax(-1)
    cumulated = probabilities.cumsum(-1)
    wanted = uniform.to(cumulated.dtype)[:, None] * cumulated[:, -1:]
    tokens = torch.searchsorted(cumulated, wanted, right=True)
    # Rounding may carry a number close to 1 behind the last token that has any probability.
    last = torch.searchsorted(cumulated, cumulated[:, -1:].contiguous())
    tokens = torch.minimum(tokens, last).clamp_(max=logits.shape[-1] - 1)  # the latter where nothing is finite
    return tokens[:, 0], logits.log_softmax(-1).gather(1, tokens)[:, 0]


def least(logits: Tensor, shaping: Shaping) -> Tensor:
    """Return [N, 1]: the least logit that truncation leaves in each row."""
    size = logits.shape[-1]
    if shaping.top_p == 1 and not shaping.top_k:
        return logits.amax(-1, keepdim=True) + math.log(shaping.min_p)
    # Top-p rarely needs more than the first few hundred, and sorting all may cost more than the model.
    top = logits.topk(min(size, shaping.top_k or 256), dim=-1).values
    total = (top if shaping.top_k else logits).logsumexp(-1, keepdim=True)
    if not shaping.top_k and bool(((top - total).exp().sum(-1) < shaping.top_p).any()):
        top = logits.sort(dim=-1, descending=True).values
    share = (top - total).exp()
    kept = (share.cumsum(-1) - share < shaping.top_p) & (share >= shaping.min_p * share[:, :1])
    kept[:, 0] = True
    return top.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)


def limits_of(prompts: Sequence[Sequence[int]], max_tokens: int | Sequence[int], positions: int) -> list[int]:
    """Return how many tokens may follow each prompt in a model of so many positions.

    `max_tokens` holds for all prompts or is one number each. Raises KilterError for a prompt that is empty or leaves no
    position free, and for a number below 1.
    """
    limits = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else list(max_tokens)
    for i, prompt in enumerate(prompts):
        if not 0 < len(prompt) < positions:
            raise KilterError(
                f"Prompt {i} has {len(prompt)} tokens; a prompt for this model needs between 1 and {positions - 1}."
            )
        limits[i] = min(limits[i], positions - len(prompt))
        if limits[i] < 1:
            raise KilterError("max_tokens is below 1; ask for at least one token.")
    return limits


def noise_key(seed: int, prompt: int, k: int) -> np.uint64:
    """Return the key of the noise of sample `k` of a prompt."""
    key = np.zeros(1, dtype=np.uint64)
    for part in (seed, prompt, k):
        key = _mixed(key ^ np.array([part & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64))
    return key[0]


def uniform(keys: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return a number in [0, 1) for each key and step (fp32, 24 random bits)."""
    bits = _mixed(keys ^ _mixed(steps.astype(np.uint64)))
    return ((bits >> np.uint64(40)).astype(np.float64) * 2.0**-24).astype(np.float32)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele et al. 2014): every bit that goes in turns half of those that come out."""
    with np.errstate(over="ignore"):
        bits = bits + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))
