"""Biases of judges from stored judgements: judges with planted biases give their rates back."""

from __future__ import annotations

import math
import random

import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation.belle_eval import belle_eval
from kilter.evaluation.bias_math import bias_math
from kilter.evaluation.bias_position import bias_position, evidences, verdict
from kilter.evaluation.bias_self import bias_self
from kilter.evaluation.bias_verbosity import bias_verbosity
from kilter.evaluation.flask import ALL, flask

# ---------------------------------------------------------------------------------------------------------- position


def test_a_judge_that_does_not_look_at_places_is_never_in_conflict(tmp_path):
    rng = random.Random(0)
    rows = []
    for at in range(40):
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        rows.append({"id": at, "forward": [[a, b]], "backward": [[b, a]]})
    found = bias_position(data=write(tmp_path / "j.jsonl", rows)).measures
    assert found["conflict"].value == 0
    assert found["consistent"].value == 1
    assert found["shown_first"].value == pytest.approx(0.5)
    assert found["diversity"].value == 0  # unanimous


def test_a_judge_that_always_takes_the_first_conflicts_with_itself_and_balancing_gives_ties(tmp_path):
    rows = [{"id": at, "forward": "9 5\nclear", "backward": "9 5\nclear"} for at in range(20)]
    found = bias_position(data=write(tmp_path / "j.jsonl", rows)).measures
    assert found["conflict"].value == 1
    assert found["shown_first"].value == 1
    assert found["win:tie"].value == 1
    assert found["diversity"].value == pytest.approx(math.log(2))


def test_a_planted_rate_of_always_the_first_lies_in_its_interval(tmp_path):
    rng, rate = random.Random(1), 0.3
    rows = []
    for at in range(600):
        truth = rng.choice((1.0, 0.0))
        forward = 1.0 if rng.random() < rate else truth
        backward = 1.0 if rng.random() < rate else 1 - truth
        rows.append({"id": at, "forward": forward, "backward": backward})
    first = bias_position(data=write(tmp_path / "j.jsonl", rows)).measures["shown_first"]
    assert first.low < (1 + rate) / 2 < first.high


def test_balanced_verdicts_agree_better_with_people_than_a_biased_order_does(tmp_path):
    rows = [
        {"id": at, "forward": [[8, 6]], "backward": [[6, 9]] if at % 2 else [[7, 8]], "human": "first"}
        for at in range(10)
    ] + [{"id": f"x{at}", "forward": [[8, 7]], "backward": [[9, 5]], "human": "second"} for at in range(10)]
    found = bias_position(data=write(tmp_path / "j.jsonl", rows), resamples=50).measures
    assert found["single:accuracy"].value == 0.5
    assert found["balanced:accuracy"].value == 1.0


def test_evidence_in_every_form_and_what_cannot_be_read_is_left_out(tmp_path):
    assert evidences([[8, 7], "6 9", "no idea", [1, 2, 3]], "vicuna-scores") == [(8, 7), (6, 9)]
    assert evidences([9, 8], "vicuna-scores") == [(9, 8)]
    assert evidences(None, "vicuna-scores") == []
    assert verdict([(9, 8), (7, 8.5)]) == 0.0
    rows = [{"id": 1, "forward": "8 7", "backward": "7 8"}, {"id": 2, "forward": "???", "backward": "7 8"}]
    found = bias_position(data=write(tmp_path / "j.jsonl", rows))
    assert found.measures["conflict"].n == 1
    assert any("1 of 2 pairs" in note for note in found.notes)
    with pytest.raises(KilterError, match="no pair judged in both orders"):
        bias_position(data=write(tmp_path / "k.jsonl", rows[1:]))


# ---------------------------------------------------------------------------------------- verbosity, self, arithmetic


def test_verbosity_failures_are_the_planted_ones(tmp_path):
    rows = [{"id": at, "winner": "padded" if at < 9 else "original"} for at in range(10)]
    rows += [{"id": "t", "winner": "tie"}, {"id": "x", "winner": "both are bad"}]
    found = bias_verbosity(data=write(tmp_path / "j.jsonl", rows))
    assert (found.measures["failure"].value, found.measures["failure"].n) == (9 / 11, 11)
    assert found.measures["tie"].value == 1 / 11
    assert any("1 of 12" in note for note in found.notes)


def test_a_padded_answer_has_to_win_in_both_orders(tmp_path):
    rows = [{"g1_winner": "padded", "g2_winner": "padded"}, {"g1_winner": "padded", "g2_winner": "original"}]
    found = bias_verbosity(data=write(tmp_path / "j.jsonl", rows)).measures
    assert found["failure"].value == 0.5
    assert found["tie"].value == 0.5


def test_the_longer_answers_share_of_ordinary_pairs(tmp_path):
    pair = {"model_a": "x", "model_b": "y", "length_a": 100, "length_b": 50}
    rows = [
        {**pair, "winner": "model_a", "human_winner": "model_b"},
        {**pair, "winner": "model_b", "human_winner": "tie"},
        {**pair, "winner": "model_a", "human_winner": "model_b"},
        {**pair, "length_b": 100, "winner": "model_a"},
    ]
    found = bias_verbosity(data=write(tmp_path / "j.jsonl", rows)).measures
    assert (found["prefers_longer"].value, found["prefers_longer"].n) == (2 / 3, 3)
    assert found["people_prefer_longer"].value == 0


def test_self_preference_is_the_difference_of_two_win_rates(tmp_path):
    rows = []
    for at in range(100):
        rows.append({"judge": "x", "model_a": "x", "model_b": "y", "winner": "model_a" if at < 70 else "model_b"})
        rows.append({"judge": "human", "model_a": "x", "model_b": "y", "winner": "model_a" if at < 45 else "model_b"})
    path = write(tmp_path / "j.jsonl", rows)
    found = bias_self(data=path).measures
    assert found["self_preference:x"].value == pytest.approx(0.25)
    assert found["self_preference:x"].low > 0
    assert bias_self(data=path, reference="others").measures["own:x"].value == pytest.approx(0.7)
    with pytest.raises(KilterError, match="no judge that judged its own"):
        bias_self(data=path, reference="nobody")


def test_grades_of_sums_with_and_without_a_reference(tmp_path):
    rows = []
    for at in range(20):
        rows.append({"id": at, "prompt": "default", "gold": "wrong", "graded": "right" if at < 14 else "wrong"})
        rows.append({"id": at, "prompt": "reference", "gold": "wrong", "graded": "right" if at < 3 else "wrong"})
    found = bias_math(data=write(tmp_path / "j.jsonl", rows))
    assert found.measures["failure:default"].value == 0.7
    assert found.measures["failure:reference"].value == 0.15
    assert found.measures["misled:default"].value == 0.7
    assert found.measures["gain:reference"].value == pytest.approx(0.55)
    assert any("reference has +55.0% fewer failures" in note for note in found.notes)


def test_a_grade_that_cannot_be_read_is_a_failure_and_said(tmp_path):
    rows = [{"id": 1, "gold": True, "graded": None}, {"id": 2, "gold": True, "graded": 1}, {"id": 3, "gold": "?"}]
    found = bias_math(data=write(tmp_path / "j.jsonl", rows))
    assert found.measures["failure:default"].value == 0.5
    assert any("could not be read" in note for note in found.notes)
    assert any("1 of 3" in note for note in found.notes)


# ------------------------------------------------------------------------------------------------------- BELLE, FLASK


def test_belle_holds_scores_between_0_and_1_and_counts_classes_the_same(tmp_path):
    rows = [
        {"id": 1, "class": "math", "judgements": [1.7, "得分：0.5", "no"]},
        {"id": 2, "class": "math", "judgements": [-3]},
        {"id": 3, "class": "open", "judgements": "0.9"},
        {"id": 4, "class": "open", "judgements": ["nothing"]},
    ]
    found = belle_eval(data=write(tmp_path / "b.jsonl", rows))
    assert found.measures["class:math"].value == pytest.approx((0.75 + 0) / 2)
    assert found.measures["class:open"].value == pytest.approx(0.9)
    assert found.measures["macro"].value == pytest.approx((0.375 + 0.9) / 2)
    assert found.measures["score"].n == 3
    assert any("2 judgements hold no score" in note for note in found.notes)
    assert any("1 of 4 instructions" in note for note in found.notes)


def test_flask_means_are_over_the_skills_that_an_instruction_is_annotated_with(tmp_path):
    assert len(ALL) == 12
    rows = [
        {"idx": 1, "skill": ["Factuality", "Readability"], "domain": ["History"], "difficulty": "expert",
         "review": "text {'Factuality': 2, 'Readability': 5, 'Harmlessness': 5}"},
        {"idx": 2, "metrics": ["factuality"], "domain_labeled": ["History", "Math"], "difficulty": "simple",
         "scores": {"Factuality": 4}},
        {"idx": 3, "skill": ["Factuality"], "difficulty": "simple", "review": "I would say it is fine"},
    ]  # fmt: skip
    found = flask(data=write(tmp_path / "f.jsonl", rows))
    measures = found.measures
    assert measures["skill:Factuality"].value == 3
    assert measures["skill:Readability"].value == 5
    assert "skill:Harmlessness" not in measures
    assert measures["ability:Background Knowledge"].value == 3
    assert measures["domain:Math"].value == 4
    assert measures["difficulty:expert"].value == 3.5
    assert measures["score"].value == pytest.approx(11 / 3)
    assert any("1 of 3 judgements" in note for note in found.notes)
