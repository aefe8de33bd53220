"""Peer rank, weighted votes and rankings: against the published numbers of PRD's and LLMZoo's own votes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import kappa
from kilter.evaluation.ordering import ordering
from kilter.evaluation.prd import collect, minmax, peer_rank, prd, weighted_vote
from kilter.evaluation.weightedvote import weightedvote

FIXTURES = Path(__file__).parents[1] / "fixtures"
WORD = {"a": "model_a", "b": "model_b", "t": "tie"}
SHARE = {"a": 1.0, "b": 0.0, "t": 0.5}
UNIFORM = {"gpt-4": 0.74984375, "claude": 0.66171875, "vicuna": 0.3934375, "gpt-3.5": 0.37546875, "bard": 0.31953125}
BY_GPT4 = {"gpt-4": 0.85625, "claude": 0.70859375, "vicuna": 0.3484375, "gpt-3.5": 0.3421875, "bard": 0.24453125}
BY_PEOPLE = {"gpt-4": 0.821875, "claude": 0.6890625, "vicuna": 0.3890625, "gpt-3.5": 0.3140625, "bard": 0.2859375}
PEERS = {
    "gpt-4": 0.8020248859751706, "claude": 0.6849775818976092, "vicuna": 0.3762490667521628,
    "gpt-3.5": 0.3461644881503264, "bard": 0.2905839772247015,
}  # fmt: skip
WEIGHTS = {
    "gpt-4": 0.488444868709263, "claude": 0.37666039059112444, "vicuna": 0.08181330959511306,
    "gpt-3.5": 0.05308143110449947, "bard": 0.0,
}  # fmt: skip


def pairs() -> dict[str, dict[str, str]]:
    return json.loads((FIXTURES / "prd_votes.json").read_text(encoding="utf-8"))["pairs"]


def votes(*reviewers: str) -> list[dict]:
    """The rows of these reviewers, as a user would store them."""
    return [
        {"question_id": q, "model_a": pair.split()[0], "model_b": pair.split()[1]}
        | {"reviewer": who, "winner": WORD[verdicts[q]]}
        for pair, by in pairs().items()
        for who, verdicts in by.items()
        if who in reviewers
        for q in range(80)
        if verdicts[q] != "-"
    ]


MODELS = tuple(WEIGHTS)


def test_peer_rank_gives_the_published_scores_and_weights(tmp_path: Path) -> None:
    found = prd(data=write(tmp_path / "v.jsonl", votes(*MODELS)), resamples=20).measures
    assert {n: found[f"score:{n}"].value for n in MODELS} == pytest.approx(PEERS, abs=1e-12)
    assert {n: found[f"weight:{n}"].value for n in MODELS} == pytest.approx(WEIGHTS, abs=1e-12)
    assert list(found)[:5] == [f"score:{name}" for name in ("gpt-4", "claude", "vicuna", "gpt-3.5", "bard")]
    assert all(m.low <= m.value <= m.high and m.n == 80 for m in found.values())


@pytest.mark.parametrize(
    ("reviewers", "rates"),
    [(MODELS, UNIFORM), (("gpt-4",), BY_GPT4), (("human",), BY_PEOPLE)],
    ids=["all", "gpt-4", "people"],
)
def test_one_round_is_the_plain_win_rate(reviewers: tuple[str, ...], rates: dict[str, float]) -> None:
    reviews = collect(votes(*reviewers))
    scores, _ = peer_rank(reviews.wins.sum(0), reviews.met.sum(0), reviews, 1)
    assert dict(zip(reviews.models, scores, strict=True)) == pytest.approx(rates, abs=1e-12)


def people() -> dict[tuple[str, int], float]:
    """People's verdict on each ordered pair and question; one that was asked the other way round is turned."""
    found = {}
    for pair, by in pairs().items():
        a, b = pair.split()
        for q, said in enumerate(by.get("human", "-" * 80)):
            if said != "-":
                found[pair, q] = SHARE[said]
                found[f"{b} {a}", q] = 1 - SHARE[said]
    return found


@pytest.mark.parametrize(
    ("weights", "fleiss", "accuracy"),
    [(WEIGHTS, 0.40995961100205325, 0.673125), ({"gpt-4": 1.0}, 0.4062941127626006, 0.6425),
     ({"claude": 1.0}, 0.31943600558165275, 0.606875), ({"gpt-3.5": 1.0}, 0.3873768855885963, 0.620625)],
    ids=["panel", "gpt-4", "claude", "gpt-3.5"],
)  # fmt: skip
def test_the_weighted_vote_agrees_with_people_as_published(
    weights: dict[str, float], fleiss: float, accuracy: float
) -> None:
    gold = people()
    assert len(gold) == 1600
    rated, same = [], 0
    for (pair, q), said in gold.items():
        by = {who: SHARE[verdicts[q]] for who, verdicts in pairs_of(pair).items() if who in weights}
        voted = weighted_vote(by, weights)
        same += voted == said
        rated.append([sum(v == share for v in (voted, said)) for share in (0.0, 0.5, 1.0)])
    assert same / 1600 == accuracy
    assert kappa.fleiss(rated) == pytest.approx(fleiss, abs=1e-12)


_pairs = pairs()


def pairs_of(pair: str) -> dict[str, str]:
    return _pairs[pair]


def test_weights_grow_with_the_score_and_a_stranger_gets_the_mean() -> None:
    assert minmax([0.2, 0.4, 0.6]).tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert minmax([0.2, None, 0.6]).tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert minmax([0.5, 0.5]).tolist() == [0.5, 0.5]


def test_an_unparsed_review_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*votes("gpt-4"), {"question_id": 1, "reviewer": "gpt-4", "model_a": "x", "model_b": "y", "winner": "-1"}]
    found = prd(data=write(tmp_path / "v.jsonl", rows), resamples=2)
    assert found.notes == ["1 of 1,601 reviews left out: there is no verdict that can be read (first: -1)."]
    with pytest.raises(KilterError, match="lacks the column 'reviewer'"):
        prd(data=write(tmp_path / "w.jsonl", [{"model_a": "x", "model_b": "y", "winner": "tie"}]))


def test_equal_weights_are_the_mean_and_one_weight_is_a_dictator(tmp_path: Path) -> None:
    rows = [{"id": i, "scores": {"x": 4, "y": 2, "z": None}, "gold": 4} for i in range(6)]
    data = write(tmp_path / "s.jsonl", rows)
    equal = weightedvote(data=data)
    assert equal.measures["score"].value == 3
    assert equal.samples[0]["outcomes"] == {"score": 3.0}
    one = weightedvote(data=data, weights="given", judges={"x": 1.0})
    assert one.measures["score"].value == 4
    assert (one.measures["accuracy"].value, one.measures["accuracy:y"].value) == (1, 0)
    with pytest.raises(KilterError, match="have to be given"):
        weightedvote(data=data, weights="given")
    nobody = weightedvote(data=write(tmp_path / "t.jsonl", [*rows, {"id": 9, "scores": {"z": "bad"}}]))
    assert nobody.measures["score"].n == 6
    assert "1 of 7 items have no score" in nobody.notes[0]


def test_a_judge_that_is_right_learns_to_count_for_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(400):
        gold = int(rng.integers(1, 6))
        rows.append({"id": i, "gold": gold, "scores": {"good": gold, "random": int(rng.integers(1, 6))}})
    data = write(tmp_path / "s.jsonl", rows)
    found = weightedvote(data=data, weights="agreement").measures
    assert found["weight:good"].value > 0.85
    assert found["accuracy"].value > weightedvote(data=data).measures["accuracy"].value
    assert found["accuracy"].n == 200


def orders() -> list[dict]:
    stored = json.loads((FIXTURES / "llmzoo_orders.json").read_text(encoding="utf-8"))
    return [
        {"question_id": q, "models": stored["models"], "order": [int(rank) for rank in ranks]}
        for q, ranks in enumerate(stored["orders"])
    ]


def test_rankings_give_the_published_points_and_ratios(tmp_path: Path) -> None:
    found = ordering(data=write(tmp_path / "o.jsonl", orders()), reference="gpt-3.5-turbo", resamples=50).measures
    assert found["points:gpt-3.5-turbo"].value == pytest.approx(9.583333333333334)
    assert found["rank:phoenix-7b"].value == pytest.approx(1.9142857142857144)
    for model, ratio in (
        ("phoenix-7b", 0.6993788819875776),
        ("chimera-13b", 0.7540372670807453),
        ("chimera-7b", 0.5875776397515527),
    ):
        assert found[f"ratio:{model}"].value == pytest.approx(ratio, abs=1e-12)
        assert found[f"ratio:{model}"].low < ratio < found[f"ratio:{model}"].high
    assert found["wins:phoenix-7b"].value == pytest.approx((4 + 28 / 2) / 70)  # 38 lost, 28 tied, 4 won
    assert found["wins:phoenix-7b"].n == 70


def test_several_evaluators_are_compared(tmp_path: Path) -> None:
    rows = []
    for q in range(12):
        rows.append({"question_id": q, "evaluator": "e1", "ranks": {"a": 1, "b": 2, "c": 3, "d": 4}})
        swapped = {"a": 2, "b": 1, "c": 3, "d": 4} if q % 2 else {"a": 1, "b": 2, "c": 3, "d": 4}
        rows.append({"question_id": q, "evaluator": "e2", "ranks": swapped})
    found = ordering(data=write(tmp_path / "o.jsonl", rows), resamples=100).measures
    assert found["kendall"].value == pytest.approx((1 + 4 / 6) / 2)  # one discordant pair of six
    assert found["spearman"].value == pytest.approx((1 + 0.8) / 2)
    assert found["concordance"].low < found["concordance"].value < found["concordance"].high
    assert found["points:a"].n == 24


def test_a_rank_that_could_not_be_read_is_no_rank(tmp_path: Path) -> None:
    rows = [*orders()[:10], {"question_id": 99, "models": ["phoenix-7b"], "order": [-1]}]
    found = ordering(data=write(tmp_path / "o.jsonl", rows), resamples=5)
    assert found.notes == ["1 of 11 rankings left out: a rank is not a number from 1 up (first: phoenix-7b: -1)."]
    with pytest.raises(KilterError, match=r"Did you mean 'gpt-3\.5-turbo'"):
        ordering(data=write(tmp_path / "p.jsonl", orders()), reference="gpt-3.5")
