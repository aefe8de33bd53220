"""A-LoL and its baselines: exact gradients on the bandit, what is left out, and bad data that does not harm."""

import random
from functools import partial

import pytest
import torch
from token_runs import Tokens

from kilter.engine.sampler import sample
from kilter.errors import KilterError
from kilter.records import Group, Message
from kilter.training import prompt_values
from kilter.training.a_lol import a_lol, advantages
from kilter.training.r_gold import r_gold
from kilter.training.r_lol import r_lol
from kilter.training.wbc import wbc
from worlds.bandit import Bandit, as_groups, as_responses, mean

QUICK = {"learning_rate": 3e-3, "warmup": 0, "precision": "fp32", "checkpoint_every": 0, "max_length": 16, "seed": 0}


def test_without_a_reference_the_optimum_is_the_data_tilted_by_the_advantage():
    bandit = Bandit(seed=1)
    gain = (bandit.reward - 0.1).clamp(min=0)
    policy = bandit.optimum(
        lambda logs: (
            bandit.held.exp()
            * a_lol(as_responses(logs), bandit.reference, as_groups(gain), variant="ref-free").per_example
        ).sum()
    )
    due = bandit.held.exp() * gain
    torch.testing.assert_close(policy, due / due.sum(), atol=1e-3, rtol=0)


def test_unclipped_it_is_the_policy_gradient_of_the_advantage():
    bandit = Bandit(seed=2)
    logits = torch.randn(5, dtype=torch.float64).requires_grad_()
    logs = torch.log_softmax(logits, 0)
    for objective, gain in ((a_lol, bandit.reward.clamp(min=0)), (r_lol, bandit.reward)):
        loss = objective(as_responses(logs), bandit.reference, as_groups(gain), cliprange=1e9).per_example
        [found] = torch.autograd.grad((bandit.held.exp() * loss).sum(), logits, retain_graph=True)
        [due] = torch.autograd.grad(-(logs.exp() * gain).sum(), logits, retain_graph=True)
        torch.testing.assert_close(found, due)


@pytest.mark.parametrize(
    "objective", [a_lol, r_lol, partial(a_lol, variant="seq"), partial(a_lol, variant="kl"), r_gold]
)
def test_what_is_measured_has_the_gradient_of_what_is_learned_and_tells_models_apart(objective):
    start = torch.tensor([-0.1, -3.0, -1.0, -2.0, -0.2], dtype=torch.float64)
    reference = as_responses(torch.tensor([-2.0, -1.0, -1.2, -1.8, -0.3], dtype=torch.float64), [2, 1, 2])
    gain = as_groups(torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64))

    def told(tokens):
        given = (as_responses(tokens, [2, 1, 2]), gain)
        return objective(*given) if objective is r_gold else objective(given[0], reference, gain)

    tokens = start.clone().requires_grad_()
    found = told(tokens)
    [learned] = torch.autograd.grad(found.per_example.sum(), tokens, retain_graph=True)
    [measured] = torch.autograd.grad(found.value.sum(), tokens)
    torch.testing.assert_close(measured, learned)
    # It is a height, not a slope alone: steps against the gradient, through all edges of the clip, lead down.
    heights = [float(told(start - t * learned).value.sum()) for t in (0, 0.1, 0.2, 0.4, 0.8)]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[1] == pytest.approx(0.1 * float(learned @ learned), rel=0.2)


def test_weights_are_clipped_for_a_response_or_for_each_token_and_have_no_gradient():
    tokens = torch.tensor([-0.1, -3.0, -1.0], requires_grad=True)
    policy, reference = as_responses(tokens, [2, 1]), as_responses(torch.tensor([-2.0, -1.0, -1.2]), [2, 1])
    gain = as_groups([2.0, 0.5])
    whole = torch.tensor([(-3.1 + 3.0), 0.2]).exp()
    full = a_lol(policy, reference, gain)
    torch.testing.assert_close(full.per_example, -torch.tensor([2.0, 0.5]) * whole * torch.tensor([-3.1, -1.0]))
    [slope] = torch.autograd.grad(full.per_example.sum(), tokens)
    torch.testing.assert_close(slope, -torch.tensor([2.0, 2.0, 0.5]) * whole[[0, 0, 1]])
    each = torch.tensor([1.9, 0.1353, 1.2214])  # e^1.9 is clipped
    seq = a_lol(policy, reference, gain, variant="seq")
    due = -torch.tensor([2.0 * (each[0] * -0.1 + each[1] * -3.0), 0.5 * each[2] * -1.0])
    torch.testing.assert_close(seq.per_example, due, atol=1e-3, rtol=0)
    kl = a_lol(policy, reference, gain, variant="kl", beta=0.3).per_example
    torch.testing.assert_close(kl, torch.tensor([6.2, 0.5]) + 0.3 * torch.tensor([-0.1, 0.2]))
    torch.testing.assert_close(wbc(policy, gain).per_example, torch.tensor([6.2, 0.5]))
    chance = tokens.detach().exp().clamp(min=0.1)
    due = -torch.tensor([2.0, 0.5]) * policy.total(chance * tokens.detach())
    torch.testing.assert_close(r_gold(policy, gain).per_example, due)
    torch.testing.assert_close(mean(r_lol(policy, reference, gain)), mean(full))


def groups_of(world, seed=0, bad=0.0, count=64):
    """Return groups of four responses drawn at random, of which a share is turned to the worst."""
    draw = random.Random(seed)
    ended = [n for n in range(len(world)) if world.ended(n) and world.text(n)]
    worst = min(ended, key=lambda n: world.rewards[n])
    found = []
    for i in range(count):
        chosen = [worst if draw.random() < bad else draw.choice(ended) for _ in range(4)]
        found.append(world.group(chosen, "xy"[i % 2]))
    return found


def test_the_value_head_tells_prompts_apart_and_what_is_no_better_goes(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3, ease=(0.0, 4.0))
    records, model, tokenizer = groups_of(tokens.world), tokens.model(), tokens.world.tokenizer()
    kept, notes = advantages(records, tokenizer, model, sampling="uniform")
    earned = {}
    for record in records:
        earned.setdefault(record.prompt[0].content, []).extend(record.scores)
    due = {name: sum(scores) / len(scores) for name, scores in earned.items()}
    states = prompt_values.hidden(model, [tokens.world.prompt_ids(p) for p in "xy"])
    head = prompt_values.fit(
        [states["xy".index(r.prompt[0].content)] for r in records],
        [sum(r.scores) / 4 for r in records],
        steps=300,
        seed=0,
    )
    assert prompt_values.told(head, states).tolist() == pytest.approx([due["x"], due["y"]], abs=0.25)
    better = sum(score > due[r.prompt[0].content] + 0.3 for r in records for score in r.scores)
    assert better <= len(kept) <= 0.75 * 4 * len(records)
    assert all(len(record.responses) == 1 and record.scores[0] > 0 for record in kept)
    assert notes == [f"{256 - len(kept)} of 256 responses are no better than the model's own and are left out."]
    often, _ = advantages(records, tokenizer, model)
    assert sum(r.scores[0] for r in often) / len(often) > sum(r.scores[0] for r in kept) / len(kept)
    low = [Group([Message("user", "x")], ["b", "c"], scores=[0.5, 0.5])]
    with pytest.raises(KilterError, match="None of 2 responses is better"):
        advantages(low, tokenizer, model)


def test_values_are_those_of_the_model_itself_where_feedback_is_named(tmp_path, monkeypatch):
    from kilter.training import a_lol as module
    from worlds.tokens import Gold

    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    monkeypatch.setattr(module, "named", lambda name: Gold(tokens.world))
    records, model, tokenizer = groups_of(tokens.world), tokens.model(), tokens.world.tokenizer()
    kept, _ = advantages(
        records, tokenizer, model, feedback="gold", validation=1.0, max_tokens=3, value_steps=0, sampling="uniform"
    )
    # Without steps V is the mean of what the model earned.
    asked = random.Random(0).sample(records, len(records))
    ids = [tokens.world.prompt_ids(r.prompt[0].content) for r in asked]
    said = sample(model, ids, max_tokens=3, stop_ids={0}, seed=0)
    value = sum(sum((t == 4) - 2 * (t == 5) for t in c.tokens) for [c] in said) / len(said)
    due = sorted(s - value for r in records for s in r.scores if s > value)
    assert sorted(r.scores[0] for r in kept) == pytest.approx(due, abs=1e-4)


def test_half_of_the_data_may_be_bad(tmp_path, monkeypatch):
    """The mean reward that A-LoL's policy expects is above those of imitation and of weighted imitation."""
    from kilter.training.run import train

    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    records = groups_of(tokens.world, bad=0.5, count=48)
    low = min(score for record in records for score in record.scores)
    for record in records:  # weights below 0 would have no end
        record.scores = [(score - low) / 10 for score in record.scores]
    found = {}
    for name in ("a-lol", "wbc"):
        out = tmp_path / name
        train(name, model=tokens.start, data=records, out=out, batch_size=16, steps=25, say=lambda notes: None, **QUICK)
        found[name] = tokens.reward(tokens.model(out))
    assert found["a-lol"] > found["wbc"] + 0.2
    assert found["a-lol"] > tokens.reward(tokens.model())
