"""Where rows come from: JSON, JSONL, gzip, Parquet, folders, indexes, the hub; and what can be wrong."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from kilter.errors import KilterError
from kilter.formats import hub, read
from kilter.records import Demonstration, Group, Message

ROW = {"instruction": "问", "output": "答"}
RECORD = Demonstration([Message("user", "问"), Message("assistant", "答")])
LINE = json.dumps(ROW, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        LINE.encode(),
        LINE.rstrip().encode(),
        b"\n\n" + LINE.encode() + b"\n",
        LINE.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + LINE.encode(),
        LINE.encode("utf-16"),
        json.dumps([ROW]).encode(),
        json.dumps([ROW], indent=2, ensure_ascii=False).encode(),
        json.dumps(ROW, indent=2).encode(),
        b"\xef\xbb\xbf" + json.dumps(ROW, indent=2).encode(),
        json.dumps({"data": [ROW]}).encode(),
        json.dumps({"rows": [{"row": ROW, "row_idx": 0}], "features": []}, indent=1).encode(),
        gzip.compress(LINE.encode()),
        gzip.compress(json.dumps([ROW], indent=2).encode()),
    ],
)
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x"])
def test_what_a_file_is_follows_from_its_content(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name).records == [RECORD]


def test_text_with_the_separators_of_unicode_stays_one_line(tmp_path: Path) -> None:
    row = {"instruction": "a\u2028b\x85c", "output": "\x0b\x1c"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert read(tmp_path / "x.jsonl").records[0].messages[0].content == "a\u2028b\x85c"  # type: ignore[union-attr]


def test_every_third_line_broken(tmp_path: Path) -> None:
    broken = ['{"instruction": "cut', "[1, 2]", '{"instruction": "no output"}', "not json at all"]
    lines = [line for part in broken for line in (json.dumps(ROW), json.dumps(ROW), part)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rejects = tmp_path / "out.jsonl.rejects.jsonl"
    reading = read(tmp_path / "x.jsonl", rejects=rejects)
    assert (len(reading.records), reading.rejected) == (8, 4)
    assert "4 lines could not be read, the first is line 3 of" in reading.notes[0]
    kept = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [r["line"] for r in kept] == [3, 6, 9, 12]
    assert kept[0]["reason"].startswith("not JSON: Unterminated string")
    assert kept[1]["reason"] == "a list where an object is due"
    assert kept[2]["reason"] == "there is no column 'output', only instruction."
    assert kept[3]["text"] == "not json at all"


def test_the_first_line_broken_and_rejects_of_an_earlier_reading_removed(tmp_path: Path) -> None:
    path, rejects = tmp_path / "x.jsonl", tmp_path / "rejects"
    path.write_text("{broken\n" + json.dumps(ROW))
    assert (len(read(path, rejects=rejects).records), rejects.exists()) == (1, True)
    path.write_text(json.dumps(ROW))
    assert (len(read(path, rejects=rejects).records), rejects.exists()) == (1, False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"[]", "is empty"),
        (gzip.compress(b""), "is empty"),
        (b"a,b\n1,2\n", "None of the 2 lines of .* give JSON, JSONL or Parquet"),
        (b'[\n{"instruction": "a", "output": "b"},\n{"instr', "is not whole JSON: .* at line 3"),
        (b'{"a": 1,\n', "is not whole JSON|None of the 1 lines"),
        ("问题很多\n答案".encode("gb18030"), "not UTF-8 at byte 1 .perhaps gb18030.; save it as UTF-8"),
        (gzip.compress(LINE.encode() * 100)[:-20], "is not a whole gzip file"),
        (b"PAR1 and then nothing of the kind", "is not a whole Parquet file"),
        (b"[1, 2, 3]", "a number where an object is due"),
        (b"[" * 100_000, "The one line of|not whole JSON"),
    ],
)
def test_a_file_that_holds_nothing_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(KilterError, match=said) as error:
        read(tmp_path / "x.jsonl")
    assert "\n" not in str(error.value)


def test_one_line_in_another_encoding_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINE.encode() + LINE.encode("gb18030") + LINE.encode())
    reading = read(tmp_path / "x.jsonl")
    assert (len(reading.records), reading.rejected) == (2, 1)


def test_a_missing_file_offers_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(LINE)
    with pytest.raises(KilterError, match=r"trian.jsonl does not exist; check the path. Did you mean 'train.jsonl'\?"):
        read(tmp_path / "trian.jsonl")
    with pytest.raises(KilterError, match="does not exist"):
        read("no_such_file.jsonl")


def test_a_path_that_may_not_be_read(tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "x.jsonl").write_text(LINE)
    (folder / "x.jsonl").chmod(0)
    child = os.fork()
    if child == 0:  # root may read anything
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            read(folder / "x.jsonl")
        except KilterError as error:
            code = 0 if "no permission" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(LINE)
    (tmp_path / "deep").mkdir()
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    (tmp_path / "deep" / "c.json").write_text(json.dumps([pair]))
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "b.jsonl.rejects.jsonl").write_text("{}")
    reading = read(tmp_path)
    assert (len(reading.records), reading.shape) == (2, "alpaca, trl-preference")
    assert any("config.json" in note for note in reading.notes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(KilterError, match="holds no data"):
        read(tmp_path / "empty")


def test_a_folder_saved_by_datasets(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list([ROW]).save_to_disk(str(tmp_path / "one"))
    splits = {"test": datasets.Dataset.from_list([ROW] * 2), "train": datasets.Dataset.from_list([ROW])}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "two"))
    assert read(tmp_path / "one").records == [RECORD]
    assert read(tmp_path / "two").records == [RECORD]
    assert read(f"{tmp_path / 'two'}#test").records == [RECORD] * 2
    with pytest.raises(KilterError, match="no split 'tset'"):
        read(f"{tmp_path / 'two'}#tset")


def test_nulls_of_a_column_store_are_no_values(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "name": "n"}]
    rows = [{"messages": turns[:1], "x": 1}, {"messages": turns, "x": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    first, second = read(tmp_path / "x.parquet").records
    assert first.meta == {"extra": {"x": 1}}
    assert second.meta == {"turns": {"1": {"name": "n"}}}


def index(folder: Path, info: dict[str, Any], rows: dict[str, list[dict[str, Any]]]) -> Path:
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for name, content in rows.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False))
    return folder


def test_an_index_maps_columns_and_tags(tmp_path: Path) -> None:
    info = {
        "plain": {"file_name": "a.json", "columns": {"prompt": "问题", "response": "回答", "system": "人设"}},
        "pairs": {
            "file_name": "b.json",
            "ranking": True,
            "formatting": "sharegpt",
            "columns": {"messages": "dialog", "chosen": "good", "rejected": "bad"},
            "tags": {"role_tag": "who", "content_tag": "what", "user_tag": "kunde", "assistant_tag": "wir"},
        },
        "elsewhere": {"hf_hub_url": "some/where"},
    }
    rows = {
        "a.json": [{"问题": "q", "回答": "a", "人设": "s", "extra": 1}],
        "b.json": [
            {
                "dialog": [{"who": "kunde", "what": "q"}],
                "good": {"who": "wir", "what": "g"},
                "bad": {"who": "wir", "what": "b"},
            }
        ],
    }
    folder = index(tmp_path, info, rows)
    plain = Demonstration(
        [Message("system", "s"), Message("user", "q"), Message("assistant", "a")], meta={"extra": {"extra": 1}}
    )
    pair = Group([Message("user", "q")], ["g", "b"], ranking=[0, 1])
    assert read(folder).records == [plain, pair]
    assert read(f"{folder}#pairs").records == [pair]
    assert read(f"{folder / 'dataset_info.json'}#plain").records == [plain]
    with pytest.raises(KilterError, match=r"no data set 'pair'. Did you mean 'pairs'\?"):
        read(f"{folder}#pair")


def test_an_index_that_names_a_column_which_is_missing(tmp_path: Path) -> None:
    info = {"x": {"file_name": "a.json", "columns": {"prompt": "ask", "response": "answer"}}}
    folder = index(tmp_path, info, {"a.json": [{"question": "q", "answer": "a"}]})
    with pytest.raises(KilterError, match=r"no column 'ask', which dataset_info.json names, only question, answer"):
        read(folder)
    (folder / "a.json").unlink()
    with pytest.raises(KilterError, match="names no file that is there"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("org/data", True),
        ("org/data#config:train[:10%]", True),
        ("org/data:test", True),
        ("data", False),
        ("org/data.jsonl", False),
        ("./org/data", False),
        ("/org/data", False),
        ("a/b/c", False),
    ],
)
def test_which_names_are_hub_ids(name: str, expected: bool) -> None:
    assert hub.looks_like_id(name) is expected


def test_without_a_network_the_hub_fails_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("name or service not known")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    start = time.monotonic()
    with pytest.raises(KilterError, match="hub cannot be reached; check the path or the network"):
        read("org/data")
    assert time.monotonic() - start < 5


def test_a_hub_data_set_is_read_by_split(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    def load(identity: str, config: str | None, split: str | None) -> object:
        assert (identity, config) == ("org/data", "main")
        whole = {"test": datasets.Dataset.from_list([ROW] * 2), "train": datasets.Dataset.from_list([ROW])}
        if split is None:
            return datasets.DatasetDict(whole)
        if split not in whole:
            raise ValueError(f'Unknown split "{split}". Should be one of {list(whole)}.')
        return whole[split]

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read("org/data#main").records == [RECORD]
    assert read("org/data#main:test").records == [RECORD] * 2
    with pytest.raises(KilterError, match="Unknown split"):
        read("org/data#main:dev")


def test_want_that_does_not_exist() -> None:
    with pytest.raises(KilterError, match="no kind of record"):
        read("x", want="pairs")  # type: ignore[arg-type]
