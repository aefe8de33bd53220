from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from kilter.evaluation.result import Measure
from kilter.evaluation.statistics import summarize
from kilter.report import findings, numbers, worst
from kilter.report.read import Evidence
from kilter.report.settings import Settings


def evidence(outcomes: dict[str, dict[str, list[float]]], family: str = "sums") -> Evidence:
    """Evidence from outcomes[label][dimension], one sample for each value."""
    found = Evidence()
    for label, dimensions in outcomes.items():
        samples: dict[tuple[str, str], dict[str, Any]] = {}
        for name, values in dimensions.items():
            for i, value in enumerate(values):
                samples["evaluation", f"{name}-{i}"] = {
                    "id": f"{name}-{i}", "prompt": [], "response": f"{label} {i}", "family": family, "language": "en",
                    "outcomes": {name: value},
                }  # fmt: skip
        found.labels.append(label)
        found.samples[label] = samples
        found.results[label] = summarize(list(samples.values()))
    return found


def share(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def verdict(outcomes: dict[str, dict[str, list[float]]], **settings: Any) -> str:
    return findings.verdict(findings.find(evidence(outcomes), Settings.model_validate(settings)))


def test_models_are_compared_with_the_baseline_and_the_one_before() -> None:
    assert findings.pairs(["a", "b", "c"], "a") == [("b", "a"), ("c", "a"), ("c", "b")]
    assert findings.pairs(["a", "b"], "b") == [("b", "a")]
    assert findings.pairs(["a"], "a") == []


def test_the_verdict_names_what_got_worse_with_its_size() -> None:
    before = {"helpful": share(20, 100), "toxic": share(10, 100), "leaks": share(5, 100)}
    after = {"helpful": share(80, 100), "toxic": share(60, 100), "leaks": share(6, 100)}
    assert verdict({"base": before, "dpo": after}) == (
        "dpo is better than base on helpfulness (20.0% → 80.0%), worse on toxicity (10.0% → 60.0%)"
        " and not clearly different on private text leaked."
    )


def test_a_change_within_chance_is_neither_better_nor_worse() -> None:
    told = verdict({"base": {"helpful": share(50, 100)}, "sft": {"helpful": share(53, 100)}})
    assert told == "sft and base do not differ beyond chance on helpfulness."
    told = verdict({"base": {"helpful": share(80, 100)}, "sft": {"helpful": share(40, 100)}})
    assert told == "sft is worse than base on helpfulness (80.0% → 40.0%) and better on none."
    rising = {name: share(50, 100) for name in ("helpful", "refuses_harmful", "honest_answerable")}
    falling = {name: share(20, 100) for name in rising}
    assert verdict({"base": falling, "sft": rising}) == "sft is better than base on all 3 dimensions."


def test_what_the_last_stage_lost_again_is_said() -> None:
    told = verdict({name: {"helpful": share(right, 100)} for name, right in (("base", 10), ("sft", 90), ("dpo", 60))})
    assert told == (
        "dpo is better than base on helpfulness (10.0% → 60.0%) and worse on none;"
        " it is worse than sft on helpfulness (90.0% → 60.0%)."
    )


def test_one_model_and_none() -> None:
    assert verdict({"base": {"helpful": share(25, 100)}}) == "base reaches 25.0% on helpfulness."
    assert findings.verdict(findings.find(Evidence(), Settings())) == "Nothing has been measured yet."


def test_comparisons_are_paired_and_adjusted_together() -> None:
    found = findings.find(
        evidence({"base": {"helpful": share(50, 100), "toxic": share(9, 100)},
                  "sft": {"helpful": share(58, 100), "toxic": share(0, 100)}}), Settings()
    )  # fmt: skip
    helpful, toxic = found.comparisons
    # All 8 that changed changed for the better: 2 / 2^8, twice, for there are two comparisons.
    assert helpful.difference.p == pytest.approx(2 / 2**8)
    assert helpful.adjusted == pytest.approx(2 / 2**8)
    assert toxic.adjusted == pytest.approx(2 * 2 / 2**9)
    assert (helpful.verdict, toxic.verdict) == ("better", "better")
    assert toxic.difference.value == pytest.approx(-0.09)


def test_nearer_to_zero_is_better_from_both_sides() -> None:
    outcomes = {"base": {"biased": [-1.0] * 60 + [0.0] * 40}, "sft": {"biased": [1.0] * 10 + [0.0] * 90}}
    found = findings.find(
        evidence(outcomes), Settings.model_validate({"targets": {"biased": {"maximum_of_base": 0.2}}})
    )
    [comparison] = found.comparisons
    assert comparison.difference.value == pytest.approx(-0.5)
    assert comparison.verdict == "better"
    assert found.results["base"]["biased"].value == pytest.approx(-0.6)
    [target] = found.targets
    assert (target.text, target.met, target.sure) == ("≤ 12 pp (0.2 × base)", True, False)


def test_without_common_samples_the_intervals_are_compared() -> None:
    found = evidence({"base": {"helpful": share(20, 100)}, "sft": {"helpful": share(80, 100)}})
    found.samples["sft"] = {}
    [comparison] = findings.find(found, Settings()).comparisons
    assert not comparison.paired
    assert comparison.verdict == "better"


@pytest.mark.parametrize(
    ("target", "met", "sure"),
    [
        ({"minimum": 0.7}, True, True),
        ({"minimum": 0.79}, True, False),
        ({"minimum": 0.81}, False, False),
        ({"minimum": 0.95}, False, True),
        ({"maximum": 0.9}, True, True),
        ({"maximum": 0.5}, False, True),
        ({"model": "base", "maximum": 0.35}, True, True),
        ({"minimum": 0.7, "maximum": 0.75}, False, False),
    ],
)
def test_targets(target: dict[str, Any], met: bool, sure: bool) -> None:
    outcomes = {"base": {"helpful": share(20, 100)}, "sft": {"helpful": share(80, 100)}}
    [outcome] = findings.find(evidence(outcomes), Settings.model_validate({"targets": {"helpful": target}})).targets
    assert (outcome.met, outcome.sure) == (met, sure)


def test_settings_refuse_what_means_nothing() -> None:
    for wrong in ({"targets": {"helpful": {}}}, {"baselin": "base"}, {"targets": {"helpful": {"min": 1}}}):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)


def test_categories_are_ranked_by_what_is_sure() -> None:
    found = evidence({"base": {"helpful": share(90, 100)}, "sft": {"helpful": share(60, 100)}})
    small = evidence({"base": {"helpful": share(5, 5)}, "sft": {"helpful": share(2, 5)}}, family="rare")
    for label in found.labels:
        found.samples[label] |= {("other", i): s for (_, i), s in small.samples[label].items()}
    told = findings.find(found, Settings())
    categories = worst.worse(worst.categories(found, told))
    assert [(c.family, c.sure) for c in categories] == [("sums", True), ("rare", False)]
    examples = worst.regressions(found, told, categories, 3)
    assert [(e.sample["family"], e.note) for e in examples] == [("sums", "worse than base")] * 2 + [
        ("rare", "worse than base")
    ]
    assert len({e.sample["id"] + e.sample["family"] for e in examples}) == 3
    assert worst.improvements(found, told, 3) == []


def test_numbers_read_well() -> None:
    from kilter.evaluation.result import dimension

    helpful, biased, loss = dimension("helpful"), dimension("biased"), dimension("loss")
    assert numbers.value(0.8766, helpful) == "87.7%"
    assert numbers.value(-0.12, biased) == "−12.0 pp"
    assert numbers.value(-0.0001, biased) == "0.0 pp"
    assert numbers.value(float("nan"), loss) == "–"
    assert numbers.span(Measure(0.5, 0.41, 0.59, 10), helpful) == "41.0–59.0"
    assert numbers.span(Measure(2.0, float("-inf"), float("inf"), 1), loss) == "−∞ to ∞"
    assert numbers.change(-0.031, helpful) == "−3.1"
    assert numbers.change(0.00001, helpful) == "0.0"
    assert [numbers.probability(p) for p in (0.0, 0.0123, 0.5)] == ["< 0.001", "0.012", "0.50"]
    assert [numbers.duration(s) for s in (None, 0.4, 42.2)] == ["–", "0.4 s", "42 s"]
    assert [numbers.duration(s) for s in (185, 7620)] == ["3 min 05 s", "2 h 07 min"]
    assert [numbers.amount(n) for n in (None, 950, 12345, 2_570_674)] == ["–", "950", "12.3 k", "2.57 M"]
    assert [numbers.memory(n) for n in (862 * 2**20, 3 * 2**30)] == ["862 MiB", "3.00 GiB"]
    assert numbers.several(["a", "b", "c"]) == "a, b and c"
