"""Responses scored by a judge: what comes back, what is kept, what is left out."""

import asyncio

import pytest

from kilter.data.score import score
from kilter.errors import KilterError, SetAside
from kilter.models.load import load
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.store.rejects import Rejects

PROMPT = [Message("user", "how long?")]


def scored(records):
    """Return what comes of the records, and how many were set aside by which rule."""

    async def run():
        return await score(ByLength(), records)

    with Rejects() as kept:
        return asyncio.run(run()), dict(kept.counts)


class ByLength:
    """Somebody's own judge: longer is better, and nothing that says "no"."""

    name = "length"

    async def rewards(self, messages, responses):
        if any("no" in response for response in responses):
            raise SetAside("I do not judge that; leave it out.", "refused")
        return [float(len(response)) for response in responses]


def test_groups_come_back_with_scores_and_all_they_had():
    group = Group(PROMPT, ["a", "bbb"], scores=[9.0, 8.0], labels=[True, False], id="g", meta={"kept": 1})
    [found], _ = scored([group])
    assert found.scores == [1, 3]
    assert found.labels == [True, False]
    assert found.id == "g"
    assert found.meta == {"kept": 1, "scores_before": [9.0, 8.0]}
    assert found.origin.method == "score"
    assert found.origin.model == "length"
    assert found.origin.parents == ("g",)
    assert group.meta == {"kept": 1}


def test_a_demonstration_becomes_a_group_of_its_last_answer():
    turns = [*PROMPT, Message("assistant", "so"), Message("user", "and?"), Message("assistant", "four")]
    [found], aside = scored([Demonstration(turns, id="d")])
    assert found.prompt == turns[:3]
    assert found.responses == ["four"]
    assert found.scores == [4]
    assert not aside


def test_what_cannot_be_judged_is_set_aside():
    records = [Group(PROMPT, ["a"]), Group(PROMPT, ["no"]), Prompt(PROMPT), Demonstration(PROMPT)]
    found, aside = scored(records)
    assert [group.responses for group in found] == [["a"]]
    assert aside == {"refused": 1, "no response": 2}


def test_a_language_model_is_refused_before_anything_is_read(tiny_model):
    with pytest.raises(KilterError, match="is no reward model"):
        score(load(str(tiny_model)), iter(()))
