"""Every shape: found out without being told, read to the records that it holds, written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from format_samples import CALL, CALL_TEXT, SAMPLES, TREE, assistant, user

from kilter.errors import KilterError
from kilter.formats import SHAPES, detect, read, write
from kilter.records import Demonstration, Group, Message, Record

IDS = [f"{name}-{k}" for k, (name, _, _) in enumerate(SAMPLES)]


def save(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("shape", "row", "records"), SAMPLES, ids=IDS)
def test_a_row_is_recognised_and_read(tmp_path: Path, shape: str, row: dict[str, Any], records: list[Record]) -> None:
    reading = read(save(tmp_path / "in.jsonl", [row]))
    assert reading.shape == shape
    assert reading.records == records
    assert (reading.rejected, reading.notes) == (0, [])


@pytest.mark.parametrize(("shape", "row", "records"), SAMPLES, ids=IDS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".jsonl.gz"])
def test_what_was_read_is_written_back_and_read_again(
    tmp_path: Path, shape: str, row: dict[str, Any], records: list[Record], suffix: str
) -> None:
    if SHAPES[shape].from_record is None:
        with pytest.raises(KilterError, match="can be read but not written"):
            write(records, tmp_path / "out.jsonl", shape)
        return
    out = tmp_path / f"out{suffix}"
    if shape == "oasst":  # its demonstration and its group become a tree each
        records = records[:1]
    notes = write(records, out, shape)
    assert [note for note in notes if "Parquet holds it as JSON text" not in note] == []
    assert read(out).records == records


def test_every_shape_has_a_sample() -> None:
    only_prompts = {name for name, shape in SHAPES.items() if shape.only_for}
    assert set(SHAPES) - only_prompts - {"oasst-flat"} == {name for name, _, _ in SAMPLES}


def test_openai_turns_come_back_as_they_were(tmp_path: Path) -> None:
    row = next(row for _, row, _ in SAMPLES if "tools" in row and "messages" in row)
    reading = read(save(tmp_path / "in.jsonl", [row]))
    write(reading.records, tmp_path / "out.jsonl", "openai")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == row


def test_a_changed_text_is_written_instead_of_the_old_tool_call(tmp_path: Path) -> None:
    changed = Demonstration([user("q"), assistant("I cannot.")], meta={"turns": {"1": {"tool_calls": [CALL]}}})
    write([changed], tmp_path / "out.jsonl", "messages")
    assert json.loads((tmp_path / "out.jsonl").read_text())["messages"][1] == {
        "role": "assistant",
        "content": "I cannot.",
    }
    same = Demonstration([user("q"), assistant(CALL_TEXT)], meta={"turns": {"1": {"tool_calls": [CALL]}}})
    write([same], tmp_path / "out.jsonl", "messages")
    assert json.loads((tmp_path / "out.jsonl").read_text())["messages"][1]["tool_calls"] == [CALL]


def test_alpaca_rows_come_back_with_their_input_and_extra_columns(tmp_path: Path) -> None:
    rows = [{"instruction": "Sort", "input": "b a", "output": "a b", "category": "x"}]
    write(read(save(tmp_path / "in.jsonl", rows)).records, tmp_path / "own.jsonl", "kilter")
    write(read(tmp_path / "own.jsonl").records, tmp_path / "out.jsonl", "alpaca")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == rows


def test_a_tree_gives_what_is_wanted(tmp_path: Path) -> None:
    path = save(tmp_path / "trees.jsonl", [TREE])
    assert [type(r) for r in read(path, want="demonstrations").records] == [Demonstration]
    assert [type(r) for r in read(path, want="groups").records] == [Group]
    assert read(path, want="prompts").records[0].messages == [user("q"), assistant("better"), user("and then?")]  # type: ignore[union-attr]


def test_ranked_answers_survive_as_trees(tmp_path: Path) -> None:
    groups = [Group([user("q"), assistant("a"), user("b")], ["x", "y", "z"], ranking=[0, 1, 1], id="given")]
    assert write(groups, tmp_path / "out.jsonl", "oasst") == []
    assert read(tmp_path / "out.jsonl", want="groups").records == groups


def test_flat_messages_are_put_together_to_trees(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []

    def flatten(node: dict[str, Any], parent: str | None) -> None:
        rows.append({**{k: v for k, v in node.items() if k != "replies"}, "parent_id": parent, "message_tree_id": "t"})
        for reply in node["replies"]:
            flatten(reply, node["message_id"])

    flatten(TREE["prompt"], None)  # type: ignore[arg-type]
    flat = read(save(tmp_path / "flat.jsonl", rows[::-1]))
    assert flat.shape == "oasst-flat"
    assert flat.records == read(save(tmp_path / "trees.jsonl", [TREE])).records


def test_the_shape_of_most_rows_wins(tmp_path: Path) -> None:
    odd = {"prompt": "q", "completion": "a"}
    assert detect([{"instruction": "i", "output": "o"}] * 3 + [odd]) == "alpaca"
    reading = read(save(tmp_path / "in.jsonl", [{"instruction": "i", "output": "o"}] * 3 + [odd]))
    assert (len(reading.records), reading.rejected) == (3, 1)
    assert "line 4" in reading.notes[0]
    assert "no column 'output', only prompt, completion" in reading.notes[0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"prompt": "q", "choosen": "a", "rejected": "b"},
            ["'chosen'", "prompt, choosen, rejected", "Did you mean 'choosen'?"],
        ),
        ({"instruction": "i", "ouput": "o"}, ["'output'", "instruction, ouput", "Did you mean 'ouput'?"]),
        ({"prompt": "q", "chosen": "a"}, ["'rejected'", "trl-preference", "it has prompt, chosen"]),
        ({"chosen": 1, "rejected": 2}, ["lacks the column 'prompt'"]),
        ({"sent_more": "a", "sent_less": "b"}, ["sent_more, sent_less", "no shape that Kilter reads"]),
        ({"instruction": "i"}, ["'output'", "it has instruction"]),
    ],
)
def test_a_missing_column_is_named_with_those_that_are_there(
    tmp_path: Path, row: dict[str, Any], said: list[str]
) -> None:
    with pytest.raises(KilterError) as error:
        read(save(tmp_path / "in.jsonl", [row] * 2))
    assert all(part in str(error.value) for part in said), str(error.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "i", "output": 5}, "column 'output' is a number and text is due"),
        ({"instruction": "", "input": "", "output": "o"}, "both empty"),
        ({"messages": []}, "'messages' is empty"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "by 'wizard', which is no known role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "holds image_url; only text is read"),
        ({"prompt": "q", "responses": ["a"], "scores": [1, 2]}, "1 responses but 2 scores"),
        ({"prompt": "q", "responses": ["a", 3]}, "holds a number and a list of texts is due"),
        ({"chosen": "no marks", "rejected": "at all"}, "no 'Human:' turn"),
        ({"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}, "the same question"),
        ({"prompt": [{"role": "assistant", "content": "x"}], "completion": "a"}, "ends with the assistant's own turn"),
        ({"kind": "group", "prompt": "text", "responses": []}, "'prompt' must be a list of objects"),
        ({"instruction": "\ud83d", "output": "o"}, "half of a surrogate pair"),
        ({"prompt": {"text": "q", "role": "robot", "replies": []}}, "neither prompter nor assistant"),
    ],
)
def test_a_value_that_cannot_be_is_a_reason(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    with pytest.raises(KilterError) as error:
        read(tmp_path / "in.jsonl")
    assert said in str(error.value)


def test_prompts_come_from_files_of_questions(tmp_path: Path) -> None:
    rows = [{"Question": "what?", "expected": "that"}, {"turns": ["first", "second"]}, {"Instruction": "do", "idx": 3}]
    path = save(tmp_path / "in.jsonl", rows)
    assert [r.messages[0].content for r in read(path, want="prompts").records] == ["what?", "first", "do"]  # type: ignore[union-attr]
    with pytest.raises(KilterError, match="no shape that Kilter reads"):
        read(path)


def test_roles_have_their_other_names(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "prompter", "value": "q"}, {"from": "ChatGPT", "value": "a"}]}]
    assert read(save(tmp_path / "in.jsonl", rows)).records[0].messages == [
        Message("user", "q"),
        Message("assistant", "a"),
    ]  # type: ignore[union-attr]
