"""The online source: what it samples, how it is resumed, what it says of wrong input, and that reward rises."""

import json
import shutil

import numpy as np
import pytest
import torch
from online_runs import LOOP, ONLINE, Letters, Stop, prompts, run, source
from safetensors.torch import load_file

from jsonl import metrics
from kilter import registry
from kilter.engine import Scorer, Tree, collate
from kilter.engine.compiled import COMPILERS
from kilter.engine.feed import Rig
from kilter.engine.loop import LoopOptions
from kilter.engine.processes import accelerator
from kilter.engine.reference import ByContent
from kilter.errors import KilterError
from kilter.feedback.protocol import Signal
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.training import rollouts
from kilter.training.run import options_of, train

FAST = {**LOOP, **ONLINE, "feedback": "contains:e", "log_every": 10}


def weights(folder):
    return torch.cat([value.reshape(-1) for _, value in sorted(load_file(folder / "model.safetensors").items())])


def timeless(folder):
    return [{**line, "seconds": 0} for line in metrics(folder)]


def attached(folder, out, feedback, *, critic=None, reference=None, **options):
    """Return a scorer and a source that is attached to it, as the loop does it."""
    model, made = source(folder, feedback, **options)
    scorer = Scorer(model)
    scorer.temperature = made.temperature
    made.attach(Rig(scorer, critic, reference, accelerator(), 200, out, "mark", lambda words: None))
    return scorer, made


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_of_samples_are_the_policy_s_at_the_temperature_they_were_drawn_at(tiny_model, tmp_path, temperature):
    scorer, made = attached(tiny_model, tmp_path, Letters(), temperature=temperature)
    trees = made(0)
    batch = collate(trees)
    with torch.no_grad():
        found = scorer(batch)
    torch.testing.assert_close(found.tokens, batch.groups.behaviour, atol=1e-5, rtol=0)
    assert [len(tree.responses) for tree in trees] == [4] * 3
    for tree in trees:
        for response, cut in zip(tree.responses, tree.info["cut"], strict=True):
            assert cut == (response[-1] not in made.ends)
            assert len(response) <= 6


def test_a_phase_has_its_passes_and_every_prompt_comes_once_an_epoch(tiny_model, tmp_path):
    feedback = Letters()
    _, made = attached(tiny_model, tmp_path, feedback)
    steps = [[tree.info["id"] for tree in made(step)] for step in range(4)]
    assert feedback.asked == 6
    # Two passes over six prompts in two steps each, in an order of their own.
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3])
    assert len(set(steps[0] + steps[1])) == 6
    assert [made.fresh(step) for step in range(5)] == [True, False, False, False, True]
    following = [tree.info["id"] for tree in made(4)] + [tree.info["id"] for tree in made(5)]
    epoch = {prompt.id for prompt in made.prompts} - {*steps[0], *steps[1]}
    assert len(epoch) == 1
    assert epoch < {*following}
    assert made.steps(2.0) == 8  # 14 prompts: two rollouts of 6 come nearest
    assert made.steps_an_epoch == pytest.approx(7 / 6 * 4)
    assert made.tokens_a_step == 3 * (sum(map(len, made.ids)) / 7 + 4 * 6)


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="torch.compile needs a C++ compiler")
def test_compiled_layers_sample_and_learn_as_those_that_are_written(tiny_model, tmp_path):
    for wish in ("on", "off"):
        run("grpo", tiny_model, tmp_path / wish, compile=wish, steps=4)
    for one, other in zip(metrics(tmp_path / "on"), metrics(tmp_path / "off"), strict=True):
        assert {**one, "seconds": 0} == pytest.approx({**other, "seconds": 0}, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["grpo", "rloo", "ppo"])
def test_reward_rises(tiny_model, tmp_path, name):
    done = run(name, tiny_model, tmp_path, steps=30, updates=1, minibatches=1, samples=12)
    rewards = [line["reward"] for line in metrics(tmp_path)]
    assert done.steps == 30
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3
    assert all(line["mismatch"] < 1e-5 for line in metrics(tmp_path))
    assert {"kl", "clip_fraction", "length", "cut", "reward_std", "alike"} <= metrics(tmp_path)[0].keys()
    assert not (tmp_path / "rollouts").exists()
    assert not (tmp_path / "reference").exists()


def test_a_larger_beta_stays_closer_and_earns_less(tiny_model, tmp_path):
    ends = []
    for beta in (0.0, 0.2, 1.0):
        options = FAST | {"steps": 25, "updates": 1, "minibatches": 1, "samples": 12, "log_every": 1}
        out = tmp_path / str(beta)
        # A reference is scored for beta 0 too where it is told so small that it counts for nothing.
        train("rloo", model=tiny_model, data=prompts(), out=out, beta=beta or 1e-9, **options)
        last = metrics(out)[-5:]
        ends.append([sum(line[name] for line in last) / 5 for name in ("kl", "reward")])
    (far, most), (nearer, less), (near, least) = ends
    assert far > nearer > near
    assert most > less > least


@pytest.mark.parametrize(("name", "stop_at"), [("grpo", 8), ("ppo", 8), ("ppo", 14)])
def test_a_run_that_was_stopped_in_the_middle_of_a_phase_ends_with_the_same_bits(tiny_model, tmp_path, name, stop_at):
    """States at steps 3, 6 and 9 of phases of 4 steps: one in the middle of the first rollout, one of the second."""
    run(name, tiny_model, tmp_path / "whole", checkpoint_every=3)
    out = tmp_path / "parts"
    with pytest.raises(Stop):
        run(name, tiny_model, out, Letters(stop_at), checkpoint_every=3)
    again = Letters()
    run(name, tiny_model, out, again, checkpoint_every=3)
    assert again.asked == 18 - 6 * ((stop_at - 1) // 6)  # what had been judged was kept
    assert timeless(out) == timeless(tmp_path / "whole")
    for part in ("", "critic") if name == "ppo" else ("",):
        assert torch.equal(weights(out / part), weights(tmp_path / "whole" / part))


def test_a_rollout_comes_back_from_the_disk_as_it_was(tiny_model, tmp_path):
    _, made = attached(tiny_model, tmp_path, Letters(), skip_cut=True)
    made(0)
    kept = made._rollout
    kept.state = {"kl_coef": 0.1 + 0.2}
    file = rollouts.path(tmp_path, 3)
    rollouts.write(file, kept, "mark")
    found = rollouts.read(file, "mark")
    assert found.state == kept.state
    assert len(found.trees) == 6
    for one, two in zip(found.trees, kept.trees, strict=True):
        assert (one.prompt, one.responses, one.masks) == (two.prompt, two.responses, two.masks)
        assert one.info.keys() == two.info.keys()
        assert (one.info["id"], one.info["rewards"]) == (two.info["id"], two.info["rewards"])
        for mine, its in zip(one.info["behaviour"], two.info["behaviour"], strict=True):
            assert np.array_equal(mine, its)
    assert rollouts.read(file, "another run") is None
    file.write_bytes(b"half")
    assert rollouts.read(file, "mark") is None


def test_responses_that_were_cut_cost_or_are_left_out(tiny_model, tmp_path):
    _, plain = attached(tiny_model, tmp_path / "a", Letters())
    _, costs = attached(tiny_model, tmp_path / "b", Letters(), cut_penalty=0.5)
    _, skips = attached(tiny_model, tmp_path / "c", Letters(), skip_cut=True)
    cut = [tree.info["cut"] for tree in plain(0)]
    assert any(map(any, cut))
    for one, two, three in zip(plain(0), costs(0), skips(0), strict=True):
        due = [r - 0.5 * c for r, c in zip(one.info["rewards"], one.info["cut"], strict=True)]
        assert two.info["rewards"] == pytest.approx(due)
        assert three.info["rewards"] == one.info["rewards"]
        assert [any(mask) for mask in three.masks] == [not missing for missing in one.info["cut"]]
    assert len(collate(skips(0)).groups.behaviour) == len(collate(skips(0)).targets)


def test_the_reference_scores_a_content_once_and_reads_it_again(tiny_model, tmp_path):
    model, _ = source(tiny_model, Letters())
    scorer, asked = Scorer(model), []

    def counting(batch):
        asked.append(len(batch.lengths))
        return scorer(batch)

    def tree(prompt, *responses):
        return Tree(prompt, list(responses), [[True] * len(r) for r in responses], info={})

    first = [tree([5, 6], [7, 8], [7, 8], [9]), tree([5, 6], [9], [9, 9]), tree([6], [9])]
    judge = ByContent(counting, 100, tmp_path, "mark", accelerator())
    judge(first, 0)
    assert sum(asked) == 4  # 7 8, 9 and 9 9 after one prompt, 9 after the other
    for each in first:
        with torch.no_grad():
            expected = scorer(collate([tree(each.prompt, *each.responses)])).tokens
        found = np.concatenate(each.info["reference"])
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-5, rtol=0)
    later = ByContent(counting, 100, tmp_path, "mark", accelerator())
    second = [tree([6], [9], [8])]
    later(second, 1)
    assert sum(asked) == 5
    assert np.array_equal(second[0].info["reference"][0], first[2].info["reference"][0])
    # Of another run, and in a phase that comes before, nothing is known.
    for mark, phase in (("other", 1), ("mark", 0)):
        asked.clear()
        ByContent(counting, 100, tmp_path, mark, accelerator())([tree([6], [9])], phase)
        assert sum(asked) == 1


class Says:
    """Feedback that answers what it is told to."""

    name = "says"

    def __init__(self, signals):
        self.signals = signals

    async def __call__(self, prompt, responses):
        return self.signals(responses)


@pytest.mark.parametrize(
    ("signals", "said"),
    [
        (lambda responses: [Signal(score=1.0)] * (len(responses) - 1), "it has to answer for each"),
        (lambda responses: [Signal(score=float("nan"))] * len(responses), "nan; mend it"),
        (lambda responses: [Signal(critique="good")] * len(responses), "neither a score nor a verdict"),
    ],
)
def test_feedback_that_is_no_reward_is_a_sentence(tiny_model, tmp_path, signals, said):
    _, made = attached(tiny_model, tmp_path, Says(signals))
    with pytest.raises(KilterError, match=said):
        made(0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 1}, "samples is 1 and has to be at least 2"),
        ({"feedback": "world"}, "The world can judge only prompts that it made, and 7 of 7 are others"),
        ({"feedback": "contain:e"}, "feedback may be 'world', a reward model"),
        ({"feedback": "contains"}, "needs a text"),
        ({"feedback": "answer"}, "knows no answer to 7 of 7 prompts"),
        ({"feedback": {}}, "empty mixture"),
        ({"feedback": {"contains:e": float("nan")}}, "contains:e' of method 'grpo' is nan"),
        ({"max_tokens": 64}, "leaves no room for a prompt in 64 tokens"),
        ({"sample": 3}, "Did you mean 'samples'"),
        ({"temperature": 0}, "Option 'temperature'"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_step(tiny_model, tmp_path, options, said):
    with pytest.raises(KilterError, match=said):
        train("grpo", model=tiny_model, data=prompts(), out=tmp_path / "out", **FAST | options)
    assert not (tmp_path / "out").exists()


def test_a_model_that_never_ends_a_response_is_refused(tiny_model, tmp_path):
    folder = tmp_path / "endless"
    shutil.copytree(tiny_model, folder)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        told = json.loads((folder / name).read_text(encoding="utf-8"))
        told.pop("eos_token_id", None)
        told.pop("eos_token", None)
        (folder / name).write_text(json.dumps(told), encoding="utf-8")
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }} {% endfor %}"
    template += "{% if add_generation_prompt %}assistant: {% endif %}"
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(KilterError, match="No token ends a response of this model"):
        train("rloo", model=folder, data=prompts(), out=tmp_path / "out", **FAST)


def test_feedback_is_required_and_prompts_are_due(tiny_model, tmp_path):
    with pytest.raises(KilterError, match="Option 'feedback' of method 'grpo' is required"):
        train("grpo", model=tiny_model, data=prompts(), out=tmp_path / "out")
    with pytest.raises(KilterError, match="no prompt that waits for an answer"):
        train("grpo", model=tiny_model, data=[], out=tmp_path / "out", **FAST)


def test_a_critic_of_another_vocabulary_is_refused(tiny_model, tmp_path):
    with pytest.raises(KilterError, match="another vocabulary"):
        train("ppo", model=tiny_model, data=prompts(), out=tmp_path / "out", critic="kilter/nano", **FAST)


def test_prompts_are_read_from_demonstrations_and_groups_too(tiny_model, tmp_path):
    asked = Message("user", "what is 1?")
    data = [
        Prompt([asked]),
        Demonstration([asked, Message("assistant", "one")]),
        Group([asked, Message("assistant", "no"), Message("user", "really?")], ["yes"]),
    ]
    done = train("rloo", model=tiny_model, data=data, out=tmp_path / "out", **FAST | {"steps": 1, "updates": 1})
    assert done.steps == 1


def test_steps_are_known_before_the_first_and_a_long_prompt_is_cut(tiny_model, tmp_path):
    data = [*prompts(), Prompt([Message("user", "what " * 60)])]
    settings = {k: v for k, v in FAST.items() if k != "steps"}
    done = train("ppo", model=tiny_model, data=data, out=tmp_path, **settings | {"epochs": 1.5, "entropy": True})
    assert done.steps == 8  # 8 prompts in rollouts of 6: two rollouts of 4 steps
    assert any("1 of 8 prompts are cut from the left to 58 tokens" in note for note in done.notes)
    [last] = metrics(tmp_path)[-1:]
    assert 0 < last["entropy"] < 6
    assert last["epoch"] == 1.5
    assert {"kl_coef", "rollout_kl"} <= last.keys()
    told = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert told["steps"] == 8
    assert {"samples": 4, "feedback": "contains:e", "lam": 0.95}.items() <= told["options"].items()
    with pytest.raises(KilterError, match="samples is 4 there and 5 here"):
        train("ppo", model=tiny_model, data=data, out=tmp_path, **settings | {"epochs": 1.5, "samples": 5})


def test_methods_have_the_papers_defaults_and_every_option_is_explained():
    defaults = {
        "grpo": {"samples": 64, "batch_size": 16, "beta": 0.04, "updates": 1},
        "rloo": {"samples": 4, "updates": 1, "beta": 0.05},
        "rlhf-ppo": {"samples": 1, "updates": 4, "gamma": 1.0, "lam": 0.95, "kl_coef": 0.05, "critic": None},
    }
    for name, expected in defaults.items():
        fields = options_of(registry.find(name, "training")).model_fields
        assert {key: fields[key].default for key in expected} == expected
        assert fields["feedback"].is_required()
        assert all(field.description for field in fields.values())
        assert set(LoopOptions.model_fields) <= set(fields)
    assert registry.find("ppo").id == "rlhf-ppo"
