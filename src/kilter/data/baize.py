"""Self-chat: a model plays both sides of a conversation about a seed."""

from __future__ import annotations

from collections.abc import Iterable

from kilter.data.drafts import sound
from kilter.data.replies import asked_of
from kilter.data.transcript import spoken
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2304.01196"
USER, ASSISTANT = "[Human]", "[AI]"


@method("baize", wing="data", paper=PAPER, survey="S2 §2.3", aliases=("self-chat",))
def baize(
    model: Model,
    records: Iterable[Prompt],
    *,
    rounds: Count = 4,
    least: Count = 1,
    max_tokens: Count = 2048,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Demonstration]:
    """Conversations of a model with itself, each about one seed question (Xu et al. 2023, §3.1).

    One request a seed: the model writes the whole transcript, in which a person asks and an assistant answers, each
    turn behind its speaker's tag. The tags are taken off; a last turn of the person that nobody answers is dropped.
    Left out are transcripts that are cut off, that lack a side, in which a side speaks twice in a row or says nothing,
    and those of fewer than `least` rounds. meta: topic, rounds.

    records: the seeds; of each the last user's turn is the topic. The paper's second step, self-distillation with
    feedback, is `baize-sdf`.

    Options:
        rounds: how many questions the person is told to ask
        least: fewest rounds (a question and its answer) of a conversation that is kept
        max_tokens: longest transcript
        temperature: sampling temperature
        seed: seed of the transcripts
    """

    async def one(prompt: Prompt) -> Demonstration:
        topic = asked_of(prompt.messages)
        asked = PROMPTS("dialogue", topic=topic, rounds=rounds, user_tag=USER, assistant_tag=ASSISTANT)
        answer = await sound(
            model, asked, Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed), of=topic
        )
        turns = spoken(answer.text, (USER,), (ASSISTANT,))
        if len(turns) // 2 < least:
            raise SetAside(f"The conversation has {len(turns) // 2} rounds, fewer than {least}.", "too few rounds")
        origin = Origin("baize", PAPER, answer.model, (prompt.id,), seed, asked.version)
        meta = {**_kept(prompt), "topic": topic, "rounds": len(turns) // 2}
        return Demonstration(turns, origin=origin, meta=meta)

    return each(records, one, label=f"self-chat · {model.name}")


def _kept(prompt: Prompt) -> dict[str, str]:
    return {name: prompt.meta[name] for name in ("source", "language") if name in prompt.meta}
