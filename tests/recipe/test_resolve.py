"""From a file and --set to the recipe that runs; every slip gives one sentence with the nearest known key."""

import json

import pytest
import yaml

from kilter.errors import KilterError
from kilter.recipe.resolve import parse, resolve, shipped
from kilter.recipe.schema import json_schema

PLAIN = {
    "name": "plain",
    "inputs": {"model": "kilter/nano", "count": 30, "file": "a.jsonl"},
    "stages": {
        "made": {"data": "world-demonstrations", "options": {"n": "${count}"}},
        "sft": {"train": "sft", "model": "${model}", "records": "made"},
        "check": {"eval": "world", "models": {"base": "${model}", "sft": "sft"}},
    },
}


def test_inputs_are_filled_in_with_their_own_type():
    found = resolve(PLAIN)
    assert found.stages["made"].options == {"n": 30}
    assert found.stages["sft"].model == "kilter/nano"
    assert found.stages["check"].models == {"base": "kilter/nano", "sft": "sft"}


def test_an_input_within_a_text_is_filled_in_as_text():
    plain = {**PLAIN, "stages": {"sft": {"train": "sft", "model": "runs/${count}/sft", "records": "made.jsonl"}}}
    assert resolve(plain).stages["sft"].model == "runs/30/sft"


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("seed", 3, lambda r: r.seed),
        ("model", "other", lambda r: r.stages["sft"].model),
        ("inputs.model", "other", lambda r: r.stages["check"].models["base"]),
        ("model", 2024, lambda r: int(r.stages["sft"].model)),
        ("sft.learning_rate", 0.5, lambda r: r.stages["sft"].options["learning_rate"]),
        ("sft.records", "b.jsonl", lambda r: r.stages["sft"].records),
        ("stages.sft.options.epochs", 2, lambda r: r.stages["sft"].options["epochs"]),
        ("stages.check.models.base", "x/y", lambda r: r.stages["check"].models["base"]),
        ("check.models.more", "x/y", lambda r: r.stages["check"].models["more"]),
        ("made.n", 7, lambda r: r.stages["made"].options["n"]),
        ("report.samples", 2, lambda r: r.report.samples),
    ],
)
def test_set_overrides(key, value, read):
    assert read(resolve(PLAIN, {key: value})) == value


def test_an_unknown_method_is_named_with_its_stage_whatever_else_is_wrong():
    with pytest.raises(KilterError, match=r"Stage 'b': Unknown training method 'dpoo'\. Did you mean 'dpo'"):
        resolve(
            PLAIN | {"stages": PLAIN["stages"] | {"b": {"train": "dpoo", "model": "m", "records": "r"}}}, {"nothing": 1}
        )


def test_the_recipe_that_was_given_stays_as_it_was():
    before = json.dumps(PLAIN)
    resolve(PLAIN, {"sft.epochs": 3, "model": "x"})
    assert json.dumps(PLAIN) == before


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("sed", "Did you mean 'seed'?"),
        ("modl", "Did you mean 'model'?"),
        ("stf.learning_rate", "Did you mean 'sft.learning_rate'?"),
        ("qqqqqq", "It has the inputs model, count, file and 'seed'"),
    ],
)
def test_an_unknown_key_offers_the_nearest(key, says):
    with pytest.raises(KilterError) as caught:
        resolve(PLAIN, {key: 1})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stagse": {}}, "has an unknown key 'stagse'. Did you mean 'stages'?"),
        ({"stages": {"sft": {"trian": "sft"}}}, "has an unknown key 'stages.sft.trian'. Did you mean 'train'?"),
        ({"stages": {"sft": {}}}, "a stage names one method"),
        ({"stages": {"sft": {"train": "sft", "eval": "world"}}}, "a stage names one method"),
        ({"stages": {"sft": {"train": "sft", "models": {"a": "b"}}}}, "'models:' belongs to an eval stage"),
        ({"stages": {"a/b": {"train": "sft"}}}, "has the name 'a/b' at 'stages.a/b'"),
        ({"stages": {}}, "wrong at 'stages'"),
        ({"seed": "many"}, "wrong at 'seed'"),
        ({"report": {"sampels": 3}}, "unknown key 'report.sampels'. Did you mean 'samples'?"),
        (
            {"inputs": {"model": None, "count": 1, "file": None}},
            "needs model and file; add --set model=VALUE --set file=VALUE to the command.",
        ),
        (
            {"inputs": {"modle": "x", "count": 1}},
            "reads '${model}', which is not one of its inputs. Did you mean 'modle'?",
        ),
    ],
)
def test_a_slip_in_the_file_gives_one_sentence(change, says):
    with pytest.raises(KilterError) as caught:
        resolve({**PLAIN, **change})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named():
    with pytest.raises(KilterError, match="lacks 'name'"):
        resolve({"stages": PLAIN["stages"]})


@pytest.mark.parametrize("content", ["- a\n- b\n", "just words", ""])
def test_yaml_that_is_no_recipe(tmp_path, content):
    (tmp_path / "r.yaml").write_text(content)
    with pytest.raises(KilterError, match="is not a recipe"):
        resolve(tmp_path / "r.yaml")


def test_a_file_that_is_no_yaml_names_the_line(tmp_path):
    (tmp_path / "r.yaml").write_text("name: a\nstages:\n  x: [1, 2\nseed: 1\n")
    with pytest.raises(KilterError, match=r"r\.yaml is not YAML at line 4"):
        resolve(tmp_path / "r.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(KilterError, match="not a YAML text"):
        resolve(tmp_path / "b.yaml")


def test_recipes_are_found_by_path_and_by_name(tmp_path):
    assert {"quickstart", "hh"} <= set(shipped())
    assert resolve("quickstart").name == "quickstart"
    with pytest.raises(KilterError, match=r"No recipe is called 'quickstrat'.* Did you mean 'quickstart'"):
        resolve("quickstrat")
    with pytest.raises(KilterError, match="does not exist"):
        resolve(tmp_path / "none.yaml")
    with pytest.raises(KilterError, match="is a folder where a recipe's file is due"):
        resolve(tmp_path)


def test_hh_asks_for_its_files():
    with pytest.raises(KilterError, match="needs demonstrations, preferences and test; add --set demon"):
        resolve("hh")


def test_files_beside_the_recipe_are_found(tmp_path, monkeypatch):
    (tmp_path / "data.jsonl").write_text("{}")
    plain = {**PLAIN, "stages": {"sft": {"train": "sft", "model": "kilter/nano", "records": "data.jsonl"}}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(plain))
    assert resolve(tmp_path / "r.yaml").stages["sft"].records == str(tmp_path / "data.jsonl")
    monkeypatch.chdir(tmp_path)
    assert resolve("r.yaml").stages["sft"].records == "data.jsonl"


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=0.5", 0.5), ("a=true", True), ("a=", ""), ("a=null", None), ("a=x: y", "x: y"), ("a=@b", "@b"),
     ("a=2024-01-01", "2024-01-01"), ("a=[1, 2]", [1, 2]), ("a=http://h:1/v1#m", "http://h:1/v1#m"), ("a=b=c", "b=c")],
)  # fmt: skip
def test_values_of_the_command_line(text, value):
    assert parse(text) == ("a", value)


def test_an_assignment_needs_an_equals_sign():
    with pytest.raises(KilterError, match="has no '='"):
        parse("seed")


def test_the_json_schema_knows_methods_and_their_options():
    schema = json_schema()
    stage = schema["$defs"]["Stage"]
    assert "dpo" in stage["properties"]["train"]["enum"]
    [rule] = [r for r in stage["allOf"] if r["if"]["properties"] == {"train": {"const": "dpo"}}]
    options = rule["then"]["properties"]["options"]
    assert options["additionalProperties"] is False
    assert {"learning_rate", "epochs", "beta"} <= set(options["properties"])
    json.dumps(schema)
