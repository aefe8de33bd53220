"""Records: plain data, ids by content, orders and pairs read from whatever a group knows."""

import pytest

from kilter.errors import KilterError, nearest
from kilter.records import Demonstration, Group, Message, Prompt, identify

ASK = [Message("user", "2 + 3 = ?")]


def test_an_id_depends_on_the_content_alone():
    assert Prompt(ASK).id == Prompt([Message("user", "2 + 3 = ?")]).id
    assert Prompt(ASK).id != Prompt([Message("user", "2 + 4 = ?")]).id
    assert Prompt(ASK).id != Demonstration(ASK).id
    assert Prompt(ASK, id="mine").id == "mine"
    assert identify({"a": 1, "b": 2}) == identify({"b": 2, "a": 1})


def test_an_unknown_role_is_refused():
    with pytest.raises(KilterError, match="role 'robot'"):
        Message("robot", "hello")


@pytest.mark.parametrize(
    ("known", "order"),
    [
        ({"scores": [0.1, 0.9, 0.5]}, [0.1, 0.9, 0.5]),
        ({"ranking": [2, 0, 1]}, [-2.0, 0.0, -1.0]),
        ({"labels": [False, True, True]}, [0.0, 1.0, 1.0]),
        ({}, None),
    ],
)
def test_an_order_is_read_from_scores_rankings_or_labels(known, order):
    assert Group(ASK, ["a", "b", "c"], **known).order() == order


def test_pairs_are_best_first_and_ties_give_none():
    assert Group(ASK, ["a", "b", "c"], scores=[1.0, 3.0, 2.0]).pairs() == [(1, 2), (1, 0), (2, 0)]
    assert Group(ASK, ["a", "b", "c"], scores=[1.0, 1.0, 2.0]).pairs() == [(2, 0), (2, 1)]
    assert Group(ASK, ["a", "b"], ranking=[0, 0]).pairs() == []
    assert Group(ASK, ["a", "b"]).pairs() == []


def test_scores_of_another_number_than_the_responses_are_refused():
    with pytest.raises(KilterError, match="2 responses but 1 scores"):
        Group(ASK, ["a", "b"], scores=[1.0])


def test_the_nearest_name_is_offered_and_a_far_one_is_not():
    assert nearest("dpoo", ["sft", "dpo"]) == " Did you mean 'dpo'?"
    assert nearest("xyz", ["sft", "dpo"]) == ""
