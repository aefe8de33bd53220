"""A recipe is checked whole before its first stage runs."""

import json

import pytest

from kilter.errors import KilterError
from kilter.recipe.plan import check_literals, plan
from kilter.recipe.resolve import resolve
from small import demonstrations, half_written, lines


def planned(recipe, overrides=None, change=lambda stages: None):
    import yaml

    raw = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    change(raw["stages"])
    steps = plan(resolve(raw, overrides))
    check_literals(steps)
    return steps


def test_a_plan_tells_stages_from_files_and_completes_options(small_recipe):
    more, sft, dpo, held = planned(small_recipe, {"seed": 5})
    assert (more.options["n"], more.options["seed"]) == (24, 5)
    assert sft.options["seed"] == 5
    assert sft.options["learning_rate"] > 0
    assert not sft.models["model"].stage
    assert dpo.models["model"].stage
    assert list(held.models) == ["base", "sft", "dpo"]


@pytest.mark.parametrize(
    ("report", "says"),
    [
        ({"baseline": "bsae"}, "The report's baseline names the model 'bsae', which no stage measures. Did you mean"),
        (
            {"targets": {"loss": [{"minimum": 1}, {"model": "x", "minimum": 1}]}},
            "target of 'loss' names the model 'x', which no stage measures. Measured are: base, sft, dpo.",
        ),
    ],
)
def test_a_report_on_models_that_are_not_measured_is_refused_before_anything_runs(small_recipe, report, says):
    import yaml

    raw = yaml.safe_load(small_recipe.read_text(encoding="utf-8"))
    with pytest.raises(KilterError) as caught:
        plan(resolve({**raw, "report": report}))
    assert says in str(caught.value)
    assert plan(resolve({**raw, "report": {"baseline": "sft"}}))


def test_a_seed_that_a_stage_sets_is_its_own(small_recipe):
    assert planned(small_recipe, {"seed": 5, "sft.seed": 9})[1].options["seed"] == 9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["dpo"].update(train="dpoo"), "Stage 'dpo': Unknown training method 'dpoo'. Did you mean 'dpo'?"),
        (lambda s: s["sft"]["options"].update(epohcs=1), "'epohcs' for method 'sft'. Did you mean 'epochs'?"),
        (lambda s: s["sft"]["options"].update(steps="few"), "Stage 'sft': Option 'steps' of method 'sft' is 'few'"),
        (lambda s: s["sft"].update(model="dpo"), "reads 'dpo', which does not run before it; move 'dpo' up."),
        (lambda s: s["dpo"].update(model="more"), "reads 'more' as a model, but that stage makes records; name"),
        (lambda s: s["dpo"].update(records="sft"), "reads 'sft' as records, but that stage makes a model"),
        (lambda s: s["dpo"].update(model="stf"), "which no earlier stage is called. Did you mean 'sft'?"),
        (lambda s: s["dpo"].pop("model"), "Stage 'dpo': method 'dpo' reads model; add 'model: NAME' to the stage."),
        (lambda s: s["dpo"].pop("records"), "Stage 'dpo': method 'dpo' reads records; add 'records: NAME'"),
        (lambda s: s["held"].pop("models"), "reads model; add 'models: {LABEL: MODEL}'"),
        (lambda s: s["more"].update(records="x.jsonl"), "Stage 'more': method 'world-demonstrations' reads no records"),
        (lambda s: s["sft"].update(records="/none/there.jsonl"), "there.jsonl"),
        (lambda s: s["sft"].update(model="/none/model"), "Stage 'sft': There is no model '/none/model'"),
    ],
)  # fmt: skip
def test_what_could_not_work_is_refused(small_recipe, change, says):
    with pytest.raises(KilterError) as caught:
        planned(small_recipe, change=change)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_are_read_before_the_first_stage(small_recipe, tmp_path):
    for name, rows in (("empty", []), ("columns", [{"question_text": "a", "reply": "b"}] * 4)):
        bad = lines(tmp_path / f"{name}.jsonl", rows)
        with pytest.raises(KilterError) as caught:
            planned(small_recipe, {"demonstrations": str(bad)})
        assert bad.name in str(caught.value)


def test_preferences_where_demonstrations_are_due_and_the_reverse(small_recipe, tmp_path):
    with pytest.raises(KilterError, match="demonstrations"):
        planned(small_recipe, {"dpo.records": str(demonstrations(tmp_path / "d.jsonl"))})


def test_a_half_written_checkpoint_is_refused(small_recipe, tiny_model, tmp_path):
    half = half_written(tiny_model, tmp_path / "half")
    with pytest.raises(KilterError, match="half"):
        planned(small_recipe, {"model": str(half)})
    config = json.loads((tiny_model / "config.json").read_text())
    (half / "config.json").write_text(json.dumps(config)[:40])
    with pytest.raises(KilterError, match="half"):
        planned(small_recipe, {"model": str(half)})
