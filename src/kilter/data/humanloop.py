"""People and models make data in turns: shared conversations, cleaned, graded, multiplied, and given back to people."""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import Any

from kilter.data.alpagasus import UNREAD, grade_in
from kilter.data.baize import ASSISTANT, USER
from kilter.data.drafts import sound
from kilter.data.replies import asked_of
from kilter.data.sieve import leave_out
from kilter.data.transcript import spoken
from kilter.errors import SetAside
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.notes import tell
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin
from kilter.registry import Amount, Count, Share, Whole, method

PROMPTS = Prompts(__file__)
_HARMLESS = ("language", "family", "kind", "check", "split")  # what the world and readers of files write
_YES = (True, 1, "true", "yes", "1", "opt-in", "是")
_PRIVATE = (
    ("EMAIL", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")),
    ("URL", re.compile(r"https?://\S*(?:token|key|password|session|user)=\S+", re.IGNORECASE)),
    ("CARD", re.compile(r"(?<![\d-])(?:\d[ -]?){12,18}\d(?![\d-])")),
    ("ID", re.compile(r"(?<!\d)\d{17}[\dXx](?!\d)|(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)")),
    ("IP", re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])")),
    ("PHONE", re.compile(
        r"(?<![\w+.-])(?<!\d )(?:\+\d{1,3}[ -]?)?(?:\(\d{2,4}\)[ -]?)?"
        r"(?:1[3-9]\d{9}|\d{3,4}[ -]\d{3,4}(?:[ -]\d{2,4})?)(?!\w|[ .-]\d)"
    )),
)  # fmt: skip


@method("humanloop", wing="data", paper=None, survey="S2 §5", aliases=("human-in-the-loop",))
async def humanloop(
    model: Model,
    records: list[Demonstration],
    *,
    consent: str = "consent",
    share: Share = 1.0,
    least: Amount = 4.0,
    synthetic: Whole = 1,
    human: Share = 1.0,
    rounds: Count = 3,
    reviewed: str = "accepted",
    max_tokens: Count = 1024,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> list[Demonstration]:
    """One turn of a loop of people and models (a survey's future direction; no paper).

    1. Of the live conversations those go in whose person opted in: meta[`consent`] says yes. Nothing else is read, sent
       or written, and the share `share` of them, by their ids, takes part.
    2. What is private is replaced by its kind: [EMAIL], [PHONE], [CARD] (where its digits check), [ID], [IP], and
       addresses that carry a token or a password.
    3. The model grades them (0 to 5); those with `least` or more stay.
    4. Each is the seed of `synthetic` conversations that the model writes with itself.
    5. Both go back to annotators: meta["review"] is "open". Records that come back from them with meta[`reviewed`] are
       passed through when they were accepted, left out when not, and the rates of acceptance are told, of people's and
       of synthetic conversations.

    The share `human` of people's conversations is in the output, so that mixtures can be compared: synthetic=0 gives
    people's alone, human=0 synthetic ones alone; meta["source"] says which a record is, and the numbers are told.

    Options:
        consent: name in the records' meta of the flag that the person opted in
        share: share of the opted-in conversations that takes part
        least: lowest grade that is kept, 0 to 5
        synthetic: synthetic conversations of each seed
        human: share of people's conversations that are in the output
        rounds: questions of a synthetic conversation
        reviewed: name in the records' meta of the annotators' verdict
        max_tokens: longest synthetic conversation
        temperature: sampling temperature
        seed: seed of choices and conversations
    """
    back = [record for record in records if _meta(record, reviewed) is not None]
    fresh = []
    for record in records:
        if _meta(record, reviewed) is not None:
            continue
        if _meta(record, consent) not in _YES:
            # Not even the rejects may hold it: only its id is kept.
            leave_out(_nameless(record), "no consent", "Its person did not opt in.")
        elif _chance(f"share {seed} {record.id}") >= share:
            leave_out(_nameless(record), "not drawn", "It is not in the share that takes part.")
        else:
            fresh.append(_scrubbed(record))

    async def grade(record: Demonstration) -> tuple[Demonstration, float]:
        about = {"instruction": asked_of(record.messages), "response": record.messages[-1].content}
        asked = PROMPTS("grade", turns=record.messages, most=5, **about)
        reply = await sound(model, asked, Sampling(max_tokens=256, seed=seed), cut=True)
        found = grade_in(reply.text)
        if found == UNREAD:
            raise SetAside("The reply holds no grade.", "no grade")
        if found < least:
            raise SetAside(f"Its grade is {found:g}.", f"grade under {least:g}")
        return record, found

    seeds = await each(fresh, grade, label=f"grading · {model.name}")

    async def write(item: tuple[Demonstration, int]) -> Demonstration:
        record, k = item
        topic = asked_of(record.messages)
        asked = PROMPTS("dialogue", topic=topic, rounds=rounds, user_tag=USER, assistant_tag=ASSISTANT)
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed + k)
        reply = await sound(model, asked, sampling, of=topic)
        turns = spoken(reply.text, (USER,), (ASSISTANT,))
        origin = Origin("humanloop", None, reply.model, (record.id,), seed, asked.version)
        return Demonstration(turns, origin=origin, meta={"source": "synthetic", "review": "open"})

    again = [(record, k) for record, _ in seeds for k in range(synthetic)]
    written = await each(again, write, label=f"conversations · {model.name}")
    people = [
        Demonstration(
            record.messages,
            record.id,
            Origin("humanloop", None, None, (record.id,), seed),
            {**record.meta, "source": "human", "review": "open", "grade": found},
        )
        for record, found in seeds
        if _chance(f"human {seed} {record.id}") < human
    ]
    accepted = _accepted(back, reviewed)
    total = len(people) + len(written)
    if total:
        made = f"{len(people):,} conversations of people and {len(written):,} synthetic ones"
        tell([f"{made}: {len(people) / total:.0%} human."])
    return [*accepted, *people, *written]


def scrub(text: str) -> str:
    """Return `text` with what is private in it replaced by its kind."""
    for name, pattern in _PRIVATE:
        text = pattern.sub(partial(_hidden, name), text)
    return text


def _hidden(name: str, found: re.Match[str]) -> str:
    return found[0] if name == "CARD" and not _luhn(found[0]) else f"[{name}]"


def _scrubbed(record: Demonstration) -> Demonstration:
    """Return a conversation without what is private; of its meta only what says nothing of the person stays."""
    messages = [Message(m.role, scrub(m.content)) for m in record.messages]
    meta: dict[str, Any] = {name: record.meta[name] for name in _HARMLESS if name in record.meta}
    return Demonstration(messages, record.id, meta=meta)


def _nameless(record: Demonstration) -> Demonstration:
    return Demonstration([], record.id)


def _meta(record: Demonstration, name: str) -> object:
    return record.meta.get(name, (record.meta.get("extra") or {}).get(name))


def _accepted(back: list[Demonstration], name: str) -> list[Demonstration]:
    """Return what annotators accepted; tell how often they did, by source."""
    found = []
    counts: dict[str, list[int]] = {}
    for record in back:
        yes = _meta(record, name) in _YES
        count = counts.setdefault(str(record.meta.get("source", "human")), [0, 0])
        count[0] += yes
        count[1] += 1
        if yes:
            found.append(
                Demonstration(record.messages, record.id, record.origin, {**record.meta, "review": "accepted"})
            )
        else:
            leave_out(record, "not accepted", "The annotators did not accept it.")
    tell([f"Annotators accepted {yes:,} of {all_:,} {source} conversations." for source, (yes, all_) in counts.items()])
    return found


def _chance(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64


def _luhn(text: str) -> bool:
    """Whether the digits of a number of a card check."""
    digits = [int(character) for character in text if character.isdigit()][::-1]
    doubled = [digit if i % 2 == 0 else sum(divmod(2 * digit, 10)) for i, digit in enumerate(digits)]
    return sum(doubled) % 10 == 0
