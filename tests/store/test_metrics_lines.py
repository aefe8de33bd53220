"""Metrics: whole lines after a kill, a torn last line cut off, a resumed run that logs steps again."""

from __future__ import annotations

from pathlib import Path

from kilter.store import Metrics, read_metrics


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "deep" / "metrics.jsonl")
    for step in range(3):
        metrics.append({"step": step, "语言": "中文"})
    assert read_metrics(metrics.path) == [{"step": s, "语言": "中文"} for s in range(3)]
    assert read_metrics(tmp_path / "absent.jsonl") == []


def test_a_torn_last_line_is_not_read_and_is_cut_off_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1}]
    Metrics(path).append({"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_file_that_is_all_torn_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"st')
    Metrics(path).append({"step": 1})
    assert read_metrics(path) == [{"step": 1}]


def test_rewinding_drops_what_came_after(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for step in (10, 20, 30):
        metrics.append({"step": step})
    metrics.rewind(20)
    assert read_metrics(metrics.path) == [{"step": 10}, {"step": 20}]
