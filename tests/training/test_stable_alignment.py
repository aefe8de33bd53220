"""Stable Alignment: its formula written out, what its second term moves, and where it leads."""

from functools import partial

import pytest
import torch

from kilter.engine.loop import LoopOptions, train
from kilter.errors import KilterError
from kilter.training.stable_alignment import stable_alignment
from worlds.bandit import as_groups, as_responses, mean
from worlds.tokens import TokenWorld


def some(seed=0, grad=True):
    """Two groups, of three and of two responses: token log-probs, lengths, ratings."""
    torch.manual_seed(seed)
    lengths = [2, 3, 1, 4, 2]
    tokens = -2 * torch.rand(sum(lengths), dtype=torch.float64)
    return tokens.requires_grad_(grad), lengths, [3.0, 6.0, 1.0, 2.0, 2.0], [0, 0, 0, 1, 1]


def written_out(tokens, lengths, scores, group_of, ratio=0.2, margin=10.0, scale=7.0, over="mean", slip=False):
    cost = torch.stack([-part.mean() for part in tokens.split(lengths)])
    losses = []
    for g in sorted(set(group_of)):
        rows = [i for i, of in enumerate(group_of) if of == g]
        best = max(rows, key=lambda i: (scores[i], -i))
        ranked = sorted((scores[i] for i in rows), reverse=True)
        terms = [
            cost[best] - cost[i] + (scores[best] - (ranked[k] if slip else scores[i])) / scale * margin
            for k, i in enumerate(rows)
            if i != best
        ]
        whole = torch.stack(terms).mean() if over == "mean" else torch.stack(terms).max()
        losses.append(cost[best] + ratio * whole.clamp(min=0))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("over", "slip"), [("mean", False), ("max", False), ("mean", True)])
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_the_paper_s(over, slip, seed):
    tokens, lengths, scores, group_of = some(seed)
    asked = {"over": over, "repo_margins": slip, "margin": 3.0}
    found = mean(stable_alignment(as_responses(tokens, lengths), as_groups(scores, group_of=group_of), **asked))
    wanted = written_out(tokens, lengths, scores, group_of, margin=3.0, over=over, slip=slip)
    torch.testing.assert_close(found, wanted)
    (ours,), (theirs,) = torch.autograd.grad(found, tokens), torch.autograd.grad(wanted, tokens)
    torch.testing.assert_close(ours, theirs)


def test_equal_ratings_leave_imitation_and_a_gap_without_margin():
    tokens = torch.tensor([-1.0, -2.0], requires_grad=True)
    # The first of equals is imitated. The other is less likely already: only imitation is left.
    assert mean(stable_alignment(as_responses(tokens), as_groups([4.0, 4.0]))).item() == pytest.approx(1.0)
    reverse = mean(stable_alignment(as_responses(tokens.flip(0)), as_groups([4.0, 4.0])))
    assert reverse.item() == pytest.approx(2.0 + 0.2 * 1.0)


def test_a_response_that_is_unlikely_enough_is_left_alone_and_others_are_pushed_down():
    far = torch.tensor([-1.0, -20.0], requires_grad=True)
    mean(stable_alignment(as_responses(far), as_groups([7.0, 1.0]))).backward()
    assert far.grad.tolist() == [-1.0, 0.0]
    near = torch.tensor([-1.0, -2.0], requires_grad=True)
    mean(stable_alignment(as_responses(near), as_groups([7.0, 1.0]))).backward()
    assert near.grad.tolist() == pytest.approx([-1.2, 0.2])


def test_a_single_response_is_imitated_and_no_rating_is_refused():
    alone = stable_alignment(as_responses(torch.tensor([-1.0, -3.0]), [2]), as_groups([5.0]))
    assert mean(alone).item() == pytest.approx(2.0)
    assert alone.metrics["hinge"].tolist() == [0.0]
    with pytest.raises(KilterError, match="'stable-alignment' ranks responses, and some group has no scores"):
        stable_alignment(as_responses(torch.tensor([-1.0])), as_groups(responses=1))


def test_reward_rises_above_imitation_of_the_best_without_a_reward_model(tmp_path):
    world = TokenWorld(words=3, length=3)
    draw = torch.Generator().manual_seed(0)
    groups = [torch.randint(0, len(world), (3,), generator=draw) for _ in range(200)]
    trees = [world.tree(numbers, order=(4 + world.rewards[numbers] / 2).tolist()) for numbers in groups]
    for seed in range(3):
        found = {}
        for name, ratio in (("sft", 0.0), ("cpo", 0.2)):
            model = world.model(seed)
            options = LoopOptions(steps=30, batch_size=12, learning_rate=1e-2, precision="fp32", log_every=30)
            objective = partial(stable_alignment, ratio=ratio)
            train(model, trees, objective, options, tmp_path / f"{name}{seed}")
            with torch.no_grad():
                found[name] = float(world.exact(model).reward)
        assert found["cpo"] > found["sft"] + 0.1
