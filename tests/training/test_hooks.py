"""What an objective may ask of the driver beside records: other records made of them, completed trees, defaults."""

import json
from dataclasses import replace

import pytest

from kilter import registry
from kilter.engine.loss import Loss
from kilter.errors import KilterError
from kilter.records import Demonstration, Group, Message
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.run import options_of, train

SEEN = {}


def _chosen(records, tokenizer, *, shout: bool = False):
    SEEN["tokenizer"] = tokenizer
    best = [(group.prompt, group.responses[group.pairs()[0][0]]) for group in records]
    made = [Demonstration([*p, Message("assistant", r.upper() if shout else r)]) for p, r in best]
    return made[1:], ["The first is left out."]


def _halved(trees, *, share: float = 0.5):
    SEEN["trees"] = trees
    kept = [[t < share * len(mask) for t in range(len(mask))] for tree in trees for mask in tree.masks]
    return [replace(tree, masks=[mask]) for tree, mask in zip(trees, kept, strict=True)]


@pytest.fixture
def hooked(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    @method("hooked", wing="training", paper="arXiv:0000.00000")
    @learns_from("pairs", becomes="demonstrations", records=_chosen, trees=_halved, epochs=3, weight_decay=0.25)
    def hooked(policy, group, *, weight: float = 1.0):
        """Imitates a part of what is better.

        Options:
            weight: of everything
            shout: in capitals
            share: of the tokens
        """
        SEEN["lengths"] = policy.lengths
        return Loss(-weight * policy.sum(), policy.lengths)

    return registry.find("hooked", "training")


FAST = {"batch_size": 4, "max_length": 64, "log_every": 1, "precision": "fp32", "checkpoint_every": 0}


def groups(count):
    return [Group([Message("user", f"is {i} blue?")], ["it is blue", "no"], scores=[1.0, 0.0]) for i in range(count)]


def test_records_and_trees_are_made_by_the_method(tiny_model, tmp_path, hooked):
    done = train("hooked", model=tiny_model, data=groups(5), out=tmp_path / "out", share=0.25, shout=True, **FAST)
    assert done.notes[0] == "The first is left out."
    assert done.steps == 3  # epochs of the method's own default, four records a step
    assert len(SEEN["trees"]) == 4
    assert all(SEEN["lengths"] == len(SEEN["trees"][0].responses[0]) // 4)
    assert "IT IS BLUE" in SEEN["tokenizer"].decode(SEEN["trees"][0].responses[0])
    told = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))["options"]
    assert told | {"shout": True, "share": 0.25, "weight": 1.0, "weight_decay": 0.25} == told


def test_another_preparation_is_another_run(tiny_model, tmp_path, hooked):
    train("hooked", model=tiny_model, data=groups(5), out=tmp_path / "out", **FAST)
    with pytest.raises(KilterError, match="shout is False there and True here"):
        train("hooked", model=tiny_model, data=groups(5), out=tmp_path / "out", shout=True, **FAST)


def test_options_of_hooks_are_the_method_s(hooked):
    fields = options_of(hooked).model_fields
    assert [fields[name].description for name in ("weight", "shout", "share")] == [
        "of everything",
        "in capitals",
        "of the tokens",
    ]
    assert (fields["epochs"].default, fields["weight_decay"].default) == (3, 0.25)
    assert options_of(registry.find("sft", "training")).model_fields["epochs"].default == 1
