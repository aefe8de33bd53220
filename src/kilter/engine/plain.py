"""Sampling from models that do not take slots (slots.py): layers with a state, attention of their own.

Whether slots suit a model is not looked up but tried. One that they do not suit is sampled by transformers' own
`generate`, over prompts of one length so that nothing is padded, with our choice of tokens put in. It is slower: the
prompt is computed for each sample, and a batch runs until its last sequence ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from kilter.engine.choose import Asked, Ending, Shaping, choose, uniform
from kilter.engine.precision import computed_in
from kilter.engine.slots import Slots, attached

# What the log-prob of a token may be off by, in nats and on average over the model's own distribution, for slots to be
# taken as right: rounding, for the precision that is computed in.
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}

_obstacles: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def obstacle(model: Any) -> str:
    """Return why `model` cannot be sampled in slots, or an empty string; worked out once for each model."""
    if model not in _obstacles:
        _obstacles[model] = _try(model)
    return _obstacles[model]


def _try(model: Any) -> str:
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    if strange := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"it has layers of the kind {strange[0]}"
    device = model.get_input_embeddings().weight.device
    size = config.vocab_size
    prompts = [[(7 * i + 3) % size for i in range(length)] for length in (5, 2)]
    try:
        with attached(model) as plain:
            slots = Slots(model, 2)
            slots.fit([7, 4])
            slots.place(slots.prefill(plain, prompts), [0, 1], [0, 1])
            found = []
            for step in range(2):
                added = torch.tensor([1 % size, 2 % size], device=device)
                lengths = torch.tensor([len(prompt) + step for prompt in prompts], device=device)
                found.append(slots.step(plain, added, lengths))
        with torch.no_grad():
            whole = [torch.tensor([[*prompt, (1 + i) % size, (1 + i) % size]]) for i, prompt in enumerate(prompts)]
            ordinary = [model(input_ids=row.to(device), use_cache=False).logits[0, -2:] for row in whole]
    except Exception as error:  # any model at all may stand here, and refuse in any way
        return f"it does not take slots ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
    sliding = "sliding_attention" in kinds or (not kinds and getattr(config, "sliding_window", None) is not None)
    if sliding and slots.windows <= {None}:
        return "its sliding window does not reach the attention function"
    ours, theirs = (torch.stack(x, dim).float().log_softmax(-1) for x, dim in ((found, 1), (ordinary, 0)))
    off = float((theirs.exp() * (ours - theirs).abs()).sum(-1).max())
    counted = computed_in(device, model.dtype)
    return "" if off <= ROUNDING.get(counted, 0.2) else f"its log-probs come out different by {off:.2g}"


def run_plainly(
    model: Any,
    line: Sequence[Asked],
    shaping: Shaping,
    ending: Ending,
    batch_size: int,
    done: Callable[[int, list[int], list[float], bool], None],
    told: Callable[[int], None],
) -> None:
    """Sample every sequence of `line`; tell `done` its place in it, tokens, log-probs and whether it stopped."""
    device = model.get_input_embeddings().weight.device
    order = sorted(range(len(line)), key=lambda at: (-len(line[at].prompt), line[at].limit))
    sampled = 0
    for length, same in groupby(order, key=lambda at: len(line[at].prompt)):
        rows = list(same)
        for chunk in (rows[start : start + batch_size] for start in range(0, len(rows), batch_size)):
            chooser = _Chooser(shaping, np.array([line[at].noise for at in chunk]), length)
            settings = GenerationConfig(
                max_new_tokens=max(line[at].limit for at in chunk),
                do_sample=False,
                eos_token_id=sorted(ending.ids) or None,
                pad_token_id=0,
            )
            tokens = torch.tensor([list(line[at].prompt) for at in chunk], device=device)
            model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                generation_config=settings,
                logits_processor=LogitsProcessorList([chooser]),
                stopping_criteria=StoppingCriteriaList([_Stopper(ending.stop, length)] if ending.stop else []),
            )
            for row, at in enumerate(chunk):
                made = [int(step[row]) for step in chooser.tokens][: line[at].limit]
                end = next((t for t in range(1, len(made) + 1) if ending.reached(made[:t])), None)
                made = made[:end]
                sampled += len(made)
                done(at, made, [float(step[row]) for step in chooser.logprobs][: len(made)], end is not None)
            told(sampled)


class _Chooser(LogitsProcessor):
    """Leaves only the token that we choose, and notes its log-prob."""

    def __init__(self, shaping: Shaping, noise: np.ndarray, length: int) -> None:
        self.shaping, self.noise, self.length = shaping, noise, length
        self.tokens: list[Tensor] = []
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        steps = np.full(len(self.noise), input_ids.shape[1] - self.length)
        numbers = torch.from_numpy(uniform(self.noise, steps)).to(scores.device)
        tokens, logprobs = choose(scores.float(), numbers, self.shaping)
        self.tokens.append(tokens)
        self.logprobs.append(logprobs)
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens[:, None], 0.0)


class _Stopper(StoppingCriteria):
    def __init__(self, stop: Callable[[list[int]], bool], length: int) -> None:
        self.stop, self.length = stop, length

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        ended = [self.stop(row) for row in input_ids[:, self.length :].tolist()]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)
