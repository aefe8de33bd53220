"""read(write(x)) == x for every shape that can hold x, over generated records."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kilter.formats import read, write
from kilter.records import Demonstration, Group, Message, Origin, Prompt, Record

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
SAID = TEXT.filter(bool)
JSON = st.recursive(
    st.booleans() | st.integers(-(2**50), 2**50) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
COLUMN = st.text("abcdefghij_", min_size=3, max_size=6).map("x_".__add__)
EXTRA = st.dictionaries(COLUMN, JSON, max_size=2).map(lambda extra: {"extra": extra} if extra else {})


@st.composite
def dialogues(draw: st.DrawFn, end: str, systems: bool = True, said: st.SearchStrategy[str] = SAID) -> list[Message]:
    """User and assistant in turn, perhaps after a system message."""
    messages = [Message("system", draw(said))] if systems and draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        messages += [Message("user", draw(said)), Message("assistant", draw(said))]
    messages.append(Message("user", draw(said)))
    return messages if end == "user" else [*messages, Message("assistant", draw(said))]


def demonstrations(**options: Any) -> st.SearchStrategy[Demonstration]:
    return st.builds(lambda m, meta: Demonstration(m, meta=meta), dialogues("assistant", **options), EXTRA)


def pairs(said: st.SearchStrategy[str] = SAID, **options: Any) -> st.SearchStrategy[Group]:
    def build(prompt: list[Message], good: str, bad: str, meta: dict[str, Any]) -> Group:
        return Group(prompt, [good, bad], ranking=[0, 1], meta=meta)

    return st.builds(build, dialogues("user", said=said, **options), said, said, EXTRA)


@st.composite
def groups(draw: st.DrawFn, *signals: str, prompts: st.SearchStrategy[list[Message]] | None = None) -> Group:
    responses = draw(st.lists(TEXT, min_size=1, max_size=4))
    size = len(responses)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "scores": st.floats(-10, 10),
        "ranking": st.integers(0, 5),
        "labels": st.booleans(),
        "critiques": TEXT,
    }
    known = {name: draw(st.lists(kinds[name], min_size=size, max_size=size)) for name in signals if draw(st.booleans())}
    return Group(draw(dialogues("user") if prompts is None else prompts), responses, **known, meta=draw(EXTRA))


@st.composite
def anything(draw: st.DrawFn) -> Record:
    record: Record = draw(
        demonstrations() | groups("scores", "ranking", "labels", "critiques") | st.builds(Prompt, dialogues("user"))
    )
    if draw(st.booleans()):
        record.id = draw(SAID)
        record.origin = draw(
            st.builds(
                Origin,
                TEXT,
                st.none() | TEXT,
                st.none() | TEXT,
                st.lists(TEXT, max_size=2).map(tuple),
                st.none() | st.integers(0, 9),
            )
        )
        record.meta = draw(st.dictionaries(TEXT, JSON | st.none(), max_size=2))
    return record


# A text that an HH transcript would take for the beginning of a turn is refused there, so it is not generated.
PLAIN = SAID.filter(lambda s: "Human:" not in s and "Assistant:" not in s and s.strip() == s)
ALONE = SAID.map(lambda s: [Message("user", s)])

HELD: dict[str, st.SearchStrategy[Any]] = {
    "kilter": anything(),
    "messages": demonstrations() | st.builds(Prompt, dialogues("user")),
    "sharegpt": demonstrations() | st.builds(Prompt, dialogues("user")),
    "lima": demonstrations(systems=False) | st.builds(Prompt, dialogues("user", systems=False)),
    "alpaca": demonstrations(),
    "dolly": st.builds(lambda q, a, meta: Demonstration([*q, Message("assistant", a)], meta=meta), ALONE, TEXT, EXTRA),
    "oasst": demonstrations(systems=False).map(lambda d: Demonstration(d.messages)),
    "trl-completion": demonstrations(),
    "trl-prompt": st.builds(lambda m, meta: Prompt(m, meta=meta), dialogues("user"), EXTRA),
    "trl-preference": pairs(),
    "trl-implicit": pairs(),
    "sharegpt-preference": pairs(),
    "alpaca-preference": pairs(),
    "hh": pairs(PLAIN),
    "hh-prompt": pairs(PLAIN, systems=False),
    "responses": groups("scores", "ranking", "labels", "critiques"),
    "ultrafeedback": groups("scores", "critiques", prompts=ALONE),
    "trl-kto": st.builds(lambda p, a, good: Group(p, [a], labels=[good]), dialogues("user"), TEXT, st.booleans()),
    "alpaca-kto": st.builds(lambda p, a, good: Group(p, [a], labels=[good]), dialogues("user"), TEXT, st.booleans()),
    "sharegpt-kto": st.builds(lambda p, a, good: Group(p, [a], labels=[good]), dialogues("user"), TEXT, st.booleans()),
    "alpaca-ranked": st.builds(
        lambda p, r: Group(p, r, ranking=list(range(len(r)))), dialogues("user"), st.lists(TEXT, min_size=2, max_size=4)
    ),
}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("shape", HELD)
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_written_is_read_again(shape: str, suffix: str, data: st.DataObject) -> None:
    records = data.draw(st.lists(HELD[shape], min_size=1, max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        lost = write(records, path, shape)
        assert [sentence for sentence in lost if "JSON text" not in sentence and "is learned" not in sentence] == []
        assert read(path).records == records
