"""Text against references, programs against tests, confidence against the truth: numbers of the papers or by hand."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import matching
from kilter.evaluation.auto_metrics import auto_metrics, bleu, distinct, rouge
from kilter.evaluation.calibration import calibration, ece, table
from kilter.evaluation.pass_at_k import estimate, mean, pass_at_k

# ------------------------------------------------------------------------------------------------------------- pass@k


def test_pass_at_k_is_the_share_of_draws_that_hold_a_passing_program() -> None:
    assert estimate(5, 1, 1) == pytest.approx(0.2)
    for n, c, k in ((5, 2, 2), (7, 3, 4), (6, 0, 3), (6, 6, 2), (4, 3, 2)):
        draws = list(combinations([True] * c + [False] * (n - c), k))
        assert estimate(n, c, k) == pytest.approx(sum(any(d) for d in draws) / len(draws))
    assert mean([(5, 1), (5, 5)], 1) == pytest.approx(0.6)
    with pytest.raises(KilterError, match="k is at most n"):
        estimate(3, 1, 4)


def test_results_of_programs_are_scored_by_task(tmp_path: Path) -> None:
    rows = [
        {"task_id": t, "passed": p}
        for t, said in (("a", [1, 0, 0, 0]), ("b", [1, 1, 1, 1, 0]))
        for p in map(bool, said)
    ]
    rows += [{"task_id": "a", "passed": "maybe"}, {"task_id": "a", "passed": None}]
    found = pass_at_k(data=write(tmp_path / "r.jsonl", rows), k="1,4,10")
    assert found.measures["pass@1"].value == pytest.approx((0.25 + 0.8) / 2)
    assert found.measures["pass@4"].value == pytest.approx(1.0)
    assert found.measures["pass@1"].n == 2
    assert found.notes == [
        "pass@10 needs 10 programs of every task; one has 4.",
        "2 of 11 programs left out: the result is neither passed nor failed (first: maybe).",
    ]
    with pytest.raises(KilterError, match="a task has 4 programs"):
        pass_at_k(data=str(tmp_path / "r.jsonl"), k="100")


# -------------------------------------------------------------------------------------------------------- calibration


def test_ece_by_hand() -> None:
    # Two of ten bins are used: at 0.25 a quarter is right, at 0.95 only half of four.
    p = [0.25] * 4 + [0.95] * 4
    y = [1, 0, 0, 0, 1, 1, 0, 0]
    assert ece(p, y, bins=10) == pytest.approx((4 * 0 + 4 * 0.45) / 8)
    assert ece(p, y, bins=10, binning="mass") == pytest.approx(0.225)
    [low, high] = table(np.array(p), np.array(y, float), bins=10)
    assert (low.n, low.accuracy, high.confidence) == (4, 0.25, pytest.approx(0.95))


def test_every_number_of_calibration(tmp_path: Path) -> None:
    rows = [{"confidence": 0.8, "correct": c} for c in (True, True, False, 1)]
    rows += [{"confidence": 1.5, "correct": 1}, {"confidence": None, "correct": 1}, {"confidence": 0.5, "correct": "?"}]
    found = calibration(data=write(tmp_path / "c.jsonl", rows), resamples=50)
    values = {name: m.value for name, m in found.measures.items()}
    assert values == pytest.approx(
        {
            "ece": 0.05, "mce": 0.05, "brier": (3 * 0.04 + 0.64) / 4, "overconfidence": 0.05,
            "log_loss": -(3 * math.log(0.8) + math.log(0.2)) / 4, "accuracy": 0.75, "confidence": 0.8,
        }
    )  # fmt: skip
    assert sum("left out" in note for note in found.notes) == 2
    assert "Confidence 0.73 to 0.80: 4 items, right 75.0%." in found.notes


def test_a_calibrated_model_has_little_error_and_a_proud_one_much() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(float)
    assert ece(p, y) < 0.015
    proud = np.clip(p + 0.2, 0, 1)
    assert ece(proud, y) == pytest.approx(float((proud - p).mean()), abs=0.01)


def test_edges_and_certain_confidences_have_a_bin() -> None:
    assert ece([0.0, 1.0, 0.2, 0.4], [0, 1, 0, 1], bins=5) == pytest.approx((0 + 0 + 0.2 + 0.6) / 4, abs=0.11)
    assert sum(b.n for b in table(np.array([0.0, 0.2, 1.0]), np.zeros(3), bins=5)) == 3
    assert ece([0.7, 0.7], [1, 1], binning="mass") == pytest.approx(0.3)


# -------------------------------------------------------------------------------------------------------- exact match


@pytest.mark.parametrize(
    ("form", "text", "found"),
    [
        ("plain", "  The  ＡＮＳＷＥＲ１ ", "the answer1"),
        ("squad", "The Eiffel-Tower, a tower!", "eiffeltower tower"),
        ("first-word", "Yes, it is.", "yes"),
        ("number", "It costs $1,234.50 today", "1234.5"),
        ("number", "so 29.00", "29"),
        ("number", "-007", "-7"),
        ("number", "-0.0", "0"),
        ("number", "two", None),
        ("gsm8k", "5 + 5 = 10\n#### 1,000", "1000"),
        ("gsm8k", "A: 10", None),
        ("letter", "The answer is (b).", "B"),
        ("letter", "I think (A) is wrong; the answer is C", "C"),
        ("letter", "答案是D。", "D"),
        ("letter", "B", "B"),
        ("letter", "B. because", "B"),
        ("letter", "A man walks in", None),
        ("letter", "Because", None),
    ],
)
def test_forms_of_an_answer(form: str, text: str, found: str | None) -> None:
    assert matching.normaliser(form)(text) == found


def test_nothing_found_equals_nothing() -> None:
    assert matching.same("$29.00", ["29"], "number")
    assert not matching.same("no number", ["none either"], "number")
    assert not matching.same(None, [""], "exact")
    assert not matching.same("", [""], "exact")
    with pytest.raises(KilterError, match="Did you mean 'squad'"):
        matching.same("a", ["a"], "squads")


def test_f1_of_words_is_squads() -> None:
    assert matching.token_f1("the cat sat", ["a cat sat down"]) == pytest.approx(2 * 2 / (2 + 3))
    assert matching.token_f1("", ["a"]) == 1.0  # articles are no words
    assert matching.token_f1("dog", ["cat", "dog"]) == 1.0


# ------------------------------------------------------------------------------------------------------ BLEU and ROUGE


def test_bleu_of_itself_is_100_and_of_the_papers_example() -> None:
    pytest.importorskip("sacrebleu")
    text = "It is a guide to action which ensures that the military always obeys the commands of the party."
    assert bleu([text], [[text]]) == pytest.approx(100)
    # Papineni et al., example 2: "the the the the the the the" has a modified unigram precision of 2/7 and no bigram.
    assert bleu(["the the the the the the the"], [["The cat is on the mat.", "There is a cat on the mat."]]) < 10
    # By hand: precisions 5/6, 3/5, 1/4, smoothed 1/(2*3); no brevity penalty.
    hand = (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25 * 100
    assert bleu(["the cat sat on the mat"], [["the cat is on the mat"]], "none") == pytest.approx(hand)


def test_short_texts_pay_the_brevity_penalty() -> None:
    pytest.importorskip("sacrebleu")
    reference = "one two three four five six seven eight"
    assert bleu(["one two three four"], [[reference]], "none") == pytest.approx(100 * math.exp(1 - 8 / 4))


def test_rouge_by_hand_and_the_best_reference_counts() -> None:
    pytest.importorskip("rouge_score")
    found = rouge("police killed the gunman", ["police kill the gunman", "nothing"])
    assert found["rouge1"] == pytest.approx(1)  # stems
    found = rouge("the gunman kill police", ["police kill the gunman"])
    assert found == pytest.approx({"rouge1": 1.0, "rouge2": 1 / 3, "rougeL": 0.5})


def test_distinct_n_grams() -> None:
    assert distinct(["a b a b"], 1) == 0.5
    assert distinct(["a b a b"], 2) == pytest.approx(2 / 3)
    assert distinct(["好好学习"], 1) == 0.75
    assert math.isnan(distinct(["a"], 2))


def test_a_file_of_texts(tmp_path: Path) -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    rows = [
        {"id": "x", "prediction": "The cat sat on the mat today", "references": "the cat sat on the mat today"},
        {"id": "y", "prediction": "A dog", "references": ["a cat", "a dog"]},
        {"id": "z", "prediction": "text", "references": []},
        {"id": "u", "prediction": None, "references": ["text"]},
    ]
    found = auto_metrics(data=write(tmp_path / "t.jsonl", rows), resamples=20)
    assert found.measures["exact"].value == 1.0
    assert found.measures["rougeL"].value == pytest.approx(1.0)
    assert 0 <= found.measures["bleu"].low <= found.measures["bleu"].value <= found.measures["bleu"].high <= 100.0001
    assert found.notes == ["2 of 4 texts left out: there is no text or no reference (first: z)."]
    assert [s["id"] for s in found.samples] == ["x", "y"]
    assert found.samples[1]["outcomes"]["f1"] == 1.0
