"""The sandbox of Stable Alignment: a society of language models that judge and mend one another's answers."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.errors import KilterError, SetAside
from kilter.models.each import answered, each
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Group, Message, Origin, Prompt, Record
from kilter.registry import Amount, Count, Share, method
from kilter.training.objective import learns_from
from kilter.training.stable_alignment import stable_alignment

PAPER = "arXiv:2305.16960"
PROMPTS = Prompts(__file__)
NEAR = 0.3  # a question at a smaller distance has been met before
_RATING = re.compile(r"rating\s*[:：]\s*\**\[*(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Agent:
    """One member: its place on the grid, whether its first memories are good or bad ones, and what it has answered."""

    number: int
    place: tuple[int, int]
    label: str
    memory: dict[str, str] = field(default_factory=dict)

    def recall(self, question: str) -> tuple[str, str] | None:
        """Return the question most like this one that was answered before, with the answer, if it is near enough."""
        found = min(((distance(question, known), known) for known in self.memory), default=(math.inf, ""))
        return (found[1], self.memory[found[1]]) if found[0] < NEAR else None


def distance(one: str, other: str) -> float:
    """Return 1 - cosine of the counts of runs of three characters."""
    a, b = (Counter(text[i : i + 3] for i in range(max(1, len(text) - 2))) for text in (one.lower(), other.lower()))
    norm = math.sqrt(sum(n * n for n in a.values()) * sum(n * n for n in b.values()))
    return 1 - sum(n * b[run] for run, n in a.items()) / norm if norm else 1.0


def society(grid: int, setting: str, seed: int) -> list[Agent]:
    """Return grid x grid agents; half of them are good where the setting is half (by place) or mixed (by chance)."""
    places = [(row, column) for row in range(grid) for column in range(grid)]
    half = len(places) // 2
    by_place = [place for place in places if place[0] <= place[1]][:half]
    good = set({"good": places, "bad": [], "half": by_place}.get(setting, ()))
    if setting == "mixed":
        good = set(random.Random(f"society {seed}").sample(places, half))
    return [Agent(i, place, "good" if place in good else "bad") for i, place in enumerate(places)]


def neighbours(agents: Sequence[Agent], agent: Agent, radius: float) -> list[Agent]:
    """Return the other agents whose place is within the radius, as the crow flies."""
    return [other for other in agents if other is not agent and math.dist(other.place, agent.place) <= radius]


def rating_of(text: str, scale: int) -> int | None:
    """Return the rating that a text says, None where it says none from 1 to `scale`."""
    found = _RATING.search(text)
    return int(found[1]) if found and 1 <= int(found[1]) <= scale else None


@method("sandbox", wing="data", paper=PAPER, survey="S1 §4.3.2")
async def simulate(
    model: Model,
    records: list[Prompt | Group],
    *,
    grid: Annotated[int, Field(ge=2)] = 4,
    setting: Literal["good", "bad", "half", "mixed"] = "good",
    rounds: Count = 1,
    dropout: Share = 0.0,
    observer: str = "",
    scale: Annotated[int, Field(ge=2)] = 7,
    max_tokens: Count = 256,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> list[Group]:
    """Simulate a society whose members answer, are rated by their neighbours and revise (Liu et al. 2023, §3.1).

    Agents, all the same model, stand on a grid x grid square. In each round every agent is asked one of the questions
    and drafts an answer, mindful of the nearest question that it answered before; its neighbours within grid / 2 steps,
    less a share `dropout`, each say what they think of the draft and rate it; the agent revises, the worst-rated reason
    nearest to where it writes, and remembers the revision. An observer rates draft and revision, for their values and
    for how engaging they are. A reason without a readable rating stands farthest away and does not enter the mean.
    Where a record is a group with scores, agents begin with memories: good ones remember best answers, bad ones worst.

    A group holds draft and revision with the observer's ratings as scores; meta has agent, place, label, round,
    listeners, ratings, feedbacks, mean_rating and engagement. `kilter train sandbox` makes its three kinds of data of
    them. The same seed gives the same society and the same course.

    Options:
        grid: agents along a side
        setting: whose first memories are good: everybody's, nobody's, half of the agents' by place or by chance
        rounds: how often every agent is asked
        dropout: share of the neighbours that are left out, one always staying
        observer: the model that rates drafts and revisions; without one, the model itself
        scale: highest rating
        max_tokens: longest answer and reason
        temperature: of sampling answers and reasons
        seed: seed of society, questions and samples
    """
    if not records:
        raise KilterError("A society needs something to talk about; give prompts, or groups of answers to them.")
    watcher, agents = load(observer) if observer else model, society(grid, setting, seed)
    _remember(agents, records, seed)

    async def say(who: Model, name: str, number: int, **about: object) -> str:
        asked = PROMPTS(name, scale=scale, **about)
        found = await answered(who, asked, Sampling(max_tokens, temperature, seed=number), cut=True)
        return found.text.strip()

    async def rated(name: str, question: str, text: str, number: int) -> float:
        said = rating_of(await say(watcher, name, number, question=question, response=text, previous=None), scale)
        if said is None:
            raise SetAside("The observer gave no rating that can be read; ask another model to observe.", "no rating")
        return float(said)

    async def act(turn: tuple[int, Agent]) -> Group:
        round_, agent = turn
        number = seed * 1_000_003 + round_ * len(agents) + agent.number
        draw = random.Random(f"sandbox {number}")
        record = draw.choice(records)
        question = (record.prompt if isinstance(record, Group) else record.messages)[-1].content
        draft = await say(model, "draft", number, question=question, previous=agent.recall(question))
        near = neighbours(agents, agent, grid / 2)
        near = sorted(draw.sample(near, max(1, round((1 - dropout) * len(near)))), key=lambda other: other.number)

        async def judged(other: Agent) -> tuple[int | None, str]:
            about = {"question": question, "response": draft, "previous": other.recall(question)}
            said = await say(model, "rate", number * len(agents) + other.number, **about)
            return rating_of(said, scale), _RATING.sub("", said).strip(" \n]*.#") or said

        said = await asyncio.gather(*(judged(other) for other in near))
        heard = [(other, *found) for other, found in zip(near, said, strict=True)]
        # The worst-rated stands last; what has no rating first.
        heard.sort(key=lambda one: -(scale + 1 if one[1] is None else one[1]))
        ratings = [rating for _, rating, _ in heard if rating is not None]
        mean = sum(ratings) / len(ratings) if ratings else None
        told = "\n".join(reason for *_, reason in heard)
        shown = "-" if mean is None else f"{mean:.2f}"
        revised = await say(model, "revise", number, question=question, response=draft, critique=told, mean=shown)
        texts = (draft, revised)
        scores = [await rated("rate", question, text, number) for text in texts]
        engagement = [await rated("engaging", question, text, number) for text in texts]
        meta = {
            "agent": agent.number, "place": list(agent.place), "label": agent.label, "round": round_,
            "listeners": [other.number for other, *_ in heard], "ratings": [rating for _, rating, _ in heard],
            "feedbacks": [reason for *_, reason in heard], "mean_rating": mean, "engagement": engagement,
        }  # fmt: skip
        origin = Origin("sandbox", PAPER, model.name, (record.id,), seed, PROMPTS.version("revise"))
        return Group([Message("user", question)], list(texts), scores=scores, origin=origin, meta=meta)

    found: list[Group] = []
    for round_ in range(rounds):
        # Within a round all act on what they remembered when it began, so that their order changes nothing.
        acted = await each([(round_, agent) for agent in agents], act, label=f"round {round_ + 1} of {rounds}")
        for group in acted:
            agents[group.meta["agent"]].memory[group.prompt[-1].content] = group.responses[1]
        found += acted
    return found


def _remember(agents: Sequence[Agent], records: Sequence[Prompt | Group], seed: int) -> None:
    """Give agents their first memories, one each, of the groups that say what is better."""
    groups = [record for record in records if isinstance(record, Group) and record.pairs()]
    for agent in agents if groups else ():
        group = random.Random(f"memory {seed} {agent.number}").choice(groups)
        pairs = group.pairs()
        answer = group.responses[pairs[0][0] if agent.label == "good" else pairs[0][1]]
        agent.memory[group.prompt[-1].content] = answer


def three_kinds(
    records: list[Record],
    *,
    self_critic: Amount = 0.2,
    realignment: Amount = 0.2,
    rating_scale: Annotated[float, Field(gt=0)] = 7.0,
    seed: int = 0,
) -> tuple[list[Record], list[str]]:
    """Return imitation, self-critic and realignment groups of a society's records."""
    met = [record for record in records if isinstance(record, Group) and "feedbacks" in record.meta]
    if not met:
        raise KilterError("No record is of a society; make some with `kilter data sandbox --records PROMPTS`.")
    asked: dict[str, dict[str, float]] = {}
    critics: list[Record] = []
    realigned: list[Record] = []
    for group in met:
        before, after = group.order() or (0.0, 0.0)
        known = asked.setdefault(group.prompt[-1].content, {})
        for text, score in zip(group.responses, (before, after), strict=True):
            known.setdefault(text, score)
        draft, revised = group.responses
        shown = [*group.prompt, Message("assistant", draft)]
        told = dict(zip(group.meta["feedbacks"], group.meta["ratings"], strict=True))
        if rated := {text: float(rating) for text, rating in told.items() if text and rating is not None}:
            critics.append(Group([*shown, *PROMPTS("comment")], list(rated), scores=list(rated.values())))
        reasons = [text for text in group.meta["feedbacks"] if text]
        # Mended, and to more than the middle of the scale: over 4 of 7.
        if reasons and after > before and after > 4 / 7 * rating_scale:
            mended = [f"{reasons[-1]}\n\n{revised}"]
            realigned.append(Group([*shown, *PROMPTS("realign")], mended, scores=[after]))
    made: list[Record] = [
        Group([Message("user", question)], list(known), scores=list(known.values()))
        for question, known in asked.items()
    ]
    draw = random.Random(f"three kinds {seed}")
    imitated = len(made)
    for kind, share in ((critics, self_critic), (realigned, realignment)):
        made += draw.sample(kind, min(len(kind), math.ceil(share * imitated)))
    left = len(records) - len(met)
    return made, [f"{left} of {len(records)} records left out: no feedback of a society."] if left else []


@method("sandbox", wing="training", paper=PAPER, survey="S1 §4.3.2")
@learns_from("scores", records=three_kinds, learning_rate=2e-5, epochs=7, batch_size=8)
def sandbox(
    policy: LogProbs,
    group: Groups,
    *,
    ratio: Amount = 0.2,
    margin: Amount = 10.0,
    rating_scale: Annotated[float, Field(gt=0)] = 7.0,
) -> Loss:
    """Stable Alignment on a society's records, in the paper's three kinds of data (Liu et al. 2023, §3.2).

    Of the records of `kilter data sandbox` come: imitation, all answers to a question with the observer's ratings;
    self-critic, a draft and the request to comment on it, with what others said and how they rated; realignment, a
    draft and the request to comment and mend, with a reason and the revision where the observer rated it above the
    draft and above 4 of 7. They are mixed 5:1:1. The loss is that of `stable-alignment`: the best-rated is imitated,
    the others are kept less likely by as much as they are rated worse.

    policy: log-probs of R responses; group.scores [R]: their ratings. The result is per response [R].

    Options:
        ratio: weight of the second term
        margin: nats a token that the best should lead by over one rated a whole scale below
        rating_scale: highest rating
        self_critic: groups of that kind for each of imitation
        realignment: groups of that kind for each of imitation
    """
    return stable_alignment(policy, group, ratio=ratio, margin=margin, rating_scale=rating_scale)
