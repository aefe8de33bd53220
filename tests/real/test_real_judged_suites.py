"""Open-ended benchmarks' own files become items as they are, and stored reviews in both orders show a judge's bias."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from kilter.evaluation.bias_position import bias_position
from kilter.evaluation.flask import ALL, skills_of
from kilter.evaluation.judging import responses
from kilter.evaluation.mtbench import CATEGORIES as MT_BENCH
from kilter.evaluation.questions import from_file
from kilter.evaluation.vicuna80 import CATEGORIES, counted


@pytest.fixture(scope="module")
def files(shared: Path) -> Path:
    return shared / "data" / "evaluation"


def test_the_benchmarks_have_the_items_that_they_should(files: Path, shared: Path) -> None:
    vicuna, notes = from_file(str(files / "vicuna_80.jsonl"))
    assert Counter(item.category for item in vicuna) == CATEGORIES
    assert counted(dict(Counter(item.category for item in vicuna)), None) == notes == []
    mt_bench, _ = from_file(str(files / "mt_bench_80.jsonl"))
    assert Counter(item.category for item in mt_bench) == dict.fromkeys(MT_BENCH, 10)
    assert all(len(item.turns) == 2 for item in mt_bench)
    references = responses(str(files / "mt_bench_reference_30.jsonl"))
    assert len(references) == 30
    assert {item.category for item in mt_bench if item.id in references} == {"math", "reasoning", "coding"}
    belle, _ = from_file(str(files / "belle_zh_1000.jsonl"))
    assert (len(belle), {item.language for item in belle}) == (1000, {"zh"})
    wizardlm, _ = from_file(str(files / "wizardlm_218.jsonl"))
    assert (len(wizardlm), len({item.category for item in wizardlm})) == (218, 29)
    user, _ = from_file(str(shared / "data" / "instructions" / "user_oriented_252.jsonl"))
    assert len({item.id.split("/")[0] for item in user}) == 252


def test_flasks_instructions_name_three_of_twelve_skills(files: Path) -> None:
    items, _ = from_file(str(files / "flask_400.jsonl"))
    assert len(items) == 400
    assert Counter(len(skills_of(item.meta)) for item in items) == {3: 400}
    assert {skill for item in items for skill in skills_of(item.meta)} == set(ALL)


def test_gpt4s_reviews_in_both_orders_have_a_position_bias_that_is_measured(shared: Path, tmp_path: Path) -> None:
    stored = json.loads((shared / "data" / "published" / "cherry" / "lima_wrap_reviews_gpt4.json").read_text("utf-8"))
    rows = (
        stored["Eval_Results"] if "Eval_Results" in stored else next(v for v in stored.values() if isinstance(v, list))
    )
    pairs = [row for row in rows if {"review", "review_reverse"} <= row.keys()]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pairs), encoding="utf-8")
    found = bias_position(data=str(path))
    assert found.measures["conflict"].n > 0.9 * len(pairs)
    assert 0 < found.measures["conflict"].value < 0.6
    assert sum(found.measures[f"win:{name}"].value for name in ("first", "second", "tie")) == pytest.approx(1)
