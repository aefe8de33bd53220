"""Rules, verifiers and mixtures: what they say of a response, and what is no feedback."""

import asyncio

import pytest

from kilter.errors import KilterError
from kilter.feedback import Signal
from kilter.feedback.mixture import Mixture
from kilter.feedback.named import admit, named
from kilter.feedback.numbers import check, rewards
from kilter.feedback.rules import Rule, words
from kilter.records import Message, Prompt


def prompt(**meta):
    return Prompt([Message("user", "How many?")], meta=meta)


def said(rule, *responses, **meta):
    return asyncio.run(rewards(Rule(rule), prompt(**meta), responses))


@pytest.mark.parametrize(
    ("rule", "responses", "scores"),
    [
        ("contains:Blue", ["it is blue", "red", "BLUE: yes"], [1, 0, 1]),
        ("contains:a:b", ["a:b", "a"], [1, 0]),
        ("lacks:blue", ["it is blue", "red"], [0, 1]),
        (r"matches:^\d+$", ["42", "42 cows"], [1, 0]),
        ("at-most:3", ["one two three", "one two three four", "", "天很蓝", "天空很蓝啊啊"], [1, 0.75, 1, 1, 0.5]),
        ("no-repeats", ["a b c d", "a b c a b c a b c", "so"], [1, 3 / 7, 1]),
    ],
)
def test_rules_say_what_they_are_called(rule, responses, scores):
    assert said(rule, *responses) == pytest.approx(scores)


@pytest.mark.parametrize(
    ("meta", "responses", "scores"),
    [
        (
            {"answer": "They had 12. #### 1,012"},
            ["so 1012", "it is 1012.0 cows", "1012, no, 13", "a cow"],
            [1, 1, 0, 0],
        ),
        ({"extra": {"answer": 7}}, [r"3 + 4 = \boxed{7}, see 9", "#### 7", "-7"], [1, 1, 0]),
        ({"answer": "Paris"}, ["paris.", "Paris!", "It is Paris"], [1, 1, 0]),
        ({"reference": "天空是蓝的"}, ["天空是蓝的。", "天空"], [1, 0]),
    ],
)
def test_the_verifier_knows_the_answer(meta, responses, scores):
    assert said("answer", *responses, **meta) == scores
    check(Rule("answer"), [prompt(**meta)])


def test_a_verdict_is_whether_all_is_as_it_should_be():
    [whole, part] = asyncio.run(Rule("at-most:1")(prompt(), ["one", "one two"]))
    assert (whole.verdict, part.verdict) == (True, False)


def test_words_are_characters_where_no_space_stands_between_them():
    assert words("It's a well-known fact: 天空 3.") == ["It's", "a", "well-known", "fact", "天", "空", "3"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("contain:blue", "There is no rule 'contain'. Did you mean 'contains'"),
        ("contains", "needs a text that has to be in the response"),
        ("answer:42", "takes nothing after it"),
        ("matches:(", "no regular expression"),
        ("at-most:none", "needs a number of words above 0"),
        ("at-most:0", "needs a number of words above 0"),
    ],
)
def test_a_rule_that_cannot_be_is_a_sentence(text, says):
    with pytest.raises(KilterError, match=says):
        Rule(text)


def test_a_mixture_is_the_weighted_sum():
    mixture = named({"contains:blue": 2.0, "at-most:2": -0.5})
    assert mixture.name == "2 contains:blue + -0.5 at-most:2"
    assert asyncio.run(rewards(mixture, prompt(), ["blue", "red", "it is blue sky"])) == [1.5, -0.5, 1.75]
    with pytest.raises(KilterError, match="knows no answer to 1 of 1 prompts"):
        check(named({"answer": 1.0, "contains:x": 1.0}), [prompt()])


class Verdicts:
    name = "verdicts"

    async def __call__(self, prompt, responses):
        return [Signal(verdict=response == "good") for response in responses]


def test_a_verdict_counts_where_there_is_no_score():
    assert asyncio.run(rewards(Verdicts(), prompt(), ["good", "bad"])) == [1.0, 0.0]
    assert asyncio.run(rewards(Mixture([(Verdicts(), 3.0)]), prompt(), ["good", "bad"])) == [3.0, 0.0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrold", "no model.*Did you mean 'world'"),
        ("http://localhost:1/v1", "is a server, which gives no rewards"),
        ("kilter/nano", "is a language model"),
        ({}, "empty mixture"),
    ],
)
def test_what_is_no_feedback_is_a_sentence(name, says):
    with pytest.raises(KilterError, match=says):
        named(name)
    if name:
        with pytest.raises(KilterError, match=says):
            admit(name)
