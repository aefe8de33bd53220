"""Questions that people have asked, answered by a model and looked through."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise

from kilter.data.drafts import Batch, settled, sound
from kilter.data.replies import asked_of
from kilter.data.sieve import leave_out, said
from kilter.data.tokens import tokenise
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Share, method
from kilter.store import rejects

PAPER = "arXiv:2304.01196"
PROMPTS = Prompts(__file__)
REFUSAL = re.compile(
    r"as an? (?:\w+ )?(?:ai|language model)|i(?:'m| am) (?:sorry|unable|not able)|i (?:can ?not|can't|won't) (?:help|"
    r"assist|provide|answer)|作为(?:一个)?(?:人工智能|AI|语言模型)|(?:抱歉|对不起)[，,].{0,12}(?:不能|无法)|"
    r"我(?:不能|无法)(?:帮|回答|提供)",
    re.IGNORECASE,
)
LOOKED_AT = 500  # questions of a source that its likeness is measured on


@method("community-seeds", wing="data", paper=PAPER, survey="S2 §2.2", aliases=("gpt4all",))
async def community_seeds(
    model: Model,
    records: list[Prompt],
    *,
    source: str = "source",
    refusals: bool = False,
    likeness: Share = 0.5,
    temperature: Amount = 0.7,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> list[Demonstration]:
    """Answer questions that people asked, and keep what is worth it (Xu et al. 2023, Anand et al. 2023).

    The way of Baize and of GPT4All. Questions that are there twice are answered once. A source whose questions are too
    much alike is left out before anything is asked: the mean cosine of their word counts is over `likeness`. That
    stands for what GPT4All's authors saw on a map of embeddings (a homogeneous part of P3). Answers that refuse or talk
    of being an AI are left out, and so are those that are empty, cut off, far too long, in another script, or that
    repeat the question. Every record names its question (origin.parents) and where that is from: meta seed_source.
    GPT4All kept 437,605 of about 800,000.

    Options:
        source: name in the records' meta of where a question is from
        refusals: whether answers that refuse are kept
        likeness: mean cosine over which the questions of one source are left out
        temperature: of the answers
        max_tokens: longest answer
        seed: seed of the model's samples
    """
    asked_for = _different(records)
    uniform = _uniform(asked_for, source, likeness)

    async def one(prompt: Prompt) -> Batch[Demonstration]:
        question = asked_of(prompt.messages)
        asked = PROMPTS("answer", messages=prompt.messages)
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
        answer = await sound(model, asked, sampling, of=question)
        text = answer.text.strip()
        batch: Batch[Demonstration] = Batch()
        if not refusals and REFUSAL.search(text):
            batch.drop(prompt, "refusal", f"The answer refuses: {text[:60]!r}.")
            return batch
        origin = Origin("community-seeds", PAPER, answer.model, (prompt.id,), seed, asked.version)
        meta = {**prompt.meta, "seed_source": _source(prompt, source)}
        batch.items.append(Demonstration([*prompt.messages, Message("assistant", text)], origin=origin, meta=meta))
        return batch

    kept = [prompt for prompt in asked_for if _source(prompt, source) not in uniform]
    return settled(await each(kept, one, label=f"answers · {model.name}"))


def _different(records: Iterable[Prompt]) -> list[Prompt]:
    found: dict[str, Prompt] = {}
    for record in records:
        text = said(record)
        if text in found:
            leave_out(record, "duplicate seed", "The same question comes before it.")
        elif not text.strip():
            leave_out(record, "no prompt", "It asks nothing.")
        else:
            found[text] = record
    return list(found.values())


def _source(prompt: Prompt, name: str) -> str:
    found = prompt.meta.get(name, (prompt.meta.get("extra") or {}).get(name))
    return str(found) if found not in (None, "") else prompt.origin.method if prompt.origin else "unknown"


def _uniform(records: list[Prompt], name: str, likeness: float) -> set[str]:
    """Return the sources whose questions are too much alike, their records entered in the rejects."""
    of_source: dict[str, list[Prompt]] = defaultdict(list)
    for record in records:
        of_source[_source(record, name)].append(record)
    found = set()
    kept = rejects.current()
    for origin, these in of_source.items():
        alike = mean_cosine([said(record) for record in these[:LOOKED_AT]])
        if len(these) < 10 or alike <= likeness:
            continue
        found.add(origin)
        for record in these if kept is not None else ():
            leave_out(record, "homogeneous", f"The questions of {origin} have a mean cosine of {alike:.2f}.")
    return found


def mean_cosine(texts: list[str]) -> float:
    """Return the mean cosine of the word counts of every two texts; 0 for fewer than two.

    Unweighted: what one source has in common is the words that all of its questions have.
    """
    if len(texts) < 2:
        return 0.0
    total: dict[int, float] = defaultdict(float)
    there = 0
    tokens = tokenise(texts)
    for first, last in pairwise(tokens.starts.tolist()):
        counts = Counter(tokens.hashes[first:last].tolist())
        length = math.sqrt(sum(many * many for many in counts.values()))
        there += length > 0
        for word, many in counts.items():
            total[word] += many / length
    # The squared length of the sum of unit vectors holds each pair twice, and each vector with itself once.
    return (sum(value * value for value in total.values()) - there) / (len(texts) * (len(texts) - 1))
