"""The objectives over whole rankings: what their papers say, and what one is of another."""

import math
from itertools import permutations

import pytest
import torch
from torch.nn.functional import logsigmoid

from kilter.engine.loop import LoopOptions, train
from kilter.engine.values import Values
from kilter.errors import KilterError
from kilter.training.dpo import dpo
from kilter.training.dpo_listwise import dpo_listwise
from kilter.training.pro import pro
from kilter.training.ranking import best_of
from kilter.training.reward_listwise import reward_listwise
from kilter.training.rrhf import rrhf
from tiny_models import make, some_trees
from worlds.bandit import as_groups, as_responses, mean

LENGTHS = [2, 3, 1, 4]


def pairs_of(scores, group_of=None):
    of = group_of or [0] * len(scores)
    rows = range(len(scores))
    return [(i, j) for i in rows for j in rows if of[i] == of[j] and scores[i] > scores[j]]


def ranked(scores, group_of=None):
    rewards = torch.tensor(scores, dtype=torch.float64)
    return as_groups(rewards, pairs=pairs_of(scores, group_of), group_of=group_of, responses=len(scores))


@pytest.fixture
def policy():
    torch.manual_seed(3)
    return as_responses((-2 * torch.rand(10, dtype=torch.float64)).requires_grad_(), LENGTHS)


def test_the_best_is_the_first_of_the_highest_in_each_group():
    found = best_of(torch.tensor([1.0, 3.0, 3.0, -2.0, -1.0]), torch.tensor([0, 0, 0, 1, 1]))
    assert found.tolist() == [False, True, False, False, True]


def test_rrhf_is_its_formula(policy):
    scores, p = [0.5, 2.0, 2.0, -1.0], policy.sum() / torch.tensor(LENGTHS)
    wanted = 0.7 * sum(torch.relu(p[i] - p[j]) for j, i in pairs_of(scores)) - p[1]
    torch.testing.assert_close(mean(rrhf(policy, ranked(scores), rank_weight=0.7)), wanted)
    q = policy.sum() / torch.tensor(LENGTHS, dtype=torch.float64) ** 0.5
    wanted = sum(torch.relu(q[i] - q[j]) for j, i in pairs_of(scores)) - p[1]
    torch.testing.assert_close(mean(rrhf(policy, ranked(scores), length_penalty=0.5)), wanted)


def test_rrhf_moves_only_pairs_in_the_wrong_order_and_ties_not_at_all():
    tokens = torch.tensor([-1.0, -2.0, -3.0, -0.5], dtype=torch.float64, requires_grad=True)
    group = ranked([3.0, 2.0, 1.0, 1.0])
    (rrhf(as_responses(tokens), group).per_example.sum() + tokens[0]).backward()  # without the best one's own term
    # Wrong are (0, 3) and (1, 3); 2 and 3 are a tie.
    assert tokens.grad.tolist() == [-1.0, -1.0, 0.0, 2.0]
    right = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    assert rrhf(as_responses(right), ranked([4.0, 3.0, 2.0, 1.0])).metrics["hinge"].tolist() == [0.0] * 4


@pytest.mark.parametrize("objective", [rrhf, pro])
def test_the_order_of_responses_and_other_prompts_change_nothing(policy, objective):
    torch.manual_seed(4)
    scores, p = [0.5, 2.0, 1.0, -1.0], policy.sum().detach() / torch.tensor(LENGTHS)
    alone = mean(objective(as_responses(p), ranked(scores)))
    for order in list(permutations(range(4)))[::5]:
        turned = mean(objective(as_responses(p[list(order)]), ranked([scores[k] for k in order])))
        torch.testing.assert_close(turned, alone)
    other = torch.randn(3, dtype=torch.float64) - 2
    beside = mean(objective(as_responses(other), ranked([1.0, 0.0, 2.0])))
    both = ranked([*scores, 1.0, 0.0, 2.0], [0, 0, 0, 0, 1, 1, 1])
    torch.testing.assert_close(mean(objective(as_responses(torch.cat((p, other))), both)), (alone + beside) / 2)


def test_pro_is_its_formula(policy):
    rewards, s = [2.0, 1.5, 0.0, -1.0], policy.sum() / torch.tensor(LENGTHS)
    wanted = torch.zeros((), dtype=torch.float64)
    for k in range(3):
        inverse = [rewards[k] - rewards[i] for i in range(k + 1, 4)]
        mass = [s[i] * t for i, t in zip(range(k + 1, 4), inverse, strict=True)]
        wanted = wanted + torch.logsumexp(torch.stack([s[k] * max(inverse), *mass]), 0) - s[k] * max(inverse)
    wanted = wanted - 0.05 * 9 * policy.sum()[0]
    torch.testing.assert_close(mean(pro(policy, ranked(rewards))), wanted)


def test_pro_without_temperatures_is_plackett_and_luce(policy):
    scores = [2.0, 1.0, 4.0, 0.0]
    found = mean(pro(policy, ranked(scores), temperature="none", sft_weight=0.0))
    values = Values(policy.tokens, policy.mean(), policy.owner, policy.lengths)
    torch.testing.assert_close(found, mean(reward_listwise(values, ranked(scores))))
    two = as_responses(torch.tensor([-1.0, -0.2]))
    found = mean(pro(two, as_groups([1.0, 0.0], pairs=[(0, 1)]), temperature="none", sft_weight=0.0))
    torch.testing.assert_close(found, -logsigmoid(torch.tensor(-0.8)))


def test_dpo_from_rankings_is_plackett_and_luce_on_the_implicit_reward(policy):
    reference = as_responses(-2 * torch.rand(10, dtype=torch.float64), LENGTHS)
    group, beta = ranked([2.0, 1.0, 4.0, 0.0]), 0.3
    reward = beta * (policy.sum() - reference.sum())
    found = dpo_listwise(policy, reference, group, beta=beta)
    values = Values(policy.tokens, reward, policy.owner, policy.lengths)
    torch.testing.assert_close(mean(found), mean(reward_listwise(values, group)))
    order = [2, 0, 1, 3]
    wanted = sum(torch.logsumexp(reward[order[k:]], 0) - reward[order[k]] for k in range(4))
    torch.testing.assert_close(mean(found), wanted)
    start = dpo_listwise(policy, policy, group)
    assert mean(start).item() == pytest.approx(math.log(24))
    two = as_groups([1.0, 0.0], pairs=[(0, 1)])
    pair = as_responses(torch.tensor([-1.0, -0.2])), as_responses(torch.tensor([-0.5, -0.9]))
    torch.testing.assert_close(mean(dpo_listwise(*pair, two, beta=beta)), mean(dpo(*pair, two, beta=beta)))


def test_a_prompt_with_many_responses_is_computed_once(tmp_path):
    tree = some_trees(shapes=((40, (5, 4, 3, 6, 2, 5, 4, 3)),))[0]
    tree.prompt_mask, tree.masks = None, [[True] * len(response) for response in tree.responses]
    tree.info |= {"order": [float(k) for k in range(8)], "pairs": pairs_of(list(range(8)))}
    options = LoopOptions(steps=2, batch_size=1, precision="fp32", checkpoint_every=0)
    done = train(make(), [tree], rrhf, options, tmp_path)
    assert done.tokens == 2 * (40 + 32)


def test_pro_with_rewards_of_another_scale_has_other_temperatures():
    s = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64)
    wide = mean(pro(as_responses(s), ranked([4.0, 2.0, 0.0]), sft_weight=0.0))
    torch.testing.assert_close(wide, mean(pro(as_responses(2 * s), ranked([2.0, 1.0, 0.0]), sft_weight=0.0)))
    shifted = mean(pro(as_responses(s), ranked([14.0, 12.0, 10.0]), sft_weight=0.0))
    torch.testing.assert_close(wide, shifted)


def test_pro_learns_nothing_from_rewards_that_are_equal():
    tokens = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss = mean(pro(as_responses(tokens), as_groups([1.0, 1.0], responses=2), sft_weight=0.0))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert tokens.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("objective", [rrhf, pro])
def test_scores_are_due(objective):
    with pytest.raises(KilterError, match="no scores; give scores, a ranking or labels"):
        objective(as_responses(torch.zeros(2)), as_groups(pairs=[(0, 1)]))
