"""Two result files compared: the verdict in one sentence, and what it says where nothing can be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kilter.cli.entry import main
from kilter.errors import KilterError
from kilter.evaluation.result import Evaluation, write
from kilter.evaluation.statistics import paired, summarize
from kilter.report.versus import versus


def evaluation(model: str, right: str, *, start: int = 0, suite: str = "world", name: str = "helpful") -> Evaluation:
    """One item a character: 1 right, 0 wrong, n no number."""
    values = {"1": 1.0, "0": 0.0, "n": math.nan}
    samples = [
        {"id": f"i{start + at}", "prompt": [], "response": "", "family": "", "language": ""}
        | {"outcomes": {name: values[c]}}
        for at, c in enumerate(right)
    ]
    return Evaluation(
        model, summarize([s for s in samples if s["outcomes"][name] == s["outcomes"][name]]), samples, suite
    )


BASE, BETTER = "10" * 30, "11" * 25 + "10" * 5


def test_the_sentence_holds_the_change_its_interval_its_p_value_and_the_shared_items() -> None:
    [found] = versus(evaluation("base", BASE), evaluation("sft", BETTER), ("base", "sft"))
    expected = paired([float(c) for c in BASE], [float(c) for c in BETTER])
    assert found.difference == expected
    assert found.verdict == "better"
    low, high = (f"{100 * end:+.1f}" for end in (expected.low, expected.high))
    assert found.sentence == (
        f"sft is better than base on helpfulness: +41.7 pp (50.0% → 91.7%), 95% interval {low} to {high}, p < 0.001, "
        "paired over 60 shared items."
    )


def test_no_difference_says_what_would_have_been_found() -> None:
    [found] = versus(evaluation("a", BASE), evaluation("b", "01" + BASE[2:]), ("a", "b"))
    assert found.verdict == "unclear"
    assert found.sentence.startswith("b and a do not differ beyond chance on helpfulness: 0.0 pp (50.0% → 50.0%), 95%")
    assert "p = 1.00, paired over 60 shared items; " in found.sentence
    assert found.sentence.endswith("would have been found four times in five.")


def test_where_less_is_better_more_is_worse() -> None:
    first, second = (evaluation(n, x, name="toxic") for n, x in (("a", BASE), ("b", BETTER)))
    [found] = versus(first, second, ("a", "b"))
    assert found.sentence.startswith("b is worse than a on toxicity: +41.7 pp")


def test_only_shared_items_count_and_the_others_are_told() -> None:
    [found] = versus(evaluation("a", "1" * 10 + "n"), evaluation("b", "1" * 10 + "1", start=4), ("a", "b"))
    assert found.difference.n == 6
    assert found.alone == (4, 4)
    assert found.unusable == 1
    assert "over 6 shared items (4 only in a, 4 only in b, 1 without a number)" in found.sentence


def test_several_dimensions_are_corrected_together_unless_one_is_asked_for() -> None:
    first, second = evaluation("a", BASE), evaluation("b", BASE[:50] + "11" * 5)
    for one in (first, second):
        for sample in one.samples:
            sample["outcomes"]["toxic"] = sample["outcomes"]["helpful"]
    found = versus(first, second, ("a", "b"))
    assert [v.name for v in found] == ["helpful", "toxic"]
    assert found[0].adjusted == pytest.approx(min(1, 2 * found[0].difference.p))
    assert "after correction for 2 dimensions" in found[0].sentence
    [alone] = versus(first, second, ("a", "b"), "helpful")
    assert alone.adjusted == alone.difference.p
    with pytest.raises(KilterError, match="Did you mean 'helpful'"):
        versus(first, second, ("a", "b"), "helpfull")


def test_what_cannot_be_compared_says_why() -> None:
    a = evaluation("a", BASE)
    with pytest.raises(KilterError, match="measured by 'world' and b by 'mmlu'"):
        versus(a, evaluation("b", BASE, suite="mmlu"), ("a", "b"))
    with pytest.raises(KilterError, match="share no item"):
        versus(a, evaluation("b", BASE, start=900), ("a", "b"))
    with pytest.raises(KilterError, match="no dimension in common"):
        versus(a, evaluation("b", BASE, name="toxic"), ("a", "b"))
    with pytest.raises(KilterError, match="holds measures but no items"):
        versus(a, Evaluation("b", a.measures, suite="world"), ("a", "b"))
    twice = evaluation("b", BASE)
    twice.samples.append(twice.samples[0])
    with pytest.raises(KilterError, match="b has 2 items with the id 'i0'"):
        versus(a, twice, ("a", "b"))


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(stopped.value.code or 0)


def test_the_command_line_compares_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / f"{name}.json") for name in ("base", "sft")]
    for path, right in zip(paths, (BASE, BETTER), strict=True):
        write(evaluation("kilter/nano", right), Path(path))
    assert run(["eval", "--compare", *paths]) == 0
    said = capsys.readouterr().out
    assert said.startswith("sft is better than base on helpfulness: +41.7 pp")
    assert said.count("\n") == 1
    assert run(["eval", "--compare", *paths, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["verdict"], row["shared"], row["first"], row["second"]) == ("better", 60, "base", "sft")
    assert row["sentence"] + "\n" == said
    assert run(["eval", "--compare", paths[0], str(tmp_path / "missing.json")]) == 1
    assert "There is no evaluation at" in capsys.readouterr().err
