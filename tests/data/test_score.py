"""Responses scored by a judge: what comes back, what is kept, what is left out."""

import asyncio

import pytest

from kilter.data.score import score
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message, Prompt

PROMPT = [Message("user", "how long?")]


class ByLength:
    """Somebody's own judge: longer is better, and nothing that says "no"."""

    name = "length"

    async def rewards(self, messages, responses):
        if any("no" in response for response in responses):
            raise KilterError("I do not judge that; leave it out.")
        return [float(len(response)) for response in responses]


def test_groups_come_back_with_scores_and_all_they_had():
    group = Group(PROMPT, ["a", "bbb"], scores=[9.0, 8.0], labels=[True, False], id="g", meta={"kept": 1})
    [found] = asyncio.run(score(ByLength(), [group]))
    assert found.scores == [1, 3]
    assert found.labels == [True, False]
    assert found.id == "g"
    assert found.meta == {"kept": 1, "scores_before": [9.0, 8.0]}
    assert found.origin.method == "score"
    assert found.origin.model == "length"
    assert found.origin.parents == ("g",)
    assert group.meta == {"kept": 1}


def test_a_demonstration_becomes_a_group_of_its_last_answer(capsys):
    turns = [*PROMPT, Message("assistant", "so"), Message("user", "and?"), Message("assistant", "four")]
    [found] = asyncio.run(score(ByLength(), [Demonstration(turns, id="d")]))
    assert found.prompt == turns[:3]
    assert found.responses == ["four"]
    assert found.scores == [4]
    assert "left out" not in capsys.readouterr().err


def test_what_cannot_be_judged_is_left_out_and_told(capsys):
    found = asyncio.run(score(ByLength(), [Group(PROMPT, ["a"]), Group(PROMPT, ["no"]), Prompt(PROMPT)]))
    assert [group.responses for group in found] == [["a"]]
    assert "2 of 3 records were left out, the first because: I do not judge that" in capsys.readouterr().err
    with pytest.raises(KilterError, match="I do not judge that"):
        asyncio.run(score(ByLength(), [Group(PROMPT, ["no"])]))
    with pytest.raises(KilterError, match="no response to score"):
        asyncio.run(score(ByLength(), [Prompt(PROMPT)]))
