"""The accuracy of a judge whose mind is known."""

import asyncio

import pytest

from kilter.errors import KilterError, SetAside
from kilter.evaluation.reward_accuracy import reward_accuracy
from kilter.records import Group, Message


class ByLength:
    """Somebody's own judge: longer is better; a step is right that has no x."""

    name = "length"

    async def rewards(self, messages, responses):
        if "unread" in messages[0].content:
            raise SetAside("I do not read that; leave it out.", "refused")
        return [float(len(response)) for response in responses]

    async def steps(self, messages, steps, *, separator="\n"):
        return [0.1 if "x" in step else 0.9 for step in steps]


def group(number, *responses, **known):
    return Group([Message("user", f"question {number}")], list(responses), **known)


def test_pairs_are_counted_and_a_tie_is_one_half():
    records = [
        group(0, "aaa", "aa", "a", scores=[3, 2, 1]),  # three pairs, all right
        group(1, "a", "aa", ranking=[0, 1]),  # wrong
        group(2, "aa", "bb", labels=[True, False]),  # a tie
        group(3, "a", "b", scores=[1, 1]),  # nothing to tell
    ]
    found = asyncio.run(reward_accuracy(ByLength(), records))
    measure = found.measures["reward_accuracy"]
    assert measure.value == pytest.approx(3.5 / 5)
    assert measure.n == 3
    assert measure.low < measure.value < measure.high
    assert found.model == "length"
    assert [sample["outcomes"]["reward_accuracy"] for sample in found.samples] == [1.0, 0.0, 0.5]
    assert found.samples[0]["rejected"] == "aa"


def test_steps_are_counted_and_the_first_error_is_looked_for():
    def stepped(number, steps, labels):
        return group(number, "\n".join(steps), labels=[all(labels)], meta={"steps": steps, "step_labels": labels})

    records = [
        stepped(0, ["a", "x", "b"], [True, False, True]),
        stepped(1, ["a", "b"], [True, True]),
        stepped(2, ["x", "b", "c"], [0.7, 0.2, 0.6]),  # soft, and both steps wrongly judged
    ]
    found = asyncio.run(reward_accuracy(ByLength(), records)).measures
    assert found["step_accuracy"].value == pytest.approx(6 / 8)
    assert found["first_error_found"].value == pytest.approx(2 / 3)


def test_what_is_not_judged_is_told():
    records = [group(i, "aa", "a", ranking=[0, 1]) for i in range(5)]
    unread = Group([Message("user", "unread")], ["a", "b"], ranking=[0, 1])
    found = asyncio.run(reward_accuracy(ByLength(), [*records, unread]))
    assert found.measures["reward_accuracy"].n == 5
    assert found.notes == ["1 of 6 records were left out, the first because: I do not read that; leave it out."]
    assert len(asyncio.run(reward_accuracy(ByLength(), records, n=3)).samples) == 3
    with pytest.raises(KilterError, match="I do not read that"):
        asyncio.run(reward_accuracy(ByLength(), [unread]))
    with pytest.raises(KilterError, match="No record has a better"):
        asyncio.run(reward_accuracy(ByLength(), [group(0, "a")]))


def test_the_same_records_twice_are_counted_apart():
    records = [group(0, "aa", "a", ranking=[0, 1]), group(0, "aa", "a", ranking=[0, 1])]
    found = asyncio.run(reward_accuracy(ByLength(), records))
    assert len({sample["id"] for sample in found.samples}) == 2
    assert len({sample["cluster"] for sample in found.samples}) == 1
