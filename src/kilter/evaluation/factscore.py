"""FActScore: a text is broken into atomic facts, and each is looked up."""

from __future__ import annotations

import asyncio
import math
import re
from dataclasses import replace

from kilter.errors import KilterError, SetAside
from kilter.evaluation.given import Text, texts
from kilter.evaluation.judging import Way, evaluated
from kilter.evaluation.options import spread
from kilter.evaluation.passages import Passages, by_topic
from kilter.evaluation.probes import sentences
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.scoring import SCORING, Outcomes, judgements
from kilter.feedback.judge import Judge, Judgement
from kilter.feedback.labels import yes
from kilter.feedback.parsers import parse
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Prompt
from kilter.registry import Count, Whole, method

PROMPTS = Prompts(__file__)
ABSTAINS = re.compile(
    r"\b(i (do not|don't|cannot|can't) (know|have|find|provide)|i('m| am) (sorry|not (sure|familiar|aware))"
    r"|could(n't| not) find|no information)\b|不知道|无法(提供|确定|找到)|抱歉|没有.{0,6}信息",
    re.IGNORECASE,
)
DEMONSTRATIONS = (
    ("He made his acting debut in the film The Moon is the Sun's Dream (1992).",
     ("He made his acting debut in a film.", "The film is The Moon is the Sun's Dream.", "The film is of 1992.")),
    ("She is best known for her novel, which won the prize in 2001 and was translated into twelve languages.",
     ("She is best known for her novel.", "The novel won the prize in 2001.",
      "The novel was translated into twelve languages.")),
    ("瓦格出生在山镇，是一名面包师。", ("瓦格出生在山镇。", "瓦格是一名面包师。")),
)  # fmt: skip
for _dimension in (
    Dimension("init_score", "Facts supported", "higher", "share", "Share of a text's atomic facts that are supported."),
    Dimension("responds", "Responds", "higher", "share", "Topics to which the model does not decline to say anything."),
    Dimension("facts", "Facts a text", "higher", "number", "Atomic facts in a text."),
):
    DIMENSIONS.setdefault(_dimension.name, _dimension)


@method("factscore", wing="evaluation", paper="arXiv:2305.14251", survey="S1 §8.4")
@spread(judge_tokens=512, probes=0)
async def factscore(
    records: list[Prompt | Demonstration | Group],
    model: Model | None = None,
    *,
    knowledge: str,
    gamma: Whole = 10,
    k: Count = 5,
    size: Count = 256,
    way: Way,
) -> Evaluation:
    """Measure how much of what a text says is true by a source of knowledge (FActScore, Min et al. 2023).

    Each sentence is broken into atomic facts by the judge, after worked examples. Each fact is held against the `k`
    passages of the topic's documents that fit it best, and the judge says whether it is true: whichever of "true" and
    "false" it says last; where it says neither, the fact counts as supported unless a word of doubt is said (not,
    cannot, unknown, information), as the authors' code has it, and those facts are counted. With `--verdict logprobs`
    P(True) and P(False) are compared instead. init_score is the mean share of facts supported; score is the same times
    exp(1 - gamma / n) for a text of n <= gamma facts; responds the share of texts that do not decline, which alone are
    scored; facts how many facts a text has.

    The texts are the responses in the records, or with --model its answers. A record's topic is its meta's topic or
    title, else the title of the knowledge that the question names.

    Rows of the knowledge: title and text. Passages are ranked by BM25 (the paper by a dense retriever, GTR).

    Options:
        knowledge: the file of the documents
        gamma: a text of fewer facts is penalised for its shortness; 0 for no penalty (10)
        k: passages shown with each fact (5)
        size: words of a passage (256)
    """
    known = by_topic(knowledge, size)
    judge = way.opened()
    found = texts(records, model)[: way.n]
    topics = {text.id: topic_of(text, records, known) for text in found}
    if not any(topics.values()):
        raise KilterError(f"No record is about a title of {knowledge}; give records with a topic, or other documents.")

    async def one(text: Text) -> Row:
        topic = topics[text.id]
        if topic is None:
            raise SetAside("Nothing is known of the text's topic.", "no knowledge")
        response = text.response
        if response is None:
            assert model is not None
            [answer] = await model.ask(list(text.messages), way.sampling)
            response = answer.text
        sample: Row = text.sample(response) | {
            "topic": topic,
            "scoring": "facts",
            "gamma": gamma,
            "declined": declined(response),
            "judgements": [],
            "facts": [],
        }
        if not sample["declined"]:
            facts = await atoms(judge, response)
            told = await asyncio.gather(
                *(check(judge, topic, fact, known[topic].best(f"{topic} {fact}", k)) for fact in facts)
            )
            sample |= {"facts": facts, "judgements": [one.to_json() for one in told]}
        sample["outcomes"] = supported(sample)
        return sample

    samples = await each(found, one, label="factscore")
    lost = sum(not one.ok for sample in samples for one in judgements(sample))
    total = sum(len(sample["judgements"]) for sample in samples)
    unsaid = f"On {lost:,} of {total:,} facts the judge says neither true nor false; they count by words of doubt."
    name = model.name if model is not None else ""
    evaluation = evaluated(name, samples, suite="factscore", seed=way.seed)
    evaluation.notes = [unsaid] if lost else []
    return evaluation


def topic_of(text: Text, records: list[Prompt | Demonstration | Group], known: dict[str, Passages]) -> str | None:
    """Return what a text is about: its record's topic, else the longest title that its question names."""
    for record in records:
        if record.id == text.record:
            told = str(record.meta.get("topic") or record.meta.get("title") or "")
            if told in known:
                return told
    named = [title for title in known if title in text.case.question]
    return max(named, key=len) if named else None


def declined(response: str) -> bool:
    """Return whether a response declines to say anything: it is empty, or its first sentence says so."""
    parts = sentences(response)
    return not parts or ABSTAINS.search(parts[0]) is not None


async def atoms(judge: Judge, text: str) -> list[str]:
    """Return the atomic facts of a text, sentence by sentence."""

    async def one(sentence: str) -> list[str]:
        asked = PROMPTS("atoms", shots=DEMONSTRATIONS, sentence=sentence)
        [answer] = await judge.model.ask(asked, Sampling(max_tokens=judge.max_tokens, seed=judge.seed))
        return listed(answer.text)

    told = await asyncio.gather(*(one(sentence) for sentence in sentences(text)))
    return [fact for facts in told for fact in facts]


def listed(text: str) -> list[str]:
    """Return the items of a list, one a line after a dash, a star or a number."""
    found = re.findall(r"^\s*(?:[-*•]|\d+[.)])\s+(.+?)\s*$", text, re.MULTILINE)
    return [fact for fact in found if fact]


async def check(judge: Judge, topic: str, fact: str, passages: list[str]) -> Judgement:
    """Return whether a fact is true by the passages, in the judge's words or by its probabilities."""
    asked = PROMPTS("check", topic=topic, fact=fact, passages=passages)
    if judge.by == "logprobs":
        p = await yes(judge.model, asked, ("True", "False"))
        return Judgement(
            "fact", judge.name, "True" if p > 0.5 else "False", "factscore@1", p > 0.5, True, asked.version
        )
    [told] = await judge.judgements("fact", asked, parser="factscore")
    return replace(told, kind="fact")


def supported(sample: Row) -> Outcomes:
    """Score a sample of facts; the shorter a text of fewer than gamma facts, the less."""
    found: Outcomes = {"responds": float(not sample["declined"])}
    told = judgements(sample)
    if sample["declined"] or not told:
        return found
    truths = [bool(parse("factscore", one.text, official=True).value) for one in told]
    share = sum(truths) / len(truths)
    gamma = float(sample.get("gamma", 10))
    found |= {"init_score": share, "score": share * penalty(len(truths), gamma), "facts": float(len(truths))}
    return found | {"judge:parsed": sum(one.ok for one in told) / len(told)}


def penalty(n: int, gamma: float) -> float:
    """Return 1 for a text of more than gamma facts, else exp(1 - gamma / n)."""
    return 1.0 if n > gamma or gamma <= 0 else math.exp(1 - gamma / n)


SCORING["facts"] = supported
