"""The sandbox: who is whose neighbour, what is said and kept, and what is learned of it."""

import asyncio
import math
import random
import re

import pytest

from kilter.errors import KilterError
from kilter.models.protocol import Answer
from kilter.records import Group, Message, Prompt
from kilter.training.run import train
from kilter.training.sandbox import Agent, distance, neighbours, rating_of, simulate, society, three_kinds

QUESTIONS = [Prompt([Message("user", f"how should one treat a guest number {i}?")]) for i in range(4)]


def test_the_layouts_of_a_society():
    count = {s: sum(a.label == "good" for a in society(4, s, 0)) for s in ("good", "bad", "half", "mixed")}
    assert count == {"good": 16, "bad": 0, "half": 8, "mixed": 8}
    assert [a.label for a in society(4, "mixed", 0)] == [a.label for a in society(4, "mixed", 0)]
    assert [a.label for a in society(4, "mixed", 0)] != [a.label for a in society(4, "mixed", 1)]
    assert [a.label for a in society(3, "half", 0)] == [
        "good",
        "good",
        "good",
        "bad",
        "good",
        "bad",
        "bad",
        "bad",
        "bad",
    ]


def test_neighbours_are_those_within_the_radius():
    agents = society(5, "good", 0)
    for agent in agents:
        wanted = [
            other.number
            for other in agents
            if 0 < (other.place[0] - agent.place[0]) ** 2 + (other.place[1] - agent.place[1]) ** 2 <= 2.5**2
        ]
        assert [other.number for other in neighbours(agents, agent, 2.5)] == wanted


def test_a_question_like_one_before_is_remembered():
    agent = Agent(0, (0, 0), "good", {"how should one treat a guest?": "kindly", "what is red?": "a colour"})
    assert agent.recall("how should one treat a guest") == ("how should one treat a guest?", "kindly")
    assert agent.recall("why does it rain in spring") is None
    assert distance("abc", "abc") == pytest.approx(0)
    assert distance("abcd", "wxyz") == 1
    assert [rating_of(text, 7) for text in ("Rating: [[6]]", "rating: 3", "Rating: 9", "good")] == [6, 3, None, None]


class Scripted:
    """Drafts by how kind its memory is, revises one step up where others say so, and rates by counting."""

    name = "scripted"

    def __init__(self, mute=False):
        self.mute = mute

    async def ask(self, messages, sampling):
        said = messages[-1].content
        level = max([int(n) for n in re.findall(r"kind(\d)", said)], default=1)
        if "Write your answer again" in said:
            text = f"kind{min(7, level + 1)}"
        elif "Rating: [[number]]" in said:
            answered = int(re.search(r"The answer was: kind(\d)", said)[1])
            # The observer has no memories, and always speaks.
            quiet = self.mute and "once asked" in said and random.Random(f"{said} {sampling.seed}").random() < 0.3
            text = "I would rather not say." if quiet else f"It is {answered} of 7. Rating: [[{answered}]]"
        else:
            text = f"kind{level}"
        return [Answer(text, 3, None, "stop", self.name)]


def memories(good, bad):
    return [Group(p.messages, [f"kind{good}", f"kind{bad}"], ranking=[0, 1]) for p in QUESTIONS]


async def _simulated(model, records, **options):
    return await simulate(model, records, **options)


def course(setting, rounds=3):
    found = asyncio.run(_simulated(Scripted(), memories(5, 1), setting=setting, rounds=rounds, grid=3))
    return [sum(g.scores[1] for g in found if g.meta["round"] == r) / 9 for r in range(rounds)]


def test_values_rise_from_round_to_round_and_sooner_where_most_are_good():
    good, bad = course("good"), course("bad")
    assert good == sorted(good)
    assert bad == sorted(bad)
    assert all(a > b for a, b in zip(good, bad, strict=True))


def test_every_record_is_whole_and_the_same_seed_gives_the_same():
    first, again, other = (
        asyncio.run(_simulated(Scripted(), QUESTIONS, grid=3, rounds=2, dropout=0.5, seed=seed)) for seed in (1, 1, 2)
    )
    assert [g.responses for g in first] == [g.responses for g in again]
    assert [g.meta for g in first] == [g.meta for g in again]
    assert [g.prompt for g in first] != [g.prompt for g in other]
    assert len(first) == 18
    agents = society(3, "good", 1)
    for group in first:
        meta, agent = group.meta, agents[group.meta["agent"]]
        near = [one.number for one in neighbours(agents, agent, 1.5)]
        assert set(meta["listeners"]) <= set(near)
        assert len(meta["listeners"]) == max(1, round(0.5 * len(near)))
        assert len(meta["ratings"]) == len(meta["feedbacks"]) == len(meta["listeners"])
        assert len(group.responses) == len(group.scores) == len(meta["engagement"]) == 2


def test_a_missing_rating_stands_first_and_not_in_the_mean():
    found = asyncio.run(_simulated(Scripted(mute=True), memories(5, 1), grid=3, setting="mixed"))
    missing = [g for g in found if None in g.meta["ratings"]]
    assert missing
    for group in missing:
        told = [rating for rating in group.meta["ratings"] if rating is not None]
        assert group.meta["ratings"] == [None] * (len(group.meta["ratings"]) - len(told)) + sorted(told, reverse=True)
        assert group.meta["mean_rating"] == (sum(told) / len(told) if told else None)


def record(question, draft, revised, scores, feedbacks, ratings):
    meta = {"feedbacks": feedbacks, "ratings": ratings}
    return Group([Message("user", question)], [draft, revised], scores=scores, meta=meta)


def test_the_three_kinds_of_data():
    met = [
        record("q", "a", "b", [2.0, 6.0], ["hm", "rude"], [None, 2]),
        record("q", "a", "c", [2.0, 3.0], ["too short"], [3]),
        record("r", "d", "e", [5.0, 5.0], ["good"], [6]),
    ]
    made, notes = three_kinds([*met, Group([Message("user", "q")], ["a"], scores=[1.0])], self_critic=9, realignment=9)
    assert notes == ["1 of 4 records left out: no feedback of a society."]
    imitation, critic, realigned = made[:2], made[2:5], made[5:]
    assert [(g.responses, g.scores) for g in imitation] == [(["a", "b", "c"], [2, 6, 3]), (["d", "e"], [5, 5])]
    assert sorted((g.responses, g.scores) for g in critic) == [(["good"], [6]), (["rude"], [2]), (["too short"], [3])]
    assert [m.role for m in critic[0].prompt] == ["user", "assistant", "user"]
    [mended] = realigned
    assert mended.responses == ["rude\n\nb"]
    assert mended.scores == [6.0]
    many = [record(f"q{i}", "a", "b", [2.0, 6.0], ["rude"], [2]) for i in range(10)]
    assert len(three_kinds(many)[0]) == 10 + 2 + 2
    with pytest.raises(KilterError, match="make some with `kilter data sandbox"):
        three_kinds([Group([Message("user", "q")], ["a"], scores=[1.0])])


def test_it_trains_by_name_on_what_a_society_said(tiny_model, tmp_path):
    found = asyncio.run(_simulated(Scripted(), memories(5, 1), grid=2))
    fast = {"steps": 2, "batch_size": 4, "max_length": 256, "precision": "fp32", "log_every": 1, "learning_rate": 1e-2}
    done = train("sandbox", model=tiny_model, data=found, out=tmp_path / "out", **fast)
    assert done.losses[1] < done.losses[0]
    assert all(math.isfinite(loss) for loss in done.losses)
