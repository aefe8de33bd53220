"""A model's own responses to prompts and what they are rewarded with, for methods that sample before they train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kilter.engine.sampler import sample
from kilter.engine.template import end_ids, prompt_ids
from kilter.engine.virtual import room
from kilter.feedback.numbers import rewards
from kilter.feedback.protocol import Feedback
from kilter.models.drive import run, wait
from kilter.models.local import generation_ends
from kilter.records import Prompt


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
    texts = []
    for completions in found:
        bodies = [c.tokens[: -1 if c.tokens[-1] in ends else None] for c in completions]
        said = tokenizer.batch_decode(bodies, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        texts.append([text.strip() for text in said])
    return texts


def judged(feedback: Feedback, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]) -> list[list[float]]:
    """Return what `feedback` rewards each of the `texts` with, prompt by prompt; equal ones are judged once."""

    async def one(item: tuple[Prompt, Sequence[str]]) -> list[float]:
        prompt, said = item
        different = list(dict.fromkeys(said))
        found = dict(zip(different, await rewards(feedback, prompt, different), strict=True))
        return [found[text] for text in said]

    return wait(run(list(zip(prompts, texts, strict=True)), one, label="rewards"))
