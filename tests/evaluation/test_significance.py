"""Tests and plans: against scipy, against text books, and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kilter.errors import KilterError
from kilter.evaluation.significance import (
    benjamini_hochberg,
    design_effect,
    items_needed,
    mann_whitney,
    permutation,
    power,
    sd_of_shares,
)
from kilter.evaluation.statistics import detectable, interval

# Student's sleep data, the differences of ten patients: 2^10 signs, of which 4 are as far out as what was observed.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_the_permutation_test_is_scipys_exact_one() -> None:
    exact = stats.permutation_test(
        (SLEEP_2, SLEEP_1), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert permutation(SLEEP_1, SLEEP_2) == pytest.approx(exact.pvalue)
    assert permutation(SLEEP_1, SLEEP_1) == 1.0


def test_with_many_items_it_is_drawn_and_near_the_t_test() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=200)
    b = a + rng.normal(0.12, 1, size=200)
    p = permutation(a.tolist(), b.tolist())
    assert p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.01)
    assert permutation(a.tolist(), b.tolist()) == p
    far = permutation(a.tolist(), (a + 5).tolist(), resamples=999)
    assert far == pytest.approx(1 / 1000)


def test_clusters_change_sign_together() -> None:
    # Three clusters, all of which gain: the least p that 2^3 signs allow is 2 / 8.
    a, b = [0.0] * 9, [1.0] * 9
    assert permutation(a, b) == pytest.approx(2 / 512)
    assert permutation(a, b, clusters=["x"] * 3 + ["y"] * 3 + ["z"] * 3) == pytest.approx(2 / 8)
    with pytest.raises(KilterError, match="as many values"):
        permutation([1.0], [1.0, 2.0])


def test_mann_whitney_is_a_probability() -> None:
    assert mann_whitney([3, 4, 5], [1, 2]) == (1.0, pytest.approx(0.2))
    assert mann_whitney([1, 2, 2], [1, 2, 2])[0] == 0.5
    first, second = mann_whitney([1, 5, 7], [2, 3]), mann_whitney([2, 3], [1, 5, 7])
    assert first[0] + second[0] == pytest.approx(1)
    assert first[1] == pytest.approx(second[1])


def test_benjamini_hochberg_is_scipys() -> None:
    ps = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216, 0.222, 0.251, 0.269, 0.275, 0.34]
    shuffled = [ps[i] for i in np.random.default_rng(0).permutation(len(ps))]
    assert benjamini_hochberg(shuffled) == pytest.approx(stats.false_discovery_control(shuffled).tolist())
    assert benjamini_hochberg([]) == []


def test_items_power_and_detectable_difference_are_one_relation() -> None:
    n = items_needed(0.05, 0.4)
    assert n == math.ceil(((1.959964 + 0.841621) * 0.4 / 0.05) ** 2)
    assert power(0.05, 0.4, n) == pytest.approx(0.8, abs=0.002)
    assert detectable(0.4, n) == pytest.approx(0.05, rel=0.002)
    assert power(0.0, 0.4, n) == pytest.approx(0.05)
    with pytest.raises(KilterError, match="difference of 0"):
        items_needed(0, 1)


def test_power_is_how_often_a_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((400, 300)) < 0.5
    b = np.where(rng.random((400, 300)) < 0.8, a, rng.random((400, 300)) < 0.8)  # right on 0.56 of the items
    change = b.astype(float) - a
    found = np.abs(change.mean(1) / (change.std(1, ddof=1) / math.sqrt(300))) > 1.96
    sd = sd_of_shares(0.5, 0.56, agreement=float((a == b).mean()))
    assert sd == pytest.approx(change.std(), rel=0.02)
    assert found.mean() == pytest.approx(power(0.06, sd, 300), abs=0.06)


def test_shares_that_cannot_be() -> None:
    assert sd_of_shares(0.5, 0.5) == pytest.approx(math.sqrt(0.5))
    assert sd_of_shares(0.5, 0.5, agreement=1.0) == 0
    with pytest.raises(KilterError, match="cannot agree"):
        sd_of_shares(0.1, 0.9, agreement=0.9)


def test_the_design_effect_is_what_clusters_cost() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    values = rng.normal(size=60)[groups] + rng.normal(size=600)  # ICC 1/2: 1 + 9 / 2
    effect = design_effect(values.tolist(), groups.tolist())
    assert effect == pytest.approx(5.5, abs=0.8)
    wide, narrow = interval(values.tolist(), clusters=groups.tolist()), interval(values.tolist())
    assert ((wide.high - wide.low) / (narrow.high - narrow.low)) ** 2 == pytest.approx(effect, rel=0.15)
    assert design_effect(values.tolist(), list(range(600))) == 1
