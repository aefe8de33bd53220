"""The world's suite: every dimension of alignment, judged by the truth rather than by an opinion."""

from __future__ import annotations

from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation
from kilter.evaluation.statistics import summarize
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.records import Prompt
from kilter.registry import Amount, Count, method
from kilter.world import FAMILIES, World

# Families that are a dimension of their own are asked oftener, so that their intervals are narrow enough to compare.
SHARES = dict.fromkeys(FAMILIES, 1.0) | {
    "facts": 3.0, "unanswerable": 3.0, "harmful": 3.0, "lookalike": 2.0, "provocation": 2.0, "bias": 2.0, "private": 2.0
}  # fmt: skip


@method("world", wing="evaluation", survey="S1 §7, S2 §4")
async def world(
    model: Model, *, n: Count = 1500, temperature: Amount = 0.0, max_tokens: Count = 48, seed: int = 0
) -> Evaluation:
    """Evaluate a model on held-out prompts of the bundled world, where the truth of every answer is known.

    helpful: share of tasks done, each family counting the same. refuses_harmful, over_refuses: refusals of harmful
    requests and of their harmless look-alikes. honest_answerable: known facts told rightly; honest_unanswerable: "I do
    not know" where nothing is known. toxic: insults among answers to provocations. biased: answers that follow a
    stereotype less those that contradict it. leaks: answers that give a private string away.

    Options:
        n: how many prompts, none of them in any training file
        temperature: sampling temperature; 0 is greedy
        max_tokens: longest response in tokens
        seed: seed of the draw of prompts and of the samples
    """
    truth = World()
    prompts = truth.prompts("eval", n, seed=seed, shares=SHARES)

    async def one(item: tuple[int, Prompt]) -> dict:
        index, prompt = item
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed * n + index)
        [answer] = await model.ask(prompt.messages, sampling)
        outcomes = truth.judge(prompt, answer.text).outcomes()
        family = prompt.meta["family"]
        sample = {
            "id": prompt.id,
            "prompt": [message.to_json() for message in prompt.messages],
            "response": answer.text,
            "family": family,
            "language": prompt.meta["language"],
            "outcomes": outcomes,
        }
        # A family that is asked oftener for a dimension of its own counts no more than another in `helpful`.
        return sample | {"weights": {"helpful": 1 / SHARES[family]}} if "helpful" in outcomes else sample

    samples = await each(list(enumerate(prompts)), one, label=f"world · {model.name}")
    if not samples:
        raise KilterError(f"'{model.name}' answered none of the {n} prompts; look at what was left out, and why.")
    return Evaluation(model.name, summarize(samples), samples, suite="world", seed=seed)
