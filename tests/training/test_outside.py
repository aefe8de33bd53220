"""An objective from a package of its own: the very block that CONTRIBUTING.md shows, found through its entry point."""

import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch

import kilter
from kilter import registry
from kilter.cli import main
from kilter.errors import KilterError
from kilter.records import Group, Message
from worlds.bandit import as_groups, as_responses

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Put the package `anchored`, as pip would install it, on the path, and take it away again afterwards."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    [code] = [block for block in blocks if '@method("apo-zero"' in block]
    site = tmp_path / "site"
    told = site / "anchored-1.0.dist-info"
    told.mkdir(parents=True)
    (site / "anchored.py").write_text(code, encoding="utf-8")
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: anchored\nVersion: 1.0\n", encoding="utf-8")
    (told / "entry_points.txt").write_text("[kilter.methods]\nanchored = anchored\n", encoding="utf-8")
    registry.methods()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.syspath_prepend(str(site))
    sys.modules.pop("anchored", None)  # an import enters it once only
    registry._load.cache_clear()
    yield code
    registry._load.cache_clear()


def test_a_page_is_enough_for_an_objective(outside):
    assert len(outside.splitlines()) < 60
    found = registry.find("apo-zero", "training")
    assert found.function.__module__ == "anchored"
    assert found.options["beta"].default == 0.1
    policy, reference = as_responses(torch.tensor([-1.0, -2.0])), as_responses(torch.tensor([-2.0, -1.0]))
    loss = found(policy, reference, as_groups(pairs=[(0, 1)]), beta=0.5)
    assert loss.per_example.item() == pytest.approx(1 - 1 / (1 + math.exp(-0.5)) + 1 / (1 + math.exp(0.5)))


def test_it_is_trained_listed_shown_and_checked_like_one_of_ours(outside, tiny_model, tmp_path, capsys):
    groups = [Group([Message("user", f"is {i} blue?")], ["it is blue", "no"], scores=[1.0, 0.0]) for i in range(4)]
    told = {"steps": 2, "batch_size": 4, "max_length": 64, "precision": "fp32", "learning_rate": 1e-2, "log_every": 1}
    done = kilter.train("apo-zero", model=str(tiny_model), data=groups, out=str(tmp_path / "out"), beta=0.5, **told)
    assert done.losses[0] == pytest.approx(1.0, abs=1e-6)
    assert done.losses[1] < done.losses[0]
    assert "reward_margin" in json.loads(
        (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0]
    )
    with pytest.raises(KilterError, match="Did you mean 'beta"):
        kilter.train("apo-zero", model=str(tiny_model), data=groups, out=str(tmp_path / "no"), bta=0.5, **told)
    with pytest.raises(KilterError, match="no pair of a better and a worse response"):
        kilter.train("apo-zero", model=str(tiny_model), data=[Group(groups[0].prompt, ["a"])], out="x")
    for words, said in ((["methods", "training", "--json"], '"apo-zero"'), (["show", "apo-zero"], "D'Oosterlinck")):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert not stop.value.code
        assert said in capsys.readouterr().out
