"""Answers that follow from principles, with the thoughts on them left out."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kilter.data.drafts import alone, sound
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Whole, method

PAPER = "arXiv:2305.03047"
PROMPTS = Prompts(__file__)
# What each of the sixteen rules is about (the wording, in the prompt, is ours).
RULES = (
    "ethical", "informative", "helpful", "question assessment", "reasoning", "multi-aspect", "candor",
    "knowledge recitation", "static", "clarification", "numerical sensitivity", "dated knowledge", "step-by-step",
    "balanced", "creative", "operational",
)  # fmt: skip
IDENTITY = "I am the assistant."
THOUGHTS, ANSWER, NEXT = "Thoughts:", "Answer:", "User:"
BLACKLIST = ("internal thoughts", "my rules", "rule (", "内心想法", "我的规则")


@method("dromedary", wing="data", paper=PAPER, survey="S1 §4.3, S2 §2.2", aliases=("self-align",))
def dromedary(
    model: Model,
    records: Iterable[Prompt],
    *,
    shortest: Whole = 160,
    echo: Count = 16,
    temperature: Amount = 0.7,
    max_tokens: Count = 1024,
    seed: int = 0,
) -> Each[Demonstration]:
    """Let a model think of sixteen principles, and keep only what it then says (Self-Align, Sun et al. 2023).

    The model reads sixteen rules and worked examples in which an assistant says who it is, thinks which rules apply,
    and answers. Of its reply only the answer is learned from: principle engraving. A reply is left out that does not
    begin with the line that says who speaks, has no answer part, is shorter than `shortest` characters, repeats more
    than `echo` characters in a row of the request from its beginning, says the same paragraph twice, or speaks of its
    rules and thoughts; what follows a next user's turn is cut off. The public code has a seventeenth rule,
    multilingual. The paper's requests come from `self-instruct` and from its variant that asks for twenty kinds of
    difficult ones by topic. meta: thoughts, used_rules.

    Options:
        shortest: fewest characters of an answer
        echo: characters of the request that an answer may begin with
        temperature: of the answers
        max_tokens: longest reply, thoughts included
        seed: seed of the model's samples
    """

    async def one(prompt: Prompt) -> Demonstration:
        request = alone(prompt.messages)
        asked = PROMPTS("think", question=request, rules=list(RULES))
        sampling = Sampling(max_tokens, temperature, seed=seed, stop=(f"\n{NEXT}",))
        answer = await sound(model, asked, sampling, of=request)
        thoughts, text = engraved(answer.text, request, shortest, echo)
        origin = Origin("dromedary", PAPER, answer.model, (prompt.id,), seed, asked.version)
        meta = {**prompt.meta, "thoughts": thoughts, "used_rules": used(thoughts)}
        return Demonstration([*prompt.messages, Message("assistant", text)], origin=origin, meta=meta)

    return each(records, one, label=f"thinking · {model.name}")


def engraved(reply: str, request: str, shortest: int = 160, echo: int = 16) -> tuple[str, str]:
    """Return (thoughts, answer) of a reply; raise SetAside where it breaks a rule of the filter."""
    plain = reply.strip()
    if not plain.startswith(IDENTITY):
        raise SetAside(f"It does not begin with {IDENTITY!r}.", "no identity")
    before, mark, text = plain.partition(ANSWER)
    if not mark:
        raise SetAside("It has thoughts and no answer.", "no answer part")
    thoughts = before.removeprefix(IDENTITY).strip().removeprefix(THOUGHTS).strip()
    text = text.split(f"\n{NEXT}")[0].strip()
    if len(text) < shortest:
        raise SetAside(f"The answer has {len(text)} characters, and {shortest} are the fewest.", "too short")
    if len(request) > echo and request[: echo + 1] in text:
        raise SetAside("The answer repeats the request.", "echo")
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    if len(set(paragraphs)) < len(paragraphs):
        raise SetAside("The answer says a paragraph twice.", "repetition")
    spoken = next((words for words in BLACKLIST if words in text.lower()), "")
    if spoken or (thoughts and thoughts in text):
        raise SetAside("The answer speaks of rules and thoughts, which are not for the reader.", "thoughts leak")
    return thoughts, text


def used(thoughts: str) -> list[str]:
    """Return the rules that thoughts name."""
    found = thoughts.lower()
    return [rule for rule in RULES if re.search(rf"\b{re.escape(rule)}\b", found)]
