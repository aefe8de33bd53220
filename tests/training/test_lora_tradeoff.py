"""All weights or an adapter: what the table says, and the paper's orderings, in the token world."""

import json

import pytest

from kilter import formats
from kilter.errors import KilterError
from kilter.models.load import load_weights
from kilter.records import Demonstration, Message
from kilter.training.lora_tradeoff import compared, split
from kilter.training.run import train
from worlds.tokens import TokenWorld

STUDY = {
    "learning_rate": 1e-2,
    "adapter_learning_rate": 1e-2,
    "batch_size": 16,
    "adapter_batch_size": 16,
    "epochs": 3,
    "adapter_epochs": 3,
    "adapter_warmup": 0.03,
    "adapter_rank": 2,
    "adapter_dropout": 0.0,
    "few": 0.25,
    "held_out": 0.2,
    "precision": "fp32",
    "max_length": 16,
    "checkpoint_every": 0,
    "compile": "off",
}


def told(world, numbers, prompt="x"):
    return [
        Demonstration([Message("user", prompt), Message("assistant", world.text(n))]) for n in map(int, numbers) if n
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A finished study of a token world: demonstrations of another model's answers, and a domain of a third one's."""
    folder = tmp_path_factory.mktemp("study")
    world = TokenWorld(words=5, length=3)
    start = world.save(folder / "start", world.model(seed=1, scale=2.0))
    teacher, other = world.model(seed=7, scale=6.0), world.model(seed=8, scale=6.0)
    data = [r for p in "xy" for r in told(world, world.sample(teacher, 300, p, seed=1), p)]
    formats.write(told(world, world.sample(other, 80, seed=2)), folder / "domain.jsonl")
    larger = world.save(folder / "larger", world.model(seed=2, scale=2.0))
    notes = []
    options = {**STUDY, "larger": str(larger), "further": str(folder / "domain.jsonl"), "feedback": "contains:a"}
    given = {"model": start, "data": data, "out": folder / "out", "say": notes.extend, **options}
    done = train("lora-tradeoff", **given)
    table = json.loads((folder / "out" / "tradeoff.json").read_text(encoding="utf-8"))
    return done, {row["run"]: row for row in table["runs"]}, table["compared"], given


def test_the_table_says_score_parameters_and_time_of_every_model(study):
    done, rows, _, _ = study
    names = ["full-little", "full-much", "adapter-little", "adapter-much", "adapter-larger"]
    assert list(rows) == ["base", "base-larger", *names, "full-then-full", "full-then-adapter"]
    for name in names:
        row = rows[name]
        assert {"loss", "further_loss", "reward", "trained", "added", "bytes", "tokens"} <= row.keys()
        assert row["seconds_an_epoch"] > 0
        assert row["epochs"] == pytest.approx(3, abs=0.3)
    weights, _ = load_weights(str(done.out / "full-much"))
    assert rows["full-much"]["trained"] == sum(p.numel() for p in weights.parameters())
    assert rows["full-much"]["added"] == 0
    # Rank 2 on queries and values of two layers, 32 wide: r (in + out) each.
    assert rows["adapter-much"]["added"] == 2 * 2 * 2 * (32 + 32)
    much = rows["full-much"]["records"]
    assert [rows[name]["records"] for name in names] == [round(much / 4), much] * 2 + [round(much / 4)]
    assert rows["full-then-adapter"]["model"] == "full-much"
    for name in [*names, "full-then-full", "full-then-adapter"]:
        load_weights(str(done.out / name))


def test_all_weights_lose_less_on_the_same_data_and_the_gap_closes_on_a_tuned_model(study):
    _, rows, lines, _ = study
    assert rows["full-much"]["loss"] < rows["adapter-much"]["loss"] < rows["base"]["loss"]
    assert rows["full-much"]["loss"] < rows["full-little"]["loss"]
    assert rows["adapter-much"]["loss"] < rows["adapter-little"]["loss"]
    first, second, third = lines
    assert second["loss"] == pytest.approx(rows["adapter-much"]["loss"] - rows["full-much"]["loss"])
    assert 0 < second["kept"] < 1
    assert second["needs"]["trained"] < 0.05
    assert third["adapter"] == "full-then-adapter"
    assert first["full"] == "full-little"


def test_the_folder_itself_is_the_best_and_a_finished_study_is_kept(study):
    done, rows, _, given = study
    assert done.steps == 7
    assert any("adapter-much loses" in note for note in done.notes)
    best = min((row for name, row in rows.items() if not name.startswith("base")), key=lambda row: row["loss"])
    own, _ = load_weights(str(done.out))
    other, _ = load_weights(str(done.out / best["run"]))
    assert all(a.equal(b) for a, b in zip(own.parameters(), other.parameters(), strict=True))
    assert train("lora-tradeoff", **given).kept


def test_what_cannot_be_compared_is_refused(study, tmp_path):
    _, _, _, given = study
    with pytest.raises(KilterError, match="adapter is none"):
        train("lora-tradeoff", **given | {"out": tmp_path / "a", "adapter": "none"})
    with pytest.raises(KilterError, match="leaves no adapter"):
        train("lora-tradeoff", **given | {"out": tmp_path / "b", "merge": True})
    with pytest.raises(KilterError, match="2 demonstrations are too few"):
        split([1, 2], 0.1, 0)


def test_where_all_weights_gained_nothing_there_is_no_share_of_it():
    costs = {"trained": 1, "bytes": 1, "seconds_an_epoch": 1.0}
    rows = [{"run": name, "loss": 1.0, **costs} for name in ("base", "full-little", "adapter-little")]
    assert [line["kept"] for line in compared(rows)] == [None]
