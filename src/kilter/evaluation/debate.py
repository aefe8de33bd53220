"""Multi-agent debate: agents answer, read one another, answer again; the majority's answer is the final one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from kilter.errors import KilterError
from kilter.evaluation.judging import opened
from kilter.evaluation.questions import Item, from_records
from kilter.evaluation.result import DIMENSIONS, Dimension, Evaluation
from kilter.evaluation.rows import Row
from kilter.evaluation.statistics import summarize
from kilter.models.each import each
from kilter.models.mixed import members
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
Form = Literal["number", "letter", "text"]
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")

for _dimension in (
    Dimension("accuracy", "Accuracy", "higher", "share", "Final answers that are right."),
    Dimension("alone", "Accuracy alone", "higher", "share", "First answers of single agents that are right."),
    Dimension("majority", "Accuracy by vote", "higher", "share", "Majorities of the first answers that are right."),
    Dimension("agreed", "Agreement", "higher", "share", "Agents that gave the final answer in the last round."),
):
    DIMENSIONS.setdefault(_dimension.name, _dimension)


@method("debate", wing="evaluation", paper="arXiv:2305.14325", survey="S1 §8.4, S3 §5", aliases=("multiagent-debate",))
async def debate(
    model: Model,
    records: list[Prompt | Demonstration | Group],
    *,
    agents: Count = 3,
    rounds: Count = 2,
    answer: Form = "number",
    n: Count | None = None,
    temperature: Amount = 1.0,
    max_tokens: Count = 512,
    seed: int = 0,
) -> Evaluation:
    """Answer questions by a debate of several agents (Du et al. 2023).

    Each agent answers; in every further round it is shown the others' last answers and answers again. The final answer
    is the one that most agents give in the last round; of several that are as frequent the one given by the agent that
    comes first. An answer in which none can be found is nobody's vote, and where no agent gives one the question is
    wrong (the authors' code counts it as right). accuracy is of the final answers; alone the accuracy of a single first
    answer, majority that of a vote without debate; agreed the share of agents behind the final answer.

    The agents are samples of the model, or in turn the members of a mixture (A,B,C). Records need a right answer.

    Options:
        agents: how many agents (3)
        rounds: how often each answers (2)
        answer: what an answer is: the last number, the last letter A to E, or the last line as text
        n: how many questions, drawn with the seed; all where not given
        temperature: sampling temperature of the agents
        max_tokens: longest answer in tokens
        seed: seed of the draws
    """
    items = from_records(records, n, seed)
    known = [item for item in items if item.reference(0) and found_in(item.reference(0), answer) is not None]
    if not known:
        raise KilterError("No record has a right answer that can be read; give records with one, or another --answer.")
    notes = []
    if len(known) < len(items):
        notes.append(f"{len(items) - len(known):,} of {len(items):,} questions have no right answer and are left out.")
    models = [opened(one) for one in members(model)]

    async def one(item: Item) -> Row:
        said = await held(item, models, agents, rounds, Sampling(max_tokens, temperature, seed=seed))
        gold = found_in(item.reference(0), answer)
        votes = [[found_in(texts[r], answer) for texts in said] for r in range(rounds)]
        final, first = decided(votes[-1]), decided(votes[0])
        outcomes = {
            "accuracy": float(final is not None and final == gold),
            "alone": sum(vote == gold for vote in votes[0]) / agents,
            "majority": float(first is not None and first == gold),
            "agreed": 0.0 if final is None else votes[-1].count(final) / agents,
            "parsed": sum(vote is not None for vote in votes[-1]) / agents,
        }
        return item.sample(said[0][-1]) | {
            "expected": item.reference(0),
            "outcomes": outcomes,
            "debate": said,
            "votes": votes,
        }

    samples = await each(known, one, label=f"debate · {model.name}")
    mute = sum(sample["outcomes"]["parsed"] < 1 for sample in samples)
    if mute:
        notes.append(f"In {mute:,} of {len(samples):,} debates an agent ends without an answer, which is no vote.")
    return Evaluation(model.name, summarize(samples), samples, suite="debate", seed=seed, notes=notes)


async def held(item: Item, models: Sequence[Model], agents: int, rounds: int, sampling: Sampling) -> list[list[str]]:
    """Return what each agent says in each round [agents][rounds]. An agent sees the others' last answers, no others."""
    talks = [[*item.before, *PROMPTS("open", question=item.turns[0])] for _ in range(agents)]
    said: list[list[str]] = [[] for _ in range(agents)]
    for at in range(rounds):
        if at:
            for k, talk in enumerate(talks):
                others = [texts[at - 1] for j, texts in enumerate(said) if j != k]
                talk += PROMPTS("again", others=others, question=item.turns[0])
        for k, talk in enumerate(talks):
            noise = Sampling(sampling.max_tokens, sampling.temperature, seed=sampling.seed * 1009 + k * 31 + at)
            [answer] = await models[k % len(models)].ask(talk, noise)
            said[k].append(answer.text)
            talk.append(Message("assistant", answer.text))
    return said


def found_in(text: str, answer: Form) -> str | None:
    """Return the answer that a text ends in, None where it holds none."""
    boxed = _BOXED.findall(text)
    text = boxed[-1] if boxed else text
    if answer == "letter":
        letters = re.findall(r"\b([A-E])\b", text)
        return letters[-1] if letters else None
    if answer == "number":
        numbers = _NUMBER.findall(text)
        return None if not numbers else f"{float(numbers[-1].replace(',', '')):g}"
    lines = [line.strip().rstrip(".。").casefold() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else None


def decided(votes: Sequence[str | None]) -> str | None:
    """Return the most frequent vote, of several the one given first; None where nobody votes."""
    known = [vote for vote in votes if vote is not None]
    return Counter(known).most_common(1)[0][0] if known else None
