"""Training by name, from files to a checkpoint; and what is said when the data do not fit the method."""

import inspect
import json
import math
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import kilter
from kilter import registry
from kilter.engine.loop import LoopOptions
from kilter.engine.turns import FALLBACK
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message
from kilter.training.course import course_of
from kilter.training.run import options_of, train
from small import demonstrations as files
from small import every_third_broken

FAST = {"steps": 3, "batch_size": 4, "max_length": 64, "log_every": 1, "learning_rate": 1e-2, "precision": "fp32"}


def demonstrations(count=6):
    talk = [Message("user", "what is the sky?"), Message("assistant", "it is blue.")]
    starts = [[Message("user", f"number {i}. hello"), Message("assistant", "yes?")] for i in range(count)]
    return [Demonstration([*start, *talk]) for start in starts]


def groups(count=6):
    return [Group([Message("user", f"is {i} blue?")], ["it is blue", "no"], scores=[1.0, 0.0]) for i in range(count)]


def test_sft_from_records_to_a_checkpoint(tiny_model, tmp_path):
    done = train("sft", model=tiny_model, data=demonstrations(), out=tmp_path, **FAST)
    assert done.steps == 3
    assert done.losses[-1] < done.losses[0]
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    assert tokenizer.chat_template
    assert len((tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_dpo_from_a_file_of_pairs(tiny_model, tmp_path, capfd):
    rows = [{"prompt": f"is {i} blue?", "chosen": "it is blue", "rejected": "no"} for i in range(5)]
    rows.append({"prompt": "same?", "chosen": "it is " * 40, "rejected": "no"})
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    done = train("dpo", model=str(tiny_model), data=file, out=tmp_path / "out", beta=0.2, **FAST)
    assert done.losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert done.losses[-1] < done.losses[0]
    assert done.notes == [
        "1 response left out (1 over 64 tokens).",
        "1 of 6 records give nothing to learn from and are left out.",
    ]
    assert capfd.readouterr().err == "\n".join(done.notes) + "\n"
    assert json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))["notes"] == done.notes


def test_what_the_template_refuses_is_told_apart_from_what_does_not_fit(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    tokenizer.chat_template = refusing + FALLBACK
    tokenizer.save_pretrained(model)
    data = demonstrations(4)
    told = [Message("system", "be good"), *data[0].messages]
    long = [*data[0].messages[:-1], Message("assistant", "it is blue. " * 100)]
    cut = [Message("user", "so it is. " * 100), *data[0].messages]
    records = [*data, Demonstration(told), Demonstration(long), Demonstration(cut)]
    done = train("sft", model=model, data=records, out=tmp_path / "out", **FAST | {"max_length": 128})
    assert done.notes == [
        "1 response left out (1 over 128 tokens).",
        "1 response left out (1 refused by the chat template: no system turn).",
        "1 prompt cut from the left to fit into 128 tokens.",
        "2 of 7 records give nothing to learn from and are left out.",
    ]
    with pytest.raises(KilterError, match=r"no system turn.*; give other data, or another chat template") as refused:
        train("sft", model=model, data=[Demonstration(told)], out=tmp_path / "none", **FAST)
    assert "max_length" not in str(refused.value)


def test_broken_lines_are_kept_beside_the_model(tiny_model, tmp_path):
    broken = every_third_broken(files(tmp_path / "good.jsonl", 12), tmp_path / "third.jsonl")
    done = train("sft", model=tiny_model, data=broken, out=tmp_path / "out", **FAST)
    assert "4 lines could not be read, the first is line 3" in done.notes[0]
    kept = (tmp_path / "out.rejects.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["line"] for line in kept] == [3, 6, 9, 12]
    # Records that were read by name know as well what was left out on the way.
    records = kilter.read(broken)
    again = train("sft", model=tiny_model, data=records, out=tmp_path / "again", **FAST)
    assert again.notes == records.notes
    assert again.losses == done.losses


def test_the_model_that_training_starts_from_is_not_trained_over(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    for more in ({}, {"overwrite": True}):
        with pytest.raises(KilterError, match="is the model that training starts from; choose another folder"):
            train("sft", model=model, data=demonstrations(), out=model, **FAST, **more)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_a_method_s_options_are_its_own_and_the_loop_s():
    schema = options_of(registry.find("dpo", "training"))
    assert set(schema.model_fields) == {"beta", "label_smoothing", "sft_weight", *LoopOptions.model_fields}
    assert all(field.description for field in schema.model_fields.values())
    assert schema().model_dump()["beta"] == 0.1


@pytest.mark.parametrize(
    ("method", "data", "options", "said"),
    [
        ("dpo", demonstrations(), {}, "no pair of a better and a worse response"),
        ("dpo", [Group([Message("user", "a")], ["b", "c"])], {}, "no pair of a better and a worse response"),
        ("sft", [], {}, "no demonstration"),
        ("dpo", groups(), {"max_length": 2}, "raise max_length"),
        ("dpo", groups(), {"betas": 1}, "Did you mean 'beta"),
        ("dpo", groups(), {"steps": "many"}, "Option 'steps'"),
        ("dop", groups(), {}, "Did you mean 'dpo'"),
    ],
)
def test_what_cannot_be_is_said_before_training_starts(tiny_model, tmp_path, method, data, options, said):
    with pytest.raises(KilterError, match=said):
        train(method, model=tiny_model, data=data, out=tmp_path / "out", **FAST | options)
    assert not (tmp_path / "out").exists()


def test_no_objective_has_an_option_by_the_name_of_one_of_the_loop_s():
    """Both would be given the same number: a ratio's clip and that of the gradients' norm."""
    for method in registry.methods("training"):
        if course_of(method.function) is None:
            own = set(inspect.signature(method.function).parameters)
            assert not own & set(LoopOptions.model_fields), method.id
