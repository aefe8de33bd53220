from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kilter.errors import KilterError
from kilter.evaluation.result import DIMENSIONS, Evaluation, Measure, dimension, ordered, read, write


def evaluation() -> Evaluation:
    sample = {
        "id": "a",
        "prompt": [{"role": "user", "content": "你好"}],
        "response": "您好 <b>",
        "family": "dialogue",
        "language": "zh",
        "outcomes": {"helpful": 1.0},
    }
    return Evaluation("sft", {"helpful": Measure(1.0, 0.2, 1.0, 1)}, [sample], "world", 0, ["1 prompt was too long."])


def test_an_evaluation_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "sft.json"
    write(evaluation(), path)
    assert read(path) == evaluation()
    assert "你好" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["sft.json"]


def test_infinite_ends_are_written_as_null(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    write(Evaluation("m", {"loss": Measure(2.0, -math.inf, math.inf, 1)}), path)
    assert json.loads(path.read_text(encoding="utf-8"))["measures"]["loss"]["low"] is None
    assert read(path).measures["loss"] == Measure(2.0, -math.inf, math.inf, 1)
    assert math.isnan(Measure.from_json({"value": None, "n": 0}).value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "a"}', '{"model": "a", "measures": 3}'])
def test_what_is_no_evaluation_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KilterError, match="does not hold an evaluation"):
        read(path)
    with pytest.raises(KilterError, match="no evaluation at"):
        read(tmp_path / "missing.json")


def test_a_gain_knows_which_way_is_up() -> None:
    assert dimension("helpful").gain(0.2, 0.5) == pytest.approx(0.3)
    assert dimension("toxic").gain(0.2, 0.5) == pytest.approx(-0.3)
    assert dimension("biased").gain(-0.4, 0.1) == pytest.approx(0.3)
    assert dimension("biased").better == "nearer to 0 is better"


def test_unknown_dimensions_are_described_and_come_last() -> None:
    assert dimension("win_rate").label == "Win rate"
    assert ordered(["win_rate", "toxic", "helpful", "toxic"]) == ["helpful", "toxic", "win_rate"]
    assert all(name == known.name and known.meaning for name, known in DIMENSIONS.items())
