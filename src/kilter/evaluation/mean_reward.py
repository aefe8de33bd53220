"""The mean reward of a model's answers: what online training raises, measured on prompts that it did not see."""

from __future__ import annotations

from collections.abc import Mapping

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.feedback.named import named
from kilter.feedback.numbers import check, rewards
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.records import Prompt
from kilter.registry import Amount, Count, method
from kilter.world import FAMILIES, World


@method("mean-reward", wing="evaluation", survey="S1 §4.3.1, S2 §3.2.1")
async def mean_reward(
    model: Model,
    records: list[Prompt] | None = None,
    *,
    feedback: str | Mapping[str, float] = "world",
    n: Count = 1000,
    temperature: Amount = 0.0,
    max_tokens: Count = 64,
    seed: int = 0,
) -> Evaluation:
    """Measure the mean reward that a model's answers get from any feedback.

    reward: the mean over all prompts, one answer each. With the world as feedback it is the true reward, in [0, 1];
    with a reward model it is the proxy that training saw. How far the two part is over-optimisation. Every family of
    prompts has a measure of its own beside it. Raises KilterError where the feedback gives no finite number.

    Options:
        feedback: what rewards answers: world, a reward model, judge:MODEL, a rule (contains:blue), or a mixture
        n: how many prompts; without records they are held-out ones of the world, each family as many
        temperature: sampling temperature; 0 is greedy
        max_tokens: longest answer in tokens
        seed: seed of the draw of prompts and of the samples
    """
    source = named(feedback)
    prompts = World().prompts("eval", n, seed=seed, shares=dict.fromkeys(FAMILIES, 1.0)) if records is None else records
    prompts = prompts[:n]
    check(source, prompts)

    async def one(item: tuple[int, Prompt]) -> dict:
        index, prompt = item
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed * n + index)
        [answer] = await model.ask(prompt.messages, sampling)
        [reward] = await rewards(source, prompt, [answer.text])
        family = str(prompt.meta.get("family", ""))
        return {
            "id": prompt.id,
            "prompt": [message.to_json() for message in prompt.messages],
            "response": answer.text,
            "family": family,
            "outcomes": {"reward": reward} | ({f"reward:{family}": reward} if family else {}),
        }

    samples = await each(list(enumerate(prompts)), one, label=f"reward · {model.name}")
    if not samples:
        raise KilterError(f"'{model.name}' answered none of the {len(prompts)} prompts; look at what was left out.")
    return Evaluation(model.name, summarize(samples), samples, suite="mean-reward", seed=seed)
