"""AlignScore: a claim holds as far as some part of the context holds each of its sentences."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from kilter.errors import KilterError, SetAside, first_line
from kilter.evaluation.given import Text, correlated, texts
from kilter.evaluation.probes import sentences
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.statistics import summarize
from kilter.feedback.labels import yes
from kilter.models.each import each
from kilter.models.load import checkpoint
from kilter.models.protocol import Model
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import Count, method

PROMPTS = Prompts(__file__)
Align = Callable[[str, str], Awaitable[float]]
_WORDS = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W_]+")


@method("alignscore", wing="evaluation", paper="arXiv:2305.16739", survey="S1 §8.4")
async def alignscore(
    records: list[Prompt | Demonstration | Group],
    model: Model | None = None,
    *,
    classifier: str | None = None,
    claim: Literal["response", "reference"] = "response",
    size: Count = 350,
    n: Count | None = None,
) -> Evaluation:
    """Measure whether claims are consistent with their contexts (AlignScore, Zha et al. 2023, mode nli_sp).

    score = mean over the claim's sentences s of max over the context's chunks c of p(c, s). Chunks have about `size`
    words and end where sentences do. p is what aligns a chunk with a sentence: of a `classifier` (a checkpoint that
    tells whether a first text entails a second, such as an NLI RoBERTa) its probability of entailment, or of aligned;
    of a language model P(Yes) / (P(Yes) + P(No)) to the question whether the chunk supports the sentence. More context
    can never lower a score. Where responses have people's scores, spearman and kendall are the correlations with them.

    The context is what a record asks or, of a record with meta context or document, that; the claim is the response.

    Options:
        classifier: folder or hub id of an entailment classifier, in the place of a language model
        claim: score the responses, or the references of the records (what the score is of a right text)
        size: words of a chunk, about (350)
        n: score the first so many texts only
    """
    if (model is None) == (classifier is None):
        raise KilterError("Name what aligns two texts: a language model with --model, or --classifier; not both.")
    if classifier is not None:
        align: Align = entailment(classifier)
    else:
        align = _asked(model)
    contexts = {record.id: str(record.meta.get("context") or record.meta.get("document") or "") for record in records}
    found = texts(records, None)[:n]

    async def one(text: Text) -> Row:
        context = contexts.get(text.record) or text.case.question
        said = text.case.reference if claim == "reference" else text.response or ""
        if not said.strip() or not context.strip():
            raise SetAside("A text or its context is empty, so that nothing can be consistent.", "empty")
        table = await matrix(align, chunks(context, size), sentences(said))
        sample: Row = text.sample(said) | {
            "given": True,
            "cluster": text.record,
            "alignment": table,
            "outcomes": {"score": of_matrix(table)},
        }
        return sample if text.human is None else sample | {"human": text.human}

    name = model.name if model is not None else str(classifier)
    samples = await each(found, one, label=f"alignscore · {name}")
    if not samples:
        raise KilterError("There is no text to score; look at what was left out.")
    said, notes = correlated(samples)
    return Evaluation(name, said | summarize(samples), samples, suite="alignscore", notes=notes)


def chunks(text: str, size: int = 350) -> list[str]:
    """Return `text` in chunks of whole sentences, each closed with the sentence that brings it to `size` words."""
    found: list[str] = []
    held: list[str] = []
    count = 0
    for sentence in sentences(text):
        held.append(sentence)
        count += len(_WORDS.findall(sentence))
        if count >= size:
            found.append(" ".join(held))
            held, count = [], 0
    return [*found, " ".join(held)] if held else found


async def matrix(align: Align, context: Sequence[str], claim: Sequence[str]) -> list[list[float]]:
    """Return p(chunk, sentence) [sentences][chunks]."""
    told = await asyncio.gather(*(align(chunk, sentence) for sentence in claim for chunk in context))
    return [list(told[at : at + len(context)]) for at in range(0, len(told), len(context))]


def of_matrix(table: Sequence[Sequence[float]]) -> float:
    """Return the mean over sentences of the largest alignment with any chunk. Raises KilterError for an empty table."""
    if not table or not all(len(row) for row in table):
        raise KilterError("There is no alignment to take the mean of; a claim needs a sentence, a context a chunk.")
    return sum(max(row) for row in table) / len(table)


def _asked(model: Any) -> Align:
    async def align(chunk: str, sentence: str) -> float:
        return await yes(model, PROMPTS("supports", context=chunk, claim=sentence))

    return align


def entailment(name: str) -> Align:
    """Return the probability of entailment under the classifier called `name`.

    Of three labels and more it is the one called entailment or aligned; of two the second (or the one so called), of
    one its sigmoid. Raises KilterError where there is no classifier, or none of its labels is that.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = checkpoint(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        network: Any = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True).eval()
    except (OSError, ValueError, KeyError) as error:
        raise KilterError(f"'{name}' is no classifier that can be loaded ({first_line(error)}).") from None
    labels = {str(label).lower(): int(at) for at, label in network.config.id2label.items()}
    place = next((at for label, at in labels.items() if label in ("entailment", "aligned", "consistent")), None)
    if place is None and len(labels) > 2:
        raise KilterError(f"'{name}' has the labels {', '.join(labels)}, none of which is entailment; name another.")

    async def align(chunk: str, sentence: str) -> float:
        rows = tokenizer(
            chunk, sentence, truncation="only_first", max_length=_room(tokenizer, network), return_tensors="pt"
        )
        with torch.no_grad():
            logits = network(**rows).logits[0].float()
        if len(logits) == 1:
            return float(torch.sigmoid(logits[0]))
        return float(torch.softmax(logits, -1)[place if place is not None else 1])

    return align


def _room(tokenizer: Any, network: Any) -> int:
    """How many tokens the classifier takes."""
    # RoBERTa counts its positions from the padding token on.
    known = getattr(network.config, "max_position_embeddings", 512)
    beyond = network.config.pad_token_id or 0 if network.config.model_type in ("roberta", "xlm-roberta") else -1
    return min(int(tokenizer.model_max_length), int(known) - beyond - 1)
