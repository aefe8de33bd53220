"""A run: stages in order, finished ones kept, and after any interruption the same result as without one."""

import hashlib
import json
import os
import pkgutil
import signal
import subprocess
import sys

import pytest
import yaml

from kilter.cli import main
from kilter.errors import KilterError
from kilter.recipe import ledger
from kilter.recipe.run import duration, run
from small import every_third_broken

# A process that is killed, by a real signal, when it writes its COUNT-th line of metrics.
KILLED = """
import os, signal, sys
from kilter.store import Metrics
append, left = Metrics.append, [int(sys.argv[1])]

def wrapped(*args):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    append(*args)

Metrics.append = wrapped
from kilter.cli import main
main(sys.argv[2:])
"""


def results(folder):
    """Everything that the run found: the trained weights' hashes, losses, measures."""
    weights = {
        stage: hashlib.sha256((folder / "stages" / stage / "model.safetensors").read_bytes()).hexdigest()
        for stage in ("sft", "dpo")
    }
    losses = {
        stage: {
            line["step"]: line["loss"]
            for line in map(json.loads, (folder / "stages" / stage / "metrics.jsonl").read_text().splitlines())
        }
        for stage in ("sft", "dpo")
    }
    return weights, losses, json.loads((folder / "report.json").read_text(encoding="utf-8"))["results"]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, tiny_model):
    """An uninterrupted run of the small recipe, with the recipe's path and the lines that it said."""
    from small import make_recipe

    home = tmp_path_factory.mktemp("whole")
    recipe, said = make_recipe(home, tiny_model), []
    page = run(recipe, out=home / "run", say=said.append, command="kilter run small.yaml")
    return recipe, page, said


def test_a_run_leaves_everything_in_its_folder(whole):
    _, page, said = whole
    folder = page.parent
    assert page.name == "report.html"
    assert len((folder / "stages/more/records.jsonl").read_text(encoding="utf-8").splitlines()) == 24
    for label in ("base", "sft", "dpo"):
        assert (folder / f"stages/held/{label}.json").exists()
    assert [line.split()[0] for line in said] == ["Running", "more", "sft", "dpo", "held", "report"]
    assert "24 records" in said[1]
    assert "steps" in said[2]
    assert yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))["inputs"]["n"] == 24


def test_checkpoints_are_ordinary(whole):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = whole[1].parent / "stages" / "dpo"
    AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_run_json_says_what_each_stage_cost(whole):
    facts = ledger.read(whole[1].parent)
    assert facts["command"] == "kilter run small.yaml"
    assert facts["finished"]
    assert facts["versions"]["torch"]
    assert facts["machine"]["cores"] >= 1
    for stage in facts["stages"]:
        assert stage["status"] == "done"
        assert stage["seconds"] > 0
        assert stage["peak_memory_bytes"] > 1e7
    by_name = {stage["name"]: stage for stage in facts["stages"]}
    assert by_name["more"]["records"] == 24
    assert by_name["sft"]["tokens"] > 0
    assert by_name["held"]["models"]["sft"] == "sft"
    assert list(by_name["held"]["models"]) == ["base", "sft", "dpo"]
    assert by_name["held"]["folder"] == "stages/held"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, []),
        ({"held.models.base": "BASE"}, []),
        ({"dpo.steps": 3}, ["dpo", "held"]),
        ({"more.n": 25}, ["more"]),
        ({"seed": 1}, ["more", "sft", "dpo", "held"]),
    ],
)
def test_only_what_changed_is_run_again(small_recipe, tiny_model, tmp_path, change, again):
    run(small_recipe, out=tmp_path / "run")
    change = {key: str(tiny_model) if value == "BASE" else value for key, value in change.items()}
    said = []
    run(small_recipe, out=tmp_path / "run", set=change, say=said.append)
    ran = [line.split()[0] for line in said[1:-1] if "kept" not in line]
    # The held-out suite takes no seed, but the models that it reads are others.
    assert ran == again
    facts = {stage["name"]: stage for stage in ledger.read(tmp_path / "run")["stages"]}
    for name, stage in facts.items():
        assert stage["status"] == ("done" if name in again else "kept")
        assert stage["seconds"] > 0


def test_another_file_content_runs_its_stage_again(small_recipe, tmp_path):
    run(small_recipe, out=tmp_path / "run")
    path = tmp_path / "preferences.jsonl"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]), encoding="utf-8")
    said = []
    run(small_recipe, out=tmp_path / "run", say=said.append)
    assert [line.split()[0] for line in said[1:-1] if "kept" not in line] == ["dpo", "held"]


def same_as_uninterrupted(whole, out, finished):
    """The same command again keeps what was finished, and ends with the same result to the last bit."""
    said = []
    run(whole[0], out=out, say=said.append)
    assert [line.split()[0] for line in said if line.endswith("kept")] == finished
    assert results(out) == results(whole[1].parent)
    assert tokens(out) == tokens(whole[1].parent)


def tokens(folder):
    """What each stage computed, interruptions or not; None where no model was asked."""
    return {stage["name"]: stage.get("tokens") for stage in ledger.read(folder)["stages"]}


@pytest.mark.parametrize(
    ("module", "name", "count", "finished"),
    [
        ("kilter.formats", "write", 1, []),
        ("kilter.store.Metrics", "append", 4, ["more"]),
        ("kilter.store.Metrics", "append", 9, ["more", "sft"]),
        ("kilter.evaluation.result", "write", 2, ["more", "sft", "dpo"]),
    ],
)
def test_ctrl_c_in_each_stage(whole, tmp_path, monkeypatch, capsys, module, name, count, finished):
    place = pkgutil.resolve_name(module)
    function, left = getattr(place, name), [count]

    def wrapped(*args, **options):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args, **options)

    monkeypatch.setattr(place, name, wrapped)
    with pytest.raises(SystemExit) as stop:
        main(["run", str(whole[0]), "--out", str(tmp_path / "run")])
    err = capsys.readouterr().err
    assert stop.value.code == 130, err
    assert "kilter: Stopped; give the same command again and it goes on from here" in err
    assert not (tmp_path / "run" / "report.html").exists()
    assert [s["status"] for s in ledger.read(tmp_path / "run")["stages"]] == ["done"] * len(finished) + ["interrupted"]
    monkeypatch.undo()
    same_as_uninterrupted(whole, tmp_path / "run", finished)


@pytest.mark.parametrize(("count", "finished"), [(4, ["more"]), (9, ["more", "sft"])])
def test_a_killed_run(whole, tmp_path, count, finished):
    words = ["run", str(whole[0]), "--out", str(tmp_path / "run")]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(count), *words], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    same_as_uninterrupted(whole, tmp_path / "run", finished)


def test_a_failing_stage_is_named_and_what_was_finished_is_kept(small_recipe, tmp_path):
    with pytest.raises(KilterError, match="Stage 'dpo': "):
        run(small_recipe, out=tmp_path / "run", set={"dpo.max_length": 3})
    assert [stage["status"] for stage in ledger.read(tmp_path / "run")["stages"]] == ["done", "done", "failed"]


def test_what_a_stage_left_out_is_in_run_json_and_in_the_report(small_recipe, tmp_path):
    broken = every_third_broken(tmp_path / "demonstrations.jsonl", tmp_path / "third.jsonl")
    said = []
    settings = {"demonstrations": str(broken), "sft.max_length": 24, "dpo.steps": 1}
    run(small_recipe, out=tmp_path / "run", set=settings, say=said.append)
    stages = {stage["name"]: stage for stage in ledger.read(tmp_path / "run")["stages"]}
    unread, cut = stages["sft"]["notes"]
    assert "5 lines could not be read" in unread
    assert cut == "11 prompts cut from the left to fit into 24 tokens."
    assert [line.strip() for line in said if line.strip() in (unread, cut)] == [unread, cut]
    told = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["notes"]
    assert [note["note"] for note in told if note["stage"] == "sft"] == [unread, cut]
    # A kept stage still says it.
    run(small_recipe, out=tmp_path / "run", set=settings)
    assert json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))["notes"] == told


def test_nothing_runs_if_any_part_is_wrong(small_recipe, tmp_path):
    with pytest.raises(KilterError):
        run(small_recipe, out=tmp_path / "run", set={"dpo.bta": 1})
    assert not (tmp_path / "run").exists()


def test_a_folder_belongs_to_one_recipe(small_recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"name": "other", "stages": []}))
    with pytest.raises(KilterError, match="holds a run of the recipe 'other'"):
        run(small_recipe, out=tmp_path / "run")


def test_the_default_folder(small_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fast = {"sft.steps": 1, "dpo.steps": 1, "seed": 4}
    assert str(run(small_recipe, set=fast)).endswith("runs/small-4/report.html")


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.13, "2.1 s"), (0.04, "0.0 s"), (185, "3 min 05 s"), (3725, "1 h 02 min")]
)
def test_durations_are_read_easily(seconds, text):
    assert duration(seconds) == text
