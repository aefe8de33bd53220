"""Writing and converting: what a shape cannot hold is said, what is there stays whole until the new file is."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from format_samples import PAIR, assistant, system, user

from kilter.errors import KilterError
from kilter.formats import convert, read, write
from kilter.records import Demonstration, Group, Message, Origin, Prompt

DEMO = Demonstration([user("q"), assistant("a")])
GROUP = Group([user("q")], ["a", "b", "c"], scores=[1.0, 3.0, 2.0])


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_more_than_two_responses_as_a_pair(tmp_path: Path) -> None:
    lost = write([GROUP, GROUP, PAIR], tmp_path / "x.jsonl", "trl-preference")
    assert lost == ["2 groups: of more than 2 responses only the best and the worst are kept in trl-preference"]
    first = rows(tmp_path / "x.jsonl")[0]
    assert first["prompt"] == [{"role": "user", "content": "q"}]
    assert (first["chosen"][0]["content"], first["rejected"][0]["content"]) == ("b", "a")
    assert (first["score_chosen"], first["score_rejected"]) == (3.0, 1.0)


def test_origin_and_meta_are_kept_by_kilter_alone(tmp_path: Path) -> None:
    record = Demonstration(
        [user("q"), assistant("a")],
        id="mine",
        origin=Origin("self-instruct", "arXiv:2212.10560", "kilter/nano", ("p1",), 3),
        meta={"family": "facts", "extra": {"category": "x"}},
    )
    assert write([record], tmp_path / "own.jsonl", "kilter") == []
    assert read(tmp_path / "own.jsonl").records == [record]
    lost = write([record], tmp_path / "x.jsonl", "alpaca")
    assert lost == [
        "1 demonstration: the origin is not kept by alpaca",
        "1 demonstration: meta (family) is not kept by alpaca",
    ]
    assert rows(tmp_path / "x.jsonl") == [
        {"id": "mine", "category": "x", "instruction": "q", "input": "", "output": "a"}
    ]


@pytest.mark.parametrize(
    ("record", "shape", "lost"),
    [
        (GROUP, "messages", "only the best response is kept"),
        (GROUP, "trl-prompt", "only the prompt is kept"),
        (GROUP, "alpaca-ranked", "scores are not kept by alpaca-ranked"),
        (GROUP, "trl-kto", "the comparison is not kept by trl-kto"),
        (GROUP, "alpaca", "only the best response is kept"),
        (DEMO, "trl-prompt", "only the prompt is kept"),
        (Group([user("q")], ["a", "b"], scores=[2, 1], critiques=["x", "y"]), "hh", "critiques are not kept by hh"),
        (Group([user("q")], ["a", "b"], scores=[2, 1]), "hh", "scores are not kept by hh"),
        (Group([user("q")], ["a", "b"], ranking=[0, 0]), "alpaca-ranked", "equal ranks are not kept"),
        (
            Demonstration([user("a"), assistant("b"), user("c"), assistant("d")]),
            "trl-completion",
            "only the last turn of the assistant is learned",
        ),
        (Group([user("q")], ["a", "b"], labels=[True, False]), "trl-kto", "each response becomes a row of its own"),
    ],
)
def test_what_is_lost_is_said(tmp_path: Path, record: Any, shape: str, lost: str) -> None:
    said = write([record], tmp_path / "x.jsonl", shape)
    assert any(lost in sentence for sentence in said), said
    assert (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(
    ("record", "shape", "why"),
    [
        (DEMO, "trl-preference", "cannot be made into groups"),
        (Prompt([user("q")]), "alpaca", "cannot be made into demonstrations"),
        (Group([user("q")], ["a", "b"], ranking=[0, 0]), "hh", "no response is better than another"),
        (Group([user("q")], ["a"], labels=[False]), "alpaca", "no response is labelled good"),
        (Group([user("q"), Message("tool", "3")], ["a", "b"], ranking=[0, 1]), "hh", "not a dialogue"),
        (Group([user("q\n\nHuman: x")], ["a", "b"], ranking=[0, 1]), "hh", "takes for a marker"),
        (
            Group([user("q")], ["x\n\nHuman: y\n\nAssistant: a", "x\n\nHuman: y\n\nAssistant: b"], ranking=[0, 1]),
            "hh",
            "begin with the same turns",
        ),
        (Demonstration([system("s"), user("q"), assistant("a")]), "dolly", "not one question and one answer"),
        (Demonstration([user("q"), user("q"), assistant("a")]), "alpaca", "do not take turns"),
        (Demonstration([user("q"), assistant("a"), user("b")]), "alpaca", "last turn is not the assistant's"),
        (PAIR, "trl-stepwise", "not one response in labelled steps"),
        (Demonstration([system("s"), user("q"), assistant("a")]), "oasst", "not a dialogue"),
    ],
)
def test_where_nothing_can_be_held_nothing_is_touched(tmp_path: Path, record: Any, shape: str, why: str) -> None:
    (tmp_path / "x.jsonl").write_text("old")
    with pytest.raises(KilterError, match=why):
        write([record], tmp_path / "x.jsonl", shape)
    assert (tmp_path / "x.jsonl").read_text() == "old"
    assert os.listdir(tmp_path) == ["x.jsonl"]


def test_some_are_left_out_and_counted(tmp_path: Path) -> None:
    lost = write([DEMO, PAIR, DEMO], tmp_path / "x.jsonl", "trl-preference")
    assert lost == ["2 demonstrations: cannot be made into groups and are left out"]
    assert len(rows(tmp_path / "x.jsonl")) == 1


def test_shapes_are_found_by_other_names_and_the_nearest_is_offered(tmp_path: Path) -> None:
    write([PAIR], tmp_path / "x.jsonl", "dpo")
    assert read(tmp_path / "x.jsonl").shape == "trl-preference"
    with pytest.raises(KilterError, match=r"Unknown shape 'alpacca'. Did you mean 'alpaca'\?"):
        write([DEMO], tmp_path / "x.jsonl", "alpacca")
    with pytest.raises(KilterError, match="can be read but not written"):
        write([PAIR], tmp_path / "x.jsonl", "webgpt")
    with pytest.raises(KilterError, match="no records to write"):
        write([], tmp_path / "x.jsonl", "alpaca")


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.jsonl").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KilterError, match="the disk is full; free some space"):
        write([DEMO], tmp_path / "x.jsonl", "alpaca")
    assert (tmp_path / "x.jsonl").read_text() == "old"
    assert os.listdir(tmp_path) == ["x.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file is a link to /dev/full, so that the write itself is refused."""
    temporary = tmp_path / f".tmp-{os.getpid()}-x.jsonl"
    temporary.symlink_to("/dev/full")
    with pytest.raises(KilterError, match="the disk is full"):
        write([DEMO] * 10_000, tmp_path / "x.jsonl", "alpaca")
    assert os.listdir(tmp_path) == []


def test_a_directory_where_a_file_is_due(tmp_path: Path) -> None:
    with pytest.raises(KilterError, match="it is a directory and a file is due"):
        write([DEMO], tmp_path, "alpaca")


def test_half_a_surrogate_pair_is_written_as_an_escape(tmp_path: Path) -> None:
    record = Demonstration([user("q"), assistant("a")], meta={"extra": {"x": "\ud83d"}})
    write([record], tmp_path / "x.jsonl", "alpaca")
    assert read(tmp_path / "x.jsonl").records == [record]
    write([record], tmp_path / "x.parquet", "alpaca")
    assert read(tmp_path / "x.parquet").records == [record]


def test_parquet_holds_mixed_columns_as_json_text_and_says_so(tmp_path: Path) -> None:
    records = [
        Demonstration([user(str(k)), assistant("a")], meta={"extra": {"x": x}}) for k, x in enumerate((1, "b", {}))
    ]
    assert write(records, tmp_path / "x.parquet", "alpaca") == [
        "column x: its values differ from row to row, so Parquet holds it as JSON text"
    ]
    assert read(tmp_path / "x.parquet").records == records


def test_converting_reports_what_it_did(tmp_path: Path) -> None:
    lines = [
        {"chosen": f"\n\nHuman: {k}\n\nAssistant: a", "rejected": f"\n\nHuman: {k}\n\nAssistant: b"} for k in range(3)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines) + "broken\n"
    (tmp_path / "in.jsonl").write_text(content)
    done = convert(tmp_path / "in.jsonl", tmp_path / "out.json", "alpaca")
    assert (done.shape_in, done.shape_out, done.records, done.rejected) == ("hh", "alpaca", 3, 1)
    assert done.lost == ["3 groups: only the best response is kept"]
    assert done.rejects == tmp_path / "out.json.rejects.jsonl"
    assert rows(done.rejects)[0]["line"] == 4
    assert [row["output"] for row in json.loads((tmp_path / "out.json").read_text())] == ["a", "a", "a"]


def test_converting_there_and_back_gives_the_same_file(tmp_path: Path) -> None:
    lines = [
        {"chosen": f"\n\nHuman: {k}\n\nAssistant: 好", "rejected": f"\n\nHuman: {k}\n\nAssistant: 坏"} for k in range(3)
    ]
    source = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "in.jsonl").write_text(source, encoding="utf-8")
    assert convert(tmp_path / "in.jsonl", tmp_path / "own.parquet").lost == []
    assert convert(tmp_path / "own.parquet", tmp_path / "trl.json", "trl-implicit").lost == []
    assert convert(tmp_path / "trl.json", tmp_path / "out.jsonl", "hh").lost == []
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8") == source


def test_a_dialogue_that_breaks_off(tmp_path: Path) -> None:
    turns = [user("a"), assistant("b"), user("c")]
    said = write([Demonstration(turns)], tmp_path / "x.jsonl", "sharegpt")
    assert said == ["1 demonstration: ends without an answer, so sharegpt holds it as a prompt"]
    assert read(tmp_path / "x.jsonl").records == [Prompt(turns)]
    reading = read(tmp_path / "x.jsonl", want="demonstrations")
    assert reading.records == [Demonstration(turns[:2])]
    assert reading.notes == ["1 prompt: breaks off without an answer, so it is cut after the last one."]


@pytest.mark.parametrize("want", ["demonstrations", "groups", "prompts"])
def test_reading_what_is_wanted(tmp_path: Path, want: Any) -> None:
    write([GROUP, DEMO, Prompt([user("p")])], tmp_path / "x.jsonl", "kilter")
    reading = read(tmp_path / "x.jsonl", want=want)
    assert {type(r).__name__.lower() + "s" for r in reading.records} == {want}
    assert len(reading.records) == {"demonstrations": 2, "groups": 1, "prompts": 3}[want]
    assert reading.notes


def test_a_kind_that_a_file_does_not_hold(tmp_path: Path) -> None:
    write([DEMO], tmp_path / "x.jsonl", "alpaca")
    with pytest.raises(
        KilterError, match=r"x.jsonl \(alpaca\) holds demonstrations and groups are needed; give a file"
    ):
        read(tmp_path / "x.jsonl", want="groups")
