"""Preferences between a model's own responses."""

from __future__ import annotations

import itertools
import random
from typing import Annotated

from pydantic import Field

from kilter.feedback import Annotators, WorldTruth
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.records import Group, Origin, Prompt
from kilter.registry import Amount, Count, Share, method
from kilter.world import World


@method("sampled-preferences", wing="data", paper="arXiv:2203.02155", survey="S1 §4.3.1, S2 §3.2")
async def sampled_preferences(
    model: Model,
    *,
    n: Count = 1500,
    k: Annotated[int, Field(ge=2)] = 4,
    temperature: Amount = 1.0,
    max_tokens: Count = 48,
    values_share: Share = 0.5,
    noise: Share = 0.1,
    seed: int = 0,
) -> list[Group]:
    """Pairs of a model's own samples, compared by simulated annotators (Ouyang et al. 2022, §3.2; Dubois et al. 2023).

    For each prompt of the world's training split the model answers k times; one pair whose truth differs is drawn, and
    annotators who know the truth but err at rate `noise` say which they prefer. Prompts whose k answers are all equally
    good teach nothing about preference and are left out.

    Options:
        n: how many prompts
        k: samples a prompt
        temperature: sampling temperature
        max_tokens: longest response in tokens
        values_share: share of the prompts about harm, honesty, insult, prejudice and privacy
        noise: share of the labels that are the wrong way round
        seed: seed of prompts, samples and labels
    """
    # Prompts other than the demonstrations' of the same seed.
    prompts = World().prompts("train", n, seed=seed + 1_000_003, shares=World.shares(values_share))
    annotators = Annotators(WorldTruth(), noise=noise, seed=seed)

    async def one(item: tuple[int, Prompt]) -> Group | None:
        index, prompt = item
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, n=k, seed=seed * n + index)
        responses = list(dict.fromkeys(answer.text for answer in await model.ask(prompt.messages, sampling)))
        pairs = list(itertools.combinations(responses, 2))
        random.Random(f"pair {seed} {prompt.id}").shuffle(pairs)
        for first, second in pairs:
            preferred = await annotators.compare(prompt, first, second)
            if preferred is not None:
                ranking = [preferred, 1 - preferred]
                origin = Origin("sampled-preferences", "arXiv:2203.02155", model.name, (prompt.id,), seed)
                return Group(prompt.messages, [first, second], ranking=ranking, origin=origin, meta=prompt.meta)
        return None

    groups = await each(list(enumerate(prompts)), one, label="preferences")
    return [group for group in groups if group is not None]
