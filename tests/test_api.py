"""The same names from Python as on the command line."""

import asyncio
import math
import subprocess
import sys

import pytest

import kilter
from kilter.records import Message, Prompt
from small import demonstrations, every_third_broken, lines, preferences


def test_importing_kilter_is_quick_and_offers_the_names():
    code = "import sys, kilter; print('torch' in sys.modules, 'pydantic' in sys.modules, sorted(kilter.__all__))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.startswith("False False")
    for name in (
        "methods",
        "load",
        "sample",
        "score",
        "train",
        "evaluate",
        "run",
        "read",
        "KilterError",
        "__version__",
    ):
        assert f"'{name}'" in out
        assert getattr(kilter, name)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        kilter.trian  # noqa: B018


def test_sample_takes_texts_messages_and_prompts(tiny_model):
    model = kilter.load(str(tiny_model))
    prompts = ["hello", [{"role": "user", "content": "hello"}], Prompt([Message("user", "hello")])]
    answers = kilter.sample(model, prompts, max_tokens=5)
    assert len(answers) == 3
    assert answers[0] == answers[1] == answers[2]
    assert len(kilter.sample(model, ["hello"], n=3, max_tokens=5, seed=1)[0]) == 3
    assert kilter.sample(str(tiny_model), ["hello"], max_tokens=5) == answers[:1]


def test_score_gives_the_log_prob_of_each_token(tiny_model):
    [first, second] = kilter.score(str(tiny_model), ["hello", "what?"], ["it is blue.", "no"])
    assert len(first) > len(second) > 0
    assert all(-20 < value < 0 and math.isfinite(value) for value in first)
    with pytest.raises(kilter.KilterError, match="2 prompts and 1 responses"):
        kilter.score(str(tiny_model), ["a", "b"], ["c"])


def test_what_could_not_be_read_is_told_and_kept(tmp_path, capsys):
    broken = every_third_broken(preferences(tmp_path / "p.jsonl", 12), tmp_path / "third.jsonl")
    records = kilter.read(broken, rejects=tmp_path / "rejects.jsonl")
    assert (len(records), records.rejected, records.shape) == (8, 4, "trl-preference")
    assert records[0].responses[0] == "it is 1."
    [note] = records.notes
    assert "4 lines could not be read, the first is line 3" in note
    assert capsys.readouterr().err == note + "\n"
    assert len((tmp_path / "rejects.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    prompts = kilter.read(broken, want="prompts")
    assert [type(record) for record in prompts] == [Prompt] * 8
    assert "only the prompt is kept" in prompts.notes[1]


def test_an_evaluation_knows_what_of_its_records_was_left_out(tiny_model, tmp_path):
    broken = every_third_broken(preferences(tmp_path / "p.jsonl", 6), tmp_path / "third.jsonl")
    found = kilter.evaluate("heldout", model=tiny_model, records=broken, rejects=tmp_path / "rejects.jsonl")
    assert found.measures["loss"].n == 4
    assert "2 lines could not be read" in found.notes[0]
    assert len((tmp_path / "rejects.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_prompts_that_are_cut_are_told_with_their_number(tiny_model, tmp_path, capsys):
    long = "it is blue. " * 200
    model = kilter.load(str(tiny_model))
    for _ in range(2):
        kilter.sample(model, [long, "hello", "long " + long], max_tokens=2)
        told = "2 prompts were cut from the left: the model has too few positions for all of it and an answer.\n"
        assert capsys.readouterr().err == told
    kilter.sample(model, ["hello"], max_tokens=2)
    assert capsys.readouterr().err == ""
    rows = [{"prompt": text, "chosen": "yes", "rejected": "no"} for text in (long, "hello")]
    found = kilter.evaluate("heldout", model=model, records=lines(tmp_path / "long.jsonl", rows))
    assert [note[:30] for note in found.notes] == ["1 prompt was cut from the left"]
    assert found.tokens > 256


def test_train_and_evaluate(tiny_model, tmp_path):
    records = kilter.read(demonstrations(tmp_path / "d.jsonl"))
    assert len(records) == 16
    done = kilter.train("sft", model=tiny_model, data=records, out=tmp_path / "m", steps=2, max_length=128)
    assert done.steps == 2
    found = kilter.evaluate("heldout", model=tmp_path / "m", records=preferences(tmp_path / "p.jsonl"))
    assert found.measures
    with pytest.raises(kilter.KilterError, match="Method 'heldout' reads records"):
        kilter.evaluate("heldout", model=tmp_path / "m")
    with pytest.raises(kilter.KilterError, match="Did you mean 'learning_rate'"):
        kilter.train("sft", model=tiny_model, data=records, out=tmp_path / "n", learning_rte=1)


def test_run(small_recipe, tmp_path):
    page = kilter.run(small_recipe, set={"sft.steps": 1, "dpo.steps": 1}, out=tmp_path / "r")
    assert page == tmp_path / "r" / "report.html"


def test_it_works_where_a_loop_already_runs(tiny_model):
    async def notebook():
        return kilter.sample(str(tiny_model), ["hello"], max_tokens=3)

    assert len(asyncio.run(notebook())) == 1


def test_an_unknown_sampling_setting_offers_the_nearest(tiny_model):
    with pytest.raises(kilter.KilterError, match="Did you mean 'temperature'"):
        kilter.sample(str(tiny_model), ["a"], temprature=1)
