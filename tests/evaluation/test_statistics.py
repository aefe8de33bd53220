"""The expected numbers are published, or worked out by hand as each test says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation.result import Measure
from kilter.evaluation.statistics import (
    Difference,
    bootstrap,
    detectable,
    differences_over_seeds,
    holm,
    interval,
    over_seeds,
    paired,
    summarize,
    unpaired,
    wilson,
)

# Student's sleep data: extra hours of ten patients under two drugs; R's t.test gives the numbers below.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998_table_1(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    measure = interval([1.0] * successes + [0.0] * (n - successes))
    assert (measure.low, measure.high) == pytest.approx((low, high), abs=5e-5)
    assert (measure.value, measure.n) == (pytest.approx(successes / n), n)


def test_a_share_of_all_or_nothing_has_an_interval_and_stays_inside() -> None:
    assert interval([1.0] * 10).high == 1.0
    assert interval([1.0] * 10).low == pytest.approx(1 - 0.2775, abs=1e-4)  # z^2 / (n + z^2)
    assert interval([0.0] * 10).low == 0.0


def test_a_mean_has_the_t_interval() -> None:
    measure = interval(SLEEP_1)
    assert (measure.value, measure.low, measure.high) == pytest.approx((0.75, -0.5297804, 2.0297804), abs=1e-6)


def test_a_gap_may_be_negative() -> None:
    measure = interval([-1.0] * 6 + [0.0] * 10 + [1.0] * 2)
    assert measure.value == pytest.approx(-4 / 18)
    assert measure.low < measure.value < measure.high < 1


def test_clusters_widen_the_interval_as_the_sandwich_says() -> None:
    # mean 2.5, residual sums of the three clusters -3, 0, 3: Var = 3/2 * (9 + 0 + 9) / 36, t with 2 degrees of freedom.
    measure = interval([1.0, 1.0, 2.0, 3.0, 4.0, 4.0], clusters=["a", "a", "b", "b", "c", "c"])
    reach = stats.t.ppf(0.975, 2) * math.sqrt(1.5 * 18 / 36)
    assert (measure.value, measure.low, measure.high) == pytest.approx((2.5, 2.5 - reach, 2.5 + reach))


def test_clusters_of_one_change_nothing() -> None:
    assert interval(SLEEP_1, clusters=list(range(10))) == interval(SLEEP_1)


def test_a_clustered_share_stays_inside_and_is_wider() -> None:
    values = [1.0] * 5 + [1.0] * 5 + [1.0, 1.0, 1.0, 1.0, 0.0]
    clustered = interval(values, clusters=[0] * 5 + [1] * 5 + [2] * 5)
    alone = interval(values)
    assert clustered.high <= 1
    assert clustered.low < alone.low
    same = interval([1.0] * 40, clusters=[i // 10 for i in range(40)])
    assert same.low == pytest.approx(4 / (4 + stats.t.ppf(0.975, 3) ** 2))  # only four independent ones
    assert same.high == 1.0


def test_weights_give_the_ratio_and_its_linearised_error() -> None:
    # Nats a token of two records of 1 and 3 tokens: (2 + 3 * 4) / 4 = 3.5; u = (1 * -1.5 / 4, 3 * 0.5 / 4).
    measure = interval([2.0, 4.0], weights=[1, 3])
    reach = stats.t.ppf(0.975, 1) * math.sqrt(2 * 2 * 0.375**2)
    assert (measure.value, measure.high) == pytest.approx((3.5, 3.5 + reach))


def test_one_value_says_nothing_of_the_spread_and_none_is_an_error() -> None:
    assert interval([2.5]) == Measure(2.5, -math.inf, math.inf, 1)
    assert interval([0.5, 0.7], clusters=["a", "a"]).high == math.inf
    with pytest.raises(KilterError, match="no values"):
        interval([])


def test_bootstrap_agrees_with_t_on_plain_data_and_widens_with_clusters() -> None:
    values = np.random.default_rng(1).normal(size=400)
    plain, t = bootstrap(values, resamples=1000), interval(values)
    assert plain.low == pytest.approx(t.low, abs=0.02)
    assert plain.high == pytest.approx(t.high, abs=0.02)
    twice = bootstrap(np.repeat(values[:100], 4), clusters=np.repeat(np.arange(100), 4).tolist(), resamples=500)
    naive = bootstrap(np.repeat(values[:100], 4), resamples=500)
    assert twice.high - twice.low > 1.6 * (naive.high - naive.low)
    assert bootstrap(values, statistic=np.median, resamples=200).value == np.median(values)


def test_paired_t_gives_the_sleep_values() -> None:
    change = paired(SLEEP_1, SLEEP_2)
    assert (change.value, change.low, change.high) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=1e-6)
    assert change.p == pytest.approx(0.002833, abs=1e-6)


def test_paired_shares_give_newcombe_1998_and_exact_mcnemar() -> None:
    # Table of 36 both, 12 only the later, 2 only the earlier, 0 neither: method 10 gives 0.0569 to 0.3404.
    after = [1.0] * 36 + [1.0] * 12 + [0.0] * 2
    before = [1.0] * 36 + [0.0] * 12 + [1.0] * 2
    change = paired(before, after)
    assert (change.value, change.low, change.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    assert change.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    back = paired(after, before)
    assert (back.value, back.low, back.high) == pytest.approx((-change.value, -change.high, -change.low))


def test_nothing_changed_is_no_evidence_of_change_yet_keeps_its_interval() -> None:
    change = paired([0.0] * 50, [0.0] * 50)
    assert (change.value, change.p) == (0.0, 1.0)
    assert change.high > 0.02
    clustered = paired([0.0] * 50, [0.0] * 50, clusters=[i // 10 for i in range(50)])
    assert (clustered.n, clustered.p) == (50, 1.0)
    assert clustered.high > change.high
    assert paired([1.5, 2.0, 2.5], [1.5, 2.0, 2.5]) == Difference(0.0, 0.0, 0.0, 1.0, 3)


def test_paired_with_weights_is_the_difference_of_the_weighted_means() -> None:
    before, after, weights = [3.0, 5.0, 4.0], [2.0, 5.0, 3.5], [10, 30, 60]
    change = paired(before, after, weights=(weights, weights))
    assert change.value == pytest.approx(-0.4)
    # With the same weights it is the weighted mean of the differences, error and all.
    same = interval([-1.0, 0.0, -0.5], weights=weights)
    assert (change.low, change.high) == pytest.approx((same.low, same.high))


def test_paired_columns_must_match() -> None:
    with pytest.raises(KilterError, match="as many values"):
        paired([1.0], [1.0, 0.0])


def test_unpaired_is_newcombe_1998_method_10_of_two_independent_shares() -> None:
    # Newcombe 1998 (independent proportions), example (a): 56/70 against 48/80 gives 0.0524 to 0.3339.
    first, second = interval([1.0] * 56 + [0.0] * 14), interval([1.0] * 48 + [0.0] * 32)
    change = unpaired(second, first)
    assert (change.value, change.low, change.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_smallest_change_that_would_have_been_found() -> None:
    assert detectable(1.0, 100) == pytest.approx(0.2801585)
    assert Difference(0.0, -0.1959964, 0.1959964, 1.0, 100).detectable == pytest.approx(0.2801585, abs=1e-6)


def test_over_seeds_adds_what_varies_between_seeds_and_inside_a_run() -> None:
    runs = [Measure(0.90, 0.88, 0.91, 500), Measure(0.92, 0.90, 0.93, 500), Measure(0.94, 0.92, 0.95, 500)]
    total = over_seeds(runs)
    between = stats.t.ppf(0.975, 2) * 0.02 / math.sqrt(3)
    assert total.value == pytest.approx(0.92)
    assert total.low == pytest.approx(0.92 - math.hypot(between, 0.02))
    assert total.high == pytest.approx(0.92 + math.hypot(between, 0.01))
    assert total.n == 500
    assert over_seeds(runs, shared=False).low == pytest.approx(0.92 - between)
    assert over_seeds(runs[:1]) == runs[0]


def test_differences_over_seeds() -> None:
    once = paired([0.0, 1.0, 2.0, 3.0], [1.0, 2.5, 2.5, 4.0])
    alike = differences_over_seeds([once, once, once])
    # No variation between seeds: what remains is the uncertainty inside a run.
    assert (alike.value, alike.low, alike.high, alike.p) == pytest.approx((once.value, once.low, once.high, once.p))
    runs = [Difference(v, v - 0.01, v + 0.01, 0.0, 1000) for v in (0.02, 0.06, 0.10)]
    total = differences_over_seeds(runs, shared=False)
    t = 0.06 / (0.04 / math.sqrt(3))
    assert total.p == pytest.approx(2 * stats.t.sf(t, 2))
    # A little uncertainty inside the runs adds variance and, being well known, degrees of freedom.
    assert differences_over_seeds(runs).p == pytest.approx(total.p, rel=0.1)


def test_coverage_is_about_what_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        effects = rng.normal(size=30)
        values = (effects[:, None] + rng.normal(size=(30, 5))).ravel()
        measure = interval(values, clusters=np.repeat(np.arange(30), 5).tolist())
        hits.append(measure.low <= 0 <= measure.high)
    assert 0.92 <= np.mean(hits) <= 0.98


def test_summarize_reads_outcomes_weights_and_clusters() -> None:
    samples = [
        {"id": "1", "outcomes": {"loss": 2.0, "helpful": 1.0}, "weights": {"loss": 10}},
        {"id": "2", "outcomes": {"loss": 4.0}, "weights": {"loss": 30}},
        {"id": "3", "outcomes": {"helpful": 0.0, "odd": 0.25}},
        {"id": "4", "outcomes": {"odd": 0.5}},
    ]
    measures = summarize(samples)
    assert list(measures) == ["helpful", "loss", "odd"]
    assert measures["loss"].value == pytest.approx(3.5)
    assert measures["helpful"] == interval([1.0, 0.0])
    clustered = summarize([{**sample, "cluster": "one"} for sample in samples])
    assert clustered["odd"].high == math.inf
