"""The suites on the benchmarks' own files: nothing of them is lost, and small real models can be measured."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kilter.evaluation.bbq import bbq, target_of
from kilter.evaluation.crows import crows, pieces
from kilter.evaluation.hatecheck import hatecheck
from kilter.evaluation.rows import LeftOut, read
from kilter.evaluation.truthfulqa import targets, truthfulqa
from kilter.evaluation.winobias import benchmark, winobias
from kilter.evaluation.winogender import parsed, winogender
from kilter.models.load import load


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data" / "evaluation"


def test_crows_pairs_are_1508_of_nine_kinds(data: Path) -> None:
    rows, _ = read(data / "crows_pairs_1508.jsonl")
    assert Counter(row["bias_type"] for row in rows) == {
        "race-color": 516, "gender": 262, "socioeconomic": 172, "nationality": 159, "religion": 105, "age": 87,
        "sexual-orientation": 84, "physical-appearance": 63, "disability": 60,
    }  # fmt: skip
    assert Counter(row["stereo_antistereo"] for row in rows) == {"stereo": 1290, "antistereo": 218}
    for row in rows:
        cuts, shared = pieces(row["sent_more"], row["sent_less"])
        assert len(shared) == len(cuts) + 1
        assert not all(shared) or row["sent_more"] == row["sent_less"] or len(row["sent_more"]) < len(row["sent_less"])


def test_every_question_of_bbq_has_a_biased_answer(data: Path) -> None:
    rows, _ = read(data / "bbq")
    assert Counter(row["category"] for row in rows) == {"Age": 600, "Disability_status": 600, "Religion": 600}
    assert all(target_of(row) in (0, 1, 2) for row in rows)
    # The gold answer of a clear context is the biased one about as often as not, by the benchmark's design.
    clear = [row for row in rows if row["context_condition"] == "disambig"]
    assert 0.45 < sum(row["label"] == target_of(row) for row in clear) / len(clear) < 0.55
    said = [row | {"prediction": row["label"]} for row in rows]
    assert all(
        row["answer_info"][f"ans{row['label']}"][1] == "unknown" for row in said if row["context_condition"] == "ambig"
    )


def test_every_sentence_of_winogender_and_winobias_is_read(data: Path) -> None:
    rows, _ = read(data / "winogender_720.jsonl")
    left_out = LeftOut()
    items = [found for row in rows if (found := parsed(row, left_out))]
    assert (len(items), left_out.total) == (720, 0)
    assert Counter(item["gender"] for item in items) == {"male": 240, "female": 240, "neutral": 240}
    assert len({item["occupation"] for item in items}) == 60
    sentences, total = benchmark(data / "winobias", left_out)
    assert (len(sentences), total, left_out.total) == (1584, 1584, 0)
    kinds = Counter((s["kind"], s["type"]) for s in sentences)
    assert kinds["pro", "1"] == kinds["anti", "1"]
    meant: dict[str, set[str]] = {}
    for s in sentences:
        meant.setdefault(s["pair"], set()).add(s["people"][s["gold"]])
    # The two files are out of step in two lines of type 2.
    assert [pair for pair, people in meant.items() if len(people) > 1] == ["test/2/382", "test/2/384"]


def test_every_question_of_truthfulqa_has_true_and_false_answers(data: Path) -> None:
    rows, _ = read(data / "truthfulqa_817.jsonl")
    assert len(rows) == 817
    found = [targets(row) for row in rows]
    assert all(found)
    assert all(sum(labels) == 1 for (_, labels), _ in found)  # type: ignore[misc]


def test_hatecheck_has_29_functions(data: Path) -> None:
    rows, _ = read(data / "hatecheck_3728.jsonl")
    assert (len(rows), len({row["functionality"] for row in rows})) == (3728, 29)
    assert Counter(row["label_gold"] for row in rows) == {"hateful": 2563, "non-hateful": 1165}


SUITES: dict[str, tuple[Callable[..., Any], str, dict[str, Any]]] = {
    "crows": (crows, "crows_pairs_1508.jsonl", {"n": 6}),
    "bbq": (bbq, "bbq", {"n": 8, "resamples": 20}),
    "truthfulqa": (truthfulqa, "truthfulqa_817.jsonl", {"n": 3, "preset": False}),
    "hatecheck": (hatecheck, "hatecheck_3728.jsonl", {"n": 8, "resamples": 20}),
}


@pytest.mark.parametrize("suite", SUITES)
def test_a_small_real_model_is_measured(shared: Path, data: Path, suite: str) -> None:
    function, name, options = SUITES[suite]
    model = load(str(shared / "models" / "stories260K"))
    found = asyncio.run(function(model, data=str(data / name), **options))
    assert found.model == model.name
    assert len(found.samples) == options["n"]
    assert all(math.isfinite(m.value) and m.low <= m.value <= m.high for m in found.measures.values())


@pytest.mark.parametrize("suite", [winogender, winobias], ids=["winogender", "winobias"])
def test_pronouns_are_resolved_by_a_small_real_model(shared: Path, data: Path, tmp_path: Path, suite: Any) -> None:
    model = load(str(shared / "models" / "stories260K"))
    if suite is winogender:
        path = tmp_path / "some.jsonl"
        rows, _ = read(data / "winogender_720.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[:12]), encoding="utf-8")
        found = asyncio.run(winogender(model, data=str(path), resamples=10))
    else:
        for file in sorted((data / "winobias").iterdir()):
            lines = file.read_text(encoding="utf-8").splitlines()[:3]
            (tmp_path / file.name).write_text("\n".join(lines), encoding="utf-8")
        found = asyncio.run(winobias(model, data=str(tmp_path), resamples=10))
    assert len(found.samples) == 12
    assert 0 <= found.measures["accuracy"].value <= 1
