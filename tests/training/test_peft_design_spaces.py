"""The search for a design: what it may choose, that it keeps the best mean, and a whole one on a tiny model."""

import json
import random

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

import kilter
import tiny_llama
from kilter.engine.design import GROUPINGS, Design
from kilter.engine.scorer import Scorer
from kilter.errors import KilterError
from kilter.models.load import load_weights
from kilter.store import read_metrics
from kilter.training.peft_design_spaces import Space, best, refine, stages
from kilter.training.run import train
from small import demonstrations, make_model

LAYERS = 12
TARGET = Design.read("spindle:decreasing:-,A+L,B,P+B+L")


def test_the_stages_offer_what_the_paper_chooses_from():
    space = Space(4)
    offered = dict(stages(space, LAYERS))
    assert offered["grouping"] == list(GROUPINGS)
    assert offered["allocation"] == ["increasing", "uniform", "decreasing"]
    assert offered["tuned"] == ["1", "2", "3", "4", "1+2", "2+3", "3+4", "1+2+3", "2+3+4", "1+2+3+4"]
    space.tuned = frozenset({1, 3})
    offered = dict(stages(space, LAYERS))
    assert [name for name in offered if name.startswith("group ")] == ["group 2", "group 4"]
    assert len(set(offered["group 2"])) == 15
    # Four layers are grouped alike by all patterns: there is nothing to choose.
    assert dict(stages(Space(4), 4))["grouping"] == ["increasing"]
    with pytest.raises(KilterError, match="The model has 3 layers, too few for 4 groups"):
        list(stages(Space(4), 3))


def test_what_is_settled_stays_and_the_rest_is_drawn():
    space = Space(4, "spindle", None, frozenset({0, 2}), {0: frozenset("AL")})
    designs = [space.draw(LAYERS, random.Random(seed)) for seed in range(200)]
    assert {design.grouping for design in designs} == {"spindle"}
    assert {design.groups[0] for design in designs} == {frozenset("AL")}
    assert {design.groups[i] for design in designs for i in (1, 3)} == {frozenset()}
    assert len({design.groups[2] for design in designs}) == 15
    weights = [design.weights(LAYERS) for design in designs]
    assert all(1 <= weight <= 9 for own in weights for weight in own[:2])
    free = [Space(4).draw(LAYERS, random.Random(seed)) for seed in range(400)]
    assert {tuple(map(bool, design.groups)) for design in free} == {
        tuple(bool(number >> i & 1) for i in range(4)) for number in range(1, 16)
    }
    assert [str(design) for design in free] == [str(Design.read(str(design))) for design in free]


def test_the_best_mean_is_kept_of_equal_ones_the_first():
    assert best({"a": [1.0, 3.0], "b": [1.9, 1.9], "c": [0.0, 9.0]}) == "b"
    assert best({"a": [2.0], "b": [1.0, 3.0]}) == "a"


def planted(design, place):
    """How many choices differ from the planted ones, with a little noise."""
    off = (design.grouping != TARGET.grouping) + (design.allocation != TARGET.allocation)
    for own, wanted in zip(design.groups, TARGET.groups, strict=True):
        off += 2 * (bool(own) != bool(wanted)) + len(own ^ wanted) / 4
    return off + random.Random(str(design)).random() / 4


def test_a_planted_design_is_found():
    space, told = Space(4), {}

    def judge(design, place):
        told.setdefault((place["stage"], place["choice"]), []).append(planted(design, place))
        return told[place["stage"], place["choice"]][-1]

    how = {"layers": LAYERS, "samples": 40, "seed": 0, "suits": lambda design: True}
    for stage, choices in stages(space, LAYERS):
        line = refine(stage, choices, space, **how, judge=judge)
        means = {choice: sum(told[stage, choice]) / 40 for choice in choices}
        assert line["losses"] == pytest.approx(means)
        assert line["kept"] == min(means, key=means.get)
    # The runs of neighbours have 2+3+4, which is what the target tunes.
    assert str(space.design()) == str(TARGET)


def test_what_does_not_suit_or_diverged_counts_for_nothing():
    how = {"layers": LAYERS, "samples": 3, "seed": 0}
    space = Space(4)
    line = refine(
        "allocation",
        ["increasing", "uniform", "decreasing"],
        space,
        **how,
        suits=lambda design: design.allocation != "uniform",
        judge=lambda design, place: None if place == {**place, "choice": "increasing", "number": 1} else 1.0,
    )
    assert line["samples"] == {"increasing": 2, "decreasing": 3}
    assert space.allocation == "increasing"
    with pytest.raises(KilterError, match="Of the stage 'tuned' no design could be trained"):
        refine("tuned", ["1"], space, **how, suits=lambda design: True, judge=lambda design, place: None)


FEW = {
    "groups": 3,
    "samples": 1,
    "search_epochs": 0.3,
    "held_out": 0.25,
    "epochs": 4,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "design_budget": 0.2,
    "max_length": 64,
    "precision": "fp32",
    "compile": "off",
}


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    """A finished search on a llama of five layers."""
    folder = tmp_path_factory.mktemp("search")
    make_model(folder / "tiny")
    torch.manual_seed(0)
    larger = {"vocab_size": 300, "num_hidden_layers": 5, "max_position_embeddings": 256}
    LlamaForCausalLM(tiny_llama.config(**larger, bos_token_id=0, eos_token_id=1)).save_pretrained(folder / "tiny")
    data = demonstrations(folder / "talks.jsonl")
    given = {"model": folder / "tiny", "data": data, "out": folder / "out", **FEW}
    notes = []
    return train("peft-design-spaces", say=notes.extend, **given), given, notes


def test_a_search_finds_a_design_and_trains_it(search):
    done, _, _ = search
    told = json.loads((done.out / "design.json").read_text(encoding="utf-8"))
    ledger = read_metrics(done.out / "ledger.jsonl")
    design = Design.read(told["design"])
    assert abs(told["parameters"] - told["budget"]) <= 0.05 * told["budget"]  # sizes are coarse in so small a model
    for stage in told["stages"]:
        assert stage["losses"][stage["kept"]] == min(stage["losses"].values())
    assert told["stages"][0]["kept"] == design.grouping
    assert told["stages"][1]["kept"] == design.allocation
    assert told["stages"][2]["kept"] == "+".join(str(i + 1) for i, own in enumerate(design.groups) if own)
    for stage in told["stages"][3:]:
        assert set(stage["kept"].split("+")) == design.groups[int(stage["stage"].split()[1]) - 1]
    # Every design once, and what the ledger says is what was kept.
    assert len({line["design"] for line in ledger}) == len(ledger)
    known = {(line["stage"], line["choice"], line["number"]): line["loss"] for line in ledger}
    first = told["stages"][0]["losses"]
    assert known == known | {("grouping", choice, 0): loss for choice, loss in first.items()}
    assert not (done.out / "trial").exists()
    assert told["loss"] < told["base_loss"]
    assert any(note.startswith(f"Found {design}") for note in done.notes)


def test_the_model_of_a_search_is_the_design_that_it_found(search):
    done, _, _ = search
    told = json.loads((done.out / "design.json").read_text(encoding="utf-8"))
    kept = load_file(done.out / "adapter_model.safetensors")
    assert sum(value.numel() for value in kept.values()) == told["parameters"]
    model, _ = load_weights(str(done.out))
    assert model.design == told["design"]
    assert model.sizes == told["sizes"]
    assert Scorer(model).ragged
    [one], [two] = (kilter.score(str(done.out / name), ["what is 1 + 1?"], ["it is 2."]) for name in ("", "found"))
    assert one == two
    assert kilter.sample(str(done.out), ["what is 1 + 1?"], max_tokens=3)


def test_a_search_that_was_stopped_goes_on_from_its_ledger(search, tmp_path):
    done, given, _ = search
    assert train("peft-design-spaces", **given).kept
    ledger = (done.out / "ledger.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "out").mkdir()
    marked = [json.loads(line) for line in ledger]
    # What is known is not trained again, even where it says what training would not; a torn line is.
    kept = json.loads((done.out / "design.json").read_text(encoding="utf-8"))["stages"][0]["kept"]
    next(line for line in marked if line["choice"] == kept)["loss"] = 0.0
    text = "".join(json.dumps(line) + "\n" for line in marked[:-1]) + ledger[-1][:20]
    (tmp_path / "out" / "ledger.jsonl").write_text(text, encoding="utf-8")
    again = train("peft-design-spaces", **given | {"out": tmp_path / "out"})
    found = [json.loads((each.out / "design.json").read_text(encoding="utf-8")) for each in (done, again)]
    assert found[1]["stages"][0]["losses"][kept] == 0.0
    assert found[1]["stages"][1:] == found[0]["stages"][1:]
    assert found[1]["loss"] == found[0]["loss"]
    assert read_metrics(again.out / "ledger.jsonl")[:-1] == marked[:-1]


def test_what_cannot_be_searched_for_is_refused(search, tmp_path):
    _, given, _ = search
    for setting, said in (
        ({"adapter": "lora"}, "adapter is lora, and what is looked for here is a design"),
        ({"design": "spindle:A,A,A"}, "design is what is looked for here"),
        ({"merge": True}, "merge has no place"),
        ({"groups": 6}, "The model has 5 layers, too few for 6 groups"),
        ({"design_budget": 1e-4}, "Of the stage 'grouping' no design could be trained"),
        ({"learning_rate": 1e30, "clip": 0.0}, "Of the stage 'grouping' no design could be trained"),
    ):
        with pytest.raises(KilterError, match=said):
            train("peft-design-spaces", **given | {"out": tmp_path / "out"} | setting)
