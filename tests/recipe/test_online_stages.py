"""Online training as a stage: its prompts, its feedback, and a reward model that an earlier stage trained."""

import json

import pytest
import yaml

from kilter.cli import main
from kilter.errors import KilterError
from kilter.recipe.plan import check_literals, plan
from kilter.recipe.resolve import resolve
from kilter.recipe.run import run
from small import preferences

ONLINE = {"steps": 2, "batch_size": 4, "samples": 3, "max_tokens": 6, "max_length": 128, "log_every": 1}
STAGES = """
prompts:
  data: world-prompts
  options: {n: 12}
judge:
  train: reward
  model: MODEL
  records: PREFERENCES
  options: {steps: 2, batch_size: 4, max_length: 128}
world:
  train: rloo
  model: MODEL
  records: prompts
  feedback: world
  options: {gold: {judge: 1.0}}
ppo:
  train: ppo
  model: world
  records: prompts
  feedback: {judge: 1.0, "at-most:3": 0.5}
  options: {critic: judge}
"""


@pytest.fixture
def recipe(tmp_path, tiny_model):
    text = STAGES.replace("MODEL", str(tiny_model))
    text = text.replace("PREFERENCES", str(preferences(tmp_path / "preferences.jsonl")))
    raw = {"name": "online", "stages": yaml.safe_load(text)}
    for name in ("world", "ppo"):
        raw["stages"][name].setdefault("options", {}).update(ONLINE)
    return raw


def test_prompts_feedback_and_critic_may_be_stages(tmp_path, recipe):
    folder = tmp_path / "run"
    run(recipe, out=folder)
    for name in ("world", "ppo"):
        lines = [json.loads(line) for line in (folder / f"stages/{name}/metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2]
        assert "reward" in lines[0]
        assert ("gold" in lines[0]) == (name == "world")
    assert (folder / "stages/ppo/critic/config.json").exists()
    # A judge that is trained otherwise is another judge, whoever learns from it or measures by it.
    recipe["stages"]["judge"]["options"]["steps"] = 1
    said = []
    run(recipe, out=folder, say=said.append)
    kept = {line.split()[0]: line.rstrip().endswith("kept") for line in said if line.split()[0] in recipe["stages"]}
    assert kept == {"prompts": True, "judge": False, "world": False, "ppo": False}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["world"].pop("feedback"), "Stage 'world': Option 'feedback' of method 'rloo' is required"),
        (lambda s: s["judge"].update(feedback="world"), "Stage 'judge': method 'rm-bt' takes no feedback"),
        (lambda s: s["world"]["options"].update(feedback="world"), "Stage 'world': it has feedback twice"),
        (lambda s: s["world"].update(feedback="wrold"), "The feedback 'wrold' is no model.*Did you mean 'world'"),
        (lambda s: s["world"].update(feedback="at-most:few"), "needs a number of words"),
        (lambda s: s["world"].update(feedback="ppo"), "reads 'ppo', which does not run before it"),
        (lambda s: s["ppo"].update(feedback="prompts"), "reads 'prompts' as a model, but that stage makes records"),
        (lambda s: s["world"].update(feedback={"kilter/nano": 1.0}), "'kilter/nano' is a language model"),
    ],
)
def test_what_cannot_be_judged_is_said_before_the_first_stage(recipe, change, says):
    change(recipe["stages"])
    with pytest.raises(KilterError, match=says):
        check_literals(plan(resolve(recipe)))


def test_the_command_line_takes_feedback_and_mixtures(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def kilter(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return stop.value.code, capsys.readouterr()

    assert kilter("data", "world-prompts", "--n", 8, "--out", "p.jsonl")[0] == 0
    options = [word for name, value in ONLINE.items() for word in (f"--{name.replace('_', '-')}", value)]
    for feedback in ("world", "{world: 1, 'contains:e': 0.5}"):
        given = ("--model", tiny_model, "--data", "p.jsonl", "--feedback", feedback, "--overwrite", "--out", "m")
        code, said = kilter("train", "grpo", *given, *options)
        assert code == 0, said.err
        assert "2 steps" in said.out
    code, said = kilter("train", "grpo", "--model", tiny_model, "--data", "p.jsonl", "--out", "n")
    assert code == 1
    assert "Option 'feedback' of method 'grpo' is required" in said.err
    code, said = kilter("show", "grpo")
    assert "--data prompts.jsonl --feedback world" in said.out
