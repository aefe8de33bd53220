"""A ragged, prefix-shared batch gives what the model's ordinary forward gives for each sequence alone."""

import math
import warnings

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from kilter.engine import Scorer, Tree, attention, collate
from tiny_models import ARCHITECTURES, PADDED, SHARED, SINKS, make, ordinary, some_trees


def gradients(values, model):
    weights = torch.arange(1.0, len(values) + 1) / len(values)
    found = torch.autograd.grad((values * weights).sum(), list(model.parameters()), allow_unused=True)
    return {name: g for (name, _), g in zip(model.named_parameters(), found, strict=True) if g is not None}


@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_equals_the_ordinary_forward_of_each_sequence(name):
    model, trees = make(name), some_trees()
    expected = ordinary(model, trees)
    slopes = gradients(expected, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scorer = Scorer(model)
    assert scorer.ragged
    found = scorer(collate(trees)).tokens
    assert expected.std() > 0.1
    assert float((found - expected).detach().abs().max()) <= 2e-5
    for parameter, slope in gradients(found, model).items():
        size = max(1.0, float(slopes[parameter].abs().max()))
        assert float((slope - slopes[parameter]).abs().max()) <= 2e-5 * size, parameter


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt2"])
def test_long_sequences_agree_in_blocks_and_in_the_fused_kernel(monkeypatch, name, fused):
    monkeypatch.setattr(attention, "WRITTEN_OUT", 0 if fused else 1000)
    model, trees = make(name), some_trees(1, ((300, (40, 50)), (20, (390,)), (0, (350,))))
    with torch.no_grad():
        found = Scorer(model)(collate(trees)).tokens
        expected = ordinary(model, trees)
    assert float((found - expected).abs().max()) <= 2e-5


def test_one_token_read_behind_prompts_of_several_lengths_where_all_heads_share_their_keys():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHARED | {"num_key_value_heads": 1})).eval()
    trees = some_trees(3, ((5, (2, 2)), (3, (2, 2)), (4, (2, 2))))
    for tree in trees:
        tree.masks, tree.prompt_mask = [[False, True]] * 2, None
    with torch.no_grad():
        found = Scorer(model)(collate(trees)).tokens
        expected = ordinary(model, trees)
    assert float((found - expected).abs().max()) <= 2e-5


def test_what_a_response_holds_does_not_reach_its_siblings():
    scorer = Scorer(make())
    one, two = some_trees(2, ((6, (4, 5)),)), some_trees(2, ((6, (4, 5)),))
    for tree in (*one, *two):
        tree.masks = [[False] * 4, [True] * 5]
        tree.prompt_mask = None
    two[0].responses[0] = [3, 3, 3, 3]
    assert torch.equal(scorer(collate(one)).tokens, scorer(collate(two)).tokens)


@pytest.mark.parametrize("name", PADDED)
def test_a_model_that_cannot_be_laid_out_is_padded_and_says_so(name):
    model, trees = make(name), some_trees()
    with pytest.warns(UserWarning, match="trained with padding"):
        scorer = Scorer(model)
    with torch.no_grad():
        assert float((scorer(collate(trees)).tokens - ordinary(model, trees)).abs().max()) <= 2e-5


def test_entropy_is_that_of_the_distribution_and_padding_gives_the_same():
    model, trees = make(), some_trees()
    scorer = Scorer(model)
    laid_out, padded = scorer(collate(trees), entropy=True), Scorer(model, ragged=False)(collate(trees), entropy=True)
    assert scorer(collate(trees)).entropy is None
    torch.testing.assert_close(laid_out.entropy, padded.entropy, atol=2e-5, rtol=0)
    uniform = Scorer(make(scale=0.0))(collate(trees), entropy=True).entropy
    torch.testing.assert_close(uniform, torch.full_like(uniform, math.log(97)))


def test_checkpointed_activations_change_nothing_but_memory():
    for name in ("llama", "gpt2", "opt"):
        model, trees = make(name), some_trees()
        scorer = Scorer(model)
        plain = scorer(collate(trees)).tokens
        before = gradients(plain, model)
        scorer.checkpoint_activations()
        again = scorer(collate(trees)).tokens
        assert torch.equal(plain, again)
        for parameter, slope in gradients(again, model).items():
            torch.testing.assert_close(slope, before[parameter])


def test_the_model_still_generates_and_gets_its_attention_back():
    model = make("gemma2")
    prompt = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13]])
    expected = model.generate(prompt, max_new_tokens=12, do_sample=False)
    scorer = Scorer(model)
    assert model.config._attn_implementation == "kilter"
    assert torch.equal(model.generate(prompt, max_new_tokens=12, do_sample=False), expected)
    scorer.release()
    assert model.config._attn_implementation == "eager"


def test_a_dropout_in_the_config_is_off():
    model = make("gpt2")
    assert model.config.resid_pdrop > 0
    model.train()
    scorer, batch = Scorer(model), collate(some_trees())
    assert torch.equal(scorer(batch).tokens, scorer(batch).tokens)


def test_bf16_is_near_fp32():
    model, batch = make(), collate(some_trees())
    exact, near = Scorer(model)(batch).tokens, Scorer(model, bf16=True)(batch).tokens
    assert 0 < float((exact - near).detach().abs().max()) < 0.2
    assert near.dtype == torch.float32


def test_a_peft_model_is_scored_through_its_adapter():
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make(), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    trees = some_trees()
    found = Scorer(model)(collate(trees)).tokens
    with model.disable_adapter():
        base = ordinary(model, trees)
    assert float((found - ordinary(model, trees)).detach().abs().max()) <= 2e-5
    assert float((found - base).detach().abs().max()) > 1e-3


def test_sums_and_means_are_per_response():
    tree = Tree([5, 6], [[7, 8], [9, 10, 11]], [[True, True], [True, False, True]])
    found = Scorer(make())(collate([tree]))
    assert found.lengths.tolist() == [2, 2]
    torch.testing.assert_close(found.sum(), torch.stack((found.tokens[:2].sum(), found.tokens[2:].sum())))
    torch.testing.assert_close(found.mean(), found.sum() / 2)
