"""A model chooses topics and talks about them with itself, in Chinese."""

from __future__ import annotations

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.data.replies import listed, requests_in
from kilter.data.transcript import spoken, written
from kilter.errors import KilterError, SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2303.14742"
USER, ASSISTANT = "Human:", "Assistant:"
_WAYS = (USER, "Human：", "用户:", "用户："), (ASSISTANT, "Assistant：", "助手:", "助手：")
_A_CALL = 20  # topics that one request asks for


@method("belle-multiturn", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3")
async def belle_multiturn(
    model: Model,
    records: list[Prompt] | None = None,
    *,
    n: Count = 100,
    rounds: Count = 4,
    longest: Count = 20,
    flat: bool = False,
    language: str = "zh",
    max_tokens: Count = 2048,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[list[Demonstration]]:
    """Chinese conversations about topics that the model chooses itself (Ji et al. 2023; BELLE's 0.8M multi-turn set).

    First the model lists topics, until there are `n` different ones or it has no more; with records, their requests
    are the topics. Then it writes a whole conversation about each, the turns tagged Human: and Assistant:. Left out are
    conversations that are cut off, do not alternate or are in another language. With `flat` comes a record a round, as
    BELLE has them: the history as one tagged text, which ends with the question, and the answer. meta: topic.

    Options:
        n: how many topics, where no records give them
        rounds: how many rounds a conversation is to have
        longest: most characters of a topic
        flat: a record a round with the history as text, instead of one a conversation with its turns
        language: language that the conversations have to be in; empty for any
        max_tokens: longest transcript
        temperature: sampling temperature
        seed: seed of topics and conversations
    """
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    topics = requests_in(records or ())
    if records is None:
        topics = [(topic, ()) for topic in await _topics(model, n, longest, sampling)]

    async def one(item: tuple[str, tuple[str, ...]]) -> list[Demonstration]:
        topic, parents = item
        asked = PROMPTS("dialogue", topic=topic, rounds=rounds, user_tag=USER, assistant_tag=ASSISTANT)
        answer = await sound(model, asked, sampling)
        turns = spoken(answer.text, *_WAYS)
        found = language_of("\n".join(turn.content for turn in turns))
        if language and found != language:
            raise SetAside(f"The conversation is in '{found}', not in '{language}'.", "language")
        origin = Origin("belle-multiturn", PAPER, answer.model, parents, seed, asked.version)
        if not flat:
            return [Demonstration(turns, origin=origin, meta={"topic": topic})]
        return [
            Demonstration([Message("user", history), answer_], origin=origin, meta={"topic": topic})
            for history, answer_ in flattened(turns)
        ]

    return each(topics, one, label=f"conversations · {model.name}")


def flattened(turns: list[Message]) -> list[tuple[str, Message]]:
    """Return (all before it as one tagged text, the answer) for each answer of an alternating conversation.

    A text of several turns ends with the tag of the one who is to speak, and `spoken` reads the turns from it again; a
    first question stands as it is, as in BELLE's set. Raises SetAside where a turn holds a tag itself.
    """
    written(turns, USER, ASSISTANT)
    found = []
    for i, turn in enumerate(turns):
        if turn.role == "assistant":
            history = turns[0].content if i == 1 else f"{written(turns[:i], USER, ASSISTANT)}\n{ASSISTANT}"
            found.append((history, turn))
    return found


async def _topics(model: Model, n: int, longest: int, sampling: Sampling) -> list[str]:
    """Ask for topics until there are n, or until a request brings nothing new."""
    known: dict[str, None] = {}
    while len(known) < n:
        asked = PROMPTS("topics", n=min(_A_CALL, n - len(known)), longest=longest, known=list(known)[-50:], about="")
        reply = await sound(model, asked, sampling, cut=True)
        items = listed(reply.text)
        new = [topic for topic in (items[:-1] if reply.finish_reason == "length" else items) if topic not in known]
        new = [topic for topic in new if len(topic) <= longest]
        if not new:
            break
        known.update(dict.fromkeys(new))
    if not known:
        raise KilterError("The model named no topics that are short enough; give topics as records, or another model.")
    return list(known)[:n]
