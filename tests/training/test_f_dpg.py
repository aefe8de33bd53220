"""f-DPG: its gradient is the divergence's, its optimum the target, its Z unbiased; in closed form on the bandit."""

import math

import numpy as np
import pytest
import torch
from token_runs import Tokens

from kilter.engine import Tree
from kilter.errors import KilterError
from kilter.training.f_dpg import aim, f_dpg, log_mean, slope
from kilter.training.rollouts import Rollout
from worlds.bandit import Bandit, as_groups, as_responses

# f itself, of which the method has the derivative; E_p f(pi / p) is the divergence.
F = {
    "forward-kl": lambda t: -t.log(),
    "reverse-kl": lambda t: t * t.log(),
    "js": lambda t: t * (2 * t / (1 + t)).log() + (2 / (1 + t)).log(),
    "tv": lambda t: (t - 1).abs() / 2,
    "chi2": lambda t: t + 1 / t - 2,
}


def loss_of(logs, target, divergence, baseline=0.0):
    """Return the exact expectation of the method's loss over all actions, weighted by a policy that is held still."""
    group = as_groups(torch.zeros(len(logs), dtype=logs.dtype))
    group.rewards, group.behaviour = group.scores, logs.detach()
    group.target, group.baseline = target, torch.full_like(target, baseline)
    return (logs.detach().exp() * f_dpg(as_responses(logs), group, divergence=divergence).per_example).sum()


@pytest.mark.parametrize("divergence", F)
def test_the_gradient_is_that_of_the_divergence(divergence):
    bandit = Bandit(seed=2)
    target = bandit.best(1.5).log()
    logits = bandit.held.clone().requires_grad_()
    logs = torch.log_softmax(logits, 0)
    exact = (target.exp() * F[divergence]((logs - target).exp())).sum()
    [due] = torch.autograd.grad(exact, logits, retain_graph=True)
    for baseline in (0.0, 3.0):  # which changes nothing on average
        [found] = torch.autograd.grad(loss_of(logs, target, divergence, baseline), logits, retain_graph=True)
        torch.testing.assert_close(found, due, atol=1e-10, rtol=0)


def test_js_is_twice_the_jensen_shannon_divergence():
    bandit = Bandit(seed=4)
    p, q = bandit.best(1.0), bandit.held.exp()
    middle = (p + q) / 2
    js = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    torch.testing.assert_close((p * F["js"](q / p)).sum(), 2 * js)


@pytest.mark.parametrize("divergence", F)
def test_every_divergence_has_its_optimum_at_the_target(divergence):
    bandit = Bandit(seed=3)
    target = bandit.best(1.0).log()
    logits = bandit.held.clone().requires_grad_()
    rate = 0.05 if divergence == "tv" else 0.3
    for step in range(400):
        [down] = torch.autograd.grad(loss_of(torch.log_softmax(logits, 0), target, divergence), logits)
        # The slope of the total variation does not shrink towards the optimum: its steps have to.
        down = down / (1 + step / 4) if divergence == "tv" else down.clamp(-1, 1)
        logits = (logits - rate * down * (10 if divergence == "tv" else 1)).detach().requires_grad_()
    torch.testing.assert_close(torch.softmax(logits, 0), target.exp(), atol=0.02, rtol=0)


def test_the_reverse_kl_is_rlhf_s_gradient_up_to_beta():
    bandit, beta = Bandit(seed=6), 0.7
    logits = torch.randn(5, dtype=torch.float64).requires_grad_()
    logs = torch.log_softmax(logits, 0)
    [found] = torch.autograd.grad(loss_of(logs, bandit.best(beta).log(), "reverse-kl"), logits, retain_graph=True)
    [due] = torch.autograd.grad(bandit.value(logs.exp(), beta), logits)
    torch.testing.assert_close(-beta * found, due)


def test_a_policy_that_can_not_be_the_target_is_broadest_under_the_forward_kl():
    """A bump of any place and width against a target of two peaks."""
    places = torch.arange(21, dtype=torch.float64)
    peaks = torch.exp(-((places - 5) ** 2) / 4) + 0.4 * torch.exp(-((places - 11) ** 2) / 4) + 1e-3
    target = (peaks / peaks.sum()).log()
    spread = {}
    for divergence in ("forward-kl", "js", "reverse-kl"):
        shape = torch.tensor([6.0, 1.0], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([shape], lr=0.05)
        for _ in range(400):
            logs = torch.log_softmax(-((places - shape[0]) ** 2) / (2 * shape[1].exp() ** 2), 0)
            optimizer.zero_grad()
            loss_of(logs, target, divergence).backward()
            optimizer.step()
        spread[divergence] = -(logs.exp() * logs).sum().item()
    assert spread["forward-kl"] > spread["js"] + 0.01 > spread["reverse-kl"] + 0.03


def rollout(bandit, said, memory=None):
    """Return a rollout of the given actions, drawn from the bandit's reference policy, one prompt."""
    info = {"id": "p", "rewards": bandit.reward[said].tolist(), "cut": [0.0] * len(said)}
    for name in ("behaviour", "reference"):
        info[name] = [np.array([bandit.held[a]], dtype=np.float32) for a in said]
    return Rollout([Tree([1], [[a] for a in said], [[True]] * len(said), info=info)], memory=memory or {})


def test_z_is_estimated_without_bias_and_its_window_moves():
    bandit, beta = Bandit(seed=5), 0.9
    exact = torch.logsumexp(bandit.held + bandit.reward / beta, 0).exp().item()
    weights = (bandit.reward / beta).tolist()
    # On average over all draws of two actions the estimate is Z itself.
    pairs = [(a, b) for a in range(5) for b in range(5)]
    chance = [(bandit.held[a] + bandit.held[b]).exp().item() for a, b in pairs]
    found = [math.exp(log_mean([weights[a], weights[b]])) for a, b in pairs]
    assert sum(c * z for c, z in zip(chance, found, strict=True)) == pytest.approx(exact)
    first = rollout(bandit, [0, 1, 2])
    aim(first, beta=beta, z_window=4)
    z = log_mean(weights[:3])
    due = bandit.held[:3] + bandit.reward[:3] / beta - z
    assert first.trees[0].info["target"] == pytest.approx(due.tolist(), abs=1e-5)
    second = rollout(bandit, [3, 4], first.memory)
    aim(second, beta=beta, z_window=4)
    assert second.state["z"] == pytest.approx(math.exp(log_mean(weights[1:])), rel=1e-5)
    # The first rollout compares responses with one another, the next with what was before.
    rewards = -slope(bandit.held[:3] - due, "js")
    others = [(rewards.sum() - r).item() / 2 for r in rewards]
    assert first.trees[0].info["baseline"] == pytest.approx(others, abs=1e-5)
    assert second.trees[0].info["baseline"] == pytest.approx([rewards.mean().item()] * 2, abs=1e-5)


def test_what_must_not_be_has_no_target_and_no_reward():
    bandit = Bandit(seed=5)
    said = [int(bandit.reward.argmin()), int(bandit.reward.argmax())]
    one = rollout(bandit, said)
    aim(one, aim="filtered", divergence="js")
    assert one.trees[0].info["target"][0] == -math.inf
    assert one.trees[0].info["target"][1] == pytest.approx(bandit.held[said[1]].item() + math.log(2), abs=1e-5)
    assert np.isfinite(one.trees[0].info["baseline"]).all()
    none = rollout(bandit, said[:1] * 2)
    aim(none, aim="filtered", divergence="forward-kl")
    assert none.trees[0].info["target"] == [-math.inf] * 2
    for divergence in set(F) - {"reverse-kl"}:
        assert slope(torch.tensor(math.inf), divergence).isfinite()
    with pytest.raises(KilterError, match="reverse KL"):
        aim(rollout(bandit, said), aim="filtered", divergence="reverse-kl")


def test_the_policy_comes_nearer_to_the_target(tmp_path, monkeypatch):
    tokens = Tokens(tmp_path, monkeypatch, words=3, length=3)
    world, start = tokens.world, tokens.model()
    with torch.no_grad():
        target = torch.log_softmax(world.log_probs(start) + world.rewards / 1.0, 0)

    def away(model):
        with torch.no_grad():
            logs = world.log_probs(model)
        return (logs.exp() * (logs - target)).sum().item()

    found, lines = tokens.run("f-dpg", steps=20, beta=1.0, samples=64, max_tokens=3)
    assert away(found) < 0.7 * away(start)
    assert tokens.reward(found) > tokens.reward(start)
    z = sum(torch.logsumexp(world.log_probs(start, p) + world.rewards, 0).exp().item() for p in "xy") / 2
    assert lines[-1]["z"] == pytest.approx(z, rel=0.5)
