"""Virtual tokens of prompt and prefix adapters on the ragged row: what peft's forward gives for each sequence alone."""

import pytest
import torch
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaConfig, LlamaForSequenceClassification

from kilter.engine import Scorer, collate
from kilter.engine.plain import obstacle
from kilter.engine.sampler import sample
from kilter.engine.values import Valuer
from kilter.engine.virtual import count_virtual, room, virtual
from kilter.errors import KilterError
from tiny_models import ARCHITECTURES, SHARED, SINKS, greedy, make, ordinary, some_trees

COUNT = 4
KINDS = {
    "prompt": lambda task: PromptTuningConfig(task_type=task, num_virtual_tokens=COUNT),
    "prefix": lambda task: PrefixTuningConfig(task_type=task, num_virtual_tokens=COUNT),
    "projected": lambda task: PrefixTuningConfig(
        task_type=task, num_virtual_tokens=COUNT, prefix_projection=True, encoder_hidden_size=16
    ),
}


def adapted(name, kind):
    model = make(name)
    torch.manual_seed(1)
    return get_peft_model(model, KINDS[kind]("CAUSAL_LM"))


def by_peft(model, trees):
    """Return the scored tokens' log-probs by peft's forward, one sequence at a time."""
    found = []
    for tree in trees:
        for k, response in enumerate(tree.responses):
            tokens = torch.tensor([[*tree.prompt, *response]])
            logs = torch.log_softmax(model(input_ids=tokens).logits[0, -tokens.shape[1] :].float(), -1)
            head = tree.prompt_mask if k == 0 and tree.prompt_mask is not None else [False] * len(tree.prompt)
            scored = [t for t, m in enumerate([*head, *tree.masks[k]]) if m and t > 0]
            found.append(logs[[t - 1 for t in scored], tokens[0, scored]])
    return torch.cat(found)


def slopes(value, model):
    return torch.autograd.grad(value.sum(), [p for p in model.parameters() if p.requires_grad], retain_graph=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_every_segment_sees_them_as_in_peft_s_forward(name, kind, recwarn):
    model, trees = adapted(name, kind), some_trees()
    scorer = Scorer(model)
    assert scorer.ragged, [str(warning.message) for warning in recwarn]
    found = scorer(collate(trees)).tokens
    scorer.release()
    expected = by_peft(model, trees)
    assert float((found - expected).detach().abs().max()) <= 2e-5
    for one, two in zip(slopes(found, model), slopes(expected, model), strict=True):
        assert float((one - two).abs().max()) <= 2e-5 * max(1.0, float(two.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_switched_off_they_are_not_there(kind):
    model, trees = adapted("llama", kind), some_trees()
    scorer = Scorer(model)
    assert count_virtual(model) == COUNT
    assert room(model) == SHARED["max_position_embeddings"] - COUNT
    with torch.no_grad():
        on = scorer(collate(trees)).tokens
        with model.disable_adapter():
            assert virtual(model) is None
            assert room(model) == SHARED["max_position_embeddings"]
            off = scorer(collate(trees)).tokens
        assert float((off - ordinary(model.get_base_model(), trees)).abs().max()) <= 2e-5
    assert float((on - off).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_cannot_be_laid_out_has_them_in_its_padded_rows(kind):
    with pytest.warns(UserWarning, match="trained with padding"):
        scorer = Scorer(adapted("bloom", kind))
    trees = some_trees()
    with torch.no_grad():
        assert float((scorer(collate(trees)).tokens - by_peft(scorer.model, trees)).abs().max()) <= 2e-5


def test_a_window_that_does_not_hold_a_prefix_is_said():
    model = get_peft_model(make("gemma2"), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=9))
    with pytest.warns(UserWarning, match="shorter than 9 virtual tokens"):
        scorer = Scorer(model)
    assert not scorer.ragged


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_model_reads_its_head_behind_them(kind):
    torch.manual_seed(0)
    model = get_peft_model(LlamaForSequenceClassification(LlamaConfig(**SHARED, num_labels=1)), KINDS[kind]("SEQ_CLS"))
    valuer, trees = Valuer(model), some_trees(shapes=((5, (4, 3)), (3, (6,))))
    assert valuer.ragged
    laid_out, padded = (v(collate(trees), tokens=True) for v in (valuer, Valuer(model, ragged=False)))
    torch.testing.assert_close(laid_out.tokens, padded.tokens, atol=2e-5, rtol=0)
    rows = [torch.tensor([[*tree.prompt, *response]]) for tree in trees for response in tree.responses]
    with torch.no_grad():
        expected = torch.cat([model(input_ids=row, attention_mask=torch.ones_like(row)).logits[:, 0] for row in rows])
    torch.testing.assert_close(laid_out.ends.detach(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_activations_change_nothing(kind):
    model, trees = adapted("llama", kind), some_trees()
    scorer = Scorer(model)
    plain = scorer(collate(trees)).tokens
    before = slopes(plain, model)
    scorer.checkpoint_activations()
    again = scorer(collate(trees)).tokens
    assert torch.equal(plain, again)
    for one, two in zip(slopes(again, model), before, strict=True):
        torch.testing.assert_close(one, two)


def test_a_prefix_in_padded_rows_is_not_lost_without_a_word():
    for kind, refused in (("prompt", False), ("prefix", True)):
        scorer = Scorer(adapted("bloom", kind), ragged=False)
        if refused:
            with pytest.raises(KilterError, match="leave gradient_checkpointing off"):
                scorer.checkpoint_activations()
        else:
            scorer.checkpoint_activations()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS, "bloom"])
def test_samples_are_drawn_behind_them(name, kind, recwarn):
    model, prompts = adapted(name, kind), [[5, 9, 13, 40, 41, 42], [3], [7, 8], [50] * 9]
    assert (obstacle(model) == "") == (name != "bloom")
    found = sample(model, prompts, max_tokens=6, temperature=0.0, batch_size=3)
    for prompt, [completion] in zip(prompts, found, strict=True):
        tokens, logs = greedy(model, prompt, 6)
        assert completion.tokens == tokens
        assert completion.logprobs == pytest.approx(logs, abs=2e-5)


def test_they_take_places_of_the_model_s(recwarn):
    model = adapted("llama", "prompt")
    places = SHARED["max_position_embeddings"] - COUNT
    [[completion]] = sample(model, [[5] * (places - 3)], max_tokens=9, temperature=0.0)
    assert len(completion.tokens) == 3
    with pytest.raises(KilterError, match=f"between 1 and {places - 1}"):
        sample(model, [[5] * places], max_tokens=9)
