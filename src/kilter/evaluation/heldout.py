"""Text that was kept from training: how likely a model finds it, and which of two responses it finds likelier.

The model writes nothing here, it only scores. What it does not say: whether the model would ever write such a response.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from typing import Any

from kilter.errors import KilterError, SetAside
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.statistics import summarize
from kilter.models.drive import run
from kilter.models.protocol import Model
from kilter.notes import ended
from kilter.records import Demonstration, Group, Message, Prompt, identify
from kilter.registry import Count, method

Scored = tuple[float, int]  # Summed log-prob in nats, number of tokens.


@method("heldout", wing="evaluation", paper="arXiv:2403.13787", survey="S1 §7, S2 §4")
async def heldout(
    model: Model, records: list[Demonstration | Group], *, n: Count | None = None, seed: int = 0
) -> Evaluation:
    """Evaluate a model on demonstrations and preferences that it was not trained on, by its log-probs alone.

    loss: nats per token of the assistant's turns of a demonstration and of the best response of a group, all tokens of
    all records together, with the interval clustered by record; perplexity = e^loss; bits_per_byte = loss over ln 2 and
    over the text's bytes, which does not depend on the tokenizer. preference_accuracy: share of pairs whose preferred
    response has the higher summed log-prob, preference_accuracy_mean: the higher mean log-prob per token (the two
    reference-free scores of RewardBench, Lambert et al. 2024); a tie counts one half.

    Records that do not fit the model's context, and prompts without a response, are left out and counted in the
    evaluation's notes. Raises KilterError where nothing can be scored.

    Options:
        n: how many records, drawn with the seed; all where not given
        seed: seed of the draw
    """
    usable = [record for record in records if not isinstance(record, Prompt)]
    bare = len(records) - len(usable)
    if not usable:
        raise KilterError("There is no demonstration and no group of responses to score; give records of such a kind.")
    if n is not None and n < len(usable):
        usable = random.Random(seed).sample(usable, n)
    trouble: list[str] = []

    async def one(record: Demonstration | Group) -> dict[str, Any] | None:
        try:
            scored = _demonstration(model, record) if isinstance(record, Demonstration) else _group(model, record)
            return await scored
        except SetAside as error:
            trouble.append(str(error))
            return None

    found = await run(usable, one, concurrency=512, label=f"held-out · {model.name}")
    samples = told_apart([sample for sample in found if sample is not None])
    if not samples:
        raise KilterError(
            trouble[0] if trouble else "None of the records has a response that could be scored; look at the file."
        )
    notes = []
    if bare:
        notes.append(f"{bare} of {len(records)} records are prompts without a response and were left out.")
    if left := len(usable) - len(samples) - len(trouble):
        why = "they hold no response, or several of which none is the better"
        notes.append(f"{left} of {len(usable)} held-out records were left out: {why}.")
    if trouble:
        told = f"{len(trouble)} of {len(usable)} held-out records were left out, the first because: {trouble[0]}"
        notes.append(ended(told))
    measures = summarize(samples)
    if "loss" in measures:
        loss = measures["loss"]
        perplexity = Measure(_exp(loss.value), _exp(loss.low), _exp(loss.high), loss.n)
        measures = {"loss": loss, "perplexity": perplexity, **measures}
    return Evaluation(model.name, measures, samples, suite="heldout", seed=seed, notes=notes)


async def _demonstration(model: Model, record: Demonstration) -> dict[str, Any] | None:
    turns = [i for i, message in enumerate(record.messages) if message.role == "assistant" and i > 0]
    if not turns:
        return None
    texts = [record.messages[i].content for i in turns]
    scores = await asyncio.gather(*(_score(model, record.messages[:i], record.messages[i].content) for i in turns))
    sample = given_sample(record, record.messages[: turns[-1]], texts[-1])
    _enter_loss(sample, sum(total for total, _ in scores), sum(tokens for _, tokens in scores), "".join(texts))
    return sample


async def _group(model: Model, record: Group) -> dict[str, Any] | None:
    pairs = record.pairs()
    if not pairs and len(record.responses) != 1:
        return None  # Not ranked, or all tied: none of them is the one to find likely.
    best = pairs[0][0] if pairs else 0
    wanted = sorted({k for pair in pairs for k in pair} | {best})
    found = await asyncio.gather(*(_score(model, record.prompt, record.responses[k]) for k in wanted))
    scores = dict(zip(wanted, found, strict=True))
    sample = given_sample(record, record.prompt, record.responses[best])
    # Several groups on one prompt are not independent of one another.
    sample["cluster"] = identify([message.to_json() for message in record.prompt])
    _enter_loss(sample, *scores[best], record.responses[best])
    if pairs:
        sample["rejected"] = record.responses[pairs[0][1]]
        summed = {k: total for k, (total, _) in scores.items()}
        mean = {k: total / tokens for k, (total, tokens) in scores.items()}
        for name, values in (("preference_accuracy", summed), ("preference_accuracy_mean", mean)):
            right = [1.0 if values[w] > values[l] else 0.5 if values[w] == values[l] else 0.0 for w, l in pairs]
            sample["outcomes"][name] = sum(right) / len(right)
            sample["weights"][name] = len(right)
    return sample


async def _score(model: Model, messages: list[Message], response: str) -> Scored:
    logprobs = await model.score(messages, response)
    if not logprobs:
        raise SetAside("A response has no token to score; it is empty or does not fit the model's context.", "refused")
    return math.fsum(logprobs), len(logprobs)


def given_sample(record: Demonstration | Group, prompt: list[Message], response: str) -> dict[str, Any]:
    """Return the sample of a response that is given, without outcomes."""
    return {
        "id": record.id,
        "prompt": [message.to_json() for message in prompt],
        "response": response,
        "given": True,
        "family": str(record.meta.get("family") or ""),
        "language": str(record.meta.get("language") or ""),
        "outcomes": {},
        "weights": {},
    }


def _enter_loss(sample: dict[str, Any], total: float, tokens: int, text: str) -> None:
    sample["outcomes"]["loss"] = -total / tokens
    sample["weights"]["loss"] = tokens
    size = len(text.encode())
    if size:
        sample["outcomes"]["bits_per_byte"] = -total / math.log(2) / size
        sample["weights"]["bits_per_byte"] = size


def told_apart(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give equal records ids of their own: each is counted, and paired with itself in another model's evaluation."""
    seen: Counter[str] = Counter()
    for sample in samples:
        seen[sample["id"]] += 1
        if seen[sample["id"]] > 1:
            sample.setdefault("cluster", sample["id"])
            sample["id"] = f"{sample['id']}#{seen[sample['id']]}"
    return samples


def _exp(number: float) -> float:
    return math.exp(number) if number < 700 else math.inf
