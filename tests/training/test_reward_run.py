"""Reward models trained by name, from end to end: what they learn, what is on the disk, and what is refused."""

import asyncio
import json
import warnings

import pytest
import torch
from judged_data import groups, steps
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import kilter
from kilter import formats
from kilter.cli import main
from kilter.engine.template import Dropped
from kilter.errors import KilterError
from kilter.feedback import RewardModel
from kilter.models.load import load_value_model
from kilter.models.rewarder import Rewarder
from kilter.records import Group, Message, Prompt
from kilter.training.judged import judged_trees
from kilter.training.run import train
from small import demonstrations, lines

SETTINGS = {"batch_size": 16, "learning_rate": 1e-2, "log_every": 20, "checkpoint_every": 0, "max_length": 128}


@pytest.fixture(scope="module")
def reward_model(tiny_model, tmp_path_factory):
    """A reward model that was trained on 240 rankings."""
    out = tmp_path_factory.mktemp("models") / "reward"
    return train("reward", model=tiny_model, data=groups(240, 0), out=out, steps=40, **SETTINGS).out


@pytest.fixture(scope="module")
def process_model(tiny_model, tmp_path_factory):
    """A process reward model that was trained on 300 responses in labelled steps."""
    out = tmp_path_factory.mktemp("models") / "process"
    return train("reward-process", model=tiny_model, data=steps(300, 0), out=out, steps=90, **SETTINGS).out


def test_held_out_accuracy_rises_from_chance(tiny_model, reward_model, tmp_path):
    held = groups(120, 1)
    model, tokenizer = load_value_model(str(tiny_model))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    before = kilter.evaluate("reward-accuracy", model=str(tmp_path), records=held).measures["reward_accuracy"]
    after = kilter.evaluate("reward-accuracy", model=str(reward_model), records=held).measures["reward_accuracy"]
    # A head of zeros says the same of everything: a tie.
    assert before.value == 0.5
    assert after.low > 0.8
    assert after.n == 120
    told = json.loads((reward_model / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert told["accuracy"] > 0.8
    assert told["reward_margin"] > 0.5


def test_a_whole_ranking_teaches_as_well(tiny_model, tmp_path):
    out = train("reward-listwise", model=tiny_model, data=groups(240, 0), out=tmp_path, steps=40, **SETTINGS).out
    found = kilter.evaluate("reward-accuracy", model=str(out), records=groups(120, 1)).measures["reward_accuracy"]
    assert found.low > 0.8


def test_the_checkpoint_is_transformers_own_and_says_the_same_there(reward_model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()
        tokenizer = AutoTokenizer.from_pretrained(reward_model)
    assert plain.config.num_labels == 1
    held = groups(5, 2)
    model = kilter.load(str(reward_model))
    assert isinstance(model, Rewarder)
    conversations, found = [], []
    for group in held:
        found += asyncio.run(model.rewards(group.prompt, group.responses))
        prompt = [m.to_json() for m in group.prompt]
        conversations += [[*prompt, {"role": "assistant", "content": response}] for response in group.responses]
    batch = tokenizer.apply_chat_template(conversations, padding=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        together = plain(**batch).logits[:, 0].tolist()
        alone = [
            plain(**tokenizer.apply_chat_template(one, return_tensors="pt", return_dict=True)).logits.item()
            for one in conversations
        ]
    assert found == pytest.approx(alone, abs=2e-5)
    assert found == pytest.approx(together, abs=2e-5)


def test_a_reward_model_is_trained_on_from_where_it_stands(reward_model, tmp_path):
    first = train("rm-bt", model=reward_model, data=groups(60, 0), out=tmp_path, steps=1, **SETTINGS).losses[0]
    assert first < 0.4  # not ln 2, which a new head has


def test_steps_are_judged_and_a_response_by_them(process_model):
    held = steps(120, 1)
    found = kilter.evaluate("reward-accuracy", model=str(process_model), records=held).measures
    assert found["step_accuracy"].low > 0.85
    assert found["first_error_found"].low > 0.75
    by_steps = RewardModel(Rewarder(str(process_model)), steps="product")
    question = Prompt([Message("user", "count 3")])
    right, wrong = "the a it\nso one blue", "the a it\nso one sky"
    good, bad = asyncio.run(by_steps(question, [right, wrong]))
    assert 0 <= bad.score < 0.5 < good.score <= 1
    least = RewardModel(by_steps.model, steps="least")
    likely = asyncio.run(by_steps.model.steps(question.messages, right.split("\n")))
    assert asyncio.run(least(question, [right]))[0].score == pytest.approx(min(likely))
    assert good.score == pytest.approx(likely[0] * likely[1])
    assert asyncio.run(by_steps(question, [" \n "]))[0].score == 0


def test_outcomes_teach_which_response_is_right(tiny_model, tmp_path):
    out = train("reward-outcome", model=tiny_model, data=steps(300, 0), out=tmp_path, steps=90, **SETTINGS).out
    held = steps(400, 1)
    right = [g.responses[0] for g in held if g.labels == [True]]
    wrong = [g.responses[0] for g in held if g.labels == [False]]
    question = [Message("user", "count 3")]
    pairs = [Group(question, [a, b], labels=[True, False]) for a, b in zip(right, wrong, strict=False)]
    assert len(pairs) > 30
    found = kilter.evaluate("reward-accuracy", model=str(out), records=pairs)
    assert found.measures["reward_accuracy"].value > 0.8


def test_the_command_line_scores_and_measures(reward_model, tmp_path, capsys):
    data = tmp_path / "groups.jsonl"
    prompt = [{"role": "user", "content": "say"}]
    lines(data, [{"prompt": prompt, "responses": ["it is blue", "of sky"], "ranking": [0, 1]}])

    def call(*words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert stop.value.code == 0, err
        return out

    score = ("score", "--model", reward_model, "--data", data, "--out")
    told = json.loads(call(*score, tmp_path / "scored.jsonl", "--json"))
    assert told["records"] == 1
    assert told["responses"] == 2
    [group] = kilter.read(tmp_path / "scored.jsonl")
    expected = kilter.reward(str(reward_model), ["say", "say"], group.responses)
    assert group.scores == pytest.approx(expected, abs=1e-6)
    assert group.ranking == [0, 1]
    assert group.origin.method == "score"
    assert group.origin.model == str(reward_model)
    assert told["mean"] == pytest.approx(sum(expected) / 2)
    assert "2 responses to 1 prompts" in call(*score, tmp_path / "again.jsonl")
    call("eval", "reward-accuracy", "--model", reward_model, "--records", data, "--out", tmp_path / "e.json")
    assert json.loads((tmp_path / "e.json").read_text())["measures"]["reward_accuracy"]["value"] == 1.0


def test_a_column_of_margins_is_the_distance_between_the_two(tiny_model, tmp_path):
    _, tokenizer = load_value_model(str(tiny_model))
    data = lines(tmp_path / "m.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", "margin": 0.75}])
    [tree] = judged_trees(tokenizer, kilter.read(data), "pairs", max_length=64, dropped=Dropped())
    assert tree.info["order"] == [0.75, 0.0]
    assert tree.info["pairs"] == [(0, 1)]


def test_soft_labels_of_steps_are_read_and_written_back(tmp_path):
    row = {"prompt": "a", "completions": ["one", "two"], "labels": [0.75, 0.25]}
    [group] = kilter.read(lines(tmp_path / "s.jsonl", [row]))
    assert group.meta["step_labels"] == [0.75, 0.25]
    assert group.labels == [False]
    formats.write([group], tmp_path / "back.jsonl", "trl-stepwise")
    assert json.loads((tmp_path / "back.jsonl").read_text()) == row


def refused(method, model, data, out, like):
    with pytest.raises(KilterError, match=like) as caught:
        train(method, model=model, data=data, out=out, **SETTINGS)
    assert "\n" not in str(caught.value)
    assert not (out / "metrics.jsonl").exists()


def test_wrong_input_is_a_sentence_before_the_first_step(tiny_model, reward_model, tmp_path):
    prompt, out = [Message("user", "x")], tmp_path / "out"
    alone = [Group(prompt, ["a"], scores=[1.0])]
    tied = [Group(prompt, ["a", "b"], scores=[1.0, 1.0])]
    for method in ("reward", "reward-listwise"):
        refused(method, tiny_model, alone, out, "no pair of a better and a worse response")
        refused(method, tiny_model, tied, out, "no pair of a better and a worse response")
    broken = [*groups(2, 0), Group(prompt, ["a", "b"], scores=[float("nan"), 1.0], id="odd")]
    refused("reward", tiny_model, broken, out, "record odd has the score nan")
    refused("dpo", tiny_model, broken, out, "record odd has the score nan")
    refused("reward-process", tiny_model, groups(2, 0), out, "no response in labelled steps")
    refused("reward-outcome", tiny_model, groups(2, 0), out, "no responses with labels")
    refused(
        "reward", tiny_model, demonstrations(tmp_path / "d.jsonl"), out, "holds demonstrations and groups are needed"
    )
    refused("sft", reward_model, demonstrations(tmp_path / "d.jsonl"), out, "is a reward model, which writes no text")
    refused("dpo", reward_model, groups(2, 0), out, "is a reward model, which writes no text")
