"""GRPO and RLOO against what TRL computed on its own rollout (tests/fixtures/make_trl_online_reference.py)."""

import pytest
import torch
from test_trl import check, model

import tiny_llama
from kilter.engine import Scorer, Tree, collate
from kilter.training.grpo import grpo
from kilter.training.policy_gradient import leave_one_out, normalised
from kilter.training.rloo import rloo


@pytest.fixture(scope="module")
def recorded():
    return tiny_llama.recorded("trl_online_reference.safetensors")


def rollout(values, name, size):
    """Return TRL's rollout as trees of `size` responses, with the log-probs at which they were sampled."""
    columns = [values[f"{name}.{key}"] for key in ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")]
    rewards = values[f"{name}.rewards"].tolist()
    old = values.get(f"{name}.old_per_token_logps")
    trees = []
    for i, (prompt, seen, response, scored) in enumerate(zip(*columns, strict=True)):
        if i % size == 0:
            trees.append(Tree(prompt[seen.bool()].tolist(), [], [], info={"rewards": [], "behaviour": []}))
        tree, length = trees[-1], int(scored.sum())
        assert tree.prompt == prompt[seen.bool()].tolist()
        tree.responses.append(response[:length].tolist())
        tree.masks.append([True] * length)
        tree.info["rewards"].append(rewards[i])
        if old is not None:
            tree.info["behaviour"].append(old[i, :length].numpy())
        else:  # of RLOO the log-prob of the whole response is known: it may stand at any token
            whole = [0.0] * (length - 1) + [float(values[f"{name}.old_logps"][i])]
            tree.info["behaviour"].append(torch.tensor(whole).numpy())
    return trees


@pytest.mark.parametrize("name", ["grpo", "dapo"])
def test_grpo_has_trl_s_advantages_loss_and_gradient(recorded, name):
    values, told = recorded
    policy, reference = model(values, "policy"), model(values, "reference")
    batch = collate(rollout(values, name, int(told["group"])))
    options = {"average": "token", "scale": "none", "correct_kl": True} if name == "dapo" else {}
    advantages = normalised(batch.groups.rewards, batch.groups.group_of, scaled=name == "grpo")
    torch.testing.assert_close(advantages, values[f"{name}.advantages"], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        held = Scorer(reference)(batch)
    loss = grpo(
        Scorer(policy)(batch), held, batch.groups, beta=float(told["beta"]), cliprange=float(told["clip"]), **options
    )
    assert 0 < loss.metrics["clip_fraction"].mean() < 1
    check(values, name, policy, loss)


def test_rloo_has_trl_s_advantages_loss_and_gradient(recorded):
    values, told = recorded
    policy, reference = model(values, "policy"), model(values, "reference")
    batch = collate(rollout(values, "rloo", int(told["group"])))
    with torch.no_grad():
        held = Scorer(reference)(batch)
    drawn = values["rloo.old_logps"]
    penalised = batch.groups.rewards - float(told["beta"]) * (drawn - held.sum())
    advantages = leave_one_out(penalised, batch.groups.group_of)
    torch.testing.assert_close(advantages, values["rloo.advantages"], atol=1e-5, rtol=1e-5)
    loss = rloo(Scorer(policy)(batch), held, batch.groups, beta=float(told["beta"]), cliprange=float(told["clip"]))
    assert 0 < loss.metrics["clip_fraction"].mean() < 1
    check(values, "rloo", policy, loss)
