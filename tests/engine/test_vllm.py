"""Sampling by vLLM, beside our own sampler and scorer, with the bundled model: `make test-vllm` installs it."""

import asyncio
import importlib.util
import json

import pytest
import torch

from kilter.engine import adapters
from kilter.engine.batch import Tree, collate
from kilter.engine.loop import LoopOptions
from kilter.engine.sampler import sample
from kilter.engine.scorer import Scorer
from kilter.engine.template import end_ids, prompt_ids
from kilter.errors import KilterError
from kilter.models.load import load, load_weights
from kilter.models.protocol import Sampling
from kilter.records import Message, Prompt
from kilter.training.run import train

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed; `make test-vllm` does it."
)
NANO = "kilter/nano"
QUESTIONS = ["What colour is the sky?", "Tell me about rivers.", "How do I bake bread?"]
OFF = 2e-3  # nats a token in fp32: vLLM's kernels add in another order


def user(text):
    return [Message("user", text)]


@pytest.fixture(scope="module")
def policy():
    model, tokenizer = load_weights(NANO, torch.float32)
    return model.eval(), tokenizer, prompt_ids(tokenizer, [user(q) for q in QUESTIONS]), end_ids(tokenizer)


@pytest.fixture(scope="module")
def engine(policy):
    from kilter.engine.vllm_sampler import Vllm

    found = Vllm(policy[0], policy[1], bf16=False, memory=0.2)
    yield found
    found.close()


def logprobs(model, prompts, completions, temperature=1.0):
    """Return what the trainer says of each token."""
    scorer = Scorer(model)
    scorer.temperature = temperature
    trees = [
        Tree(list(prompt), [c.tokens for c in some], [[True] * len(c.tokens) for c in some])
        for prompt, some in zip(prompts, completions, strict=True)
    ]
    with torch.no_grad():
        found = scorer(collate(trees)).tokens
    scorer.release()
    return found


def said(completions):
    return torch.tensor([x for some in completions for c in some for x in c.logprobs])


def off(model, prompts, completions, temperature=1.0):
    return float((logprobs(model, prompts, completions, temperature) - said(completions)).abs().max())


def test_greedy_is_what_our_sampler_says(engine, policy):
    model, _, prompts, ends = policy
    ours = sample(model, prompts, max_tokens=[5, 24, 24], temperature=0.0, stop_ids=ends)
    theirs = engine.sample(prompts, max_tokens=[5, 24, 24], temperature=0.0, stop_ids=ends)
    for [own], [other] in zip(ours, theirs, strict=True):
        assert own.tokens == other.tokens
        assert own.finish_reason == other.finish_reason
        assert own.logprobs == pytest.approx(other.logprobs, abs=OFF)


def test_log_probs_are_those_of_the_distribution_that_was_drawn_from(engine, policy):
    model, _, prompts, ends = policy
    found = engine.sample(prompts, n=4, max_tokens=16, temperature=0.7, stop_ids=ends, seed=3)
    assert [len(some) for some in found] == [4, 4, 4]
    assert len({tuple(c.tokens) for c in found[1]}) > 1
    assert off(model, prompts, found, 0.7) < OFF
    again = engine.sample(prompts, n=4, max_tokens=16, temperature=0.7, stop_ids=ends, seed=3)
    assert [[c.tokens for c in some] for some in again] == [[c.tokens for c in some] for some in found]
    turned = engine.sample(prompts[::-1], n=4, max_tokens=16, temperature=0.7, stop_ids=ends, seed=3, keys=[2, 1, 0])
    assert [c.tokens for c in turned[2]] == [c.tokens for c in found[0]]
    narrow = engine.sample(prompts, n=2, max_tokens=8, top_k=1, stop_ids=ends)
    assert said(narrow).abs().max() < 1e-4, "of one token that is left the chance is 1"


def test_pushed_weights_are_the_ones_that_sample(engine, policy):
    model, _, prompts, ends = policy
    torch.manual_seed(0)
    changed, _ = load_weights(NANO, torch.float32)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    engine.push(changed)
    found = engine.sample(prompts, n=2, max_tokens=8, stop_ids=ends)
    assert off(changed, prompts, found) < OFF
    assert off(model, prompts, found) > 10 * OFF
    engine.push(model)
    assert off(model, prompts, engine.sample(prompts, max_tokens=8, stop_ids=ends)) < OFF


def test_an_adapter_is_pushed_with_its_model(engine, policy):
    options = LoopOptions(adapter="lora", adapter_rank=4)
    model = adapters.attach(
        load_weights(NANO, torch.float32)[0], options, steps=4, device=torch.device("cpu"), bf16=False
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    engine.push(model)
    prompts, ends = policy[2:]
    found = engine.sample(prompts, n=2, max_tokens=8, stop_ids=ends)
    engine.push(policy[0])
    assert off(model.eval(), prompts, found) < OFF
    assert off(policy[0], prompts, found) > 10 * OFF


def test_what_cannot_be_sampled_is_refused(engine):
    with pytest.raises(KilterError, match="Prompt 0 has 0 tokens"):
        engine.sample([[]])
    with pytest.raises(KilterError, match="temperature is -1"):
        engine.sample([[3]], temperature=-1.0)


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_policy_learns_from_what_vllm_sampled(tmp_path, adapter):
    asked = [Prompt(user(f"{question} ({i})"), id=f"{i}") for i in range(4) for question in QUESTIONS]
    told = {
        "feedback": "contains:the", "sampler": "vllm", "vllm_memory": 0.2, "samples": 4, "max_tokens": 16, "steps": 3,
        "batch_size": 4, "learning_rate": 1e-3, "precision": "fp32", "log_every": 1, "checkpoint_every": 0,
        "adapter": adapter, "say": lambda notes: None,
    }  # fmt: skip
    done = train("grpo", model=NANO, data=asked, out=tmp_path / "run", **told)
    lines = [json.loads(line) for line in done.metrics.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 3
    # Also of the second and the third rollout: what had been learned by then was pushed.
    assert max(line["mismatch"] for line in lines) < OFF
    assert any(line["grad_norm"] > 0 for line in lines)


def test_a_model_by_vllm_answers_scores_and_weighs():
    here, there = load(NANO), load(f"vllm:{NANO}")

    async def both(what):
        return [await what(model) for model in (here, there)]

    async def main():
        asked = Sampling(max_tokens=24)
        own, other = await both(lambda model: model.ask(user(QUESTIONS[0]), asked))
        assert (own[0].text, own[0].finish_reason) == (other[0].text, other[0].finish_reason)
        word = own[0].text.split()[2]
        own, other = await both(lambda m: m.ask(user(QUESTIONS[0]), Sampling(max_tokens=24, stop=(word,))))
        assert own[0].text == other[0].text
        own, other = await both(lambda model: model.score(user(QUESTIONS[1]), "They flow to the sea."))
        assert own == pytest.approx(other, abs=OFF)
        own, other = await both(lambda model: model.weigh([("The sky is", " blue"), ("A river of words", None)]))
        assert [w.logprob for w in own] == pytest.approx([w.logprob for w in other], abs=10 * OFF)
        assert [w.greedy for w in own] == [w.greedy for w in other]
        assert await here.identity() != await there.identity()

    asyncio.run(main())
