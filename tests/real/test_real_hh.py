"""`kilter run hh` on real models with real demonstrations and human preferences, made short."""

import json
from pathlib import Path

import pytest

import kilter


def shortest(source: Path, target: Path, lines: int) -> Path:
    """Copy the shortest lines: babyllama has 256 positions, one a character."""
    found = sorted(source.read_text(encoding="utf-8").splitlines(keepends=True), key=len)
    target.write_text("".join(found[:lines]), encoding="utf-8")
    return target


@pytest.mark.parametrize("model", ["babyllama-0.9M", "stories260K", "kilter/nano"])
def test_hh_runs_on_small_real_models(shared, tmp_path, model):
    data = shared / "data"
    report = kilter.run(
        "hh",
        set={
            "model": model if model.startswith("kilter/") else str(shared / "models" / model),
            "demonstrations": str(shortest(data / "instructions" / "lima.jsonl", tmp_path / "lima.jsonl", 60)),
            "preferences": str(shortest(data / "preferences" / "hh_helpful_train.jsonl", tmp_path / "hh.jsonl", 60)),
            "test": str(shortest(data / "preferences" / "hh_helpful_test.jsonl", tmp_path / "test.jsonl", 40)),
            "sft.steps": 2,
            "dpo.steps": 2,
            "sft.batch_size": 4,
            "dpo.batch_size": 4,
        },
        out=tmp_path / "run",
    )
    assert report.is_file()
    results = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["results"]
    assert set(results) == {"base", "sft", "dpo"}
    for measures in results.values():
        accuracy = measures["preference_accuracy"]
        assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
        assert measures["loss"]["value"] > 0
        assert accuracy["n"] > 10
