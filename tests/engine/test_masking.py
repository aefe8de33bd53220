"""A mask of the vocabulary: which tokens are left, log-probs among them, and samples that never leave them."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from kilter.engine import Scorer, collate
from kilter.engine.among import Among, log_probs_among, outside
from kilter.engine.masking import MARK, Mask
from kilter.engine.sampler import sample
from kilter.engine.vocabulary import Heads
from kilter.errors import KilterError
from worlds.tokens import TokenWorld

WORLD = TokenWorld(words=6, length=4)
HOW = {"max_tokens": 4, "temperature": 0.8, "stop_ids": {0}, "seed": 5, "keys": [7, 9], "batch_size": 16}
ASKED = [WORLD.prompt_ids("x"), WORLD.prompt_ids("y")]


def masked(top_p, seed=0):
    """Return a policy that has moved on since its mask was last brought up to date."""
    scorer = Scorer(WORLD.model(seed, scale=4.0))
    scorer.temperature = HOW["temperature"]
    mask = Mask(scorer, top_p)
    moved = WORLD.model(seed + 1, scale=4.0).state_dict()
    with torch.no_grad():
        for name, parameter in scorer.model.named_parameters():
            parameter.lerp_(moved[name], 0.3)
    return scorer, mask


def drawn(mask, n=24):
    """Return the trees of what is sampled under a mask, with the log-probs that it is said to have."""
    trees = []
    for prompt, found in zip(ASKED, mask.sample(ASKED, n=n, **HOW), strict=True):
        tree = WORLD.tree([0], "x")
        tree.prompt, tree.responses = prompt, [completion.tokens for completion in found]
        tree.masks = [[True] * len(row) for row in tree.responses]
        tree.info["behaviour"] = [completion.logprobs for completion in found]
        trees.append(tree)
    return trees


def chances(model, tree, k):
    """Return the distributions [tokens, V] that an ordinary forward gives for a response's tokens."""
    ids = torch.tensor([[*tree.prompt, *tree.responses[k]]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(tree.prompt) - 1 : -1]
    return (logits / HOW["temperature"]).softmax(-1)


def test_the_fewest_likeliest_tokens_that_reach_p_are_left():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.3, 0.5], [0.97, 0.01, 0.01, 0.01]]).log()
    assert outside(logits, 0.9).logical_not().sum(1).tolist() == [3, 3, 1]
    assert outside(logits, 0.4).logical_not().sum(1).tolist() == [1, 1, 1]
    assert not outside(logits, 1.0).any()
    wide = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)) * 0.1
    kept = outside(wide, 0.9).logical_not()
    chance = wide.softmax(-1)
    for row, left in zip(chance, kept, strict=True):
        assert row[left].sum() >= 0.9 > row[left].sum() - row[left].min()
        assert row[left].min() >= row[~left].max()


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_log_probs_among_what_is_left_and_their_gradient(softcap):
    draw = torch.Generator().manual_seed(1)
    hidden, weight, bias = (torch.randn(*size, generator=draw) for size in ((7, 5), (11, 5), (11,)))
    mask = Heads(torch.randn(7, 5, generator=draw), weight, bias, temperature=0.7)
    targets = torch.randint(0, 11, (7,), generator=draw)
    grad = torch.randn(7, generator=draw)
    found, ordinary = ([x.clone().requires_grad_() for x in (hidden, weight, bias)] for _ in range(2))
    policy = Heads(*found, scale=1.3, softcap=softcap, temperature=0.7)
    logs = log_probs_among(policy, Among(mask, 0.6), targets)

    h, w, b = ordinary
    logits = 1.3 * (h @ w.T + b)
    logits = (logits if softcap is None else softcap * torch.tanh(logits / softcap)) / 0.7
    shut = outside(((mask.hidden @ weight.T + bias) / 0.7), 0.6).scatter(1, targets[:, None], False)
    assert 0 < shut.sum() < shut.numel()
    wanted = logits.masked_fill(shut, -torch.inf).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(logs, wanted)
    logs.backward(grad)
    wanted.backward(grad)
    for ours, theirs in zip(found, ordinary, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_every_sampled_token_is_in_the_top_p_set_of_the_masking_policy():
    scorer, mask = masked(0.7)
    left = strayed = 0
    for tree in drawn(mask):
        for k, response in enumerate(tree.responses):
            shut = outside(chances(mask.copy.model, tree, k).log(), 0.7)
            assert not shut.gather(1, torch.tensor(response)[:, None]).any()
            # The policy by itself would go elsewhere: that is what the mask keeps it from.
            strayed += float((chances(scorer.model, tree, k) * shut).sum())
            left += len(response)
    assert strayed / left > 0.1


def test_log_probs_are_learned_of_the_very_distribution_that_was_drawn_from():
    scorer, mask = masked(0.7)
    trees = drawn(mask)
    batch = collate(trees)
    with torch.no_grad():
        found = scorer(batch, among=mask(batch))
        whole = scorer(batch)
    torch.testing.assert_close(found.tokens, batch.groups.behaviour, atol=1e-5, rtol=0)
    assert (found.tokens >= whole.tokens - 1e-6).all()
    assert (found.tokens - whole.tokens).mean() > 0.05
    # Of all that could be said the log-probs of what the mask leaves make up one distribution.
    tree, start = trees[0], len(trees[0].prompt)
    rows = WORLD.tree([0])
    rows.prompt, rows.responses = tree.prompt, [[token] for token in range(len(WORLD.vocabulary))]
    rows.masks = [[True]] * len(rows.responses)
    first = collate([rows])
    with torch.no_grad():
        logs = scorer(first, among=mask(first)).tokens
    shut = outside(chances(mask.copy.model, tree, 0)[:1].log(), 0.7)[0]
    assert start
    assert logs[~shut].exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_a_mask_that_leaves_everything_changes_no_sample():
    scorer, mask = masked(1.0)
    free = sample(scorer.model, ASKED, n=24, **HOW)
    for ours, theirs in zip(mask.sample(ASKED, n=24, **HOW), free, strict=True):
        assert [c.tokens for c in ours] == [c.tokens for c in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_it_stands_still_until_it_is_brought_up_to_date_and_can_be_put_back():
    scorer, mask = masked(0.7)
    own, other = scorer.model.lm_head.weight, mask.copy.model.lm_head.weight
    assert not torch.equal(own, other)
    before = {name: tensor.clone() for name, tensor in mask.memory().items()}
    mask.refresh()
    assert torch.equal(own, other)
    assert own.data_ptr() != other.data_ptr()
    mask.recall(before)
    assert not torch.equal(own, other)
    assert all(torch.equal(before[name], tensor) for name, tensor in mask.memory().items())
    assert not any(parameter.requires_grad for parameter in mask.copy.parameters())


def test_a_model_that_is_run_with_padding_is_refused():
    with pytest.raises(KilterError, match="cannot be sampled under a mask: it is trained with padding"):
        Mask(Scorer(WORLD.model(), ragged=False), 0.9)


def test_of_a_policy_with_an_adapter_the_mask_follows_the_adapter():
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    scorer = Scorer(get_peft_model(WORLD.model(0, scale=4.0), config))
    scorer.temperature = HOW["temperature"]
    mask = Mask(scorer, 0.7)
    learned = {name: p for name, p in scorer.model.named_parameters() if p.requires_grad}
    assert set(mask.memory()) == {MARK + name for name in learned}
    with torch.no_grad():
        for parameter in learned.values():
            parameter.add_(0.5 * torch.randn(parameter.shape))
    batch = collate(drawn(mask))
    with torch.no_grad():
        torch.testing.assert_close(scorer(batch, among=mask(batch)).tokens, batch.groups.behaviour, atol=1e-5, rtol=0)
        assert float((mask.copy(batch).tokens - scorer(batch).tokens).abs().max()) > 0.1
        mask.refresh()
        assert torch.equal(mask.copy(batch).tokens, scorer(batch).tokens)
