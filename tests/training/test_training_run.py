"""Training by name, from files to a checkpoint; and what is said when the data do not fit the method."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kilter import registry
from kilter.engine.loop import LoopOptions
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message
from kilter.training.run import options_of, train

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
    assert "left out" in capfd.readouterr().err


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
