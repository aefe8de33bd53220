"""Tasks that models write: what is wrong with one, pools that grow by them, answers that can be used."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kilter.data.novelty import Novel
from kilter.data.replies import asked_of
from kilter.data.sieve import leave_out, said
from kilter.data.tokens import tokenise
from kilter.errors import KilterError, SetAside
from kilter.formats.instructions import joined
from kilter.models.each import answered, each
from kilter.models.protocol import Answer, Model, Sampling
from kilter.notes import tell
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.store import rejects

Item = TypeVar("Item")

# What a model of text cannot do (Self-Instruct, and Alpaca's additions), in English and in Chinese.
BEYOND_TEXT = (
    "image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot",
    "go to", "video", "audio", "music", "flowchart", "diagram",
)  # fmt: skip
BEYOND_TEXT_ZH = ("图片", "图像", "照片", "绘制", "画图", "图表", "流程图", "视频", "音频", "文件", "地图")
_BEYOND = re.compile(rf"\b(?:{'|'.join(BEYOND_TEXT)})\b", re.IGNORECASE)
ROUNDS_IN_VAIN = 10  # rounds that bring nothing new, after which a pool counts as full
AT_ONCE = 8  # requests of one round, which all see the pool as it was before


@dataclass(slots=True)
class Batch(Generic[Item]):
    """What one reply came to: items, and what was left out of it as (item, rule, reason)."""

    items: list[Item] = field(default_factory=list)
    dropped: list[tuple[Any, str, str]] = field(default_factory=list)

    def drop(self, item: Any, rule: str, reason: str) -> None:
        self.dropped.append((item, rule, reason))


def settled(batches: Iterable[Batch[Item]]) -> list[Item]:
    """Return the items of all batches; enter what was left out in the rejects of the run, in order."""
    kept: list[Item] = []
    entered = rejects.current()
    for batch in batches:
        kept += batch.items
        if entered is not None:
            for item, rule, reason in batch.dropped:
                entered.set_aside(item, SetAside(reason, rule))
    return kept


def fault(instruction: str, *, code: bool = False) -> tuple[str, str] | None:
    """Return the rule that a written instruction breaks and a sentence on it; None for a sound one.

    The rules are Self-Instruct's: 4 to 150 words (characters, where a script has no spaces), nothing beyond text, no
    "Write a program", no punctuation and no strange character at the beginning. Any script's letters are none of these.
    With `code` programs may be asked for, and files.
    """
    size = len(instruction.split())
    if size <= 3 or not instruction.isascii():
        size = max(size, int(tokenise([instruction], "words").lengths[0]))
    if size <= 3:
        return "too short", f"It has {size} words, and 4 are the fewest."
    if size > 150:
        return "too long", f"It has {size} words, and 150 are the most."
    first = instruction[0]
    if not code:
        found = _BEYOND.search(instruction)
        if found or any(word in instruction for word in BEYOND_TEXT_ZH):
            return "beyond text", f"It asks for what a model of text cannot do ({found[0] if found else 'a picture'})."
        if re.match(r"write a program|编写程序|写一个程序", instruction, re.IGNORECASE):
            return "program", "It asks for a program, which models confuse with a task to be done."
    if unicodedata.category(first)[0] not in "LN":
        return "first character", f"It begins with {first!r}."
    return None


def tidied(text: str) -> str:
    """Return an instruction as Self-Instruct keeps it: on one line, with a capital."""
    plain = " ".join(text.split())
    return plain[:1].upper() + plain[1:]


async def sound(
    model: Model, asked: Sequence[Message], sampling: Sampling, *, of: str = "", cut: bool = False, empty: bool = False
) -> Answer:
    """Return the answer; raise SetAside for one that cannot be used.

    That is what `answered` says, one that is far longer than it may be, one that repeats the question, and one in
    another script than `of` (the request, where the answer is to be in its language).
    """
    answer = await answered(model, asked, sampling, cut=cut, empty=empty)
    most = 2000 + 32 * sampling.max_tokens
    if len(answer.text) > most:
        raise SetAside(f"The answer has {len(answer.text):,} characters, which is no answer any more.", "too long")
    rest = answer.text
    for told in (message.content.strip() for message in asked if message.role != "assistant"):
        if len(told) >= 40 and told in answer.text:
            rest = ""
        rest = rest.replace(told, "") if told else rest
    if answer.text.strip() and not rest.strip():
        raise SetAside("The answer repeats the question word by word.", "prompt repeated")
    there, here = script(of), script(answer.text)
    if there and here and there != here and "```" not in answer.text and not _ELSEWHERE.search(of):
        raise SetAside(f"The request is in {there} letters and the answer in {here}.", "wrong language")
    return answer


_ELSEWHERE = re.compile(
    r"translat|\b(?:english|chinese|french|german|spanish|japanese|korean|russian|arabic|language)\b|翻译|译|英文|英语|"
    r"中文|法语|德语|日语|日文|语言",
    re.IGNORECASE,
)
LETTERS = 20  # fewer decide nothing: a name or a formula is in Latin letters everywhere


def together(texts: Sequence[str]) -> str:
    """Return the texts as one where they are all in one script; "" where what is like them may be in any of several."""
    return " ".join(texts) if len({script(text, 1) for text in texts} - {""}) == 1 else ""


def script(text: str, letters: int = LETTERS) -> str:
    """Return the script that most letters of `text` are in (Latin, CJK, Cyrillic ...), "" with fewer than `letters`.

    A character of a script without spaces counts three times: it holds as much.
    """
    found: Counter[str] = Counter()
    for character in text[:2000]:
        if character.isalpha():
            name = "LATIN" if character.isascii() else unicodedata.name(character, "").split(" ", 1)[0].split("-", 1)[0]
            name = "CJK" if name in ("HIRAGANA", "KATAKANA") else name
            found[name] += 3 if name == "CJK" else 1
    if found.total() < letters:
        return ""
    [(name, count)] = found.most_common(1)
    if 2 * count <= found.total():
        return ""
    return name if name == "CJK" else name.capitalize()


def alone(messages: Sequence[Message]) -> str:
    """Return what is asked in one user's turn; raise SetAside where there is more, which would be lost.

    An answer at the end does not count.
    """
    turns = messages[:-1] if messages and messages[-1].role == "assistant" else messages
    if len(turns) > 1:
        why = "It has earlier turns or a system message, and this method asks with one request alone."
        raise SetAside(why, "several turns")
    return asked_of(turns)


def seeds_of(records: Sequence[Prompt | Demonstration]) -> list[Prompt | Demonstration]:
    """Return the seeds that can be shown, each instruction once; the others go to the rejects.

    Raises KilterError where none is left.
    """
    found: dict[str, Prompt | Demonstration] = {}
    for record in records:
        try:
            alone(record.messages)
        except SetAside as why:
            leave_out(record, why.rule, str(why))
            continue
        text = said(record, "instruction")
        if isinstance(record, Demonstration) and not record.messages[-1].content.strip():
            leave_out(record, "no answer", "The seed's answer is empty.")
        elif text in found:
            leave_out(record, "duplicate seed", "An earlier seed has the same instruction.")
        else:
            found[text] = record
    if not found:
        raise KilterError("There is no seed to begin with; give records with an instruction, and an answer each.")
    return list(found.values())


async def grow(
    request: Callable[[int, list[Item]], Awaitable[Batch[Item]]],
    text_of: Callable[[Item], str],
    *,
    n: int,
    pool: Novel | None,
    label: str,
    at_once: int = AT_ONCE,
) -> list[Item]:
    """Return `n` items whose texts are new to `pool`, from as many requests as that takes.

    Without a pool a text is new that is not there already, word for word.

    `request(k, made)` is the k-th, with what was made before its round. Rounds are of `at_once` requests, and what is
    new is decided in their order, so that the same answers give the same items. When ten rounds have brought nothing
    new, it stops and says so.
    """
    made: list[Item] = []
    seen: set[str] = set()
    k = in_vain = 0
    entered = rejects.current()
    while len(made) < n and in_vain < ROUNDS_IN_VAIN:
        before = len(made)

        async def one(number: int, so_far: list[Item] = list(made)) -> Batch[Item]:  # noqa: B006 - as it now stands
            return await request(number, so_far)

        items = settled(await each(range(k, k + at_once), one, concurrency=at_once, label=f"{label} ({before:,})"))
        k += at_once
        for item, wrong in zip(items, _repeated([text_of(item) for item in items], pool, seen), strict=True):
            if wrong is None and len(made) < n:
                made.append(item)
            elif entered is not None:
                entered.set_aside(item, wrong or SetAside(f"{n:,} are enough.", "over n"))
        in_vain = 0 if len(made) > before else in_vain + 1
    if len(made) < n:
        tell([f"{len(made):,} of {n:,} were found: {ROUNDS_IN_VAIN * at_once} requests in a row brought nothing new."])
    return made


def _repeated(texts: Sequence[str], pool: Novel | None, seen: set[str]) -> list[SetAside | None]:
    """Return why each text is not new, None for one that is; the new ones are entered in `pool`, or in `seen`."""
    found: list[SetAside | None] = []
    if pool is None:
        for text in texts:
            found.append(SetAside("The same was written before.", "duplicate") if text in seen else None)
            seen.add(text)
        return found
    new, nearest = pool.sift(texts)
    for keep, other in zip(new.tolist(), nearest.tolist(), strict=True):
        why = f"ROUGE-L with text {other + 1} is over {pool.threshold:g}."
        found.append(None if keep else SetAside(why, "ROUGE-L"))
    return found


def task(instruction: str, given: str, output: str, origin: Origin, **meta: Any) -> Demonstration:
    """Return a task with its answer as a demonstration, as files in Alpaca's columns are read."""
    found = {name: value for name, value in {"input": given, **meta}.items() if value not in (None, "")}
    messages = [Message("user", joined(instruction, given)), Message("assistant", output)]
    return Demonstration(messages, origin=origin, meta=found)
