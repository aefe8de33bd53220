"""Language models as examiners: they set questions, ask further, and rate the answers, alone or one another's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kilter.errors import KilterError, SetAside
from kilter.evaluation.judging import opened
from kilter.evaluation.llmeval import PROMPTS as _SCHEMA
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.scoring import SCORING, Outcomes, judgements
from kilter.evaluation.statistics import summarize
from kilter.evaluation.task_judges import RUBRICS, rate_by_table
from kilter.feedback.judge import Case, Judge, Judgement, case_of
from kilter.models.each import answered, each
from kilter.models.mixed import members
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Message
from kilter.registry import Count, Whole, method

PROMPTS = Prompts(__file__)
NAMES = tuple(RUBRICS["question"].dimensions)  # accuracy, coherence, factuality, comprehensiveness
LEAST, MOST = 1, 5
DIMENSIONS.setdefault(
    "depth", Dimension("depth", "Depth", "higher", "number", "Questions of a thread answered with a mean of 3 or more.")
)


@method("lmexaminer", wing="evaluation", paper="arXiv:2306.04181", survey="S2 §4.2", aliases=("lm-examiner",))
async def lmexaminer(
    model: Model,
    *,
    examiners: str,
    topics: str,
    each_topic: Count = 2,
    followups: Whole = 1,
    max_tokens: Count = 512,
    seed: int = 0,
) -> Evaluation:
    """Have models examine another: questions of their own, further questions, ratings (Bai et al. 2023).

    Each examiner sets questions on each topic, asks further by what was answered, and rates every answer from 1 to 5
    for accuracy, coherence, factuality and comprehensiveness. With one examiner that is all (centralised); with several
    (A,B,C) each answer is rated by all of them and the mean is taken (decentralised peer examination), but never by the
    model that is examined itself. score is the mean over answers, skill:NAME each dimension, round:N the mean of the
    N-th question of a thread, depth how many questions of a thread have a mean of 3 and more before one has less.
    judge:parsed is the share of ratings that could be read; one that could not is left out.

    Options:
        examiners: the models that examine: one name, or several with commas
        topics: topics with commas, or a file with one a line
        each_topic: questions that each examiner sets on each topic
        followups: further questions after each
        max_tokens: longest answer in tokens
        seed: seed of the questions
    """
    every = [Judge(opened(one), max_tokens=256, seed=seed) for one in members(opened(examiners))]
    judges = [judge for judge in every if judge.name != model.name]
    if not judges:
        raise KilterError(f"'{model.name}' is the only examiner, and nobody examines itself; name another.")
    notes = [f"{model.name} does not examine itself."] if len(judges) < len(every) else []
    subjects = listed(topics)
    asked = [(judge, topic, k) for judge in judges for topic in subjects for k in range(each_topic)]

    async def one(item: tuple[Judge, str, int]) -> list[Row]:
        judge, topic, k = item
        return await examined(model, judge, judges, topic, k, followups, max_tokens, seed)

    samples = [sample for thread in await each(asked, one, label=f"lmexaminer · {model.name}") for sample in thread]
    if not any("score" in sample["outcomes"] for sample in samples):
        raise KilterError("No answer has a rating that can be read; the examiners may not follow the instruction.")
    return Evaluation(model.name, summarize(samples), samples, suite="lmexaminer", seed=seed, notes=notes)


def listed(topics: str) -> list[str]:
    """Return topics from a text with commas, or from a file with one a line. Raises KilterError where there is none."""
    path = Path(topics)
    found = path.read_text(encoding="utf-8").splitlines() if path.is_file() else topics.split(",")
    known = [topic.strip() for topic in found if topic.strip()]
    if not known:
        raise KilterError("There is no topic to ask about; write --topics 'history,chemistry', or name a file.")
    return list(dict.fromkeys(known))


async def examined(
    model: Model, judge: Judge, judges: Sequence[Judge], topic: str, k: int, followups: int, max_tokens: int, seed: int
) -> list[Row]:
    """Return the samples of one thread: the examiner's question, what it asks after each answer, all ratings."""
    noise = Sampling(max_tokens=256, temperature=1.0, seed=seed * 1009 + k)
    question = (await answered(judge.model, PROMPTS("set", topic=topic, number=k + 1), noise, cut=True)).text.strip()
    talk: list[Message] = []
    samples: list[Row] = []
    for at in range(followups + 1):
        talk.append(Message("user", question))
        [answer] = await model.ask(talk, Sampling(max_tokens=max_tokens, seed=seed))
        case = case_of(talk)
        told = await asyncio.gather(*(rating(one, case, answer.text) for one in judges))
        sample: Row = {
            "id": f"{judge.name}/{topic}/{k}/{at}",
            "prompt": [message.to_json() for message in talk],
            "response": answer.text,
            "family": topic,
            "language": "",
            "cluster": f"{judge.name}/{topic}/{k}",
            "round": at + 1,
            "scoring": "examined",
            "judgements": [one.to_json() for some in told for one in some],
        }
        sample["outcomes"] = scored(sample)
        samples.append(sample)
        talk.append(Message("assistant", answer.text))
        if at < followups:
            asked = PROMPTS("further", topic=topic, question=question, response=answer.text)
            try:
                question = (await answered(judge.model, asked, noise, cut=True)).text.strip()
            except SetAside:
                break
    means = [sample["outcomes"].get("score", 0.0) for sample in samples]
    deep = next((at for at, value in enumerate(means) if value < (LEAST + MOST) / 2), len(means))
    samples[0]["outcomes"]["depth"] = float(deep)
    return samples


async def rating(judge: Judge, case: Case, answer: str) -> list[Judgement]:
    """Return one examiner's rating of an answer."""
    rate = rate_by_table(judge, _SCHEMA, "schema", NAMES, LEAST, MOST)
    return [replace(one, kind="examine") for one in await rate(case, answer, "")]


def scored(sample: Row) -> Outcomes:
    """Score an answer by all examiners' ratings: the mean of each dimension over the examiners, and of all."""
    told = judgements(sample)
    tables = [one.value for one in told if one.ok and isinstance(one.value, dict)]
    found: Outcomes = {"judge:parsed": sum(one.ok for one in told) / len(told)} if told else {}
    if not tables:
        return found
    means = {name: sum(table[name] for table in tables) / len(tables) for name in NAMES}
    score = sum(means.values()) / len(means)
    found |= {"score": score} | {f"skill:{name}": value for name, value in means.items()}
    return found | {f"round:{sample['round']}": score, f"category:{sample['family']}": score}


SCORING["examined"] = scored
