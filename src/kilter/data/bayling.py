"""Translation as a conversation: a translation, then requirements one after the other, each of which stays in force."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from kilter.data.drafts import sound
from kilter.data.languages import language_of
from kilter.data.replies import asked_of, model_of
from kilter.data.tokens import tokenise
from kilter.data.translation import LANGUAGES, is_in, languages
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Whole, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2306.10968"
Kind = Literal["use", "avoid", "shorter", "question", "exclaim"]
KINDS: tuple[Kind, ...] = ("use", "avoid", "shorter", "question", "exclaim")
_NAMES_ZH = {"zh": "中文", "en": "英文", "de": "德文", "fr": "法文", "ja": "日文", "es": "西班牙文", "ru": "俄文"}


@dataclass(frozen=True)
class Requirement:
    """What a translation has to be like; `value` is the word that it has or has not, or the most words."""

    kind: Kind
    value: str = ""

    def holds(self, text: str) -> bool:
        """Whether `text` is as required. Case counts for nothing."""
        plain = text.strip().casefold()
        if self.kind == "use":
            return _has(plain, self.value.casefold())
        if self.kind == "avoid":
            return not _has(plain, self.value.casefold())
        if self.kind == "shorter":
            return length(text) <= int(self.value)
        return plain.rstrip("\"'”’ 」").endswith(("?", "？") if self.kind == "question" else ("!", "！"))


@method("bayling", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3", aliases=("interactive-translation",))
def bayling(
    model: Model,
    records: Iterable[Prompt],
    *,
    to: str = "en,zh",
    user: str = "",
    rounds: Count = 3,
    retries: Whole = 2,
    max_tokens: Count = 512,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> Each[Demonstration]:
    """Conversations about a translation whose requirements add up (Zhang et al. 2023, BayLing).

    The records hold sentences (their last request); with an answer, that is a reference translation. The user asks for
    a translation, then says in each of `rounds` turns one thing more that is wanted: a word to use, a word to avoid,
    fewer words, a question, an exclamation mark. The words are proposed by the model that plays the user, the rest is
    drawn; no requirement is one that holds already or that another rules out. Each revision is checked: it has to meet
    the new requirement and all before it, else it is asked for again, `retries` times, and the conversation ends
    before that turn; without a single revision it is left out. User and translation may be in different languages.

    meta: src (the sentence), lang, ref where there is one, requirements [{kind, value}] in their order.

    Options:
        to: languages to translate into, with commas; one is drawn that the sentence is not in
        user: model that plays the user; without it the same model does
        rounds: most requirements of a conversation
        retries: how often a revision that breaks a requirement is asked for again
        max_tokens: longest translation
        temperature: sampling temperature
        seed: seed of the draws and translations
    """
    wanted = languages(to)
    person = model_of(user, model)

    async def one(prompt: Prompt) -> Demonstration:
        source = asked_of(prompt.messages)
        draw = random.Random(f"bayling {seed} {prompt.id}")
        others = [language for language in wanted if language != language_of(source)]
        if not others:
            raise SetAside(f"It is in '{language_of(source)}' already, the only language that is wanted.", "language")
        target = draw.choice(others)
        zh = draw.random() < 0.5
        variant = 2 if zh and target in _NAMES_ZH else draw.randrange(2)
        names = {"name": LANGUAGES[target], "name_zh": _NAMES_ZH.get(target, ""), "language": target}
        asked = PROMPTS("translate", source=source, variant=variant, **names)
        turns = [asked[0]]
        reply = await sound(model, turns, Sampling(max_tokens, temperature, seed=seed))
        if not is_in(reply.text, target):
            raise SetAside(f"The translation is in '{language_of(reply.text)}', not in '{target}'.", "wrong language")
        turns.append(Message("assistant", reply.text.strip()))
        held: list[Requirement] = []
        for _ in range(rounds):
            new = await _next(person, draw, held, source, turns[-1].content, names)
            if new is None:
                break
            turn = PROMPTS("require", kind=new.kind, value=new.value, zh=zh)[0]
            better = await _revised(model, [*turns, turn], [*held, new], target, max_tokens, temperature, seed, retries)
            if better is None:
                break
            turns += [turn, Message("assistant", better)]
            held.append(new)
        if not held:
            raise SetAside("No revision met its requirement.", "requirement")
        meta = {"src": source, "lang": target, "requirements": [{"kind": r.kind, "value": r.value} for r in held]}
        reference = prompt.meta.get("reference")
        if isinstance(reference, str):
            meta["ref"] = reference
        origin = Origin("bayling", PAPER, reply.model, (prompt.id,), seed, PROMPTS.version("require"))
        return Demonstration(turns, origin=origin, meta=meta)

    return each(records, one, label=f"interactive translation · {model.name}")


def broken(requirements: Sequence[Requirement], text: str) -> list[Requirement]:
    """Return the requirements that `text` does not meet."""
    return [requirement for requirement in requirements if not requirement.holds(text)]


def length(text: str) -> int:
    """Return how many words a text has, a character being a word where a script puts no spaces."""
    return int(tokenise([text]).lengths[0])


async def _revised(
    model: Model,
    turns: list[Message],
    held: list[Requirement],
    target: str,
    max_tokens: int,
    temperature: float,
    seed: int,
    retries: int,
) -> str | None:
    """Return a revision that meets all requirements, None where there is none after `retries` more tries."""
    for attempt in range(retries + 1):
        sampling = Sampling(max_tokens, temperature, seed=seed + 7919 * attempt)
        reply = await sound(model, turns, sampling, empty=True)
        text = reply.text.strip()
        if text and is_in(text, target) and not broken(held, text):
            return text
    return None


async def _next(
    person: Model, draw: random.Random, held: list[Requirement], source: str, now: str, names: dict[str, str]
) -> Requirement | None:
    """Return a requirement that does not hold yet and that can be met together with those that do."""
    ends = {"question", "exclaim"}
    taken = {requirement.kind for requirement in held}
    kinds = [
        kind for kind in KINDS if not (kind in ends and taken & ends) and not (kind == "shorter" and kind in taken)
    ]
    draw.shuffle(kinds)
    for kind in kinds:
        found = Requirement(kind)
        if kind in ("use", "avoid"):
            asked = PROMPTS("term", source=source, translation=now, kind=kind, **names)
            reply = await sound(person, asked, Sampling(32), cut=True, empty=True)
            term = reply.text.strip().strip("\"'“”「」.。 ")
            if not term or "\n" in term or length(term) > 6:
                continue
            found = Requirement(kind, term)
            against = Requirement("avoid" if kind == "use" else "use", term)
            if any(other.kind == against.kind and _has(term.casefold(), other.value.casefold()) for other in held):
                continue
            if kind == "avoid" and any(r.kind == "use" and _has(r.value.casefold(), term.casefold()) for r in held):
                continue
        elif kind == "shorter":
            most = length(now) - 1 - draw.randrange(max(1, length(now) // 4))
            if most < 2:
                continue
            found = Requirement(kind, str(most))
        if not found.holds(now):
            return found
    return None


def _has(text: str, part: str) -> bool:
    """Whether `part` stands in `text`: as words, or in a script without spaces as characters."""
    if part.isascii():
        return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text) is not None
    return part in text
