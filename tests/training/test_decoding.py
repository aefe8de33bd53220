"""Ways of decoding: the catalogue's numbers, and models that every evaluation can ask."""

import asyncio
import json
import math

import pytest
import torch

import kilter
from kilter.engine.choose import Shaping
from kilter.engine.sampler import sample as plainly
from kilter.engine.steered import Stream, sample, score
from kilter.errors import KilterError
from kilter.models.load import load, load_weights
from kilter.models.protocol import Sampling
from kilter.models.steered import Steered, behind
from kilter.records import Group, Message, Prompt
from kilter.training.decoding import examples
from kilter.training.dexperts import combined
from kilter.training.self_debias import debiased, diagnosed
from kilter.training.self_detox import detoxed

FEW = {"steps": 2, "batch_size": 2, "max_length": 64, "precision": "fp32", "learning_rate": 1e-2, "epochs": 1}


def logs(*rows):
    return torch.tensor([list(rows)]).log()


def test_self_debias_has_the_catalogue_s_numbers():
    own, bad = logs(0.5, 0.3, 0.2), logs(0.2, 0.6, 0.2)
    found = debiased(own, [bad], strength=50).exp()[0]
    assert found.tolist() == pytest.approx([0.7112, 0.0043, 0.2845], abs=1e-4)
    assert torch.allclose(debiased(own, [own], strength=50), own), "identical prompts change nothing"
    assert torch.allclose(debiased(own, [bad], strength=0), own)
    held = [debiased(own, [bad], strength=s).exp()[0, 1].item() for s in (1, 5, 10, 15)]
    assert held == sorted(held, reverse=True), "monotone in its strength"
    assert (found[0] / found[2]).item() == pytest.approx(2.5), "what no prefix makes likelier keeps its ratio"
    other = logs(0.7, 0.1, 0.2)
    both = debiased(own, [bad, other], strength=3)
    most = torch.stack([bad.exp(), other.exp()]).amax(0).log()
    assert torch.allclose(both, debiased(own, [most], strength=3)), "of several prefixes the largest counts"


def test_self_detox_stays_in_the_top_and_takes_from_what_the_expert_favours():
    own = logs(0.4, 0.3, 0.2, 0.1)
    assert torch.allclose(detoxed(own, [logs(0.25, 0.25, 0.25, 0.25)], top_k=4), own), "uniform: unchanged"
    bad = logs(0.05, 0.8, 0.1, 0.05)
    found = detoxed(own, [bad], top_k=3).exp()[0]
    assert found[3] == 0
    assert found[1] < 0.3 / 0.9
    q = torch.tensor([0.05, 0.8, 0.1]) / 0.95
    wanted = torch.tensor([0.4, 0.3, 0.2]) * (1 - q)
    assert torch.allclose(found[:3], wanted / wanted.sum())
    assert detoxed(own, [bad], top_k=1).exp()[0].tolist() == pytest.approx([1, 0, 0, 0]), "greedy"
    assert detoxed(own, [bad], top_k=3, toward=True).exp()[0, 1] > 0.3 / 0.9
    ranked = detoxed(own, [logs(0.1, 0.6, 0.2, 0.1)], top_k=3, by="rank").exp()[0]
    wanted = torch.tensor([0.4 * 3, 0.3 * 1, 0.2 * 2])
    assert torch.allclose(ranked[:3], wanted / wanted.sum())


def test_dexperts_adds_the_difference_of_logits():
    own, good, bad = logs(0.5, 0.3, 0.2), logs(0.6, 0.2, 0.2), logs(0.2, 0.6, 0.2)
    assert torch.allclose(combined(own, [good, bad], alpha=0), own)
    assert torch.allclose(combined(own, [good, good], alpha=2), own)
    wanted = torch.tensor([0.5 * 9, 0.3 / 9, 0.2])  # (0.6 / 0.2)^2, (0.2 / 0.6)^2, 1
    assert torch.allclose(combined(own, [good, bad], alpha=2).exp()[0], wanted / wanted.sum())
    cut = combined(own, [bad, good], alpha=2, filter_p=0.5).exp()[0]
    assert cut.tolist() == pytest.approx([1, 0, 0]), "the nucleus is the model's own"


def test_streams_that_agree_give_the_plain_sampler_s_answers(tiny_model):
    model, tokenizer = load_weights(str(tiny_model))
    prompts = [tokenizer(text)["input_ids"] for text in ("what is the", "sky", "it is blue. it", "o", "the colour of")]
    plain = plainly(model, prompts, max_tokens=[6, 3, 9, 5, 7], stop_ids={1}, seed=3, keys=[9, 8, 7, 6, 5])
    same = sample(
        [Stream(model, prompts), Stream(model, prompts)],
        lambda own, others: (own + others[0]) / 2,
        max_tokens=[6, 3, 9, 5, 7],
        shaping=Shaping(),
        stop_ids={1},
        noise=[(3, key, 0) for key in (9, 8, 7, 6, 5)],
        batch_size=4,
    )
    assert [one.tokens for [one] in plain] == [one.tokens for one in same]
    for [one], two in zip(plain, same, strict=True):
        assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5)
        assert one.finish_reason == two.finish_reason


def test_a_prompt_of_another_length_goes_on_with_the_same_tokens(tiny_model):
    """Teacher-forced, the steered log-probs are those that sampling said it drew from."""
    model, tokenizer = load_weights(str(tiny_model))
    short, long = tokenizer("the sky")["input_ids"], tokenizer("what is the colour of? the sky")["input_ids"]
    streams = [Stream(model, [short]), Stream(model, [long])]

    def steer(own, others):
        return debiased(own, others, strength=30)

    [one] = sample(streams, steer, max_tokens=[8], shaping=Shaping(), stop_ids={1}, noise=[(0, 0, 0)])
    [told] = score(streams, steer, [one.tokens])
    assert one.logprobs == pytest.approx(told, abs=1e-4)


@pytest.fixture(scope="module")
def groups():
    def group(i):
        answers = [f"it is {i}.", "o o o o"]
        return Group([Message("user", f"what is {i}?")], answers, scores=[1.0, 0.0], labels=[True, False])

    return [group(i) for i in range(6)]


def test_good_and_bad_are_told_apart_by_labels_or_scores(groups):
    assert [one.messages[-1].content for one in examples(groups, False, "x")] == ["o o o o"] * 6
    scored = [Group(g.prompt, g.responses, scores=g.scores) for g in groups]
    assert len(examples(scored, True, "x")) == 6
    with pytest.raises(KilterError, match="learns from bad responses"):
        examples([Group(groups[0].prompt, ["a"], labels=[True])], False, "self-detox")


@pytest.mark.parametrize("name", ["self-detox", "dexperts"])
def test_experts_are_trained_and_the_folder_is_a_model(tiny_model, tmp_path, groups, name):
    out = tmp_path / "out"
    done = kilter.train(name, model=tiny_model, data=groups, out=out, **FEW)
    assert done.steps == (2 if name == "self-detox" else 4)
    assert done.tokens > 0
    model = load(str(out))
    assert isinstance(model, Steered)
    asked = [Message("user", "what is 3?")]
    answers = asyncio.run(model.ask(asked, Sampling(max_tokens=5, temperature=1.0, n=2)))
    assert len(answers) == 2
    [scores] = kilter.score(str(out), ["what is 3?"], ["it is 3."])
    [base] = kilter.score(str(tiny_model), ["what is 3?"], ["it is 3."])
    assert len(scores) == len(base)
    assert scores != base
    assert kilter.train(name, model=tiny_model, data=groups, out=out, **FEW).kept
    with pytest.raises(KilterError, match="another way of decoding"):
        kilter.train(name, model=tiny_model, data=groups, out=out, **{**FEW, "steps": 3})
    with pytest.raises(KilterError, match="is a way of decoding, and weights are needed"):
        kilter.train("dpo", model=out, data=groups, out=tmp_path / "next")


def test_self_debias_reads_the_prompt_behind_each_prefix(tiny_model, tmp_path):
    prompts = [Prompt([Message("user", "what is 1?")])]
    still, away = tmp_path / "still", tmp_path / "away"
    kilter.train("self-debias", model=tiny_model, data=prompts, out=still, strength=0.0)
    kilter.train("self-debias", model=tiny_model, data=prompts, out=away, attributes="insults; threats")
    told = json.loads((away / "decoding.json").read_text(encoding="utf-8"))
    assert told["prefixes"] == ["The following text contains insults:", "The following text contains threats:"]
    assert behind("Bad:", prompts[0].messages) == [Message("user", "Bad:\nwhat is 1?")]
    [own] = kilter.score(str(tiny_model), ["what is 1?"], ["it is 1."])
    [same] = kilter.score(str(still), ["what is 1?"], ["it is 1."])
    [other] = kilter.score(str(away), ["what is 1?"], ["it is 1."])
    assert same == pytest.approx(own, abs=1e-4)
    assert other != pytest.approx(own, abs=1e-4)
    with pytest.raises(KilterError, match="there is none"):
        kilter.train("self-debias", model=tiny_model, data=prompts, out=tmp_path / "x", attributes=" ; ")


def test_self_diagnosis_is_the_model_s_own_probability_of_yes(tiny_model):
    share = asyncio.run(diagnosed(load(str(tiny_model)), "you fool", "insults"))
    assert 0 < share < 1
    assert math.isfinite(share)


def test_a_damaged_folder_is_said(tmp_path):
    (tmp_path / "decoding.json").write_text("{", encoding="utf-8")
    with pytest.raises(KilterError, match="cannot be read"):
        load(str(tmp_path))
