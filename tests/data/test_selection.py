"""Methods that choose: IFD, Instruction Mining and LIMA, on scores that are known."""

import asyncio
import math

import numpy as np
import pytest

from kilter.data.instruct_mining import (
    RULES,
    best_size,
    fit,
    indicators,
    instruct_mining,
    mtld,
    predict,
)
from kilter.data.lima import COMPOSITION, lima
from kilter.data.superfiltering import ifd, superfiltering
from kilter.data.vectors import neighbour_distances, vectors
from kilter.errors import KilterError
from kilter.models.local import Local
from kilter.records import Demonstration, Group, Message
from kilter.store.rejects import Rejects


def demonstration(asked, answer="Yes.", **meta):
    return Demonstration([Message("user", asked), Message("assistant", answer)], meta=meta)


class Scorer:
    """Scores a response by `alone` nats a token where nothing is asked, and by what the request says otherwise."""

    name = "scorer"

    async def score(self, messages, response):
        tokens = len(response.split())
        if tokens > 20:
            raise KilterError("The response is longer than the model has positions for.")
        asked = messages[-1].content
        return [-2.0 if not asked else -float(asked)] * tokens

    async def ask(self, messages, sampling):
        raise AssertionError("selection asks nothing")


def test_ifd_is_one_where_the_request_says_nothing():
    alone = [-1.0, -0.5, -3.0]
    assert ifd(alone, alone) == 1.0
    assert ifd(alone, alone, "loss") == 1.0
    assert ifd([-1.0], [-2.0]) == pytest.approx(math.exp(-1))
    assert ifd([-1.0], [-2.0], "loss") == 0.5
    assert ifd([-3.0], [-2.0]) > 1 < ifd([-3.0], [-2.0], "loss")


def test_superfiltering_keeps_the_hardest_that_belong_together():
    records = [demonstration(f"{loss}", "a b c") for loss in (0.5, 1.9, 2.0, 2.5, 1.0, 1.5)]
    records += [demonstration("1", "word " * 30), demonstration("1", " "), Demonstration([Message("user", "1")])]
    with Rejects() as rejects:
        kept = asyncio.run(superfiltering(Scorer(), records, share=0.3))
    assert [r.messages[0].content for r in kept] == ["1.9", "2.0", "1.5"]
    assert [r.meta["ifd"] for r in kept] == pytest.approx([math.exp(-0.1), 1.0, math.exp(-0.5)])
    assert rejects.counts == {"IFD too low": 2, "IFD over 1": 1, "not scored": 1, "empty": 1, "no answer": 1}
    assert len(records) == len(kept) + rejects.total


def test_superfiltering_with_a_real_model(tiny_model):
    model = Local(str(tiny_model))
    records = [demonstration(f"what is {i}?", f"it is {i}. 好") for i in range(6)]
    with Rejects() as rejects:
        kept = asyncio.run(superfiltering(model, records, share=0.5, most=10))
    assert len(kept) == 3
    assert rejects.counts == {"IFD too low": 3}

    async def value(record):
        given = await model.score(record.messages[:1], record.messages[1].content)
        alone = await model.score([Message("user", "")], record.messages[1].content)
        return math.exp(np.mean(alone) - np.mean(given))

    values = [asyncio.run(value(record)) for record in records]
    assert [r.meta["ifd"] for r in kept] == pytest.approx([v for v in values if v in sorted(values)[3:]], rel=1e-5)


def test_least_squares_recover_planted_coefficients():
    draw = np.random.default_rng(0)
    names = ["reward", "length_out", "knn6"]
    rows = [dict(zip(names, draw.normal(size=3), strict=True)) for _ in range(60)]
    losses = [math.exp(predict(row, RULES["v1"])) for row in rows]
    assert fit(rows, losses) == pytest.approx(RULES["v1"])
    with pytest.raises(KilterError, match="3 runs cannot tell"):
        fit(rows[:3], losses[:3])


def test_both_rules_rank_by_what_they_weigh():
    records = [
        demonstration(
            f"question {i} about {word}", "one two three", reward=reward, understandability=0.5, naturalness=nat
        )
        for i, (word, reward, nat) in enumerate([("cats", 3.0, 0.1), ("sums", 1.0, 0.9), ("seas", 2.0, 0.5)])
    ]
    for record in records:
        record.meta["coherence"] = 0.5
    first = asyncio.run(instruct_mining(records, n=2, rule="v1"))
    assert [r.meta["reward"] for r in first] == [3.0, 2.0]
    third = asyncio.run(instruct_mining(records, n=2, rule="v3"))
    assert [r.meta["naturalness"] for r in third] == [0.9, 0.5]
    assert [r.meta["rank"] for r in third] == [1, 2]
    row = first[0].meta["indicators"]
    assert row["length_out"] == 3
    told = 1.0694 - 0.1498 * 3.0 + 8.257e-5 * 3 - 0.9350 * row["knn6"]
    assert first[0].meta["predicted_loss"] == pytest.approx(told)
    assert "indicators" not in records[0].meta
    with pytest.raises(KilterError, match="has no reward"):
        asyncio.run(instruct_mining([demonstration("x")]))


def test_indicators_with_a_model_and_of_groups():
    group = Group([Message("user", "1")], ["a b c", "d"], scores=[0.5, 0.1])
    [found] = asyncio.run(instruct_mining([group], Scorer()))
    assert found.meta["indicators"]["reward"] == 0.5
    assert found.meta["indicators"]["ppl"] == pytest.approx(math.e)


def test_distance_to_the_nearest_neighbours():
    texts = ["red apples grow", "red apples grow here", "green pears fall", "青い海と空"]
    found = neighbour_distances(vectors(texts), 1)
    assert found[0] == found[1] < 1
    assert found[2:] == pytest.approx([math.sqrt(2)] * 2)
    assert indicators([demonstration("海と空", "はい")])[0]["length_in"] == 3


def test_lexical_diversity():
    assert mtld([]) == 0
    assert mtld(list("abcdef")) == 6  # all different: one run that never ends
    assert mtld(list("aaaa")) == 2  # every second word ends a run
    assert mtld(list("abcdefgh") * 10) < mtld(list("abcdefghijklmnop") * 5)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_search_finds_the_deeper_of_two_dips(sign):
    def loss(size):
        x = math.log10(size)
        return -math.exp(-((x - 3.4) ** 2) * 8) - (1 + 0.2 * sign) * math.exp(-((x - 4.6) ** 2) * 20)

    calls = []
    found = best_size(lambda size: calls.append(size) or loss(size), 100, 100_000)
    best = min(range(100, 100_001, 5), key=loss)
    assert abs(math.log10(found / best)) < 0.01
    assert len(calls) <= 40


def test_lima_adds_up_and_keeps_its_distance():
    assert sum(COMPOSITION.values()) == 1000
    assert sum(count for name, count in COMPOSITION.items() if name not in ("authors", "superni")) == 750
    same = [demonstration(f"How do I bake bread at home, step {i}?", score=float(i)) for i in range(20)]
    other = [
        demonstration(text, score=-1.0) for text in ("为什么天空是蓝色的？", "List the rivers of France.", "Prove it.")
    ]
    with Rejects() as rejects:
        kept = lima(same + other, n=10, floor=0.6, quality="score")
    assert kept[0].messages[0].content == same[-1].messages[0].content
    assert {r.messages[0].content for r in kept[1:]} == {r.messages[0].content for r in other}
    assert rejects.counts == {"too similar": 19}
    points = vectors([r.messages[0].content for r in kept])
    assert ((points @ points.T).toarray() - np.eye(4)).max() <= 0.4
    assert len(lima(same, n=7, floor=0.0)) == 7
    with pytest.raises(KilterError, match="No record's meta has 'grade'"):
        lima(same, quality="grade")


def test_lima_composition_and_rules_of_communities():
    records = [
        demonstration(f"{name} question {i}", source=name)
        for name in COMPOSITION
        for i in range(COMPOSITION[name] // 5)
    ]
    with Rejects() as rejects:
        kept = lima([*records, demonstration("x", source="elsewhere")], n=100, floor=0.0, composition=True)
    counts = {name: sum(r.meta["source"] == name for r in kept) for name in COMPOSITION}
    assert counts == {name: size // 10 for name, size in COMPOSITION.items()}
    assert rejects.counts == {"enough": 100, "no share": 1}
    long = "Bread rises because yeast makes gas from sugar. " * 30
    answers = [long, long * 3, long[:900], long + " I like it.", long + " See this answer."]
    with Rejects() as rejects:
        assert len(lima([demonstration(f"q{i}", a) for i, a in enumerate(answers)], community=True)) == 1
    assert rejects.counts == {"too long": 1, "too short": 1, "style": 2}
