"""Conversations in three sectors, by two models of which one plays the person."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.replies import listed, model_of, requests_in
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Share, Whole, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2305.14233"
Sector = Literal["questions", "entities", "writing", "materials"]
ROUNDS = {"questions": (3, 7), "entities": (3, 7), "writing": (2, 4), "materials": (2, 4)}
TOPICS = (
    "technology", "health and the body", "food and cooking", "travel", "history", "geography", "plants and animals",
    "music", "films and series", "literature", "languages", "painting and design", "architecture", "sport", "games",
    "mathematics", "physics and chemistry", "space", "the environment", "economics and money", "work and careers",
    "law and government", "education", "family and relationships", "psychology", "philosophy", "religion and customs",
    "clothes and fashion", "transport", "house and garden",
)  # fmt: skip
WRITING = (
    "a short story", "a poem", "an essay", "a news report", "a blog post", "an e-mail", "a letter", "a speech",
    "a review of a product or a film", "a script for a scene", "an advertisement", "a set of instructions",
    "a product description", "a song's lyrics", "a biography", "a travel guide", "a dialogue", "a report for work",
    "a programme in a programming language", "a post for social media",
)  # fmt: skip
_NO_PERSON = re.compile(
    r"\bas an? (ai|artificial intelligence|language model)|\bi am an? (ai|assistant|language model)|"
    r"\bhow (can|may) i (help|assist)|\b(happy|glad) to (help|assist)|\blet me know if you|\bfeel free to ask|"
    r"作为一个?(ai|人工智能|语言模型)|有什么(可以|能)帮",
    re.IGNORECASE,
)
_VARIANTS = 4


@dataclass(frozen=True)
class Opening:
    """What a conversation begins with, what it is about, and the record that it came from."""

    text: str
    about: str
    parents: tuple[str, ...] = ()


@method("ultrachat", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3", aliases=("ultrallama",))
async def ultrachat(
    model: Model,
    records: list[Prompt] | None = None,
    *,
    sector: Sector = "questions",
    user: str = "",
    subtopics: Count = 37,
    questions: Count = 10,
    general: Whole = 20,
    expansions: Whole = 0,
    instructions: Count = 200,
    detailed: Share = 0.8,
    requests: Count = 5,
    conversations: int | None = None,
    least: int | None = None,
    most: int | None = None,
    max_tokens: Count = 1024,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Demonstration]:
    """Conversations about questions, about writing and about given texts (Ding et al. 2023).

    Openings, by sector:

        questions   30 topics (or those of the records), of each `subtopics`, of each of those `questions` questions,
                    and of every question `expansions` more                                                3-7 rounds
        entities    the records name things; of each `questions` specific questions and `general` ones     3-7 rounds
        writing     20 types of text (or those of the records), of each `instructions` requests to write
                    one, of which the share `detailed` is made more detailed                               2-4 rounds
        materials   the records hold texts; of each at most `requests` requests, joined with the text by
                    one of four templates                                                                  2-4 rounds

    Then two models talk: one is told to be a person and sees the conversation so far, the other sees plain turns and
    knows of no persona. The number of rounds is drawn. A conversation in which the person says what an assistant says
    ("as an AI", "feel free to ask") is left out, as is one with an empty turn. meta: sector, about, rounds.

    Options:
        sector: what the conversations begin with
        user: model that plays the person; without it the same model does
        subtopics: subtopics of a topic
        questions: questions of a subtopic, or specific ones of an entity
        general: general questions of an entity
        expansions: further questions that a question leads to
        instructions: requests of a type of writing
        detailed: share of the requests to write that are made more detailed
        requests: most requests of a text
        conversations: most conversations, drawn from all openings; without it there is one for each
        least: fewest rounds; without it the sector's
        most: most rounds; without it the sector's
        max_tokens: longest turn
        temperature: sampling temperature
        seed: seed of all draws and turns
    """
    low, high = least or ROUNDS[sector][0], most or ROUNDS[sector][1]
    if not 1 <= low <= high:
        raise KilterError(f"least is {low} and most is {high}; give at least 1 round, and no fewer as most than least.")
    if not records and sector in ("entities", "materials"):
        raise KilterError(f"The sector '{sector}' reads what the conversations are about; give it records.")
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    given = requests_in(records or ())
    maker = _Maker(model, sampling, sector)
    if sector == "questions":
        topics = await maker.all("subtopics", given or [(topic, ()) for topic in TOPICS], subtopics)
        found = await maker.all("questions", topics, questions)
        if expansions:
            found += await maker.all("expand", found, expansions)
    elif sector == "entities":
        found = await maker.all("questions", given, questions)
        found += await maker.all("general", given, general) if general else []
    elif sector == "writing":
        found = await maker.all("instructions", given or [(kind, ()) for kind in WRITING], instructions)
        found = await maker.detailed(found, detailed, random.Random(f"ultrachat detail {seed}"))
    else:
        found = await maker.materials(given, requests, random.Random(f"ultrachat material {seed}"))
    found = list(dict.fromkeys(found))
    if conversations is not None and conversations < len(found):
        chosen = sorted(random.Random(f"ultrachat {seed}").sample(range(len(found)), conversations))
        found = [found[i] for i in chosen]
    person = model_of(user, model)

    async def one(item: tuple[int, Opening]) -> Demonstration:
        i, opening = item
        rounds = random.Random(f"ultrachat {seed} {i}").randint(low, high)
        turns = [Message("user", opening.text)]
        while True:
            reply = await sound(model, turns, sampling, of=turns[-1].content)
            turns.append(Message("assistant", reply.text.strip()))
            if len(turns) == 2 * rounds:
                break
            turns.append(Message("user", await next_turn(person, turns, sampling)))
        origin = Origin("ultrachat", PAPER, reply.model, opening.parents, seed, PROMPTS.version("user"))
        meta = {"sector": sector, "about": opening.about, "rounds": rounds}
        return Demonstration(turns, origin=origin, meta=meta)

    return each(list(enumerate(found)), one, label=f"conversations · {model.name}")


async def next_turn(person: Model, history: Sequence[Message], sampling: Sampling) -> str:
    """Return what the person says next; raise SetAside where it is what an assistant would say."""
    said = (await sound(person, PROMPTS("user", history=list(history)), sampling)).text.strip()
    if _NO_PERSON.search(said):
        raise SetAside(f"The model that plays the person speaks as an assistant: {said[:80]!r}.", "person speaks as AI")
    return said


class _Maker:
    """Makes openings by asking a model for lists."""

    def __init__(self, model: Model, sampling: Sampling, sector: str) -> None:
        self._model, self._sampling, self._sector = model, sampling, sector

    async def all(self, name: str, over: Sequence[tuple[str, tuple[str, ...]] | Opening], n: int) -> list[Opening]:
        """Return `n` items that the prompt `name` asks for about each of `over`."""

        async def one(item: tuple[str, tuple[str, ...]] | Opening) -> list[Opening]:
            opening = item if isinstance(item, Opening) else Opening(item[0], item[0], item[1])
            asked = PROMPTS(name, about=opening.text, topic=opening.about, n=n, what=name)
            reply = await sound(self._model, asked, self._sampling)
            about = opening.text if name != "expand" else opening.about
            return [Opening(text, about, opening.parents) for text in listed(reply.text, n)]

        made = await each(over, one, label=f"{name} · {self._model.name}")
        return [opening for some in made for opening in some]

    async def detailed(self, openings: list[Opening], share: float, draw: random.Random) -> list[Opening]:
        """Return the requests, of which `share` are made more detailed."""
        chosen = set(draw.sample(range(len(openings)), round(share * len(openings))))

        async def one(item: tuple[int, Opening]) -> Opening:
            i, opening = item
            if i not in chosen:
                return opening
            reply = await sound(self._model, PROMPTS("detail", task=opening.text, words=80), self._sampling)
            return Opening(reply.text.strip(), opening.about, opening.parents)

        return await each(list(enumerate(openings)), one, label=f"details · {self._model.name}")

    async def materials(
        self, texts: Sequence[tuple[str, tuple[str, ...]]], n: int, draw: random.Random
    ) -> list[Opening]:
        """Return requests about texts, each joined with its text."""
        variants = [draw.randrange(_VARIANTS) for _ in texts]

        async def one(item: tuple[int, tuple[str, tuple[str, ...]]]) -> list[Opening]:
            i, (text, parents) = item
            reply = await sound(self._model, PROMPTS("requests", about=text, n=n, what="requests"), self._sampling)
            joined = [
                PROMPTS("material", text=text, request=request, variant=(variants[i] + k) % _VARIANTS)[0].content
                for k, request in enumerate(listed(reply.text, n))
            ]
            return [Opening(whole, text[:200], parents) for whole in joined]

        made = await each(list(enumerate(texts)), one, label=f"requests · {self._model.name}")
        return [opening for some in made for opening in some]
