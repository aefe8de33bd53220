"""Over-optimisation: the laws are found again, where they are highest, and a proxy that goes wrong is told."""

import json
import math

import numpy as np
import pytest

import kilter
from kilter.errors import KilterError
from kilter.feedback.overoptimised import curve, fit, peak


@pytest.mark.parametrize("law", ["rl", "best-of-n"])
def test_a_law_is_found_again_with_its_peak(law):
    d = np.linspace(0.1, 4, 30)
    gold = curve(d, law) @ np.array([1.3, -0.4])
    a, b = fit(d, gold, law)
    assert (a, b) == pytest.approx((1.3, 0.4))
    at = peak(a, b, law)
    near = np.array([at - 1e-3, at, at + 1e-3])
    assert (curve(near, law) @ np.array([a, -b])).argmax() == 1
    assert peak(1.0, -0.1, law) == math.inf


def written(folder, rows, name="metrics.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(folder)


def test_a_run_that_learned_the_proxy_s_mistakes_is_told(tmp_path):
    rng = np.random.default_rng(0)
    d = np.linspace(0.0, 6, 60)
    gold = d * (1.5 - 1.0 * np.log(np.maximum(d, 1e-9))) + 0.02 * rng.normal(size=60)
    both = zip(d, gold, strict=True)
    rows = [{"step": i, "sampled_kl": x * x, "gold": 2 + g, "sampled_reward": x} for i, (x, g) in enumerate(both)]
    found = kilter.evaluate("reward-overopt", data=written(tmp_path, [*rows, {"step": 60, "loss": 0.1}]))
    assert found.measures["a"].value == pytest.approx(1.5, abs=0.05)
    assert found.measures["b"].low < 1.0 < found.measures["b"].high
    assert found.measures["peak"].value == pytest.approx(math.exp(0.5), abs=0.1)
    assert found.measures["lost"].low > 0.5
    assert found.notes[0].startswith("1 of 61 lines left out: they have no distance or no gold reward")
    assert "the policy learned the proxy's mistakes" in found.notes[1]


def test_a_run_whose_gold_rises_with_the_proxy_has_lost_nothing(tmp_path):
    logs = [(n, math.log(n)) for n in range(1, 17)]
    rows = [{"n": n, "kl": x - (n - 1) / n, "gold": 0.1 * x, "reward": x} for n, x in logs]
    found = kilter.evaluate("reward-overopt", data=written(tmp_path, rows, "best_of.jsonl"))
    assert found.measures["lost"].value == pytest.approx(0)
    assert found.measures["proxy_gain"].value > 0
    assert not found.notes
    other = written(tmp_path, [{"loss": 1.0}] * 9, "other.jsonl") + "/other.jsonl"
    with pytest.raises(KilterError, match="at too few distances for a curve"):
        kilter.evaluate("reward-overopt", data=other)
