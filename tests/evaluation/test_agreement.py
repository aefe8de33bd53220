"""Agreement: the expected numbers are those that the coefficients' own papers and text books give."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import kappa
from kilter.evaluation.agreement import agreement
from kilter.evaluation.ratings_table import table

# Krippendorff 2011, section C: four observers, twelve units, gaps where there is no rating.
RELIABILITY = """1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 ."""
# Fleiss 1971 as in Wikipedia's article: ten subjects, fourteen raters, five categories.
FLEISS = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def reliability() -> list[dict]:
    return [
        {"item": unit, "rater": f"r{rater}", "label": value}
        for rater, line in enumerate(RELIABILITY.splitlines())
        for unit, value in enumerate(line.split())
        if value != "."
    ]


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_is_krippendorffs_own(tmp_path: Path, level: kappa.Level, alpha: float) -> None:
    found = agreement(data=write(tmp_path / "r.jsonl", reliability()), level=level, resamples=200)
    measure = found.measures["krippendorff"]
    assert measure.value == pytest.approx(alpha, abs=5e-4)
    assert measure.low < measure.value < measure.high <= 1
    assert "fleiss" not in found.measures
    assert found.notes == [
        "Not every item has the same number of ratings, so there is no Fleiss' kappa; see krippendorff."
    ]


def test_fleiss_kappa_is_that_of_the_example() -> None:
    assert kappa.fleiss(FLEISS) == pytest.approx(0.210, abs=5e-4)
    assert math.isnan(kappa.fleiss([[3, 0], [3, 0]]))
    with pytest.raises(KilterError, match="same number of ratings"):
        kappa.fleiss([[3, 0], [2, 0]])


def test_cohens_kappa_of_the_text_book() -> None:
    # Wikipedia's first example: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no.
    a = [1] * 25 + [0] * 25
    b = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert kappa.cohen(a, b, 2) == pytest.approx(0.4)
    assert kappa.cohen(a, b, 2) == pytest.approx(kappa.cohen(b, a, 2))
    assert math.isnan(kappa.cohen([0, 0], [0, 0], 2))


def test_weighted_kappa_by_hand_and_its_identity_with_the_intraclass_correlation() -> None:
    # Two raters, labels 0..3: disagreements 0, 1, 2, 1, 0. Linear: mean 4/5; the margins give an expected mean of
    # sum_ij p_i q_j |i - j| with p = (1,1,2,1)/5, q = (1,1,1,2)/5.
    a, b = [0, 1, 2, 2, 3], [0, 2, 0, 3, 3]
    p, q = np.bincount(a, minlength=4) / 5, np.bincount(b, minlength=4) / 5
    expected = sum(p[i] * q[j] * abs(i - j) for i in range(4) for j in range(4))
    assert kappa.cohen(a, b, 4, "linear") == pytest.approx(1 - (4 / 5) / expected)
    # With quadratic weights: 1 - mean (a-b)^2 / (var a + var b + (mean a - mean b)^2) (Fleiss and Cohen 1973).
    x, y = np.array(a, float), np.array(b, float)
    identity = 1 - ((x - y) ** 2).mean() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert kappa.cohen(a, b, 4, "quadratic") == pytest.approx(identity)


def test_complete_agreement_is_one_and_chance_is_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=600)
    same = [{"item": i, "rater": r, "label": int(x)} for i, x in enumerate(labels) for r in "ab"]
    found = agreement(data=write(tmp_path / "same.jsonl", same), resamples=50).measures
    assert [found[name].value for name in ("agreement", "cohen", "fleiss", "krippendorff")] == [1, 1, 1, 1]
    chance = [{"item": i, "rater": r, "label": int(rng.integers(3))} for i in range(600) for r in "ab"]
    found = agreement(data=write(tmp_path / "chance.jsonl", chance), resamples=200).measures
    for name in ("cohen", "fleiss", "krippendorff"):
        assert found[name].low < 0 < found[name].high
        assert found[name].value == pytest.approx(0, abs=0.1)


def test_where_only_one_label_is_used_there_is_no_value(tmp_path: Path) -> None:
    rows = [{"item": i, "rater": r, "label": "yes"} for i in range(5) for r in "ab"]
    found = agreement(data=write(tmp_path / "r.jsonl", rows), resamples=10)
    assert found.measures["agreement"].value == 1
    assert math.isnan(found.measures["krippendorff"].value)
    assert found.measures["krippendorff"].to_json()["value"] is None
    assert "agreement beyond chance has no value" in found.notes[-1]


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    rows = [*reliability(), {"item": 0, "rater": "r0", "label": 3}, {"item": 0, "rater": "r9", "label": None}]
    found = agreement(data=write(tmp_path / "r.jsonl", rows), resamples=10)
    assert [note.split(":")[0] for note in found.notes[:2]] == ["1 of 43 ratings left out"] * 2
    with pytest.raises(KilterError, match=r"lacks the column 'label'.*Did you mean 'labels'"):
        agreement(data=write(tmp_path / "x.jsonl", [{"item": 1, "rater": "a", "labels": 1}]))
    with pytest.raises(KilterError, match="No item has two ratings"):
        agreement(data=write(tmp_path / "y.jsonl", [{"item": 1, "rater": "a", "label": 1}]))
    graded = table(rows, order=["1", "2", "3", "4"])
    assert "the label is none of 1, 2, 3, 4" in " ".join(graded.notes)


def test_wide_rows_are_the_same_as_long_ones(tmp_path: Path) -> None:
    long = reliability()
    wide = [{"id": unit} | {row["rater"]: row["label"] for row in long if row["item"] == unit} for unit in range(12)]
    one = agreement(data=write(tmp_path / "l.jsonl", long), resamples=50).measures
    two = agreement(data=write(tmp_path / "w.jsonl", wide), columns="r0,r1,r2,r3", item="id", resamples=50).measures
    assert {n: m.value for n, m in one.items()} == pytest.approx({n: m.value for n, m in two.items()})


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Two raters, each right with probability 0.9 about two labels: kappa = (0.9^2 + 0.1^2 - 0.5) / 0.5 = 0.64."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = rng.integers(2, size=120)
        a, b = (np.where(rng.random(120) < 0.9, truth, 1 - truth) for _ in range(2))
        measure = kappa.over_items(lambda at, a=a, b=b: kappa.cohen(a[at], b[at], 2), 120, resamples=200)
        held += measure.low <= 0.64 <= measure.high
    assert held >= 50


def test_rank_correlations_and_concordance() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    assert kappa.kendall(a, b) == pytest.approx(0.6)  # two discordant of ten pairs
    assert kappa.spearman(a, b) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert math.isnan(kappa.spearman([1.0, 1.0], [1.0, 2.0]))
    assert kappa.concordance(np.array([a, a, a])) == pytest.approx(1)
    assert kappa.concordance(np.array([a, a[::-1]])) == pytest.approx(0)
    # W = (rho (m - 1) + 1) / m where there are no ties.
    ranks = np.array([a, b, [1.0, 3.0, 2.0, 5.0, 4.0]])
    rho = np.mean([stats.spearmanr(ranks[i], ranks[j])[0] for i, j in ((0, 1), (0, 2), (1, 2))])
    assert kappa.concordance(ranks) == pytest.approx((rho * 2 + 1) / 3)
