"""Values and rewards read from a ragged batch are those of the model's ordinary forward for each sequence alone."""

import warnings

import pytest
import torch
from torch import nn

from kilter.engine import Scorer, Tree, Valuer, collate, module_for
from kilter.errors import KilterError
from tiny_models import ARCHITECTURES, SINKS, make, make_judge, some_trees


def marked(trees):
    """Mark some tokens of every response."""
    for tree in trees:
        tree.info["marks"] = [sorted({0, len(r) // 2, len(r) - 1}) for r in tree.responses]
    return trees


def ordinary(model, trees):
    """Return values before scored tokens, at the ends and at the marks, one sequence at a time; ends by its forward."""
    tokens, ends, marks = [], [], []
    for tree in trees:
        for k, response in enumerate(tree.responses):
            whole = torch.tensor([[*tree.prompt, *response]])
            said = model.score(model.base_model(input_ids=whole).last_hidden_state)[0, :, 0]
            head = tree.prompt_mask if k == 0 and tree.prompt_mask is not None else [False] * len(tree.prompt)
            tokens.append(said[[t - 1 for t, m in enumerate([*head, *tree.masks[k]]) if m and t > 0]])
            marks.append(said[[len(tree.prompt) + place for place in tree.info.get("marks", [()] * (k + 1))[k]]])
            ends.append(model(input_ids=whole).logits[0])
    return torch.cat(tokens), torch.cat(ends), torch.cat(marks)


def gradients(parts, model):
    total = sum((part * torch.arange(1.0, len(part) + 1) / len(part)).sum() for part in parts)
    found = torch.autograd.grad(total, list(model.parameters()), allow_unused=True)
    return {name: g for (name, _), g in zip(model.named_parameters(), found, strict=True) if g is not None}


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("name", [*ARCHITECTURES, *SINKS])
def test_equals_the_ordinary_forward_of_each_sequence(name, asked):
    model, trees = make_judge(name), marked(some_trees())
    expected = ordinary(model, trees)[0 if asked else 1 :]
    slopes = gradients(expected, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        valuer = Valuer(model)
    assert valuer.ragged
    values = valuer(collate(trees), tokens=asked)
    assert (values.tokens is not None) == asked
    found = values.tokens, values.ends, values.marks
    found = found if asked else found[1:]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert theirs.std() > 0.1
        assert float((ours - theirs).detach().abs().max()) <= 2e-5
    again = gradients(found, model)
    assert again.keys() == slopes.keys()
    for parameter, slope in again.items():
        size = max(1.0, float(slopes[parameter].abs().max()))
        assert float((slope - slopes[parameter]).abs().max()) <= 2e-5 * size, parameter


@pytest.mark.parametrize("name", ["bloom", "llama"])
def test_padding_gives_the_same_and_a_model_that_needs_it_says_so(name):
    model, trees = make_judge(name), marked(some_trees())
    if name == "bloom":
        with pytest.warns(UserWarning, match="trained with padding"):
            valuer = Valuer(model)
    else:
        valuer = Valuer(model, ragged=False)
    with torch.no_grad():
        values, expected = valuer(collate(trees), tokens=True), ordinary(model, trees)
    for ours, theirs in zip((values.tokens, values.ends, values.marks), expected, strict=True):
        assert float((ours - theirs).abs().max()) <= 2e-5


def test_a_head_of_zeros_does_not_hide_that_a_model_cannot_be_laid_out():
    model = make_judge("bloom")
    nn.init.zeros_(model.score.weight)
    with pytest.warns(UserWarning, match="hidden states come out different|does not take a layout"):
        assert not Valuer(model).ragged


def test_who_owns_what():
    trees = [Tree([5, 6], [[7, 8], [9, 10, 11]], [[True, True], [True, False, True]], info={"marks": [[1], [0, 2]]})]
    batch = collate(trees)
    values = Valuer(make_judge())(batch)
    assert values.owner.tolist() == [0, 0, 1, 1]
    assert values.lengths.tolist() == [2, 2]
    assert values.mark_owner.tolist() == [0, 1, 1]
    assert batch.tokens[batch.marks].tolist() == [8, 9, 11]
    # The last mark of a response is at its end.
    torch.testing.assert_close(values.marks[[0, 2]], values.ends)


def test_the_last_layer_is_computed_where_numbers_are_read_and_nowhere_else():
    model, trees = make_judge(), some_trees()
    valuer, sizes = Valuer(model), []
    model.model.layers[-1].mlp.gate_proj.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[1]))
    batch = collate(trees)
    valuer(batch)
    valuer(batch, tokens=True)
    valuer.states(batch)
    ends = valuer._ends(batch)
    assert sizes == [len(ends), len(torch.cat((ends, batch.at)).unique()), len(ends)]
    assert sizes[0] < sizes[1] < len(batch.tokens)


def test_nothing_marked_gives_no_marks():
    values = Valuer(make_judge())(collate(some_trees()))
    assert values.marks is None
    assert values.mark_owner is None


@pytest.mark.parametrize("ragged", [True, False])
def test_the_end_is_where_transformers_reads_it_when_padding_also_ends_a_response(ragged):
    model = make_judge()
    model.config.pad_token_id = 2
    responses = [[7, 8, 2], [9, 2, 2], [10, 11, 12], [2]]
    trees = [Tree([5, 6, 2, 4], responses, [[True] * len(r) for r in responses]), Tree([], [[5, 2]], [[True] * 2])]
    found = Valuer(model, ragged=ragged)(collate(trees)).ends
    whole = [torch.tensor([[*tree.prompt, *r]]) for tree in trees for r in tree.responses]
    expected = torch.cat([model(input_ids=row).logits[0] for row in whole])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    # A reward model without a padding token is read at the very last token.
    model.config.pad_token_id = None
    expected = torch.cat([model(input_ids=row).logits[0] for row in whole])
    torch.testing.assert_close(Valuer(model, ragged=ragged)(collate(trees)).ends, expected, atol=2e-5, rtol=0)


def test_bf16_is_near_fp32_and_the_head_keeps_its_precision():
    model, batch = make_judge(), collate(some_trees())
    exact, near = Valuer(model)(batch).ends, Valuer(model, bf16=True)(batch).ends
    assert 0 < float((exact - near).detach().abs().max()) < 0.3
    assert near.dtype == torch.float32
    # A head in bf16 gives numbers that bf16 can hold.
    assert not torch.equal(near, near.bfloat16().float())


def test_checkpointed_activations_change_nothing_but_memory():
    model, batch = make_judge(), collate(marked(some_trees()))
    valuer = Valuer(model)
    valuer._last = None  # where activations are computed again, the last layer is whole
    plain = valuer(batch)
    before = gradients((plain.ends, plain.marks), model)
    valuer.checkpoint_activations()
    again = valuer(batch)
    assert torch.equal(plain.ends, again.ends)
    for parameter, slope in gradients((again.ends, again.marks), model).items():
        torch.testing.assert_close(slope, before[parameter])


def test_what_a_response_holds_does_not_reach_its_siblings():
    valuer = Valuer(make_judge())
    one, two = some_trees(2, ((6, (4, 5)),)), some_trees(2, ((6, (4, 5)),))
    two[0].responses[0] = [3, 3, 3, 3]
    first, second = valuer(collate(one)).ends, valuer(collate(two)).ends
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])


def test_a_peft_model_is_read_through_its_adapter_and_its_own_head():
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"], init_lora_weights=False, modules_to_save=["score"]
    )
    model, trees = get_peft_model(make_judge(), settings), some_trees()
    found = Valuer(model)(collate(trees)).ends
    whole = [torch.tensor([[*tree.prompt, *r]]) for tree in trees for r in tree.responses]
    expected = torch.cat([model(input_ids=row).logits[0] for row in whole])
    assert float((found - expected).detach().abs().max()) <= 2e-5
    found.sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}
    assert any("score.modules_to_save" in name for name in trained)
    assert all("lora" in name or "score" in name for name in trained)


def test_the_module_goes_by_the_model():
    assert isinstance(module_for(make_judge()), Valuer)
    assert isinstance(module_for(make()), Scorer)
    assert module_for(make_judge(), bf16=True).bf16


def test_what_is_no_reward_model_is_refused_in_a_sentence():
    with pytest.raises(KilterError, match="LlamaForCausalLM is no reward model"):
        Valuer(make())
    model = make_judge()
    model.config.num_labels = 3
    with pytest.raises(KilterError, match="tells 3 classes apart"):
        Valuer(model)


def test_the_model_gets_its_attention_back():
    model = make_judge()
    valuer = Valuer(model)
    assert model.config._attn_implementation == "kilter"
    valuer.release()
    assert model.config._attn_implementation == "eager"


def test_groups_hold_labels_of_responses_and_marks_where_every_tree_has_them():
    trees = marked(some_trees(0, ((3, (4, 2)), (2, (3,)))))
    for tree in trees:
        tree.info["labels"] = [True] + [False] * (len(tree.responses) - 1)
        tree.info["mark_labels"] = [[1.0] * len(marks) for marks in tree.info["marks"]]
    groups = collate(trees).groups
    assert groups.labels.tolist() == [1, 0, 1]
    assert len(groups.mark_labels) == sum(len(marks) for tree in trees for marks in tree.info["marks"])
    del trees[1].info["labels"], trees[1].info["mark_labels"]
    groups = collate(trees).groups
    assert groups.labels is None
    assert groups.mark_labels is None
