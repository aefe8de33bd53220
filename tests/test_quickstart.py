"""The shipped recipe on the shipped model, made small: it runs, it aligns, it can be cut short and goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kilter
from kilter.models.load import checkpoint

SMALL = {
    "demonstrations.n": 800,
    "demonstrations.values_share": 0.4,
    "sft.epochs": 2,
    "preferences.n": 120,
    "evaluation.n": 150,
}
DIMENSIONS = {
    "helpful", "refuses_harmful", "over_refuses", "honest_answerable", "honest_unanswerable", "toxic", "biased", "leaks"
}  # fmt: skip


def command(out: Path) -> list[str]:
    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "kilter.cli", "quickstart", "--out", str(out), "--no-open", *sets]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("quickstart")
    kilter.run("quickstart", set=SMALL, out=out)
    return out


def test_the_report_holds_every_dimension_of_every_model(finished):
    results = json.loads((finished / "report.json").read_text(encoding="utf-8"))["results"]
    assert set(results) == {"base", "sft", "dpo"}
    for measures in results.values():
        assert set(measures) == DIMENSIONS
        for measure in measures.values():
            assert measure["low"] <= measure["value"] <= measure["high"]
            assert measure["n"] > 0


def test_even_a_short_run_aligns(finished):
    results = json.loads((finished / "report.json").read_text(encoding="utf-8"))["results"]
    assert results["sft"]["helpful"]["value"] > results["base"]["helpful"]["value"] + 0.2
    assert results["sft"]["refuses_harmful"]["value"] > results["base"]["refuses_harmful"]["value"] + 0.2


def test_no_prompt_of_the_evaluation_is_in_a_training_file(finished):
    stages = finished / "stages"
    asked = {
        "\n".join(m["content"] for m in sample["prompt"])
        for sample in json.loads((stages / "evaluation" / "dpo.json").read_text(encoding="utf-8"))["samples"]
    }
    for stage in ("demonstrations", "preferences"):
        text = (stages / stage / "records.jsonl").read_text(encoding="utf-8")
        trained = set()
        for line in text.splitlines():
            record = json.loads(line)
            messages = record.get("prompt") or record["messages"][:-1]
            trained.add("\n".join(m["content"] for m in messages))
        assert trained
        assert not asked & trained


def test_killed_at_any_stage_it_goes_on_to_the_same_result(finished, tmp_path):
    """kill -9 three times at different moments, then let it end."""
    out = tmp_path / "killed"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for stage in ("sft", "preferences", "evaluation"):
        process = subprocess.Popen(command(out), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if any((out / "stages" / stage).glob("*")):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.05)
        process.wait(timeout=60)
    done = subprocess.run(command(out), env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("base", "sft", "dpo"):
        ours, theirs = (
            json.loads((run / "stages" / "evaluation" / f"{name}.json").read_text(encoding="utf-8"))
            for run in (out, finished)
        )
        assert [s["response"] for s in ours["samples"]] == [s["response"] for s in theirs["samples"]]
        assert ours["measures"] == theirs["measures"]


def test_the_bundled_model_is_small_and_has_its_card():
    folder = checkpoint("kilter/nano")
    assert (folder / "model.safetensors").stat().st_size <= 8_000_000
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "kilter pretrain --out DIR --seed 0" in card
    assert not (folder / "training.json").exists()
