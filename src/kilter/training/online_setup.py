"""From a method's options to the source of its samples: what judges, what is asked, what may be drawn.

All that cannot work is refused here, before a policy is moved or a token sampled.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from kilter.engine import vllm_sampler
from kilter.engine.template import end_ids, prompt_ids
from kilter.errors import KilterError
from kilter.feedback.named import named
from kilter.feedback.numbers import check
from kilter.models.local import generation_ends
from kilter.records import Prompt
from kilter.training.mask import MaskOptions
from kilter.training.objective import Online
from kilter.training.online import OnlineOptions, OnlineSource


def online_source(
    prompts: Sequence[Prompt],
    model: Any,
    tokenizer: Any,
    online: Online,
    given: Mapping[str, Any],
    *,
    method: str,
    max_length: int,
) -> tuple[OnlineSource, list[str]]:
    """Return the source of a method's samples, and sentences about prompts that it leaves out or cuts.

    `given` are all options of the method, `online` is what it asks for. Raises KilterError for what cannot work: a
    feedback that there is not or that cannot judge the prompts, too few responses to compare, no room for a prompt, a
    tokenizer by which no response ever ends.
    """
    options = OnlineOptions(**{name: given[name] for name in OnlineOptions.model_fields})
    if options.samples < online.at_least:
        raise KilterError(
            f"'{method}' compares the responses to a prompt with one another: samples is {options.samples} and has to "
            f"be at least {online.at_least}."
        )
    ends = end_ids(tokenizer) | generation_ends(model)
    if not ends:
        raise KilterError(
            "No token ends a response of this model, so that each would go on to max_tokens; give its tokenizer an "
            "eos_token, or a chat template that ends the assistant's turn with a special token."
        )
    room = max_length - options.max_tokens
    if room < 1:
        raise KilterError(
            f"max_tokens={options.max_tokens} leaves no room for a prompt in {max_length} tokens, which hold both; "
            "lower it, or raise max_length."
        )
    if torch.cuda.is_available():
        # A reward model goes where this process's policy will be.
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if options.sampler == "vllm":
        vllm_sampler.check(model)
    feedback = named(options.feedback)
    further = _taken(online.through, given) if online.through else {}
    if online.through:
        feedback = online.through(feedback, **further)
    asked = {name: given[name] for name in ("gold", *online.judges) if given[name] is not None}
    judges = {name: named(judge) for name, judge in asked.items()}
    for judge in (feedback, *judges.values()):
        check(judge, prompts)
    kept, ids, notes = _encoded(tokenizer, prompts, room)
    shaping = _taken(online.shape, given) if online.shape else {}
    mask = MaskOptions(**{name: given[name] for name in MaskOptions.model_fields}) if online.mask else None
    source = OnlineSource(
        kept,
        ids,
        feedback,
        tokenizer,
        ends,
        options,
        batch_size=given["batch_size"],
        seed=given["seed"],
        wants_reference=bool(online.reference and given[online.reference]),
        shape=partial(online.shape, **shaping) if online.shape else None,
        shaped_by=shaping | further | (mask.model_dump() if mask else {}),
        judges=judges,
        mask=mask,
    )
    return source, notes


def _taken(hook: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a hook takes."""
    asked = inspect.signature(hook).parameters.values()
    return {one.name: given[one.name] for one in asked if one.kind is one.KEYWORD_ONLY}


def _encoded(tokenizer: Any, prompts: Sequence[Prompt], room: int) -> tuple[list[Prompt], list[list[int]], list[str]]:
    """Return the prompts that the chat template takes, their tokens, and sentences about the others."""
    notes: list[str] = []
    kept = list(prompts)
    try:
        ids = prompt_ids(tokenizer, [prompt.messages for prompt in kept])
    except KilterError as refused:
        kept, ids = [], []
        for prompt in prompts:
            with contextlib.suppress(KilterError):
                ids += prompt_ids(tokenizer, [prompt.messages])
                kept.append(prompt)
        if not kept:
            raise
        notes.append(f"{len(prompts) - len(kept)} of {len(prompts)} prompts left out: {refused}")
    if long := sum(len(row) > room for row in ids):
        notes.append(f"{long} of {len(ids)} prompts are cut from the left to {room} tokens; max_length allows no more.")
        ids = prompt_ids(tokenizer, [prompt.messages for prompt in kept], max_length=room)
    return kept, ids, notes
