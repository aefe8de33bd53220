"""Records one at a time: the same as those read at once, in bounded memory."""

import json
import tracemalloc

import pytest

from kilter import formats
from kilter.errors import KilterError
from kilter.formats import Stream


def write_rows(path, count, broken=(), text="a word or two"):
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            row = {"messages": [{"role": "user", "content": f"{i} 问 {text}"}, {"role": "assistant", "content": text}]}
            file.write("{not json\n" if i in broken else json.dumps(row, ensure_ascii=False) + "\n")
    return path


def test_a_stream_gives_what_reading_gives(tmp_path):
    path = write_rows(tmp_path / "d.jsonl", 500, broken={0, 3, 400})
    unread = []
    stream = Stream(path, want="demonstrations", reject=unread.append)
    assert len(unread) <= 2, "the lines after the first record are not read before they are wanted"
    records = list(stream)
    read = formats.read(path, want="demonstrations", rejects=tmp_path / "r.jsonl")
    assert records == read.records
    assert len(records) == 497
    assert unread == [json.loads(line) for line in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert stream.rejected == 3


def test_what_is_left_out_is_noted_at_the_end(tmp_path):
    path = tmp_path / "g.jsonl"
    rows = [{"prompt": "p", "responses": ["a", "b"], "scores": [i % 3, 1]} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    stream = Stream(path, want="demonstrations")
    assert len(list(stream)) == 6
    assert stream.notes == ["6 groups: only the best response is kept."]


def test_what_could_not_be_used_at_all_is_refused_before_anything_is_done(tmp_path):
    only_answers = write_rows(tmp_path / "d.jsonl", 3)
    with pytest.raises(KilterError, match="holds demonstrations and groups are needed"):
        Stream(only_answers, want="groups")
    with pytest.raises(KilterError, match="None of the 4 lines"):
        Stream(write_rows(tmp_path / "b.jsonl", 4, broken=range(4)))
    with pytest.raises(KilterError, match="does not exist"):
        Stream(tmp_path / "none.jsonl")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "empty.jsonl").touch()
    write_rows(tmp_path / "folder" / "good.jsonl", 3)
    stream = Stream(tmp_path / "folder")
    assert len(list(stream)) == 3
    assert "empty.jsonl is empty" in stream.notes[0]


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = write_rows(tmp_path / "d.jsonl", 20_000, text="x" * 1000)
    assert path.stat().st_size > 40e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in Stream(path)) == 20_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4e6
