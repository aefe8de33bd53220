"""Real files of every kind are read whole, without being told what they are, and written back as they were."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kilter.formats import convert, read
from kilter.records import Demonstration, Group, Prompt

# file, shape, records (as many as the file's own documentation says), kinds
FILES = [
    ("instructions/alpaca_52k.jsonl", "alpaca", {Demonstration: 52_002}),
    ("instructions/alpaca_zh_4k.jsonl", "alpaca", {Demonstration: 4_000}),
    ("instructions/alpagasus_claude_t45.jsonl", "alpaca", {Demonstration: 5_305}),
    ("instructions/belle_zh_seed_175.jsonl", "self-instruct", {Demonstration: 175}),
    ("instructions/codealpaca_2k.jsonl", "alpaca", {Demonstration: 2_017}),
    ("instructions/dolly_3k.jsonl", "alpaca", {Demonstration: 2_996}),
    ("instructions/lima.jsonl", "alpaca", {Demonstration: 1_029}),
    ("instructions/oasst_trees_100.jsonl", "oasst", {Demonstration: 100, Group: 212}),
    ("instructions/self_instruct_seed_175.jsonl", "self-instruct", {Demonstration: 175}),
    ("instructions/sharegpt_zh_1k.jsonl", "sharegpt", {Demonstration: 993, Prompt: 7}),
    ("instructions/super_natural_instructions", "super-natural-instructions", {Demonstration: 1_197}),
    ("instructions/user_oriented_252.jsonl", "self-instruct", {Demonstration: 252}),
    ("preferences/dpo_zh_500.jsonl", "sharegpt-preference", {Group: 500}),
    ("preferences/fine_grained_qa_500.jsonl", "qa-feedback", {Group: 500}),
    ("preferences/hh_harmless_test.jsonl", "hh", {Group: 347}),
    ("preferences/hh_harmless_train.jsonl", "hh", {Group: 1_965}),
    ("preferences/hh_helpful_test.jsonl", "hh", {Group: 353}),
    ("preferences/hh_helpful_train.jsonl", "hh", {Group: 1_999}),
    ("preferences/hhh_alignment_221.jsonl", "prometheus-pairs", {Group: 221}),
    ("preferences/kto_mix_1092.jsonl", "alpaca-kto", {Group: 1_092}),
    ("preferences/oasst_ranked_zh_775.jsonl", "alpaca-ranked", {Group: 775}),
    ("preferences/webgpt_901.jsonl", "webgpt", {Group: 901}),
]


@pytest.mark.parametrize(("name", "shape", "kinds"), FILES, ids=[name for name, _, _ in FILES])
def test_a_real_file_is_read_whole(shared: Path, name: str, shape: str, kinds: dict[type, int]) -> None:
    reading = read(shared / "data" / name)
    assert (reading.shape, reading.rejected, reading.notes) == (shape, 0, [])
    assert Counter(type(record) for record in reading.records) == kinds
    for record in reading.records:
        if isinstance(record, Group):
            assert record.prompt[-1].role == "user"
            assert record.order() is not None


def test_every_real_file_is_in_the_table(shared: Path) -> None:
    there = {
        f"{kind}/{path.name}" for kind in ("instructions", "preferences") for path in (shared / "data" / kind).iterdir()
    }
    assert there == {name for name, _, _ in FILES}


def test_the_kinds_that_training_asks_for(shared: Path) -> None:
    instructions, preferences = shared / "data" / "instructions", shared / "data" / "preferences"
    assert len(read(instructions / "sharegpt_zh_1k.jsonl", want="demonstrations").records) == 999
    assert len(read(instructions / "oasst_trees_100.jsonl", want="demonstrations").records) == 100
    assert len(read(instructions / "oasst_trees_100.jsonl", want="groups").records) == 212
    assert len(read(preferences / "hh_helpful_test.jsonl", want="demonstrations").records) == 353
    assert len(read(preferences / "kto_mix_1092.jsonl", want="demonstrations").records) == 546
    assert len(read(shared / "data" / "evaluation" / "vicuna_80.jsonl", want="prompts").records) == 80
    assert len(read(shared / "data" / "evaluation" / "wizardlm_218.jsonl", want="prompts").records) == 218


def test_a_folder_of_many_shapes(shared: Path) -> None:
    reading = read(shared / "data" / "preferences")
    assert len(reading.records) == sum(sum(k.values()) for name, _, k in FILES if name.startswith("preferences/"))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("name", ["hh_helpful_train", "hh_harmless_train", "hh_helpful_test", "hh_harmless_test"])
@pytest.mark.parametrize("through", ["kilter", "trl-preference"])
def test_hh_there_and_back_is_the_same_to_the_last_character(
    shared: Path, tmp_path: Path, name: str, through: str
) -> None:
    source = shared / "data" / "preferences" / f"{name}.jsonl"
    assert convert(source, tmp_path / "middle.jsonl", through).lost == []
    assert convert(tmp_path / "middle.jsonl", tmp_path / "back.jsonl", "hh").lost == []
    assert rows(tmp_path / "back.jsonl") == rows(source)


@pytest.mark.parametrize("name", ["dolly_3k", "lima", "alpaca_zh_4k", "codealpaca_2k"])
def test_alpaca_there_and_back_holds_the_same(shared: Path, tmp_path: Path, name: str) -> None:
    source = shared / "data" / "instructions" / f"{name}.jsonl"
    assert convert(source, tmp_path / "own.parquet").lost == []
    assert convert(tmp_path / "own.parquet", tmp_path / "back.jsonl", "alpaca").lost == []

    def filled(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if value}

    assert [filled(row) for row in rows(tmp_path / "back.jsonl")] == [filled(row) for row in rows(source)]


@pytest.mark.parametrize("to", ["messages", "trl-completion", "lima"])
def test_sharegpt_through_other_shapes(shared: Path, tmp_path: Path, to: str) -> None:
    source = shared / "data" / "instructions" / "sharegpt_zh_1k.jsonl"
    done = convert(source, tmp_path / "out.parquet", to)
    assert done.rejected == 0
    before = read(source, want="demonstrations").records
    after = read(tmp_path / "out.parquet", want="demonstrations").records
    if to == "messages":
        assert [r.messages for r in after] == [r.messages for r in before]  # type: ignore[union-attr]
    else:
        assert len(after) > 900
        assert done.lost or done.notes or len(after) == len(before)
