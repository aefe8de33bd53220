"""Whole distributions in chunks: the divergence of two policies and rivals of a token, beside the full logits."""

import pytest
import torch

from kilter.engine import Scorer, collate, head
from kilter.engine.asks import Asks, asked_by
from kilter.engine.loop import LoopOptions, train
from kilter.engine.vocabulary import rivals
from kilter.errors import KilterError
from tiny_models import make, pair_trees, some_trees


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    monkeypatch.setitem(head.CHUNK, "cpu", 97 * 5)


def logits(model, batch, trees):
    """Return the logits [P, V] of the scored positions by the model's own forward, one sequence at a time."""
    found = []
    for tree in trees:
        for k, response in enumerate(tree.responses):
            whole = torch.tensor([[*tree.prompt, *response]])
            out = model(whole).logits[0]
            first = tree.prompt_mask if k == 0 and tree.prompt_mask is not None else [False] * len(tree.prompt)
            scored = [t for t, m in enumerate([*first, *tree.masks[k]]) if m and t > 0]
            found.append(out[[t - 1 for t in scored]])
    return torch.cat(found)


@pytest.mark.parametrize("name", ["llama", "gemma2", "phi3"])
def test_the_divergence_and_its_slope_are_those_of_the_full_logits(name):
    policy, other, trees = make(name, seed=1), make(name, seed=2), some_trees()
    batch = collate(trees)
    plain = make(name, seed=1)
    scorer, reference = Scorer(policy), Scorer(other)
    found = scorer(batch, asks=Asks(divergence=True), against=reference.heads(batch))
    reference.release()
    p = torch.log_softmax(logits(other, batch, trees), -1).detach()
    q = torch.log_softmax(logits(plain, batch, trees), -1)
    expected = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(found.divergence, expected, atol=2e-5, rtol=1e-4)
    weight = torch.linspace(0.5, 1.5, len(expected))
    (found.divergence * weight).sum().backward()
    (expected * weight).sum().backward()
    for (key, mine), (_, theirs) in zip(policy.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=2e-5, rtol=2e-3, msg=lambda m, key=key: f"{key}: {m}")


def test_a_policy_does_not_diverge_from_itself():
    scorer, batch = Scorer(make()), collate(some_trees())
    found = scorer(batch, asks=Asks(divergence=True), against=scorer.heads(batch))
    assert found.divergence.abs().max() < 1e-6
    found.divergence.sum().backward()
    assert max(float(p.grad.abs().max()) for p in scorer.parameters() if p.grad is not None) < 1e-5


def test_the_only_rival_is_the_likeliest_other_token():
    model, trees = make(), some_trees()
    batch, scorer = collate(trees), Scorer(model)
    full = torch.log_softmax(logits(model, batch, trees), -1)
    others = full.scatter(1, batch.targets[:, None], -torch.inf)
    found = scorer(batch, asks=Asks(rivals=1))
    torch.testing.assert_close(found.rivals, others.max(-1).values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.tokens, scorer(batch).tokens)


def test_rivals_are_drawn_from_the_likeliest_and_are_never_the_token_itself():
    scorer, batch = Scorer(make(scale=1.0)), collate(some_trees())
    heads = scorer.heads(batch)
    torch.manual_seed(0)
    drawn = torch.stack([rivals(heads, batch.targets, 3) for _ in range(200)])
    assert not (drawn == batch.targets).any()
    logs = torch.cat([heads.logs(part) for part in heads.parts()]).scatter(1, batch.targets[:, None], -torch.inf)
    best = logs.topk(3, dim=1)
    assert (drawn[..., None] == best.indices).any(-1).all()
    often = (drawn[..., None] == best.indices).float().mean((0, 1))
    wanted = best.values.softmax(1).mean(0)
    assert (often - wanted).abs().max() < 0.05


def test_a_model_with_padding_is_refused_whole_distributions():
    with pytest.warns(UserWarning, match="trained with padding"):
        scorer = Scorer(make("bloom"))
    with pytest.raises(KilterError, match="reads whole distributions"):
        scorer(collate(some_trees()), asks=Asks(rivals=1))


def test_what_an_objective_asks_for_may_depend_on_its_options():
    from functools import partial

    def objective(policy, group, *, kind="kl", k=2): ...

    objective.asks = lambda kind, k: Asks(divergence=kind == "kl", rivals=k)
    assert asked_by(objective) == Asks(rivals=2, divergence=True)
    assert asked_by(partial(objective, kind="ce", k=0)) == Asks()


def test_what_cannot_be_given_is_said_before_the_first_step(tmp_path):
    def asking(policy, group): ...

    asking.asks = Asks(rivals=1)
    options = LoopOptions(steps=1, precision="fp32")
    with pytest.warns(UserWarning, match="trained with padding"), pytest.raises(KilterError, match="whole distrib"):
        train(make("bloom"), pair_trees(2), asking, options, tmp_path)
