"""Processes that were started to share the weights out are refused before anything is trained."""

import pytest

from kilter.engine.loop import LoopOptions, train
from kilter.errors import KilterError
from kilter.training.sft import sft
from tiny_models import make, some_trees


@pytest.mark.parametrize(
    ("variable", "name"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")]
)
def test_sharded_weights_are_refused_in_a_sentence(tmp_path, monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(KilterError, match=f"started for {name}.*start them with torchrun"):
        train(make(), some_trees(), sft, LoopOptions(steps=1), tmp_path / "out")
    assert not list((tmp_path / "out").glob("state-*"))
