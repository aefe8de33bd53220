"""Numbers from stored judgements: AlpacaEval, MT-Bench, QLoRA's tournaments, and what a leaderboard is worth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import battles as fights
from kilter.evaluation import bradley_terry as bt
from kilter.evaluation import length_control
from kilter.evaluation.alpacaeval import alpacaeval, counted, from_tokens, preferred
from kilter.evaluation.framework import cycles, framework
from kilter.evaluation.mtbench import category, merged, mtbench
from kilter.evaluation.qlora_elo import qlora_elo

# -------------------------------------------------------------------------------------------------------- AlpacaEval


def annotation(at: int, preference: float | None, model: str = "m", mine: int = 100, base: int = 100) -> dict:
    return {
        "instruction": f"do {at}", "generator_1": "base", "generator_2": model, "preference": preference,
        "output_1": "b" * base, "output_2": "m" * mine,
    }  # fmt: skip


def test_win_rates_by_hand(tmp_path: Path) -> None:
    rows = [annotation(i, p) for i, p in enumerate([2, 1, 1.5, 1.8, 0, 1.2])] + [annotation(9, None), annotation(10, 3)]
    found = alpacaeval(data=write(tmp_path / "a.jsonl", rows), length_controlled=False)
    assert found.model == "m"
    assert found.measures["win_rate"].value == pytest.approx((1 + 0 + 0.5 + 0.8 + 0.5 + 0.2) / 6)
    assert found.measures["discrete_win_rate"].value == pytest.approx((1 + 0 + 0.5 + 1 + 0.5 + 0) / 6)
    assert found.measures["length"].value == 100
    assert found.notes == ["2 of 8 judgements left out: the judge gave no preference (first: None)."]
    assert found.samples[0]["outcomes"] == {"win_rate": 1.0, "discrete_win_rate": 1.0}


def test_the_leaderboards_row() -> None:
    row = counted([1.0, 0.0, 0.5, 0.8], [10, 11, 11, 11])
    assert (row.n_wins, row.n_wins_base, row.n_draws, row.n_total, row.avg_length) == (2, 1, 1, 4, 10)
    assert row.win_rate == pytest.approx(57.5)
    assert row.standard_error == pytest.approx(100 * np.std([1, 0, 0.5, 0.8], ddof=1) / 2)
    assert row.discrete_win_rate == pytest.approx(62.5)


def test_swapping_the_models_gives_the_rest_and_oneself_is_even(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shares = rng.random(50)
    one = alpacaeval(data=write(tmp_path / "a.jsonl", [annotation(i, 1 + s) for i, s in enumerate(shares)]))
    two = alpacaeval(data=write(tmp_path / "b.jsonl", [annotation(i, 2 - s) for i, s in enumerate(shares)]))
    assert one.measures["win_rate"].value + two.measures["win_rate"].value == pytest.approx(1)
    itself = alpacaeval(data=write(tmp_path / "c.jsonl", [annotation(i, 1.5) for i in range(20)]))
    assert itself.measures["win_rate"].value == 0.5
    assert preferred(1.5) == preferred(0) == 0.5


def completion(**logprobs: float) -> dict:
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
    return {"raw_completion": {"logprobs": {"content": [{"token": "m", "top_logprobs": top}]}}}


def test_a_preference_is_read_from_the_judges_tokens() -> None:
    row = completion(m=math.log(0.6), M=math.log(0.2), The=math.log(0.1)) | {"is_switched_outputs": False}
    assert from_tokens(row) == pytest.approx(0.25)  # 0.2 / (0.6 + 0.2) for the second
    assert from_tokens(row | {"is_switched_outputs": True}) == pytest.approx(0.75)
    assert from_tokens(completion(m=-0.1) | {"is_switched_outputs": False}) == 0.0
    assert from_tokens(completion(M=-0.1) | {"is_switched_outputs": False}) == 1.0
    assert from_tokens(completion(The=-0.1) | {"is_switched_outputs": False}) is None
    assert from_tokens({"raw_completion": "text"}) is None
    # AlpacaEval's files do not say the order; the stored preference tells it.
    stored = completion(M=-0.0000226039, m=-10.765648) | {"preference": 1.0000211125}
    assert from_tokens(stored) == pytest.approx(0.0000211125, abs=1e-8)


def judge_that_likes_length(n: int, models: dict[str, tuple[float, float]], seed: int = 0) -> list[dict]:
    """Models of known worth and typical length, judged by worth plus 1.5 times tanh(length difference / its sd)."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1, n)
    rows = []
    for name, (worth, longer) in models.items():
        mine = np.maximum(1, 400 + longer + rng.normal(0, 150, n)).astype(int)
        base = np.maximum(1, 400 + rng.normal(0, 150, n)).astype(int)
        t = np.tanh((base - mine) / np.std(base - mine))
        p = 1 / (1 + np.exp(-(worth - 1.5 * t + 0.7 * hard)))
        rows += [annotation(i, 1 + float(p[i]), name, int(mine[i]), int(base[i])) for i in range(n)]
    return rows


def test_length_control_takes_the_length_out(tmp_path: Path) -> None:
    """Of two equally good models the one that writes longer wins more, until the length is controlled for."""
    data = write(tmp_path / "a.jsonl", judge_that_likes_length(400, {"brief": (0.0, -250.0), "long": (0.0, 250.0)}))
    found = alpacaeval(data=data, resamples=30)
    raw, even = (
        {m: found.measures[f"{m}:{name}"] for m in ("brief", "long")} for name in ("win_rate", "length_controlled")
    )
    assert raw["long"].value - raw["brief"].value > 0.3
    # The ridge on the length's coefficient leaves some of it in where the difficulty of the items is not known.
    assert abs(even["long"].value - even["brief"].value) < (raw["long"].value - raw["brief"].value) / 2
    assert even["brief"].low < even["brief"].value < even["brief"].high
    assert "at least 10 models are needed" in found.notes[-1]


def test_with_ten_models_the_difficulty_of_instructions_is_found(tmp_path: Path) -> None:
    models = {f"m{k}": (k / 4 - 1, 80.0 * (k % 5) - 160) for k in range(12)}
    rows = judge_that_likes_length(150, models)
    found = alpacaeval(data=write(tmp_path / "a.jsonl", rows), resamples=5)
    assert "difficulty of each instruction found" in found.notes[-1]
    truth = {name: worth for name, (worth, _) in models.items()}
    even = {name: found.measures[f"{name}:length_controlled"].value for name in models}
    assert sorted(even, key=even.get) == sorted(truth, key=truth.get)  # type: ignore[arg-type]
    # E sigmoid(worth + 0.7 z) over the instructions.
    z = np.random.default_rng(0).normal(0, 1, 150)
    for name, worth in truth.items():
        assert even[name] == pytest.approx(float((1 / (1 + np.exp(-(worth + 0.7 * z)))).mean()), abs=0.06)


def test_a_logistic_fit_on_soft_labels_is_that_of_weighted_rows() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, y = np.column_stack([np.ones(200), rng.normal(size=200)]), rng.random(200)
    both = LogisticRegression(C=1 / 2.0, fit_intercept=False, tol=1e-10)
    both.fit(np.vstack([x, x]), [1] * 200 + [0] * 200, sample_weight=np.concatenate([y, 1 - y]))
    assert length_control.logistic(x, y, np.array([2.0, 2.0])) == pytest.approx(both.coef_[0], abs=1e-5)


def test_lengths_that_are_not_told_or_never_differ_are_said(tmp_path: Path) -> None:
    bare = [{k: v for k, v in annotation(i, 1.2).items() if not k.startswith("output")} for i in range(5)]
    found = alpacaeval(data=write(tmp_path / "a.jsonl", bare))
    assert "length_controlled" not in found.measures
    assert found.notes == ["The responses' lengths are not told, so they are not controlled for."]
    same = write(tmp_path / "b.jsonl", [annotation(i, 1.2) for i in range(5)])
    assert "its effect is not known" in " ".join(alpacaeval(data=same).notes)
    with pytest.raises(KilterError, match="not judged in"):
        alpacaeval(data=same, candidate="other")


# ---------------------------------------------------------------------------------------------------------- MT-Bench


def graded(question: int, turn: int, score: float, model: str = "m") -> dict:
    return {"question_id": question, "turn": turn, "model": model, "score": score, "judge": ["gpt-4", "single-v1"]}


def test_single_scores_are_means_over_turns_and_questions(tmp_path: Path) -> None:
    rows = [graded(81, 1, 8), graded(81, 2, 6), graded(111, 1, 3), graded(111, 2, -1)]
    rows.append({"question_id": 160, "turn": 1, "model": "m", "judgment": "Rating: [[9]]"})
    found = mtbench(data=write(tmp_path / "j.jsonl", rows))
    assert {n: m.value for n, m in found.measures.items()} == pytest.approx(
        {"score": 6.5, "turn_1": 20 / 3, "turn_2": 6, "writing": 7, "math": 3, "humanities": 9}
    )
    assert found.notes == ["1 of 5 judgements left out: the rating could not be read (first: -1)."]
    assert [s["family"] for s in found.samples] == ["writing", "writing", "math", "humanities"]
    assert found.samples[0]["cluster"] == found.samples[1]["cluster"]


def test_categories_are_ten_questions_each() -> None:
    names = [category(q) for q in range(81, 161)]
    assert len(set(names)) == 8
    assert all(names.count(name) == 10 for name in set(names))
    assert (category(80), category(161), category("x")) == ("", "", "")


@pytest.mark.parametrize(
    ("first", "second", "pair"),
    [(1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5), (1, 0, 0.5), (0, 1, 0.5), (1, 0.5, 0.5), (0.5, 0, 0.5), (None, 1, None),
     (0, None, None)],
)  # fmt: skip
def test_two_orders_make_one_verdict(first: float | None, second: float | None, pair: float | None) -> None:
    assert merged(first, second) == pair


def test_pairs_in_both_orders_show_the_judges_bias(tmp_path: Path) -> None:
    said = [
        ("model_1", "model_1"),
        ("model_1", "model_2"),
        ("tie", "model_2"),
        ("model_2", "model_2"),
        ("error", "model_1"),
    ]
    rows = [
        {"question_id": 81 + i, "turn": 1, "model_1": "x", "model_2": "y", "g1_winner": a, "g2_winner": b}
        for i, (a, b) in enumerate(said)
    ]
    found = mtbench(data=write(tmp_path / "p.jsonl", rows)).measures
    assert (found["win_rate:x"].value, found["win:x"].value, found["tie:x"].value) == (0.5, 0.25, 0.5)
    assert found["win_rate:y"].value == 0.5
    assert found["consistent"].value == 0.5
    # The first shown won: game 1 of 1 and 2, game 2 of 2, 3 and 4 (the second model stood first there), not the others.
    assert found["first"].value == pytest.approx(5 / 7)
    always_first = [row | {"g1_winner": "model_1", "g2_winner": "model_2"} for row in rows]
    biased = mtbench(data=write(tmp_path / "q.jsonl", always_first)).measures
    assert (biased["consistent"].value, biased["first"].value, biased["tie:x"].value) == (0, 1, 1)


def test_a_model_that_was_not_judged_is_said(tmp_path: Path) -> None:
    data = write(tmp_path / "j.jsonl", [graded(81, 1, 8)])
    with pytest.raises(KilterError, match="no judgement of the model 'other'"):
        mtbench(data=data, candidate="other")


# ------------------------------------------------------------------------------------------------ QLoRA's tournaments


def test_scores_are_shares_of_the_references_in_both_orders(tmp_path: Path) -> None:
    rows = [
        {"question_id": 1, "model_a": "m", "model_b": "chatgpt", "scores": [8, 10]},
        {"question_id": 2, "model_a": "m", "model_b": "chatgpt", "text": "9 10\nThe second is better."},
        {"question_id": 1, "model_a": "chatgpt", "model_b": "m", "scores": [10, 9]},
        {"question_id": 2, "model_a": "chatgpt", "model_b": "m", "score": [10, 10]},
        {"question_id": 3, "model_a": "m", "model_b": "chatgpt", "scores": [-1, -1], "text": "I cannot."},
    ]
    found = qlora_elo(data=write(tmp_path / "r.jsonl", rows), reference="chatgpt", orders=50, resamples=20)
    assert found.measures["relative:m"].value == pytest.approx((85 + 95) / 2)
    assert found.measures["elo:chatgpt"].value > 1000 > found.measures["elo:m"].value
    assert found.measures["elo:m"].value + found.measures["elo:chatgpt"].value == pytest.approx(2000)
    assert found.notes == [
        "1 of 5 reviews left out: there is no score and no verdict that can be read (first: I cannot.)."
    ]
    with pytest.raises(KilterError, match="Did you mean 'chatgpt'"):
        qlora_elo(data=write(tmp_path / "s.jsonl", rows), reference="chatGPT")


# ------------------------------------------------------------------------------------- what a leaderboard is worth


def world(n: int, strengths: list[float], seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        a, b = rng.choice(len(strengths), 2, replace=False)
        won = rng.random() < 1 / (1 + math.exp(strengths[b] - strengths[a]))
        rows.append({"model_a": f"m{a}", "model_b": f"m{b}", "winner": "model_a" if won else "model_b"})
    return rows


def test_a_leaderboard_grows_stable_and_a_new_model_fits_in(tmp_path: Path) -> None:
    strengths = [-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9]
    few = framework(data=write(tmp_path / "few.jsonl", world(300, strengths)), bootstraps=40).measures
    many = framework(data=write(tmp_path / "many.jsonl", world(6000, strengths)), bootstraps=40, anchors=6).measures
    assert many["stability"].low > few["stability"].high
    assert many["stability"].value > 0.9
    assert many["incremental_error"].value < 2  # with all others as anchors only the fit's centre differs
    assert many["cycles"].value < 0.1
    assert many["battles_a_model"].value == pytest.approx(2 * 6000 / 7)
    assert few["incremental_battles"].value < few["battles_a_model"].value


def test_adding_a_model_needs_its_anchors_only(tmp_path: Path) -> None:
    battles = fights.collect(world(4000, [-0.5, 0.0, 0.5, 1.0]))
    from kilter.evaluation.framework import added

    theta = bt.fit(bt.gather(battles))
    beta, used = added(battles, theta, 2, anchors=1)
    assert used < battles.fought()[2] / 2
    assert beta == pytest.approx(theta[2], abs=0.25)


def test_cycles_are_counted() -> None:
    def beats(*pairs: str) -> fights.Battles:
        return fights.collect([{"model_a": p[0], "model_b": p[1], "winner": "model_a"} for p in pairs])

    assert cycles(beats("xy", "yz", "zx")).value == 1  # type: ignore[union-attr]
    assert cycles(beats("xy", "yz", "xz")).value == 0  # type: ignore[union-attr]
    assert cycles(beats("xy", "yz")) is None
    four = cycles(beats("xy", "yz", "zx", "wx", "wy", "wz"))
    assert (four.value, four.n) == (0.25, 4)  # type: ignore[union-attr]
