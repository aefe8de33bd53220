"""AlpaGasus and the Instruction Following Score: odd replies, thresholds, and models whose outputs are known."""

import asyncio
import random

import pytest

from kilter.data.alpagasus import UNREAD, alpagasus, grade_in
from kilter.data.ifs import cut, ifs, plateau, score
from kilter.errors import KilterError
from kilter.models.protocol import Answer
from kilter.records import Demonstration, Group, Message
from kilter.store.rejects import Rejects


def demonstration(asked, answer="Yes.", **meta):
    return Demonstration([Message("user", asked), Message("assistant", answer)], meta=meta)


class Says:
    """Answers by a function of the conversation's last message."""

    name = "says"

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    async def ask(self, messages, sampling):
        self.asked.append(messages)
        return [Answer(self.reply(messages[-1].content), 1, None, "stop")]

    async def score(self, messages, response):
        raise AssertionError("nothing is scored")


@pytest.mark.parametrize(
    ("reply", "grade"),
    [
        ("4.5\nThe answer is right.", 4.5),
        ("4", 4.0),
        ("**5**\nGood.", 5.0),
        ("4.5/5", 4.5),
        ("3 out of 5, because", 3.0),
        ("3.5.\nIt lacks a part of 10 items.", 3.5),
        ("Score: 2.5\nBad", 2.5),
        ("I looked at it closely.\nScore: 4", 4.0),
        ("评分：4.5\n回答正确。", 4.5),
        ("0\nNothing is right.", 0.0),
        ("4,5\nGut.", 4.5),
        ("45", UNREAD),
        ("-1", UNREAD),
        ("3 cities are named and\nthat is good.", UNREAD),
        ("The answer names 3 cities and\nis good.\nGrade: 4", 4.0),
        ("I cannot grade this.", UNREAD),
        ("", UNREAD),
        ("2019 was the year.\nScore: 7", UNREAD),
    ],
)
def test_grades_in_odd_replies(reply, grade):
    assert grade_in(reply) == grade


def test_a_judge_s_grades_decide_and_the_books_balance():
    grades = {"a": "4.5\nGood.", "b": "4.4", "c": "no idea", "d": "5\nBest.", "e": "1"}
    judge = Says(lambda text: grades[text.split("Task:\n")[1][0]])
    records = [demonstration(name, input="given") for name in grades]
    with Rejects() as rejects:
        kept = asyncio.run(alpagasus(records, judge))
    assert [(r.messages[0].content, r.meta["score"]) for r in kept] == [("a", 4.5), ("d", 5.0)]
    assert rejects.counts == {"grade under 4.5": 2, "no grade": 1}
    assert len(records) == len(kept) + rejects.total
    assert "accuracy" in judge.asked[0][-1].content
    asyncio.run(alpagasus(records[:1], judge, dimension="helpfulness"))
    assert "helpfulness" in judge.asked[-1][-1].content


def test_a_higher_threshold_keeps_a_part_of_what_a_lower_one_keeps():
    draw = random.Random(0)
    records = [demonstration(str(i), score=draw.choice([-1, 0, 2.5, 4, 4.5, 5])) for i in range(200)]
    before = {r.id for r in asyncio.run(alpagasus(records, threshold=0))}
    assert all(r.meta["score"] != -1 for r in asyncio.run(alpagasus(records, threshold=0)))
    for threshold in (2.5, 4, 4.5, 5):
        kept = {r.id for r in asyncio.run(alpagasus(records, threshold=threshold))}
        assert kept < before
        by_chance = asyncio.run(alpagasus(records, threshold=threshold, random_baseline=True))
        assert len(by_chance) == len(kept)
        assert {r.id for r in by_chance} != kept
        before = kept


def test_stored_grades_may_be_replies():
    records = [demonstration("a", grade="4.5\nGood."), demonstration("b", extra={"grade": 3})]
    assert [r.meta["grade"] for r in asyncio.run(alpagasus(records, score="grade"))] == [4.5]
    with pytest.raises(KilterError, match="has no grade 'score'"):
        asyncio.run(alpagasus(records))


SUBJECTS = ["rivers", "bread", "music", "stars", "winter", "trains", "glass", "honey", "maps", "wool"]
DEMONSTRATIONS = [
    demonstration(
        f"please tell me in {i} sentences about {a} and {b} for my class", f"Sure! {a.title()} and {b} differ."
    )
    for i, (a, b) in enumerate((a, b) for a in SUBJECTS for b in SUBJECTS)
]


def continues(asked):
    return f"{asked.split()[-1]} for my class"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [(lambda asked: "Sure! Maps and wool differ.", 1.0), (continues, 0.0), (lambda asked: " ", 0.0)],
)
def test_a_model_that_always_answers_has_one_and_one_that_goes_on_has_none(reply, expected, capsys):
    groups = asyncio.run(ifs(Says(reply), DEMONSTRATIONS))
    assert score(groups).all == score(groups).partial == score(groups).full == expected
    assert sum(group.meta["partial"] for group in groups) == len(groups) / 2
    assert f"IFS {expected:.3f}" in capsys.readouterr().err


def test_the_score_is_the_mean_of_its_parts_by_their_weights():
    whole = [Group([Message("user", "x")], [""], labels=[i < 7], meta={"partial": False}) for i in range(10)]
    parts = [Group([Message("user", "x")], [""], labels=[i < 9], meta={"partial": True}) for i in range(30)]
    found = score(whole + parts)
    assert (found.full, found.partial) == (0.7, 0.3)
    assert found.all == pytest.approx(0.25 * 0.7 + 0.75 * 0.3)
    assert score(whole).partial is None
    with pytest.raises(KilterError, match="no labelled outputs"):
        score([])


def test_a_model_that_answers_whole_requests_only():
    model = Says(lambda asked: "Sure! Maps differ." if asked.endswith("class") else continues(asked))
    found = score(asyncio.run(ifs(model, DEMONSTRATIONS, fragments=0.4, n=50)))
    assert (found.full, found.partial, found.all) == (1.0, 0.0, 0.6)
    with pytest.raises(KilterError, match="too few"):
        asyncio.run(ifs(model, DEMONSTRATIONS[:5]))


def test_cuts_give_the_request_again():
    draw = random.Random(0)
    for text in ("a", "one two", "please tell me about bread", "写一首关于春天的诗"):
        for _ in range(20):
            first, rest = cut(text, draw)
            assert first
            assert text in (first + rest, f"{first} {rest}")


def test_the_plateau_begins_at_the_knee():
    assert plateau([0.3, 0.6, 0.8, 0.9, 0.92, 0.915, 0.92, 0.91]) == 3
    assert plateau([0.3, 0.4, 0.5, 0.6, 0.7]) is None
    assert plateau([0.9, 0.9, 0.9]) == 0
    assert plateau([0.9, 0.9]) is None
