"""DSP and RL4F around a black box: what it is asked, what is rewarded, and a policy that finds the words that help."""

import pytest
import torch
from token_runs import Tokens

from kilter.engine import checkpoint, loop, masking, vllm_sampler
from kilter.engine.among import outside
from kilter.errors import KilterError
from kilter.feedback.named import named
from kilter.models.drive import wait
from kilter.models.protocol import Sampling
from kilter.records import Message, Prompt
from kilter.registry import find
from kilter.training import dsp, rl4f
from kilter.training.ppo import adapted
from kilter.training.run import options_of
from worlds.blackbox import DRAFTS, Hinted, Sorter

RUN = {"max_tokens": 3, "samples": 32, "steps": 24, "updates": 1, "learning_rate": 5e-3, "max_length": 24}


def test_a_stimulus_is_worth_what_the_box_answers_with_it():
    box = Hinted()
    judge = dsp.Guided(box, named("contains:good"), Sampling(n=3, temperature=0.7), 10.0)
    prompt = Prompt([Message("user", "x")])
    assert [signal.score for signal in wait(judge(prompt, ["c a", "c", "a b", ""]))] == [10.0, 0, 0, 0]
    assert box.asked == ["x\n\nHint: c a", "x\n\nHint: c", "x\n\nHint: a b", "x"]
    with pytest.raises(KilterError, match="knows no answer to 1 of 1 prompts"):
        dsp.Guided(box, named("answer"), Sampling(), 1.0).check([prompt])


def test_the_policy_finds_the_hints_and_the_box_is_only_asked(tmp_path, monkeypatch):
    box = Hinted()
    monkeypatch.setattr(dsp, "load", lambda name: box)
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    found, lines = tokens.run("dsp", box="hinted", feedback="contains:good", kl_target=None, scale=1.0, **RUN)
    # What is left of it without the policy, what the start makes of it, and what the trained one does.
    assert lines[-1]["sampled_reward"] > lines[0]["sampled_reward"] + 0.2
    assert not hasattr(box, "parameters")
    world = tokens.world

    def helps(model, prompt, word):
        with torch.no_grad():
            chance = world.log_probs(model, prompt).exp()
        good = [word in world.text(n).split() and "b" not in world.text(n).split() for n in range(len(world))]
        return chance[good].sum().item()

    for prompt, word in (("x", "a"), ("y", "c")):
        assert helps(found, prompt, word) > helps(tokens.model(), prompt, word) > 0


def test_the_coefficient_adapts_as_the_paper_s_does_and_defaults_are_the_papers():
    assert adapted(0.01, 0.5, 0.2) == pytest.approx(0.01 * 1.02)
    assert adapted(0.01, 0.19, 0.2) == pytest.approx(0.01 * (1 - 0.1 * 0.05))
    for name, due in {
        "dsp": {
            "kl_coef": 0.01,
            "kl_target": 0.2,
            "box_samples": 4,
            "box_temperature": 0.7,
            "scale": 10.0,
            "mask_top_p": 0.9,
            "mask_every": 20,
        },
        "rl4f": {"kl_coef": 0.001, "kl_target": 2.0, "max_tokens": 20, "updates": 5, "learning_rate": 1e-6},
    }.items():
        fields = options_of(find(name, "training")).model_fields
        assert {key: fields[key].default for key in due} == due
        assert all(field.description for field in fields.values())
        assert fields["box"].is_required()


def test_a_critique_is_worth_the_answer_that_it_leads_to():
    prompt = rl4f.criticised(Prompt([Message("user", "x")], "p"), DRAFTS["x"])
    assert prompt.messages[-1].content == "Request: x\nAnswer: b a c\nWhat should be changed?"
    judge = rl4f.Refined(Sorter(), named("matches:^a b c$"), Sampling(), 1)
    judge.check([prompt])
    assert [signal.score for signal in wait(judge(prompt, ["a b", "c b", "", "b a"]))] == [1, 0, 0, 0]
    first, draft = rl4f.asked(prompt)
    assert (first.messages, draft) == ([Message("user", "x")], "b a c")
    assert wait(judge.refine(first, draft, "")) == draft
    again = rl4f.Refined(Sorter(), named("matches:^a b c$"), Sampling(), 3)
    assert wait(again.refine(first, draft, "a b")) == "a b c"
    with pytest.raises(KilterError, match="has no draft of the black box"):
        rl4f.asked(Prompt([Message("user", "x")], "p"))


def test_the_critic_learns_to_put_things_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(rl4f, "load", lambda name: Sorter())
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    told = {"box": "sorter", "feedback": "matches:^a b c$", "kl_target": None, "cliprange_value": 1.0}
    _, lines = tokens.run("rl4f", **told, **RUN | {"samples": 64})
    first, last = ([line["sampled_reward"] for line in lines[part]] for part in (slice(3), slice(-3, None)))
    assert sum(last) / 3 > sum(first) / 3 + 0.1


def test_stimuli_are_drawn_and_learned_under_the_mask_which_follows_the_policy(tmp_path, monkeypatch):
    """NLPO: the mask is the policy of every second rollout; log-probs of what was drawn are the trainer's own."""
    monkeypatch.setattr(dsp, "load", lambda name: Hinted())
    seen = []

    class Watched(masking.Mask):
        def refresh(self):
            super().refresh()
            seen.append(len(drawn))

        def sample(self, prompts, **how):
            found = super().sample(prompts, **how)
            drawn.append(found)
            for prompt, some in zip(prompts, found, strict=True):
                for tokens in {tuple(completion.tokens) for completion in some}:
                    with torch.no_grad():
                        logits = self.copy.model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
                    assert not outside(logits, 0.8).gather(1, torch.tensor(tokens)[:, None]).any()
            return found

    drawn: list = []
    monkeypatch.setattr(loop, "Mask", Watched)
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    told = {"box": "hinted", "feedback": "contains:good", "kl_target": None, "scale": 1.0, "mask_top_p": 0.8}
    _, lines = tokens.run("dsp", **told, mask_every=2, **RUN | {"steps": 6, "updates": 1, "learning_rate": 2e-2})
    assert seen == [0, 2, 4]
    assert len(drawn) == 6
    assert max(line["mismatch"] for line in lines) < 1e-4
    # The penalty is on the policy itself, which has not moved before the first step, whatever the mask leaves out.
    assert lines[0]["rollout_kl"] == pytest.approx(0.0, abs=1e-5)
    assert lines[0]["sampled_kl"] > 0.01


def test_a_run_under_a_mask_goes_on_with_the_very_mask(tmp_path, monkeypatch):
    """Stopped between two refreshes and in the middle of a rollout; the weights at the end are the same bits."""
    monkeypatch.setattr(dsp, "load", lambda name: Hinted())
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    told = {"box": "hinted", "feedback": "contains:good", "mask_top_p": 0.8, "mask_every": 2, "checkpoint_every": 5}
    told |= RUN | {"steps": 8, "updates": 2, "learning_rate": 2e-2}
    whole, _ = tokens.run("dsp", "whole", **told)
    save = checkpoint.save_state

    def killed(out, step, *rest, **more):
        save(out, step, *rest, **more)
        if step == 5:
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_state", killed)
        with pytest.raises(InterruptedError):
            tokens.run("dsp", "parts", **told)
    parts, _ = tokens.run("dsp", "parts", **told)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, parts.state_dict()[name])


def test_vllm_draws_under_no_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(dsp, "load", lambda name: Hinted())
    monkeypatch.setattr(vllm_sampler, "check", lambda model: None)
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    with pytest.raises(KilterError, match="draws under no mask; set mask_top_p to none"):
        tokens.run("dsp", box="hinted", feedback="contains:good", sampler="vllm", **RUN)
