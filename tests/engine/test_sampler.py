"""The sampler against transformers' own generate, against the model's distribution, and against itself."""

import itertools

import numpy as np
import pytest
import torch

from kilter.engine.choose import Shaping, choose
from kilter.engine.plain import obstacle
from kilter.engine.sampler import sample
from kilter.errors import KilterError
from tiny_models import ARCHITECTURES, PADDED, SINKS, VOCABULARY, make

PROMPTS = [[5, 9, 13, 40, 41, 42, 43, 44, 45, 46, 47], [3], [7, 8], [90, 4, 6, 11, 12], [50] * 20, [3, 9]]


@pytest.fixture(scope="module")
def llama():
    return make("llama")


@pytest.fixture
def narrow_banks(monkeypatch):
    """Two slots a bank, so that a few prompts stand in several."""
    monkeypatch.setattr("kilter.engine.slots.BANK", 2)


def generated(model, prompt, tokens):
    """Return transformers' own greedy completion of one prompt, without a batch around it, and its log-probs."""
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=tokens,
        output_logits=True,
        return_dict_in_generate=True,
    )
    made = out.sequences[0, len(prompt) :].tolist()
    logs = [step[0].float().log_softmax(-1)[token].item() for step, token in zip(out.logits, made, strict=True)]
    return made, logs


def ordinary(model, prompt, completion):
    """Return the logits behind each token of a completion by one ordinary forward."""
    with torch.no_grad():
        return model(torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1].float()


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_greedy_is_generate(name):
    model = make(name)
    assert obstacle(model) == ""
    before = model.config._attn_implementation
    ours = sample(model, PROMPTS, max_tokens=30, temperature=0.0, stop_ids={2}, batch_size=4)
    assert model.config._attn_implementation == before
    for prompt, [completion] in zip(PROMPTS, ours, strict=True):
        tokens, logprobs = generated(model, prompt, 30)
        assert completion.tokens == tokens
        assert completion.logprobs == pytest.approx(logprobs, abs=2e-5)
        assert completion.finish_reason == ("stop" if tokens[-1] == 2 else "length")


def test_softcap_is_honoured_where_it_matters():
    model = make("gemma2")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name:
                weight.mul_(30)
    capped = [generated(model, prompt, 9) for prompt in PROMPTS]
    for (tokens, logprobs), [completion] in zip(
        capped, sample(model, PROMPTS, max_tokens=9, temperature=0.0, stop_ids={2}), strict=True
    ):
        assert completion.tokens == tokens
        assert completion.logprobs == pytest.approx(logprobs, abs=1e-4)
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert generated(model, PROMPTS[0], 9)[1] != pytest.approx(capped[0][1], abs=1e-2)


def test_greedy_of_a_peft_model_is_generate(llama):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make("llama"), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    [[ours]] = sample(model, PROMPTS[:1], stop_ids={2}, max_tokens=12, temperature=0.0)
    assert ours.tokens == generated(model, PROMPTS[0], 12)[0]
    assert ours.tokens != generated(llama, PROMPTS[0], 12)[0]


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_samples_that_share_a_prompt_see_what_a_single_one_sees(name, narrow_banks):
    model = make(name)
    alone = sample(model, PROMPTS, max_tokens=14, temperature=0.0, stop_ids={2})
    shared = sample(model, PROMPTS, n=3, max_tokens=14, temperature=0.0, stop_ids={2}, batch_size=7)
    for [one], three in zip(alone, shared, strict=True):
        for each in three:
            assert each.tokens == one.tokens
            assert each.logprobs == pytest.approx(one.logprobs, abs=2e-5)


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_samples_that_share_a_prompt_stand_behind_virtual_tokens(kind, narrow_banks):
    import peft

    torch.manual_seed(0)
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(make("llama"), config).eval()
    alone = sample(model, PROMPTS, max_tokens=10, temperature=0.0)
    shared = sample(model, PROMPTS, n=2, max_tokens=10, temperature=0.0, batch_size=5)
    assert [[row[0].tokens] * 2 for row in alone] == [[each.tokens for each in row] for row in shared]


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_what_is_sampled_does_not_depend_on_the_banks(name, monkeypatch):
    model = make(name)
    prompts = [[5 + i % 7] * length for i, length in enumerate((70, 3, 41, 1, 8, 66, 2, 30))]
    limits = [3, 40, 9, 50, 12, 30, 35, 5]
    found = []
    for size in (1, 2, 64):  # of 5 slots at a time, which others take in the middle of a bank
        monkeypatch.setattr("kilter.engine.slots.BANK", size)
        found.append(sample(model, prompts, max_tokens=limits, batch_size=5, stop_ids={2}))
    for several in zip(*found, strict=True):
        [first], *others = several
        for [other] in others:
            assert other.tokens == first.tokens
            assert other.logprobs == pytest.approx(first.logprobs, abs=2e-5)


@pytest.mark.parametrize("shaping", [{}, {"temperature": 0.7, "top_p": 0.8}, {"top_k": 5}, {"min_p": 0.1}])
def test_results_do_not_depend_on_the_batch(llama, shaping):
    kept = [sample(llama, PROMPTS, n=3, max_tokens=20, stop_ids={2, 3}, batch_size=b, **shaping) for b in (1, 3, 5, 64)]
    texts = [[[c.tokens for c in row] for row in rows] for rows in kept]
    assert all(text == texts[0] for text in texts)
    for one, other in zip(itertools.chain(*kept[0]), itertools.chain(*kept[3]), strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert len({tuple(c.tokens) for rows in kept[0] for c in rows}) > len(PROMPTS)


def test_the_seed_and_the_key_decide(llama):
    def draw(**options):
        return [[c.tokens for c in row] for row in sample(llama, PROMPTS, n=2, max_tokens=12, **options)]

    assert draw(seed=1) == draw(seed=1)
    assert draw(seed=1) != draw(seed=2)
    keys = list(range(100, 100 + len(PROMPTS)))
    swapped = sample(llama, PROMPTS[::-1], n=2, max_tokens=12, keys=keys[::-1])
    assert draw(keys=keys) == [[c.tokens for c in row] for row in swapped[::-1]]


@pytest.mark.parametrize("shaping", [{"temperature": 1.0}, {"temperature": 0.6}, {"top_k": 7, "temperature": 2.0}])
def test_log_probs_are_those_of_the_distribution_sampled_from(llama, shaping):
    for prompt, [completion] in zip(PROMPTS, sample(llama, PROMPTS, max_tokens=10, **shaping), strict=True):
        logits = ordinary(llama, prompt, completion.tokens) / shaping["temperature"]
        if "top_k" in shaping:
            logits[logits < logits.topk(shaping["top_k"]).values[:, -1:]] = -torch.inf
        expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.tokens)[:, None])[:, 0]
        assert completion.logprobs == pytest.approx(expected.tolist(), abs=2e-5)


def test_samples_are_as_frequent_as_they_are_probable(llama):
    draws = sample(llama, [[5, 9]], n=6000, max_tokens=1, batch_size=512, temperature=0.5)[0]
    counts = np.bincount([draw.tokens[0] for draw in draws], minlength=VOCABULARY)
    expected = (ordinary(llama, [5, 9], [0]) / 0.5).softmax(-1)[0].numpy() * len(draws)
    frequent = expected > 5
    statistic = ((counts - expected)[frequent] ** 2 / expected[frequent]).sum()
    assert statistic < 2 * frequent.sum() + 20


@pytest.mark.parametrize(
    "shaping",
    [
        {"top_p": 0.5},
        {"top_p": 0.9},
        {"top_k": 3},
        {"top_k": 300, "top_p": 0.7},
        {"min_p": 0.2},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.05, "temperature": 1.7},
    ],
)
def test_truncation_is_that_of_transformers(shaping):
    from transformers import (
        LogitsProcessorList,
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    torch.manual_seed(1)
    logits = torch.randn(64, 1000) * 3
    logits[::2] /= 50  # flat ones, of which top-p keeps more than the first few hundred
    theirs = LogitsProcessorList([TemperatureLogitsWarper(shaping.get("temperature", 1.0))])
    theirs += [TopKLogitsWarper(shaping["top_k"])] if "top_k" in shaping else []
    theirs += [TopPLogitsWarper(shaping["top_p"])] if "top_p" in shaping else []
    theirs += [MinPLogitsWarper(shaping["min_p"])] if "min_p" in shaping else []
    expected = theirs(None, logits.clone()).log_softmax(-1)
    for number in (0.0, 0.3, 0.99999994):
        tokens, logprobs = choose(logits, torch.full((64,), number), Shaping(**shaping))
        torch.testing.assert_close(logprobs, expected.gather(1, tokens[:, None])[:, 0], atol=1e-4, rtol=0)
        assert torch.isfinite(logprobs).all()


def test_limits_stops_and_progress(llama):
    told = []
    limits = [3, 5, 1, 9, 2, 4]
    rows = sample(llama, PROMPTS, max_tokens=limits, temperature=0.0, progress=lambda *now: told.append(now))
    assert [len(row[0].tokens) for row in rows] == limits
    assert told[-1] == (6, sum(limits))
    [[greedy]] = sample(llama, PROMPTS[:1], max_tokens=20, temperature=0.0)
    [[short]] = sample(llama, PROMPTS[:1], max_tokens=20, temperature=0.0, stop=lambda tokens: len(tokens) == 4)
    assert (short.tokens, short.finish_reason) == (greedy.tokens[:4], "stop")
    [[edge]] = sample(llama, [[5] * 504], max_tokens=64)
    assert (len(edge.tokens), edge.finish_reason) == (8, "length")
    assert sample(llama, []) == []


def test_what_cannot_be_sampled_is_a_clear_error(llama):
    for prompts, options, message in (
        ([[]], {}, "between 1 and 511"),
        ([[1] * 512], {}, "between 1 and 511"),
        ([[1]], {"max_tokens": 0}, "max_tokens"),
        ([[1]], {"n": 0}, "at least 1"),
        ([[1]], {"top_p": 0.0}, "top_p"),
    ):
        with pytest.raises(KilterError, match=message):
            sample(llama, prompts, **options)


def test_the_model_is_left_as_it_was(llama):
    llama.train()
    sample(llama, [[1, 2]], max_tokens=2)
    assert llama.training
    assert all(module.training for module in llama.modules())
    llama(torch.tensor([[1, 2]])).logits.sum().backward()
    llama.zero_grad()
    llama.eval()


@pytest.mark.parametrize("name", PADDED)
def test_a_model_that_slots_do_not_suit_is_sampled_by_generate(name):
    model = make(name)
    prompts, limits = [[5, 9, 13], [3], [7, 8, 2]], [6, 5, 4]
    with pytest.warns(UserWarning, match="sampled by `generate`"):
        greedy = sample(model, prompts, max_tokens=limits, temperature=0.0)
    for prompt, [completion], limit in zip(prompts, greedy, limits, strict=True):
        tokens, logprobs = generated(model, prompt, limit)
        assert completion.tokens[: len(tokens)] == tokens  # generate ends at the model's own end of sequence
        assert completion.logprobs[: len(tokens)] == pytest.approx(logprobs, abs=1e-4)
    with pytest.warns(UserWarning, match="slower"):
        one, many = (sample(model, prompts, n=2, max_tokens=6, stop_ids={4}, batch_size=b) for b in (1, 8))
    assert [[c.tokens for c in row] for row in one] == [[c.tokens for c in row] for row in many]


def test_both_ways_of_sampling_agree(llama, monkeypatch):
    def draw():
        rows = sample(llama, PROMPTS, n=2, max_tokens=9, top_p=0.9, stop_ids={2, 3}, stop=lambda t: t[-1] == 50)
        return [[(c.tokens, c.finish_reason) for c in row] for row in rows]

    in_slots = draw()
    monkeypatch.setattr("kilter.engine.sampler.obstacle", lambda model: "it was asked not to")
    with pytest.warns(UserWarning, match="asked not to"):
        assert draw() == in_slots


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_that_diverged_is_a_clear_error(temperature):
    model = make("llama")
    sample(model, PROMPTS[:2], max_tokens=2)
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    with pytest.raises(KilterError, match="diverged"):
        sample(model, PROMPTS[:2], max_tokens=2, temperature=temperature)
