"""Answers of an expert whom the model has imagined for each question."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kilter.data.drafts import alone, sound
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PAPER = "arXiv:2305.14688"
PROMPTS = Prompts(__file__)
GENERIC = "You are an expert who knows the subject of this request well and answers carefully."
_OPENING = re.compile(
    r"^\s*(?:as an?(?: (?!result|rule|whole|consequence|general)[\w-]+){1,8}?,\s*|"
    r"作为(?:一[名位个])?[^，,。\n]{1,20}[，,]\s*)",
    re.IGNORECASE,
)


@method("expertprompting", wing="data", paper=PAPER, survey="S2 §2.2", aliases=("expert-prompting", "expertllama"))
def expertprompting(
    model: Model,
    records: Iterable[Prompt],
    *,
    generic: bool = False,
    temperature: Amount = 0.7,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> Each[Demonstration]:
    """Describe an expert for each request, and let the expert answer (Xu et al. 2023).

    After three examples the model writes who would answer this request best, in the second person; then it answers as
    that person. The identity is not in what is learned from: the record has request and answer alone, and an opening of
    the answer that gives it away ("As a physicist, ...") is taken off. An identity that does not speak to "you" is left
    out. `generic` gives everybody the same general description, which is the paper's baseline. meta: expert_identity.
    The paper answers Alpaca's 52,000 instructions with gpt-3.5-turbo.

    Options:
        generic: one general description instead of one for each request
        temperature: of the answers; identities are greedy
        max_tokens: longest answer
        seed: seed of the model's samples
    """

    async def one(prompt: Prompt) -> Demonstration:
        request = alone(prompt.messages)
        identity = GENERIC
        if not generic:
            described = await sound(model, PROMPTS("identity", instruction=request), Sampling(256), of=request)
            identity = described.text.strip()
            if not re.search(r"\byou\b|你|您", identity, re.IGNORECASE):
                raise SetAside(f"The identity does not speak to anybody: {identity[:60]!r}.", "no identity")
        asked = PROMPTS("answer", identity=identity, instruction=request)
        answer = await sound(model, asked, Sampling(max_tokens, temperature, seed=seed), of=request)
        text = stripped(answer.text)
        if not text:
            raise SetAside("Nothing is left of the answer but its opening.", "empty")
        origin = Origin("expertprompting", PAPER, answer.model, (prompt.id,), seed, asked.version)
        meta = {**prompt.meta, "expert_identity": identity}
        return Demonstration([*prompt.messages, Message("assistant", text)], origin=origin, meta=meta)

    return each(records, one, label=f"experts · {model.name}")


def stripped(answer: str) -> str:
    """Return an answer without an opening "As a ..., " and with a capital again."""
    plain = answer.strip()
    rest = _OPENING.sub("", plain, count=1)
    return rest[:1].upper() + rest[1:] if rest != plain else plain
