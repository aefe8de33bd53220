"""GPTScore: how likely a model finds a text where an instruction says that the text is good."""

from __future__ import annotations

import math
from typing import Literal

from kilter.errors import KilterError, SetAside
from kilter.evaluation.given import Text, correlated, texts
from kilter.evaluation.likelihood import token_logprobs
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.statistics import summarize
from kilter.models.each import each
from kilter.models.protocol import Model
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.registry import Count, method

PROMPTS = Prompts(__file__)
ASPECTS = {
    "general": "says what it should",
    "coherence": "hangs together",
    "fluency": "is well written and free of mistakes",
    "factuality": "keeps to the facts",
    "informativeness": "has the main points",
    "relevance": "keeps to what matters",
    "interest": "is interesting",
    "understandability": "is easy to understand",
    "engagement": "draws the reader in",
    "accuracy": "has no error in its content",
}


@method("gptscore", wing="evaluation", paper="arXiv:2302.04166", survey="S1 §8.4")
async def gptscore(
    model: Model,
    records: list[Prompt | Demonstration | Group],
    *,
    aspect: str = "general",
    definition: str = "",
    direction: Literal["source", "precision", "recall", "f"] = "source",
    n: Count | None = None,
) -> Evaluation:
    """Score given texts by a model's log-probs (GPTScore, Fu et al. 2023).

    score(h | T) = (1/m) sum_t log p(h_t | h_<t, T), in nats per token of m, T being the prompt that says what the text
    has to be by its aspect. Directions: source: from what was asked to the text; precision: from the reference to the
    text, joined by "In other words,"; recall: from the text to the reference; f: the mean of the two. Of several
    references the best counts. A full stop at the end of a text is left out. Where responses have people's scores,
    spearman and kendall are the correlations with them, averaged over the records.

    The model is the one that scores. A text that does not fit it is left out and counted.

    Options:
        aspect: general, coherence, fluency, factuality, informativeness, relevance, interest, understandability, ...
        definition: what a text of the aspect does ("is polite"), for one that is not known
        direction: source, precision, recall or f; all but the first need references
        n: score the first so many texts only
    """
    meaning = definition or ASPECTS.get(aspect.lower(), "")
    if not meaning:
        raise KilterError(f"What '{aspect}' means is not known; say it with --definition, or use {', '.join(ASPECTS)}.")
    found = texts(records, None)[:n]
    references = {text.id: [text.case.reference] if text.case.reference else [] for text in found}
    if direction != "source" and not any(references.values()):
        raise KilterError(f"The direction '{direction}' needs references; give records with one, or use source.")

    async def one(text: Text) -> Row | None:
        response = text.response or ""
        if not response.strip():
            raise SetAside("A text is empty, which has no token to score.", "empty")
        score = await _score(model, text, references[text.id], direction, meaning)
        sample: Row = text.sample(response) | {
            "given": True,
            "cluster": text.record,
            "outcomes": {"score": score} if score is not None else {},
        }
        return sample if text.human is None else sample | {"human": text.human}

    samples = [sample for sample in await each(found, one, label=f"gptscore · {model.name}") if sample is not None]
    bare = sum(not sample["outcomes"] for sample in samples)
    if bare == len(samples):
        raise KilterError("No text could be scored; look at what was left out.")
    said, notes = correlated(samples)
    if bare:
        notes.append(f"{bare:,} of {len(samples):,} texts have no reference and are left out of the score.")
    return Evaluation(model.name, said | summarize(samples), samples, suite="gptscore", notes=notes)


async def _score(model: Model, text: Text, references: list[str], direction: str, meaning: str) -> float | None:
    response = text.response or ""
    if direction == "source":
        told = {"question": text.case.question, "history": text.case.history, "meaning": meaning}
        return await mean_logprob(model, PROMPTS("source", **told), response)
    if not references:
        return None
    ways = []
    if direction in ("precision", "f"):
        ways.append([await rephrased(model, reference, response, meaning) for reference in references])
    if direction in ("recall", "f"):
        ways.append([await rephrased(model, response, reference, meaning) for reference in references])
    each_reference = [sum(parts) / len(parts) for parts in zip(*ways, strict=True)]
    return max(each_reference)


async def rephrased(model: Model, given: str, text: str, meaning: str) -> float:
    """Return the mean log-prob of `text` as another way of saying `given`."""
    return await mean_logprob(model, PROMPTS("rephrase", given=trimmed(given), meaning=meaning), text)


async def mean_logprob(model: Model, messages: list[Message], text: str) -> float:
    """Return the mean log-prob (nats) of the tokens of `text`, without the full stop at its end."""
    found = await token_logprobs(model, messages, trimmed(text))
    if not found:
        raise SetAside("A text has no token to score.", "empty")
    return math.fsum(found) / len(found)


def trimmed(text: str) -> str:
    """Return a text without the full stop at its end."""
    return text.strip().removesuffix(".").removesuffix("。").rstrip() or text.strip()
