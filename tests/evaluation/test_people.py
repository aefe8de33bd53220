"""What people say: levels, blind pairs, experts, and people together with a judge model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation.expert import expert
from kilter.evaluation.joint import Item, auc, choose, curve, entropy, joint
from kilter.evaluation.ordinal import ordinal
from kilter.evaluation.pairwise_human import blind, pairwise_human
from kilter.evaluation.pandalm import majority, pandalm

# A confusion matrix of two raters over A..D (rows the first); quadratic kappa of it worked out below from its moments.
MATRIX = [[20, 5, 1, 0], [4, 15, 6, 1], [1, 5, 12, 4], [0, 1, 3, 22]]


def rated(matrix: list[list[int]]) -> list[dict]:
    rows, item = [], 0
    for i, line in enumerate(matrix):
        for j, times in enumerate(line):
            for _ in range(times):
                for who, level in (("x", i), ("y", j)):
                    rows.append({"item": item, "model": "m", "rater": who, "rating": "ABCD"[level]})
                item += 1
    return rows


def test_levels_are_shares_that_add_up_and_kappa_is_that_of_the_matrix(tmp_path: Path) -> None:
    rows = rated(MATRIX)
    found = ordinal(data=write(tmp_path / "r.jsonl", rows), resamples=100).measures
    assert sum(found[f"{level}:m"].value for level in "ABCD") == pytest.approx(1)
    table = np.array(MATRIX, float) / np.sum(MATRIX)
    grades = np.arange(1, 5)
    p, q = table.sum(1), table.sum(0)
    assert found["grade:m"].value == pytest.approx((p @ grades + q @ grades) / 2)
    apart = (grades[:, None] - grades) ** 2
    assert found["kappa"].value == pytest.approx(1 - (table * apart).sum() / (np.outer(p, q) * apart).sum())
    nominal = (np.trace(table) - p @ q) / (1 - p @ q)
    assert found["kappa_nominal"].value == pytest.approx(nominal)
    assert found["kappa"].value > found["kappa_nominal"].value
    assert 0 < found["spearman"].low < found["spearman"].value < found["spearman"].high < 1
    assert found["A:m"].n == 200


def test_models_are_kept_apart_and_items_are_clusters(tmp_path: Path) -> None:
    rows = [
        {"item": i, "model": m, "rater": r, "rating": "A" if m == "good" or i % 2 else "D"}
        for i in range(20) for m in ("good", "bad") for r in "xy"
    ]  # fmt: skip
    found = ordinal(data=write(tmp_path / "r.jsonl", rows), resamples=20)
    assert found.measures["grade:good"].value == 1
    assert found.measures["grade:bad"].value == 2.5
    assert found.measures["D:bad"].value == 0.5
    one = [row for row in rows if row["rater"] == "x"]
    alone = ordinal(data=write(tmp_path / "one.jsonl", one), resamples=20)
    width = {n: e.measures["D:bad"].high - e.measures["D:bad"].low for n, e in (("two", found), ("one", alone))}
    assert width["two"] == pytest.approx(width["one"], rel=0.1)  # the second rater of an item adds nothing
    assert "kappa" not in alone.measures
    assert "No item was rated by two people" in alone.notes[-1]
    assert {s["id"] for s in found.samples} >= {"good/0", "bad/0"}


def test_a_rating_outside_the_levels_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [*rated(MATRIX), {"item": 999, "rater": "x", "rating": "E"}]
    found = ordinal(data=write(tmp_path / "r.jsonl", rows), resamples=5)
    assert found.notes == ["1 of 201 ratings left out: the label is none of A, B, C, D (first: E)."]


def test_a_blind_sheet_hides_the_models_and_its_key_tells_them(tmp_path: Path) -> None:
    pairs = [{"id": i, "prompt": f"p{i}", "responses": {"m": f"m says {i}", "n": f"n says {i}"}} for i in range(400)]
    sheet, key = blind(pairs, seed=3)
    assert blind(list(reversed(pairs)), seed=3)[1] == list(reversed(key))
    assert all(set(row) == {"id", "prompt", "left", "right"} for row in sheet)
    left = sum(row["left"] == "m" for row in key) / 400
    assert 0.43 < left < 0.57
    for row, told in zip(sheet, key, strict=True):
        assert row["left"].startswith(told["left"])
        assert row["right"].startswith(told["right"])
    # Raters who always find m's answer better are unblinded to m winning everything.
    votes = [{"id": row["id"], "choice": "left" if row["left"].startswith("m") else "right"} for row in sheet]
    found = pairwise_human(data=write(tmp_path / "v.jsonl", votes), key=write(tmp_path / "k.jsonl", key), model="m")
    assert found.measures["win_rate"].value == 1
    assert found.measures["left"].low < 0.5 < found.measures["left"].high


def test_alpacas_90_to_89_is_no_difference(tmp_path: Path) -> None:
    rows = [
        {"id": i, "left": "alpaca", "right": "davinci", "choice": "left" if i < 90 else "right"} for i in range(179)
    ]
    rows += [{"id": 200, "left": "alpaca", "right": "davinci", "choice": "tie"}, {"id": 201, "choice": "left"}]
    rows += [{"id": 202, "left": "alpaca", "right": "davinci", "choice": "?"}]
    found = pairwise_human(data=write(tmp_path / "v.jsonl", rows))
    assert found.model == "alpaca"
    assert found.measures["wins"].value == pytest.approx(90 / 179)
    assert found.measures["wins"].low < 0.5 < found.measures["wins"].high
    assert found.notes[0] == "alpaca wins 90, davinci wins 89, 1 are ties: p = 1 (sign test)."
    assert len(found.notes) == 3
    with pytest.raises(KilterError, match="it is alpaca or davinci"):
        pairwise_human(data=write(tmp_path / "w.jsonl", rows), model="vicuna")


def test_experts_are_settled_by_one_mind_a_majority_or_the_adjudicator(tmp_path: Path) -> None:
    said = [  # two experts and the adjudicator
        ("1", "good", "good", None), ("2", "good", "bad", "bad"), ("3", "bad", "good", None),
        ("4", "bad", "bad", "good"), ("5", "good", None, "good"),
    ]  # fmt: skip
    rows = [
        {"item": item, "rater": who, "label": label}
        for item, *labels in said
        for who, label in zip(("e1", "e2", "judge"), labels, strict=True)
        if label
    ]
    found = expert(data=write(tmp_path / "e.jsonl", rows), adjudicator="judge", resamples=20)
    assert [(s["label"], s["how"]) for s in found.samples] == [
        ("good", "agreed"), ("bad", "adjudicated"), (None, "open"), ("bad", "agreed"), ("good", "adjudicated")
    ]  # fmt: skip
    assert found.measures["agreed"].value == 0.4
    assert found.measures["share:good"].value == 0.5
    assert found.measures["cohen"].value == pytest.approx(0)  # agreement of the two on 1 to 4 is what chance gives
    assert found.notes == ["1 of 5 items have no final label: the experts are divided and nobody decided."]
    with pytest.raises(KilterError, match="has labelled nothing; the raters are e1, e2, judge"):
        expert(data=write(tmp_path / "f.jsonl", rows), adjudicator="boss")


def test_the_entropy_of_verdicts() -> None:
    assert entropy(["win"] * 6) == 0
    assert entropy(["win", "lose"]) == pytest.approx(math.log(2))
    assert entropy(["win", "tie", "lose"] * 2) == pytest.approx(math.log(3))


def judged(n: int, seed: int = 0) -> list[dict]:
    """A judge asked six times: sure and right on easy items, divided and often wrong on hard ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        gold = str(rng.choice(["win", "lose"]))
        other = "lose" if gold == "win" else "win"
        right = 0.98 if rng.random() < 0.6 else 0.5
        verdicts = [gold if rng.random() < right else other for _ in range(6)]
        rows.append({"id": i, "verdicts": verdicts, "human": gold})
    return rows


def test_the_ends_are_all_to_the_model_and_all_to_people(tmp_path: Path) -> None:
    data = write(tmp_path / "j.jsonl", judged(300))
    nobody = joint(data=data, threshold=math.inf, resamples=20).measures
    everybody = joint(data=data, threshold=0.0, resamples=20).measures
    assert (nobody["human_share"].value, nobody["cost"].value) == (0, 0.01)
    assert nobody["accuracy"].value == nobody["model_accuracy"].value < 0.95
    assert (everybody["human_share"].value, everybody["accuracy"].value) == (1, 1)
    assert everybody["cost"].value == pytest.approx(1.01)
    assert everybody["auc"].low > 0.5


def test_cost_and_accuracy_rise_along_the_curve() -> None:
    items = [Item(str(r["id"]), tuple(r["verdicts"]), r["human"], r["human"]) for r in judged(300)]
    points = curve(items, 1.0, 0.01)
    costs, right = [p[2] for p in points], [p[3] for p in points]
    assert costs == sorted(costs)
    assert right == sorted(right)
    assert (points[0][1], points[-1][1]) == (0, 1)
    threshold = choose(items, 0.97)
    assert 0 < threshold < math.inf
    assert choose(items, 0.1) == math.inf
    wrong_people = [Item(i.id, i.verdicts, "neither", i.gold) for i in items]
    assert choose(wrong_people, 1.0) == 0.0


def test_the_cheaper_rater_that_is_good_enough_is_chosen_and_checked_on_other_items(tmp_path: Path) -> None:
    found = joint(data=write(tmp_path / "j.jsonl", judged(800)), target=0.95, resamples=20)
    assert found.measures["accuracy"].n == 400
    assert found.measures["accuracy"].high >= 0.95
    assert 0.05 < found.measures["human_share"].value < 0.7
    assert found.measures["accuracy"].value > found.measures["model_accuracy"].value
    assert found.notes[0].endswith("(chosen on 400 items).")
    assert "Accuracy against cost: 0% to people" in found.notes[-1]
    bad = [
        *judged(10),
        {"id": "x", "verdicts": [None, ""], "human": "win"},
        {"id": "y", "verdicts": ["win"], "human": ""},
    ]
    notes = joint(data=write(tmp_path / "k.jsonl", bad), threshold=0.5, resamples=5).notes
    assert sum("1 of 12 items left out" in note for note in notes) == 2


def test_auc_by_hand() -> None:
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])) == 0.75
    assert auc(np.array([1.0, 1.0]), np.array([0, 1])) == 0.5
    assert math.isnan(auc(np.array([1.0]), np.array([1])))


def test_a_majority_is_more_than_any_other() -> None:
    assert majority([1, 1, 2]) == "one"
    assert majority([0, 0, 2]) == "tie"
    assert majority([0, 1, 2]) is None
    assert majority([None, "Tie", ""]) == "tie"


def test_a_judge_that_is_garbage_is_wrong_unless_taken_for_a_tie(tmp_path: Path) -> None:
    gold = [{"idx": i, "annotator1": x, "annotator2": x, "annotator3": 1} for i, x in enumerate([0, 1, 2, 0, 2, 1])]
    said = [{"idx": i, "judge_result": v} for i, v in enumerate(["Tie", "1", "2", "rubbish", 2, "1\n\nReason"])]
    files = {"data": write(tmp_path / "g.jsonl", gold), "judged": write(tmp_path / "j.jsonl", said), "resamples": 10}
    strict, lenient = pandalm(**files), pandalm(**files, official=True)
    assert strict.measures["accuracy"].value == pytest.approx(5 / 6)
    assert strict.measures["parsed"].value == pytest.approx(5 / 6)
    assert lenient.measures["accuracy"].value == 1
    assert strict.notes == ["1 of 6 verdicts cannot be read and count as wrong."]
    assert lenient.notes == ["1 of 6 verdicts cannot be read and count as ties."]
