"""A reward model as feedback: what it passes on, and what it does not let pass."""

import asyncio

import pytest

from kilter.errors import KilterError
from kilter.feedback import RewardModel
from kilter.models.load import load
from kilter.records import Demonstration, Message, Prompt

PROMPT = Prompt([Message("user", "how long?")])


class ByLength:
    """Somebody's own judge: longer is better. `lost` answers are missing, `broken` makes the last one no number."""

    name = "length"

    def __init__(self, lost=0, broken=False):
        self.lost, self.broken = lost, broken

    async def rewards(self, messages, responses):
        found = [float(len(response)) for response in responses]
        if self.broken:
            found[-1] = float("nan")
        return found[: len(found) - self.lost]


def test_scores_come_in_the_responses_order():
    signals = asyncio.run(RewardModel(ByLength())(PROMPT, ["aaa", "a", "aa"]))
    assert [signal.score for signal in signals] == [3, 1, 2]
    assert asyncio.run(RewardModel(ByLength())(PROMPT, [])) == []


def test_fewer_answers_than_responses_are_an_error():
    with pytest.raises(KilterError, match="asked for 3 rewards and gave 2"):
        asyncio.run(RewardModel(ByLength(lost=1))(PROMPT, ["a", "b", "c"]))


def test_what_is_no_number_is_an_error():
    with pytest.raises(KilterError, match="with nan"):
        asyncio.run(RewardModel(ByLength(broken=True))(PROMPT, ["a", "b"]))


def test_what_is_no_reward_model_is_refused(tiny_model):
    with pytest.raises(KilterError, match="is no reward model"):
        RewardModel(load(str(tiny_model)))
    with pytest.raises(KilterError, match="a reward model is due"):
        RewardModel(str(tiny_model))
    with pytest.raises(KilterError, match="judges no steps"):
        RewardModel(ByLength(), steps="product")


def test_centred_rewards_are_nought_for_demonstrations():
    judge = RewardModel(ByLength())
    told = [Demonstration([*PROMPT.messages, Message("assistant", "a" * n)]) for n in (2, 4, 9)]
    asyncio.run(judge.centre([*told, Demonstration([Message("user", "unanswered")])]))
    assert judge.shift == 5
    assert asyncio.run(judge(PROMPT, ["a" * 7]))[0].score == 2
    asyncio.run(judge.centre(told))  # again: the same
    assert judge.shift == 5
    with pytest.raises(KilterError, match="no demonstration to centre"):
        asyncio.run(judge.centre([]))
