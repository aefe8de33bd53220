"""The command line as people meet it: what it prints, its exit codes, and one sentence for whatever goes wrong."""

import io
import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import kilter as kilter_package
from kilter.cli import main
from kilter.cli.verbs import EXAMPLES
from small import demonstrations, every_third_broken, half_written, lines, preferences

VERBS = [
    "quickstart",
    "run",
    "league",
    "methods",
    "show",
    "pretrain",
    "train",
    "sample",
    "score",
    "eval",
    "data",
    "convert",
    "chat",
    "report",
    "doctor",
]


@pytest.fixture
def kilter(capsys, monkeypatch, tmp_path):
    """Call the command line in this process, in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return call


def refused(result, *says, code=1):
    """Assert that the command failed with one plain sentence on stderr."""
    got, out, err = result
    assert got == code, err
    told = [line for line in err.splitlines() if line.startswith("kilter: ")]
    assert len(told) == 1, err
    assert "Traceback" not in err + out
    assert not re.search(r"\?\.|[^.]\.\.( |$)| (at at|the the|a a) ", told[0].replace("../", "")), told
    assert told[0].rstrip().endswith((".", "?", ")")), told
    for text in says:
        assert text in told[0], told
    return told[0]


# ------------------------------------------------------------------------------------------------------------- help


def test_help_is_quick_and_imports_nothing_heavy():
    code = "import sys; from kilter.cli.app import command; command(['--help']); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    spent = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "kilter.cli", "--help"], capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0
    # The processor's seconds: 0.2 here, whatever else the machine is at.
    assert min(spent) < 0.5


def test_the_help_lists_every_verb(kilter):
    code, out, _ = kilter("--help")
    assert code == 0
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", out), verb
    assert kilter()[0] == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(kilter, verb):
    code, out, _ = kilter(verb, "--help")
    assert code == 0
    assert "Example" in out
    for example in EXAMPLES[verb]:
        assert example in out, "an example must not be broken over lines"
        assert shlex.split(example)[:2] == ["kilter", verb]


QUICK = """
kilter methods
kilter methods training --json
kilter show dpo
kilter show evaluation/world --json
kilter doctor
kilter doctor --json
kilter convert --shapes
kilter run --schema > recipe.schema.json
kilter data world-demonstrations --n 50 --out d.jsonl
kilter convert d.jsonl d.parquet --to messages
"""
NANO = """
kilter train sft --model kilter/nano --data d.jsonl --out models/sft
kilter train dpo --help
kilter sample --model kilter/nano --prompts d.jsonl --out answers.jsonl
kilter sample --model kilter/nano --prompt "What is 2 + 3?"
kilter chat kilter/nano
"""


@pytest.mark.parametrize("examples", [QUICK, NANO], ids=["quick", "nano"])
def test_the_examples_work_as_printed(kilter, tmp_path, monkeypatch, examples):
    assets = Path(kilter_package.__file__).parent / "assets" / "nano"
    if examples is NANO and not (assets / "model.safetensors").exists():
        pytest.skip("the bundled model is not here; `kilter pretrain` makes it")
    demonstrations(tmp_path / "d.jsonl", 20)
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello\n"))
    kilter("--help")  # declares the verbs, and with them their examples
    for example in examples.strip().splitlines():
        words = shlex.split(example.partition(" > ")[0])[1:]
        assert example in EXAMPLES[words[0]], f"{example} is no longer printed"
        code, out, err = kilter(*words)
        assert code == 0, f"{example}: {err}"
        assert out, example


def test_a_methods_help_lists_its_options(kilter):
    _, out, _ = kilter("train", "dpo", "--help")
    for flag in ("--beta", "--learning-rate", "--epochs", "--model", "--data", "--out"):
        assert flag in out
    _, out, _ = kilter("train", "--help")
    assert "dpo" in out
    assert "sft" in out


def test_the_version(kilter):
    assert kilter("--version")[:2] == (0, f"kilter {kilter_package.__version__}\n")


# ------------------------------------------------------------------------------------------------------ the catalogue


def test_methods_and_show(kilter):
    rows = json.loads(kilter("methods", "--json")[1])
    assert {"dpo", "sft"} <= {row["id"] for row in rows if row["wing"] == "training"}
    assert "dpo" in kilter("methods", "training")[1]
    assert "[`dpo`](methods/training.md#dpo)" in kilter("methods", "--markdown")[1]
    page = kilter("methods", "training", "--markdown")[1]
    assert "\n| [`dpo`](#dpo) |" in page
    assert "\n## dpo\n" in page
    assert "(#options-that-training-methods-share)" in page
    assert "\n## Options that training methods share\n" in page
    _, out, _ = kilter("show", "dpo")
    assert "beta" in out
    assert "kilter train dpo" in out
    told = json.loads(kilter("show", "dpo", "--json")[1])
    assert {"name", "type", "default", "help"} == set(told["options"][0])


def test_the_schema_of_recipes(kilter):
    assert json.loads(kilter("run", "--schema")[1])["title"] == "Kilter recipe"


def test_doctor(kilter):
    code, out, _ = kilter("doctor")
    assert code == 0
    assert "torch" in out
    found = json.loads(kilter("doctor", "--json")[1])
    assert found["cores"] >= 1
    assert found["allows"]
    assert set(found["bf16"]) == {"accelerator", "processor"}


# ------------------------------------------------------------------------------------------------- one step at a time


def test_data_train_sample_eval_convert_and_report(kilter, tiny_model, tmp_path):
    code, out, err = kilter("data", "world-demonstrations", "--n", 8, "--out", "d.jsonl", "--json")
    assert (code, json.loads(out)["records"]) == (0, 8), err

    code, out, err = kilter(
        "train",
        "sft",
        "--model",
        tiny_model,
        "--data",
        "d.jsonl",
        "--out",
        "m",
        "--steps",
        2,
        "--max-length",
        128,
        "--json",
    )
    assert code == 0, err
    assert json.loads(out)["steps"] == 2
    assert (tmp_path / "m" / "model.safetensors").exists()

    code, out, err = kilter(
        "sample", "--model", "m", "--prompt", "what is 2 + 3?", "--max-tokens", 4, "--n", 2, "--json"
    )
    assert code == 0, err
    assert len(json.loads(out)[0]["responses"]) == 2

    preferences(tmp_path / "p.jsonl", 6)
    code, out, err = kilter("sample", "--model", "m", "--prompts", "p.jsonl", "--out", "a.jsonl", "--max-tokens", 4)
    assert code == 0, err
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 6

    code, out, err = kilter("eval", "heldout", "--model", "m", "--records", "p.jsonl", "--out", "e.json", "--json")
    assert code == 0, err
    assert json.loads(out)["results"]
    assert (tmp_path / "e.json").exists()

    code, out, err = kilter("convert", "p.jsonl", "p.parquet", "--json")
    assert code == 0, err
    assert json.loads(out)["records"] == 6


def test_chat_reads_from_a_pipe(tiny_model):
    done = subprocess.run(
        [sys.executable, "-m", "kilter.cli", "chat", str(tiny_model), "--max-tokens", "3"],
        input=f"hello\n/reset\nagain\n/nonsense\n{'it is blue. ' * 200}\nand now?\n/quit\nnever\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "/nonsense" in done.stderr
    assert done.stderr.count("its beginning is forgotten") == 1
    assert "never" not in done.stdout


def test_a_recipe_from_the_command_line(kilter, small_recipe, tmp_path):
    code, out, err = kilter("run", small_recipe, "--check")
    assert code == 0, err
    assert "in order" in out

    code, out, err = kilter("run", small_recipe, "--out", "r", "--set", "seed=1", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found["results"]) == {"base", "sft", "dpo"}
    assert "16 records" in err or "24 records" in err

    code, out, err = kilter("run", small_recipe, "--out", "r", "--set", "seed=1")
    assert code == 0, err
    assert out.count("kept") == 4
    assert "r/report.html" in out
    before = json.loads((tmp_path / "r" / "report.json").read_text())["results"]
    code, out, err = kilter("report", "r", "--json")
    assert code == 0, err
    assert json.loads(out)["results"] == before == found["results"]


def test_seeds_are_run_each_and_reported_together(kilter, small_recipe, tmp_path):
    words = ["run", small_recipe, "--out", "s", "--set", "sft.steps=1", "--set", "dpo.steps=1"]
    code, out, err = kilter(*words, "--seeds", "0,1", "--json")
    assert code == 0, err
    assert (tmp_path / "s" / "seed-1" / "report.html").exists()
    assert (tmp_path / "s" / "report.html").exists()
    assert set(json.loads(out)["results"]) == {"base", "sft", "dpo"}
    refused(kilter(*words, "--seeds", "a,b"), "is not a list of numbers")


# ------------------------------------------------------------------------------------------------------ evil inputs


def train(kilter, model, data, *more):
    return kilter(
        "train", "sft", "--model", model, "--data", data, "--out", "out", "--steps", 1, "--max-length", 128, *more
    )


def test_training_into_a_folder_that_is_taken(kilter, tiny_model, tmp_path):
    demonstrations(tmp_path / "d.jsonl", 12)
    assert train(kilter, tiny_model, "d.jsonl")[0] == 0
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    code, out, err = train(kilter, tiny_model, "d.jsonl")
    assert (code, out) == (0, "This very run is finished, nothing was trained: out\n"), err
    said = "out holds a finished run with other settings (learning_rate is 2e-05 there and 0.1 here)"
    refused(train(kilter, tiny_model, "d.jsonl", "--learning-rate", 0.1), said, "--overwrite")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    code, out, err = train(kilter, tiny_model, "d.jsonl", "--learning-rate", 0.1, "--overwrite", "--json")
    assert (code, json.loads(out)["kept"]) == (0, False), err
    assert (tmp_path / "out" / "model.safetensors").read_bytes() != before


def test_of_several_processes_the_first_one_speaks(kilter, tiny_model, tmp_path, monkeypatch):
    demonstrations(tmp_path / "d.jsonl", 12)
    for rank, says in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        code, out, err = train(kilter, tiny_model, "d.jsonl")
        assert (code, bool(out)) == (0, says), err


def test_a_missing_file(kilter, tiny_model):
    refused(train(kilter, tiny_model, "none.jsonl"), "none.jsonl")
    refused(kilter("convert", "none.jsonl", "out.jsonl"), "none.jsonl")
    refused(kilter("run", "none.yaml"), "none.yaml")
    refused(kilter("report", "none"), "none does not exist")


def test_a_directory_where_a_file_is_due(kilter, tiny_model, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken").mkdir()
    demonstrations(tmp_path / "d.jsonl")
    refused(train(kilter, tiny_model, "folder"), "folder")
    refused(kilter("run", "folder"), "folder")
    refused(kilter("convert", "d.jsonl", "taken"), "taken")
    refused(kilter("data", "world-demonstrations", "--n", 2, "--out", "taken"), "taken")
    refused(kilter("report", "folder"), "is not a run")


def test_where_the_result_cannot_be_written_nothing_is_computed(kilter, tiny_model, tmp_path, monkeypatch):
    from kilter.models import load

    (tmp_path / "taken").mkdir()
    preferences(tmp_path / "p.jsonl")
    monkeypatch.setattr(load, "load_weights", lambda *_: pytest.fail("the model was loaded"))
    data = ["--records", "p.jsonl"]
    for out, says in (("taken", "it is a directory"), ("p.jsonl/e.json", "a part of that path is a file")):
        refused(kilter("eval", "heldout", "--model", tiny_model, *data, "--out", out), f"Cannot write {out}", says)
        refused(kilter("sample", "--model", tiny_model, "--prompts", "p.jsonl", "--out", out), f"Cannot write {out}")
        refused(kilter("data", "sampled-preferences", "--model", tiny_model, "--out", out), f"Cannot write {out}")
        refused(kilter("convert", "p.jsonl", out), f"Cannot write {out}")


def test_an_empty_name(kilter, tiny_model, tmp_path):
    demonstrations(tmp_path / "d.jsonl")
    refused(kilter("convert", "", "out.jsonl"), "The name of a file is empty")
    refused(kilter("sample", "--model", "", "--prompt", "a"), "The name of a model is empty")
    refused(train(kilter, tiny_model, ""), "The name of a file is empty")


def test_a_file_where_a_directory_is_due(kilter, tiny_model, tmp_path):
    demonstrations(tmp_path / "d.jsonl")
    (tmp_path / "out").write_text("here already")
    refused(train(kilter, tiny_model, "d.jsonl"), "out")
    assert (tmp_path / "out").read_text() == "here already"


def test_an_empty_file(kilter, tiny_model, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    refused(train(kilter, tiny_model, "empty.jsonl"), "empty.jsonl")


def test_every_third_line_broken(kilter, tiny_model, tmp_path):
    every_third_broken(demonstrations(tmp_path / "good.jsonl", 12), tmp_path / "third.jsonl")
    told = "4 lines could not be read, the first is line 3 of third.jsonl: not JSON: Unterminated string starting at "
    code, out, err = kilter("convert", "third.jsonl", "mended.jsonl")
    assert code == 0, err
    assert "8 records" in out
    assert told in out
    assert " at at " not in out
    sampled = ["sample", "--model", tiny_model, "--prompts", "third.jsonl", "--max-tokens", 2]
    measured = ["eval", "heldout", "--model", tiny_model, "--records", "third.jsonl"]
    for words in ([*sampled, "--out", "a.jsonl"], [*measured, "--out", "e.json", "--json"]):
        code, out, err = kilter(*words)
        assert code == 0, err
        assert told in err
    assert told in json.loads(out)["notes"][0]
    code, out, err = train(kilter, tiny_model, "third.jsonl", "--json")
    assert code == 0, err
    assert told in err
    assert told in json.loads(out)["notes"][0]
    code, out, err = kilter(*sampled)
    assert told in err
    assert out.count("> what is") == 8
    for name in ("mended.jsonl", "a.jsonl", "e.json", "out"):
        rejects = (tmp_path / f"{name}.rejects.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["line"] for line in rejects] == [3, 6, 9, 12]


def test_a_missing_column(kilter, tiny_model, tmp_path):
    lines(tmp_path / "columns.jsonl", [{"question_text": "a", "reply_text": "b"}] * 4)
    refused(train(kilter, tiny_model, "columns.jsonl"), "columns.jsonl")
    lines(tmp_path / "half.jsonl", [{"prompt": "a", "chosen": "b"}] * 4)
    refused(kilter("train", "dpo", "--model", tiny_model, "--data", "half.jsonl", "--out", "o"), "half.jsonl")


def test_an_option_of_the_wrong_type_or_name(kilter, tiny_model, tmp_path):
    demonstrations(tmp_path / "d.jsonl")
    refused(train(kilter, tiny_model, "d.jsonl", "--learning-rate", "fast"), "'learning_rate'", "'fast'")
    refused(train(kilter, tiny_model, "d.jsonl", "--learning-rte", "1"), "--learning-rate", code=2)
    refused(kilter("train", "sft", "--data", "d.jsonl"), "--model", code=2)
    refused(kilter("quickstart", "--set", "dpo.bta=1"), "Did you mean 'beta'?")
    refused(kilter("quickstart", "--set", "sed=1"), "Did you mean 'seed'?")
    refused(kilter("quickstart", "--seed", "1"), "--seeds", code=2)
    refused(kilter("sample", "--model", tiny_model, "--prompt", "a", "--n", "many"), "'--n'", code=2)
    world = ["data", "world-demonstrations", "--out", "w.jsonl"]
    refused(kilter(*world, "--n", -5), "Option 'n' of method 'world-demonstrations' is '-5'")
    refused(kilter(*world, "--careless", 2), "'careless'", "less than or equal to 1")
    refused(kilter("eval", "world", "--model", tiny_model, "--out", "e.json", "--n", 0), "Option 'n'")
    refused(train(kilter, tiny_model, "d.jsonl", "--learning-rate", "inf"), "'learning_rate'", "finite number")


def test_an_unknown_method_or_verb_offers_the_nearest(kilter):
    refused(kilter("show", "dpoo"), "Did you mean 'dpo'?")
    refused(kilter("train", "dpoo", "--help"), "Did you mean 'dpo'?")
    refused(kilter("eval", "wrld"), "Did you mean 'world'?")
    refused(kilter("methods", "trainin"), "Did you mean 'training'?")
    refused(kilter("quikstart"), "quickstart", code=2)


def test_an_unknown_model_without_a_network(kilter, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused(kilter("chat", "nobody/no-such-model"), "nobody/no-such-model")
    refused(kilter("chat", "kilter/nanoo"), "kilter/nano")
    refused(kilter("chat", "./no/such/folder"), "folder")


def test_a_half_written_checkpoint(kilter, tiny_model, tmp_path):
    half = half_written(tiny_model, tmp_path / "half")
    refused(kilter("sample", "--model", half, "--prompt", "a"), "half")
    (half / "model.safetensors").unlink()
    refused(kilter("sample", "--model", half, "--prompt", "a"), "half")


def test_a_file_that_may_not_be_read_or_written(kilter, tmp_path, monkeypatch):
    import os

    if os.geteuid() == 0:
        pytest.skip("root may read and write everything")
    (tmp_path / "closed.jsonl").write_text("{}")
    (tmp_path / "closed.jsonl").chmod(0)
    refused(kilter("convert", "closed.jsonl", "out.jsonl"), "closed.jsonl")


def test_an_unexpected_error_is_one_sentence_and_debug_shows_it(kilter, monkeypatch):
    from kilter import registry

    def broken(wing=None):
        raise RuntimeError("a fault of ours\nover two lines")

    monkeypatch.setattr(registry, "methods", broken)
    refused(kilter("methods"), "RuntimeError: a fault of ours over two lines", "--debug")
    code, _, err = kilter("methods", "--debug")
    assert code == 1
    assert "Traceback" in err


def test_ctrl_c_before_a_verb_has_begun(kilter, monkeypatch):
    from kilter.cli import entry

    def pressed(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_run", pressed)
    assert kilter("methods") == (130, "", "\nkilter: Stopped.\n")


def test_the_disk_is_full(kilter, tiny_model, small_recipe, tmp_path):
    """The limit of a file's size stands for the disk's: the system refuses the write half-way in the same manner."""
    limited = f"ulimit -f 24; exec {shlex.quote(sys.executable)} -m kilter.cli "
    words = ["run", str(small_recipe), "--out", str(tmp_path / "r")]
    done = subprocess.run(["bash", "-c", limited + shlex.join(words)], capture_output=True, text=True, cwd=tmp_path)
    refused((done.returncode, done.stdout, done.stderr), "Stage 'sft'")
    assert json.loads((tmp_path / "r" / "run.json").read_text())["stages"][0]["status"] == "done"
    code, out, err = kilter(*words)
    assert code == 0, err
    assert out.count("kept") == 1


def test_a_full_disk_in_other_libraries_words():
    import errno

    from kilter.cli.entry import sentence

    assert "disk is full" in sentence(OSError(errno.ENOSPC, "No space left on device", "x.bin"))
    assert "disk is full" in sentence(Exception("Error: I/O error: No space left on device (os error 28)"))


def test_show_of_a_name_that_several_wings_have_shows_each(kilter):
    code, out, err = kilter("show", "lima")
    assert code == 0, err
    assert out.startswith("data/lima\n")
    assert "\n\ntraining/lima\n" in out
    code, out, err = kilter("show", "lima", "--json")
    assert [page["wing"] for page in json.loads(out)] == ["data", "training"]
    code, out, err = kilter("show", "training/lima", "--json")
    assert json.loads(out)["wing"] == "training"
