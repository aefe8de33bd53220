"""What sft and dpo have to be by their papers: values, gradients, and where they lead."""

import math

import pytest
import torch
from torch.nn import functional as F

from kilter import registry
from kilter.engine import Groups, LogProbs
from kilter.training.dpo import dpo
from kilter.training.sft import sft


def responses(tokens, lengths):
    """Return log-probs of responses of the given lengths."""
    sizes = torch.tensor(lengths)
    return LogProbs(tokens, torch.arange(len(lengths)).repeat_interleave(sizes), sizes)


def pairs_of(rows):
    return Groups(torch.tensor(rows), torch.zeros(1 + max(map(max, rows)), dtype=torch.long))


def mean(loss):
    return loss.per_example.sum() / loss.weight.sum()


def test_sft_is_the_mean_over_tokens_and_its_slope_is_softmax_minus_target():
    torch.manual_seed(0)
    logits = torch.randn(7, 11, requires_grad=True, dtype=torch.float64)
    targets, scored = torch.randint(0, 11, (7,)), torch.tensor([0, 1, 3, 4, 5])
    logs = torch.log_softmax(logits, -1)[scored, targets[scored]]
    loss = mean(sft(responses(logs, [2, 3]), pairs_of([(0, 1)])))
    assert loss.item() == pytest.approx(-logs.mean().item())
    loss.backward()
    expected = torch.zeros_like(logits)
    expected[scored] = (torch.softmax(logits.detach(), -1) - F.one_hot(targets, 11))[scored] / 5
    torch.testing.assert_close(logits.grad, expected)


def test_dpo_is_ln_2_where_policy_and_reference_agree():
    same = responses(-torch.rand(5), [2, 3])
    loss = dpo(same, same, pairs_of([(0, 1), (1, 0)]))
    torch.testing.assert_close(loss.per_example, torch.full((2,), math.log(2)))
    assert loss.metrics["reward_margin"].tolist() == [0, 0]
    assert loss.metrics["kl"].tolist() == [0, 0]


def test_dpo_weighs_a_pair_by_how_wrong_it_is():
    torch.manual_seed(1)
    tokens, beta = (-3 * torch.rand(8, dtype=torch.float64)).requires_grad_(), 0.7
    policy, reference = (
        responses(tokens, [2, 1, 4, 1]),
        responses(-3 * torch.rand(8, dtype=torch.float64), [2, 1, 4, 1]),
    )
    group = pairs_of([(0, 1), (3, 2)])
    loss = dpo(policy, reference, group, beta=beta)
    ratio = (policy.sum() - reference.sum()).detach()
    wrong = beta * torch.sigmoid(beta * torch.stack((ratio[1] - ratio[0], ratio[2] - ratio[3])))
    loss.per_example.sum().backward()
    rows = torch.stack((-wrong[0], wrong[0], wrong[1], -wrong[1]))
    torch.testing.assert_close(tokens.grad, rows[policy.owner])
    margins = torch.stack((ratio[0] - ratio[1], ratio[3] - ratio[2]))
    torch.testing.assert_close(loss.metrics["reward_margin"].detach(), beta * margins)


def test_conservative_dpo_mixes_both_directions():
    policy, reference = responses(-torch.rand(5), [2, 3]), responses(-torch.rand(5), [2, 3])
    right, wrong = (dpo(policy, reference, pairs_of([pair])).per_example for pair in ((0, 1), (1, 0)))
    found = dpo(policy, reference, pairs_of([(0, 1)]), label_smoothing=0.2).per_example
    torch.testing.assert_close(found, 0.8 * right + 0.2 * wrong)


def test_the_sft_term_is_the_chosen_response_s_loss_per_token():
    policy, reference = responses(-torch.rand(5), [2, 3]), responses(-torch.rand(5), [2, 3])
    plain, both = (dpo(policy, reference, pairs_of([(1, 0)]), sft_weight=w).per_example for w in (0.0, 0.5))
    torch.testing.assert_close(both - plain, -0.5 * policy.tokens[2:].mean().reshape(1))


@pytest.mark.parametrize(("beta", "shift"), [(0.5, 0.0), (0.5, 5.0), (1e4, 0.0)])
def test_dpo_s_optimum_is_the_tilted_reference(beta, shift):
    """Five actions, labels by Bradley and Terry: pi* = pi_ref exp(r / beta) / Z.

    A constant added to r changes nothing, and a large beta stays at the reference.
    """
    torch.manual_seed(2)
    reward = torch.randn(5, dtype=torch.float64) + shift
    held = torch.log_softmax(torch.randn(5, dtype=torch.float64), 0)
    tilt = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    rows = [(i, j) for i in range(5) for j in range(5) if i != j]
    chance = torch.stack([torch.sigmoid(reward[i] - reward[j]) for i, j in rows])
    optimizer = torch.optim.LBFGS([tilt], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16)

    def closure():
        optimizer.zero_grad()
        policy = responses(torch.log_softmax(held + tilt / beta, 0), [1] * 5)
        loss = (chance * dpo(policy, responses(held, [1] * 5), pairs_of(rows), beta=beta).per_example).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    best = torch.softmax(held + reward / beta, 0)
    torch.testing.assert_close(torch.softmax(held + tilt.detach() / beta, 0), best, atol=1e-7, rtol=0)
    assert beta < 1e4 or float((best - held.exp()).abs().max()) < 1e-3


def test_both_are_in_the_catalogue_with_their_papers():
    for name, paper in (("sft", "2203.02155"), ("dpo", "2305.18290")):
        method = registry.find(name, "training")
        assert paper in method.paper
        assert all(option.help for option in method.options.values())
    assert registry.find("dpo").inputs == ("policy", "reference", "group")
