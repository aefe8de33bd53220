"""What a run leaves out, in a file and in sentences."""

import json

import pytest

from kilter.errors import KilterError, SetAside
from kilter.records import Message, Prompt
from kilter.store import rejects
from kilter.store.rejects import Rejects


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_unread_lines_stand_before_items_whenever_they_come(tmp_path):
    path = tmp_path / "out" / "r.jsonl"
    with Rejects(path) as kept:
        assert rejects.current() is kept
        kept.set_aside(Prompt([Message("user", "为什么")], id="a"), SetAside("Empty; ask again.", "empty"))
        kept.unreadable({"file": "f", "line": 3, "reason": "not JSON", "text": "{"})
        rejects.set_aside((1, {"x": None}), "Too like number 4", "ROUGE-L")
        kept.set_aside("half \ud83d a pair", SetAside("Empty.", "empty"))
        assert not path.exists()
    assert rejects.current() is None
    unread, *aside = lines(path)
    assert unread == {"file": "f", "line": 3, "reason": "not JSON", "text": "{"}
    assert aside[0] == {
        "rule": "empty",
        "reason": "Empty; ask again.",
        "item": {"messages": [{"role": "user", "content": "为什么"}], "id": "a"},
    }
    assert aside[1]["item"] == [1, {"x": None}]
    assert "为什么" in path.read_text(encoding="utf-8")
    assert (kept.counts, kept.unread, kept.total) == ({"empty": 2, "ROUGE-L": 1}, 1, 3)
    assert kept.sentences() == [
        f"1 line could not be read, the first is line 3 of f: not JSON. See {path}.",
        f"2 items were set aside (empty), the first because: Empty; ask again. See {path}.",
        f"1 item was set aside (ROUGE-L), the first because: Too like number 4. See {path}.",
    ]


def test_where_nothing_was_left_out_there_is_no_file(tmp_path):
    (tmp_path / "r.jsonl").write_text("of an earlier run\n", encoding="utf-8")
    with Rejects(tmp_path / "r.jsonl"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_leaves_the_file_of_the_last_one(tmp_path):
    (tmp_path / "r.jsonl").write_text("of an earlier run\n", encoding="utf-8")

    def failing():
        with Rejects(tmp_path / "r.jsonl") as kept:
            kept.set_aside("x", SetAside("no", "rule"))
            raise KilterError("It failed; mend it.")

    with pytest.raises(KilterError, match="It failed"):
        failing()
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["of an earlier run\n"]


def test_a_long_item_is_cut():
    with Rejects() as kept:
        kept.set_aside("x", SetAside("no", "rule"))
    assert kept.sentences() == ["1 item was set aside (rule), the first because: no."]
    assert rejects._plain("y" * 5000).endswith("… (5,000 characters)")


def test_outside_of_a_run_nothing_is_lost_without_a_word():
    with pytest.raises(KilterError, match="nobody keeps them"):
        rejects.set_aside("x", "no", "rule")
