"""GRPO, RLOO and PPO as functions: gradients, estimates and limits that are known without a trainer."""

import itertools

import pytest
import torch

from kilter.engine import Groups, LogProbs, Tree
from kilter.training.grpo import grpo
from kilter.training.policy_gradient import gae, k1, k3, leave_one_out, normalised, surrogate, whitened
from kilter.training.ppo import adapted, ppo, shape
from kilter.training.rloo import rloo
from kilter.training.rollouts import Rollout


def responses(tokens, lengths, **more):
    sizes = torch.tensor(lengths)
    return LogProbs(tokens, torch.arange(len(lengths)).repeat_interleave(sizes), sizes, **more)


def rewarded(rewards, behaviour, group_of=None, **more):
    count = len(rewards)
    told = torch.zeros(count, dtype=torch.long) if group_of is None else torch.as_tensor(group_of)
    pairs = torch.zeros(0, 2, dtype=torch.long)
    return Groups(pairs, told, rewards=torch.as_tensor(rewards), behaviour=behaviour, **more)


def mean(loss):
    return loss.per_example.sum() / loss.weight.sum()


def test_baselines_are_those_of_the_group():
    rewards, group_of = torch.tensor([1.0, 3.0, 5.0, 7.0, 2.0]), torch.tensor([0, 0, 0, 1, 0])
    same = rewards[group_of == 0]
    found = normalised(rewards, group_of)
    torch.testing.assert_close(found[group_of == 0], (same - same.mean()) / (same.std() + 1e-4))
    torch.testing.assert_close(normalised(rewards, group_of, scaled=False)[group_of == 0], same - same.mean())
    others = torch.stack([rewards[0] - 10 / 3, rewards[1] - 8 / 3, rewards[2] - 2.0, rewards[4] - 3.0])
    torch.testing.assert_close(leave_one_out(rewards, group_of)[group_of == 0], others)
    # A response that is alone, and responses that are all alike, teach nothing.
    assert found[3] == 0
    assert leave_one_out(rewards, group_of)[3] == 0
    assert normalised(torch.full((4,), 0.3), torch.zeros(4, dtype=torch.long)).abs().max() < 1e-3


@pytest.mark.parametrize("average", ["response", "token"])
def test_grpo_at_ratio_1_is_reinforce_with_normalised_rewards(average):
    torch.manual_seed(0)
    tokens, lengths = (-3 * torch.rand(9, dtype=torch.float64)).requires_grad_(), [2, 4, 3]
    rewards = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    policy, group = responses(tokens, lengths), rewarded(rewards, tokens.detach())
    loss = mean(grpo(policy, None, group, average=average))
    [slope] = torch.autograd.grad(loss, tokens)
    advantages = normalised(rewards, group.group_of)
    scale = 1 / policy.lengths[policy.owner] / 3 if average == "response" else 1 / 9
    torch.testing.assert_close(slope, -advantages[policy.owner] * scale)


def test_the_clip_holds_back_what_pushes_outward_and_nothing_else():
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1], dtype=torch.float64)
    log_ratio = ratio.log().requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
    found, held = surrogate(log_ratio, advantages, 0.2, 0.2)
    torch.testing.assert_close(found, torch.tensor([1.2, -1.5, 0.5, -0.8, 1.1], dtype=torch.float64))
    assert held.tolist() == [1, 0, 0, 1, 0]
    [slope] = torch.autograd.grad(found.sum(), log_ratio)
    torch.testing.assert_close(slope, ratio * advantages * (1 - held))


def test_both_estimates_of_the_kl_are_right_on_average_and_one_is_never_negative():
    torch.manual_seed(1)
    policy, reference = torch.randn(2, 7, dtype=torch.float64).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    for estimate in (k1, k3):
        torch.testing.assert_close((policy.exp() * estimate(policy, reference)).sum(), exact)
    assert (k3(policy, reference) >= 0).all()
    assert (k1(policy, reference) < 0).any()


class World:
    """Every sequence of two tokens out of three, and a policy over them whose log-probs depend on what came before."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.first = torch.randn(3, dtype=torch.float64, requires_grad=True)
        self.second = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
        self.sequences = list(itertools.product(range(3), repeat=2))
        self.rewards = torch.randn(9, dtype=torch.float64)

    def tokens(self):
        """Return [9, 2]: the log-prob of each token of each sequence."""
        first, second = self.first.log_softmax(-1), self.second.log_softmax(-1)
        return torch.stack([torch.stack((first[a], second[a, b])) for a, b in self.sequences])

    def slope(self, value):
        return torch.cat([x.reshape(-1) for x in torch.autograd.grad(value, (self.first, self.second))])


@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("k", [2, 3])
def test_rloo_is_unbiased(beta, k):
    """Its gradient, on average over all draws of k sequences, is that of E[r] - beta KL(pi || pi_ref), enumerated."""
    world, held = World(3), World(4)
    reference = held.tokens().detach()
    tokens = world.tokens()
    whole = tokens.sum(-1)
    exact = world.slope((whole.exp() * (world.rewards - beta * (whole - reference.sum(-1)))).sum())
    expected = torch.zeros(())
    for draw in itertools.product(range(9), repeat=k):
        rows, now = list(draw), world.tokens()
        policy = responses(now[rows].reshape(-1), [2] * k)
        group = rewarded(world.rewards[rows], policy.tokens.detach())
        ref = policy.with_tokens(reference[rows].reshape(-1)) if beta else None
        chance = now.sum(-1)[rows].sum().exp().detach()
        expected = expected - chance * mean(rloo(policy, ref, group, beta=beta))
    torch.testing.assert_close(world.slope(expected), exact)


def test_rloo_with_the_mean_as_baseline_would_be_too_small_by_1_minus_1_over_k():
    rewards, group_of = torch.randn(5), torch.zeros(5, dtype=torch.long)
    torch.testing.assert_close(leave_one_out(rewards, group_of) * 4 / 5, normalised(rewards, group_of, scaled=False))


def test_generalised_advantages_by_hand():
    """Two responses, gamma 0.9, lambda 0.8: d = .04, .03, .3 and -.5; what belongs to one does not reach the other."""
    rewards = torch.tensor([0.0, 0.0, 1.0, 0.5])
    values = torch.tensor([0.5, 0.6, 0.7, 1.0])
    advantages, returns = gae(rewards, values, torch.tensor([3, 1]), gamma=0.9, lam=0.8)
    expected = torch.tensor([0.04 + 0.72 * (0.03 + 0.72 * 0.3), 0.03 + 0.72 * 0.3, 0.3, -0.5])
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(returns, expected + values)


def test_generalised_advantages_at_both_ends_of_lambda():
    torch.manual_seed(2)
    rewards, values, lengths = torch.randn(9), torch.randn(9), torch.tensor([4, 0, 5])
    summed, _ = gae(rewards, values, lengths, gamma=1.0, lam=1.0)
    ahead = torch.cat([part.flip(0).cumsum(0).flip(0) for part in rewards.split([4, 5])])
    torch.testing.assert_close(summed, ahead - values)
    errors, _ = gae(rewards, values, lengths, gamma=0.9, lam=0.0)
    following = torch.cat([torch.cat((part[1:], torch.zeros(1))) for part in values.split([4, 5])])
    torch.testing.assert_close(errors, rewards + 0.9 * following - values)


def test_the_kl_coefficient_adapts_as_ziegler_says():
    assert adapted(0.2, 6.0, 6.0) == 0.2
    assert adapted(0.2, 6.6, 6.0) == pytest.approx(0.2 * 1.01)
    assert adapted(0.2, 60.0, 6.0) == pytest.approx(0.2 * 1.02)
    assert adapted(0.2, 0.0, 6.0) == pytest.approx(0.2 * 0.98)
    assert adapted(0.2, 5.4, 6.0) == pytest.approx(0.2 * 0.99)


def made(rewards, behaviour, reference, values, lengths):
    """Return a rollout of one tree with responses of these lengths; what it holds is whatever is given."""
    parts = {"behaviour": behaviour, "reference": reference, "values": values}
    info = {name: [part.numpy() for part in torch.tensor(flat).split(lengths)] for name, flat in parts.items()}
    masks = [[True] * n for n in lengths]
    return Rollout([Tree([1], [[2] * n for n in lengths], masks, info={"id": "a", "rewards": rewards, **info})])


def test_ppo_rewards_each_token_with_its_kl_and_the_last_with_the_reward():
    rollout = made([1.0, -1.0], [-1.0, -2.0, -1.0], [-1.5, -1.0, -1.0], [0.1, 0.2, 0.3], [2, 1])
    shape(rollout, kl_coef=0.5, gamma=1.0, lam=1.0, whiten=False)
    # R = -0.5 (0.5), -0.5 (-1.0) + 1; and -1.
    assert rollout.flat("returns").tolist() == pytest.approx([1.25, 1.5, -1.0])
    assert rollout.flat("advantages").tolist() == pytest.approx([1.15, 1.3, -1.3])
    assert rollout.state == pytest.approx({"kl_coef": 0.5, "rollout_kl": -0.25})
    shape(rollout, kl_coef=0.5, kl_target=1.0)
    assert rollout.state["kl_coef"] == pytest.approx(0.5 * 0.98)
    advantages = torch.tensor(rollout.flat("advantages"))
    assert advantages.mean().item() == pytest.approx(0, abs=1e-6)
    assert advantages.std().item() == pytest.approx(1, abs=1e-6)


def test_whitening_leaves_what_cannot_be_whitened():
    assert whitened(torch.tensor([3.0])).tolist() == [0]
    assert whitened(torch.zeros(0)).tolist() == []
    assert whitened(torch.tensor([2.0, 2.0])).tolist() == [0, 0]


def test_ppo_at_ratio_1_is_reinforce_with_the_advantages_and_its_critic_learns_the_returns():
    torch.manual_seed(3)
    tokens = (-torch.rand(5, dtype=torch.float64)).requires_grad_()
    values = torch.randn(5, dtype=torch.float64).requires_grad_()
    advantages, returns = torch.randn(2, 5, dtype=torch.float64)
    group = rewarded([0.0, 1.0], tokens.detach(), advantages=advantages, returns=returns, values=values.detach())
    loss = ppo(responses(tokens, [2, 3], values=values), group, vf_coef=0.7)
    slopes = torch.autograd.grad(mean(loss), (tokens, values))
    torch.testing.assert_close(slopes[0], -advantages / 5)
    torch.testing.assert_close(slopes[1], 0.7 * (values - returns).detach() / 5)
    assert loss.metrics["clip_fraction"].sum() == 0


def test_ppo_s_value_loss_is_clipped_around_the_old_values():
    values = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64, requires_grad=True)
    old, returns = torch.zeros(3, dtype=torch.float64), torch.tensor([2.0, 0.9, 1.0], dtype=torch.float64)
    tokens = torch.full((3,), -1.0, dtype=torch.float64)
    none = torch.zeros(3, dtype=torch.float64)
    group = rewarded([0.0], tokens, advantages=none, returns=returns, values=old)
    loss = ppo(responses(tokens, [3], values=values), group, vf_coef=1.0, cliprange_value=0.2)
    # 0.2 is as far as a value may count: (0.2 - 2)^2 > (1 - 2)^2, (0.2 - 0.9)^2 > (1 - 0.9)^2; 0.1 is within.
    assert loss.per_example.item() == pytest.approx(0.5 * (1.8**2 + 0.7**2 + 0.9**2))
    [slope] = torch.autograd.grad(loss.per_example.sum(), values)
    assert slope.tolist() == pytest.approx([0, 0, 0.1 - 1.0])
    assert loss.metrics["value_clip_fraction"].tolist() == [1, 1, 0]


def test_ppo_adds_the_entropy_where_it_is_asked_to():
    tokens, none = -torch.rand(2), torch.zeros(2)
    group = rewarded([0.0], tokens, advantages=none, returns=none, values=none)
    policy = responses(tokens, [2], values=none, entropy=torch.tensor([0.5, 1.5]))
    assert ppo(policy, group, entropy_coef=0.1).per_example.item() == pytest.approx(-0.2)
    assert ppo(policy, group).per_example.item() == 0


@pytest.mark.parametrize("learner", ["ppo", "rloo", "grpo"])
def test_the_optimum_is_the_tilted_reference(learner):
    """Five actions and exact gradients: pi* = pi_ref exp(r / beta) / Z, where E[r] - beta KL is beta ln Z."""
    torch.manual_seed(5)
    beta, reward = 0.5, torch.randn(5, dtype=torch.float64)
    reference = torch.randn(5, dtype=torch.float64).log_softmax(-1)
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    # Every pair of actions that could be drawn, as a group of two.
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    rows, groups = pairs.reshape(-1), torch.arange(25).repeat_interleave(2)
    for _ in range(500):
        now = logits.log_softmax(-1)
        old = now.detach()
        if learner == "ppo":
            away = reward - beta * (old - reference)
            gain = away - (old.exp() * away).sum()
            group = rewarded(reward, old, advantages=gain, returns=gain, values=gain)
            loss = (old.exp() * ppo(responses(now, [1] * 5, values=gain), group).per_example).sum()
        else:
            policy = responses(now[rows], [1] * 50)
            group, held = rewarded(reward[rows], old[rows], groups), policy.with_tokens(reference[rows])
            if learner == "rloo":
                found = rloo(policy, held, group, beta=beta)
            else:  # the mean of two has a half of the response itself in it, so that rewards count half
                found = grpo(policy, held, group, beta=beta / 2, scale="none", correct_kl=True)
            loss = (old[pairs].sum(-1).exp()[groups] * found.per_example).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = (reference + reward / beta).log_softmax(-1)
    found = logits.detach().log_softmax(-1)
    assert float((found.exp() * (found - best)).sum()) < 1e-3
    value = (found.exp() * (reward - beta * (found - reference))).sum()
    assert value.item() == pytest.approx(beta * torch.logsumexp(reference + reward / beta, 0).item(), abs=1e-3)
