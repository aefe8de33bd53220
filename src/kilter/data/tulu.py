"""TÜLU's mixtures of instruction sets, in one chat format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from kilter import formats
from kilter.data.mixture import draw, grouped
from kilter.data.sieve import Record
from kilter.errors import KilterError, nearest
from kilter.records import Message
from kilter.registry import method

HUMAN = ("flan-v2", "cot", "dolly", "oasst1")
HUMAN_AND_GPT = (*HUMAN, "gpt4-alpaca", "code-alpaca", "sharegpt")
ALL = (*HUMAN_AND_GPT, "superni", "self-instruct", "unnatural", "alpaca", "baize")
MIXTURES = {"human": HUMAN, "human+gpt": HUMAN_AND_GPT, "all": ALL}


@method("tulu", wing="data", paper="arXiv:2306.04751", survey="S2 §2.4")
def tulu(
    records: list[Record] | None = None,
    *,
    sources: dict[str, str] = {},  # noqa: B006 - never changed, and a mapping is what a user writes
    mixture: Literal["human", "human+gpt", "all"] = "human+gpt",
    partial: bool = False,
    seed: int = 0,
) -> list[Record]:
    """Put instruction sets together as TÜLU does: whole, and shuffled (Wang et al. 2023, §3).

    human: flan-v2, cot, dolly, oasst1; human+gpt: also gpt4-alpaca, code-alpaca, sharegpt, the mixture that was best on
    average; all: also superni, self-instruct, unnatural, alpaca, baize. No set is best at everything: train on each
    alone and on the mixtures, and compare (`ablation`).

    Options:
        sources: the file of each set: {dolly: dolly.jsonl, cot: cot.jsonl, ...}
        mixture: human, human+gpt or all
        partial: go on without the sets that are not given
        seed: seed of the order
    """
    groups = named(grouped(records, {}, "source") if records else {}, sources, list(MIXTURES[mixture]), partial)
    return draw(groups, [len(group) for group in groups.values()], "tulu", seed)


def named(
    groups: Mapping[str, list[Any]], sources: Mapping[str, str], wanted: list[str], partial: bool
) -> dict[str, list[Any]]:
    """Return the sets called `wanted`, out of `groups` or of the files of `sources`, in that order."""
    for name in sources:
        if name not in wanted:
            raise KilterError(f"'{name}' is no set of this mixture.{nearest(name, wanted) or ' ' + ', '.join(wanted)}")
    found = {}
    for name in wanted:
        if name in sources:
            found[name] = list(formats.read(sources[name]).records)
        elif name in groups:
            found[name] = groups[name]
    missing = [name for name in wanted if name not in found]
    if not found or (missing and not partial):
        raise KilterError(f"The mixture lacks {', '.join(missing)}; name their files in sources, or say partial=true.")
    return found


TAGS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
_TURN = re.compile(r"(?:\A|\n)(<\|(?:system|user|assistant)\|>)\n")


def render(messages: list[Message]) -> str:
    """Return a conversation in TÜLU's format: a tag on a line of its own before each turn."""
    return "\n".join(f"{TAGS[m.role]}\n{m.content}" for m in messages)


def parse(text: str) -> list[Message]:
    """Return the turns of a text that `render` made; none of its turns may hold a tag on a line of its own."""
    roles = {tag: role for role, tag in TAGS.items()}
    before, *parts = _TURN.split(text)
    if before or not parts:
        raise KilterError("The text does not begin with a tag such as <|user|>; give one that was rendered so.")
    return [Message(roles[tag], content) for tag, content in zip(parts[::2], parts[1::2], strict=True)]


def ablation(results: Mapping[str, Mapping[str, float]]) -> tuple[dict[str, list[str]], str]:
    """Return, of `results[training set][suite]`, the best sets of each suite and the set that is best on average.

    Raises KilterError where a set was not measured by every suite: its average would be of another kind.
    """
    suites = list(dict.fromkeys(suite for row in results.values() for suite in row))
    for name, row in results.items():
        lacking = [suite for suite in suites if suite not in row]
        if lacking:
            raise KilterError(f"'{name}' has no result of {', '.join(lacking)}; measure it, or leave that suite out.")
    tops = {suite: max(row[suite] for row in results.values()) for suite in suites}
    best = {suite: [name for name, row in results.items() if row[suite] == top] for suite, top in tops.items()}
    return best, max(results, key=lambda name: sum(results[name].values()))
