"""Ratings from battles: the expected numbers are published, worked out by hand, or an independent fit's."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import battles as fights
from kilter.evaluation import bradley_terry as bt
from kilter.evaluation.elo import elo, rate, walk
from kilter.evaluation.multielo import multielo
from kilter.evaluation.style import style
from kilter.evaluation.win_rate import win_rate

# Wins of the row over the column, and the strengths, of the worked example in Wikipedia's article on the model.
WINS = {"A": "0201", "B": "3050", "C": "0301", "D": "4030"}
STRENGTH = {"A": 0.640, "B": 1.043, "C": 0.660, "D": 2.270}


def example() -> list[dict]:
    return [
        {"model_a": winner, "model_b": loser, "winner": "model_a"}
        for winner, row in WINS.items()
        for loser, times in zip(WINS, row, strict=True)
        for _ in range(int(times))
    ]


def drawn(n: int, strength: list[float], seed: int = 0, ties: float = 0.0) -> list[dict]:
    """Battles as Bradley and Terry's model draws them, a share of them made ties."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        a, b = rng.choice(len(strength), 2, replace=False)
        p = 1 / (1 + math.exp(strength[b] - strength[a]))
        winner = "tie" if rng.random() < ties else "model_a" if rng.random() < p else "model_b"
        rows.append({"model_a": f"m{a}", "model_b": f"m{b}", "winner": winner})
    return rows


def test_bradley_terry_gives_the_strengths_of_the_worked_example(tmp_path: Path) -> None:
    found = bt.bradley_terry(data=write(tmp_path / "b.jsonl", example()), scale=math.log(10), initial=0.0).measures
    assert list(found) == ["D", "B", "C", "A"]
    for name, strength in STRENGTH.items():
        assert math.exp(found[name].value) == pytest.approx(strength, abs=5e-4)
        assert found[name].low <= found[name].value <= found[name].high
    assert found["A"].n == 10


@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_the_fit_is_the_maximum_that_scipy_finds(ties: bt.Ties) -> None:
    battles = fights.collect(drawn(400, [0.0, 0.5, 1.0, -1.0], ties=0.2))
    cells = bt.gather(battles, ties)
    extra = int(ties == "davidson")
    free = len(battles.models) - 1  # the first is held at 0

    def loss(x: np.ndarray) -> float:
        beta, eta = np.concatenate([[0.0], x[:free]]), x[-1]
        d = beta[battles.a] - beta[battles.b]
        if extra:
            whole = np.exp(d / 2) + np.exp(-d / 2) + np.exp(eta)
            p = np.select([battles.outcome == 1, battles.outcome == 0], [np.exp(d / 2), np.exp(-d / 2)], np.exp(eta))
            return -float(np.log(p / whole).sum())
        p = 1 / (1 + np.exp(-d))
        return -float((battles.outcome * np.log(p) + (1 - battles.outcome) * np.log(1 - p)).sum())

    best = optimize.minimize(loss, np.zeros(free + extra), method="BFGS", options={"gtol": 1e-8}).x
    theta = bt.fit(cells, ties=ties)
    assert theta[1:4] - theta[0] == pytest.approx(best[:free], abs=1e-5)
    assert bt.likelihood(cells, theta, ties=ties) == pytest.approx(-loss(best), abs=1e-6)
    assert theta[:4].mean() == pytest.approx(0, abs=1e-12)
    if extra:
        assert theta[-1] == pytest.approx(best[-1], abs=1e-5)


def test_neither_the_order_of_battles_nor_of_sides_matters(tmp_path: Path) -> None:
    rows = drawn(200, [0.0, 1.0, 2.0], ties=0.1)
    turn = {"model_a": "model_b", "model_b": "model_a", "tie": "tie"}
    other = [{"model_a": r["model_b"], "model_b": r["model_a"], "winner": turn[r["winner"]]} for r in reversed(rows)]
    one, two = (bt.bradley_terry(data=write(tmp_path / f"{i}.jsonl", x)) for i, x in enumerate((rows, other)))
    assert {n: m.value for n, m in one.measures.items()} == pytest.approx({n: m.value for n, m in two.measures.items()})
    assert one.measures["m2"].low == pytest.approx(two.measures["m2"].low, abs=1e-6)


def test_the_two_kinds_of_interval_agree_and_hold_the_truth(tmp_path: Path) -> None:
    truth = [-1.0, -0.3, 0.0, 0.3, 1.0]
    data = write(tmp_path / "b.jsonl", drawn(4000, truth))
    boot = bt.bradley_terry(data=data, bootstraps=400).measures
    sandwich = bt.bradley_terry(data=data, interval="sandwich").measures
    for k, beta in enumerate(truth):
        points = 1000 + 400 / math.log(10) * beta
        a, b = boot[f"m{k}"], sandwich[f"m{k}"]
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.15)
        assert abs(a.value - points) < 3 * (b.high - b.low) / 4


def test_the_sandwich_of_two_models_is_that_of_a_proportion(tmp_path: Path) -> None:
    # With w wins of n the lead is logit(w / n), whose standard error is 1 / sqrt(n p (1 - p)).
    rows = [{"model_a": "x", "model_b": "y", "winner": w} for w in ["model_a"] * 30 + ["model_b"] * 10]
    found = bt.bradley_terry(
        data=write(tmp_path / "b.jsonl", rows), interval="sandwich", anchor="y", scale=math.log(10), initial=0.0
    ).measures
    assert found["x"].value == pytest.approx(math.log(3))
    assert (found["x"].high - found["x"].low) / 2 == pytest.approx(1.959964 / math.sqrt(40 * 0.75 * 0.25))
    assert (found["y"].value, found["y"].low, found["y"].high) == pytest.approx((0, 0, 0), abs=1e-9)


def test_style_is_taken_out_of_the_ratings(tmp_path: Path) -> None:
    """Two models are equally good, but one writes twice as long, and the judge likes that: odds of e to a feature."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(4000):
        a, b = rng.choice(["long", "short", "third"], 2, replace=False)
        length = {"long": 400, "short": 100, "third": 200}
        texts = ["x" * int(length[m] * rng.uniform(0.3, 1.7)) for m in (a, b)]
        feature = (len(texts[0]) - len(texts[1])) / (len(texts[0]) + len(texts[1]) + 1)
        won = rng.random() < 1 / (1 + math.exp(-2 * feature))
        rows.append({"model_a": a, "model_b": b, "winner": "model_a" if won else "model_b"}
                    | {"response_a": texts[0], "response_b": texts[1]})  # fmt: skip
    data = write(tmp_path / "b.jsonl", rows)
    raw = bt.bradley_terry(data=data, bootstraps=20).measures
    controlled = bt.bradley_terry(data=data, style="length", bootstraps=20).measures
    assert raw["long"].value - raw["short"].value > 150
    assert abs(controlled["long"].value - controlled["short"].value) < 60
    assert controlled["style:length"].low > 0
    assert raw["long"].low > controlled["long"].value


def test_the_penalised_fit_with_style_is_that_of_chatbot_arena() -> None:
    """rating_systems.py of FastChat: a penalty of 0.25 |r|^2 on the summed loss, r in units of ln 10."""
    rows = drawn(150, [0.0, 1.0, 0.5])
    rng = np.random.default_rng(1)
    names = ["sum_assistant_{}_tokens", "header_count_{}", "list_count_{}", "bold_count_{}"]
    for row in rows:
        row["conv_metadata"] = {name.format(side): int(rng.integers(1, 50)) for side in "ab" for name in names}
    battles = fights.collect(rows, style=bt.STYLES["all"])
    cells = bt.gather(battles)
    assert cells.z.mean(0) == pytest.approx(np.zeros(4), abs=1e-12)
    assert cells.z.std(0) == pytest.approx(np.ones(4))

    def loss(r: np.ndarray) -> float:
        d = math.log(10) * (r[battles.a] - r[battles.b] + cells.z @ r[3:])
        return float(-(battles.outcome * -np.logaddexp(0, -d) - (1 - battles.outcome) * np.logaddexp(0, d)).sum()) + (
            0.25 * float(r @ r)
        )

    best = optimize.minimize(loss, np.zeros(7), method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 1e-15}).x
    assert bt.fit(cells, penalty=0.5) / math.log(10) == pytest.approx(best, abs=1e-5)


def test_a_model_without_a_finite_rating_is_named_and_left_out(tmp_path: Path) -> None:
    rows = [*drawn(60, [0.0, 0.3, 0.1]), {"model_a": "hero", "model_b": "m0", "winner": "model_a"}]
    data = write(tmp_path / "b.jsonl", rows)
    found = bt.bradley_terry(data=data, bootstraps=10)
    assert set(found.measures) == {"m0", "m1", "m2"}
    assert "1 models have no finite rating and are left out (hero)" in found.notes[0]
    rated = bt.bradley_terry(data=data, penalty=0.5, bootstraps=10)
    assert max(rated.measures, key=lambda name: rated.measures[name].value) == "hero"
    apart = [*rows, *({"model_a": "u", "model_b": "v", "winner": w} for w in ("model_a", "model_b"))]
    assert set(bt.bradley_terry(data=write(tmp_path / "c.jsonl", apart), bootstraps=5).measures) == {"m0", "m1", "m2"}


def test_a_rating_that_resamples_lose_has_an_end_at_infinity(tmp_path: Path) -> None:
    rows = [
        *drawn(100, [0.0, 0.3]),
        *({"model_a": "rare", "model_b": "m0", "winner": w} for w in ("model_a", "model_b")),
    ]
    rare = bt.bradley_terry(data=write(tmp_path / "b.jsonl", rows)).measures["rare"]
    assert (rare.low, rare.high) == (-math.inf, math.inf)
    assert math.isfinite(rare.value)


def test_verdicts_that_cannot_be_read_are_counted_and_are_no_ties(tmp_path: Path) -> None:
    good = [{"model_a": "x", "model_b": "y", "winner": w} for w in ("model_a", "x", "tie (bothbad)", "y", "[[B]]")]
    bad = [
        {"model_a": "x", "model_b": "y", "winner": "error"},
        {"model_a": "x", "model_b": "y", "winner": None},
        {"model_a": "x", "model_b": "x", "winner": "tie"},
        {"left": "x", "right": "y", "winner": "tie"},
    ]
    data = write(tmp_path / "b.jsonl", [*good, *bad])
    with Path(data).open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    battles = fights.read(data)
    assert battles.outcome.tolist() == [1, 1, 0.5, 0, 0]
    assert sorted(note.split(":")[0] for note in battles.notes) == [
        "1 of 9 battles left out", "1 of 9 battles left out", "1 of 9 battles left out", "2 of 9 battles left out"
    ]  # fmt: skip
    with pytest.raises(KilterError, match="no battle that can be used"):
        fights.read(write(tmp_path / "none.jsonl", bad))


@pytest.mark.parametrize(
    ("row", "share"),
    [
        ({"generator_1": "x", "generator_2": "y", "preference": 1.25}, 0.75),
        ({"generator_1": "x", "generator_2": "y", "preference": 0}, 0.5),
        ({"generator_1": "x", "generator_2": "y", "preference": 1.5}, 0.5),
        ({"generator_1": "x", "generator_2": "y", "preference": None}, None),
        ({"generator_1": "x", "generator_2": "y", "preference": 3}, None),
        ({"model_1": "x", "model_2": "y", "g1_winner": "model_1", "g2_winner": "model_1"}, 1.0),
        ({"model_1": "x", "model_2": "y", "g1_winner": "model_1", "g2_winner": "model_2"}, 0.5),
        ({"model_1": "x", "model_2": "y", "g1_winner": "tie", "g2_winner": "model_2"}, 0.5),
        ({"model_1": "x", "model_2": "y", "g1_winner": "model_2", "g2_winner": "model_2"}, 0.0),
        ({"model_1": "x", "model_2": "y", "g1_winner": "model_2", "g2_winner": "error"}, None),
    ],
)
def test_the_forms_of_a_verdict(row: dict, share: float | None) -> None:
    assert fights.verdict(row) == share


def test_reading_by_column_and_by_row_is_the_same(tmp_path: Path) -> None:
    rows = [row | {"tstamp": 1.5 * i, "turn": i} for i, row in enumerate(drawn(50, [0.0, 1.0, 2.0], ties=0.2))]
    data = write(tmp_path / "b.jsonl", rows)
    quick, slow = fights.read(data), fights.collect(rows)
    assert fights._columns(Path(data)) is not None
    assert quick.models == slow.models
    for name in ("a", "b", "outcome"):
        assert getattr(quick, name).tolist() == getattr(slow, name).tolist()
    for odd in (
        {"model_a": "m0", "model_b": "m1", "winner": "?"},
        {"model_a": "tie", "model_b": "m1", "winner": "tie"},
    ):
        assert fights._columns(Path(write(tmp_path / "odd.jsonl", [*rows, odd]))) is None


def test_one_battle_between_equals_moves_half_of_k_and_the_sum_stays() -> None:
    battles = fights.collect([{"model_a": "x", "model_b": "y", "winner": "model_a"}])
    assert walk(battles, np.array([[0]]), k=32).tolist() == [[16.0, -16.0]]
    more = fights.collect(drawn(50, [0.0, 1.0, 2.0]))
    ratings = walk(more, np.array([np.arange(50), np.arange(50)[::-1]]), k=32)
    assert ratings.sum(1) == pytest.approx([0, 0], abs=1e-9)
    assert ratings[0].tolist() != ratings[1].tolist()


def test_online_elo_by_hand() -> None:
    # y wins from 0:0 (16 points), then z beats y: E = 1 / (1 + 10 ^ (16 / 400)), z gains 32 (1 - E).
    rows = [{"model_a": "x", "model_b": "y", "winner": "y"}, {"model_a": "z", "model_b": "y", "winner": "z"}]
    gained = 32 * (1 - 1 / (1 + 10 ** (16 / 400)))
    [ratings] = walk(fights.collect(rows), np.array([[0, 1]]), k=32)
    assert ratings.tolist() == pytest.approx([-16, 16 - gained, gained])


def test_elo_over_many_orders_is_near_bradley_terry(tmp_path: Path) -> None:
    data = write(tmp_path / "b.jsonl", drawn(3000, [-1.0, 0.0, 1.0]))
    found = elo(data=data, k=16, orders=200)
    ratings = bt.bradley_terry(data=data, bootstraps=5).measures
    for name, measure in found.measures.items():
        assert measure.value == pytest.approx(ratings[name].value, abs=40)
        assert measure.low < measure.value < measure.high
    assert "order of the battles alone" in found.notes[-1]
    assert elo(data=data, k=16, orders=200) == found


def test_orders_are_walked_in_parts_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    battles = fights.collect(drawn(40, [0.0, 1.0]))
    whole, _ = rate(battles, k=4, orders=30)
    monkeypatch.setattr("kilter.evaluation.elo.AT_ONCE", 200)
    parts, _ = rate(battles, k=4, orders=30)
    assert {n: m.value for n, m in parts.items()} == pytest.approx({n: m.value for n, m in whole.items()}, abs=1)


def test_a_dimension_shows_what_one_verdict_hides(tmp_path: Path) -> None:
    """A judge that is honest on accuracy alone: overall it prefers the long answer with errors."""
    rows = [
        {"model_a": "right", "model_b": "long", "winner": "long", "verdicts": {"accuracy": "right", "language": "long"}}
    ] * 40
    found = multielo(data=write(tmp_path / "b.jsonl", rows), orders=20).measures
    assert found["accuracy:right"].low > 1000 > found["accuracy:long"].high
    assert found["overall:long"].value > found["overall:right"].value
    assert found["accuracy:right"].value == pytest.approx(found["language:long"].value)
    with pytest.raises(KilterError, match="no verdicts by dimension"):
        multielo(data=write(tmp_path / "c.jsonl", example()))


def test_win_rates_count_ties_half_and_questions_as_clusters(tmp_path: Path) -> None:
    rows = [{"model_a": "x", "model_b": "y", "winner": w} for w in ("model_a", "model_a", "tie", "model_b")]
    found = win_rate(data=write(tmp_path / "b.jsonl", rows)).measures
    assert (found["x"].value, found["y"].value) == (0.625, 0.375)
    same = [row | {"question_id": i // 2} for i, row in enumerate(rows * 10)]
    narrow = win_rate(data=write(tmp_path / "c.jsonl", rows * 10)).measures["x"]
    wide = win_rate(data=write(tmp_path / "d.jsonl", same)).measures["x"]
    assert wide.value == narrow.value
    assert wide.high - wide.low != narrow.high - narrow.low
    with pytest.raises(KilterError, match="Did you mean 'x'"):
        win_rate(data=write(tmp_path / "e.jsonl", rows), against="xx")


def test_style_is_counted_outside_of_code() -> None:
    text = "# Title\n\nSome **bold** and __more__.\n- one\n- two\n1. three\n```\n# no title\n- no item\n```\n"
    assert style(text) == {"length": float(len(text)), "headers": 1.0, "lists": 3.0, "bold": 2.0}


def test_wrong_questions_get_their_sentence(tmp_path: Path) -> None:
    data = write(tmp_path / "b.jsonl", example())
    with pytest.raises(KilterError, match=r"The anchor 'a' fights no battle"):
        bt.bradley_terry(data=data, anchor="a")
    with pytest.raises(KilterError, match="length is not told"):
        bt.bradley_terry(data=data, style="length")
    with pytest.raises(KilterError, match="Every battle is a tie"):
        bt.bradley_terry(data=write(tmp_path / "t.jsonl", [r | {"winner": "tie"} for r in example()]), ties="drop")
    soft = write(tmp_path / "s.jsonl", [{"generator_1": "x", "generator_2": "y", "preference": 1.3}] * 3)
    with pytest.raises(KilterError, match="Davidson"):
        bt.bradley_terry(data=soft, ties="davidson")
