"""A model's own responses to prompts and what they are rewarded with, for methods that sample before they train."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from kilter import formats
from kilter.engine.sampler import Completion, sample
from kilter.engine.template import end_ids, prompt_ids
from kilter.engine.virtual import room
from kilter.errors import KilterError, SetAside
from kilter.feedback.numbers import rewards
from kilter.feedback.protocol import Feedback
from kilter.models.drive import run, wait
from kilter.models.load import load_weights
from kilter.models.local import generation_ends
from kilter.notes import tell
from kilter.records import Group, Origin, Prompt
from kilter.training.unrewarded import rewarded


def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    *,
    n: int,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> list[list[str]]:
    """Return `n` responses of a causal language model to each prompt. Prompts that do not fit are cut from the left."""
    ends = end_ids(tokenizer) | generation_ends(model)
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    ids = prompt_ids(tokenizer, [prompt.messages for prompt in prompts], max_length=max(1, room(model) - max_tokens))
    found = sample(model, ids, n=n, max_tokens=max_tokens, temperature=temperature, stop_ids=ends, seed=seed)
    return [texts_of(tokenizer, completions, ends) for completions in found]


def texts_of(tokenizer: Any, completions: Sequence[Completion], ends: Collection[int]) -> list[str]:
    """Return completions as text, without the token of `ends` that closed them and without space about them."""
    bodies = [c.tokens[: -1 if c.tokens[-1] in ends else None] for c in completions]
    said = tokenizer.batch_decode(bodies, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [text.strip() for text in said]


def judged(
    feedback: Feedback, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], *, quiet: bool = False
) -> list[list[float] | SetAside]:
    """Return what `feedback` rewards each of the `texts` with, prompt by prompt; with a bar, unless `quiet`.

    Where it cannot say of the responses to a prompt, as a judge whose words hold no rating, why it cannot stands in the
    place of the numbers. Of equal texts one is judged: a policy that is sure of itself says the same many times.
    """

    async def one(item: tuple[Prompt, Sequence[str]]) -> list[float] | SetAside:
        prompt, said = item
        different = list(dict.fromkeys(said))
        try:
            found = dict(zip(different, await rewards(feedback, prompt, different), strict=True))
        except SetAside as why:
            return why
        return [found[text] for text in said]

    return wait(run(list(zip(prompts, texts, strict=True)), one, label="rewards", quiet=quiet))


def compared(
    file: Path,
    model: str,
    prompts: Sequence[Prompt],
    people: Feedback,
    *,
    noise: float,
    by: tuple[str, str],
    **shaping: Any,
) -> list[Group]:
    """Return responses of `model` ranked by `people`: those in `file`, where they are there, else fresh ones, kept.

    `noise` is how unsure people are, in units of reward; `by` is the method that asks and its paper, `shaping` what
    `answers` takes. Left out are prompts all of whose responses are the same, or equally good, or that people cannot
    judge; raises KilterError where that are all.
    """
    if file.is_file():
        return [record for record in formats.read(file, want="groups").records if isinstance(record, Group)]
    weights, tokenizer = load_weights(model, torch.float32)
    texts = [list(dict.fromkeys(said)) for said in answers(weights, tokenizer, prompts, **shaping)]
    draw = random.Random(shaping["seed"])
    asked = [(prompt, said) for prompt, said in zip(prompts, texts, strict=True) if len(said) > 1]
    scored = judged(people, [prompt for prompt, _ in asked], [said for _, said in asked])
    tell(rewarded(scored, people)[1])
    groups = []
    for (prompt, said), scores in zip(asked, scored, strict=True):
        if isinstance(scores, SetAside):
            continue
        # Of preferences by Bradley and Terry the order of rewards with Gumbel noise is the ranking (Luce).
        felt = [score - noise * math.log(-math.log(draw.random() or 1e-300)) if noise else score for score in scores]
        ranks = [sum(other > own for other in felt) for own in felt]
        origin = Origin(*by, model, (prompt.id,), shaping["seed"])
        group = Group(prompt.messages, said, ranking=ranks, origin=origin, meta=prompt.meta)
        if group.pairs():
            groups.append(group)
    if not groups:
        raise KilterError(
            f"The feedback '{people.name}' finds no response of '{model}' better than another; sample more, at a "
            "higher temperature, or take another feedback."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    formats.write(groups, file)
    return groups
