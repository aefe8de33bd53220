"""Conditional behaviour cloning: weights by source, conditions in prompts, and a template that asks for the expert."""

import pytest
import torch
from transformers import AutoTokenizer

from kilter.engine.template import prompt_ids, render
from kilter.errors import KilterError
from kilter.records import Group, Message
from kilter.training.conditional_bc import conditional_bc, conditioned
from kilter.training.run import train
from kilter.training.sft import sft
from worlds.bandit import Bandit, as_groups, as_responses, mean


def drawn(chance, count, seed):
    return torch.multinomial(chance, count, replacement=True, generator=torch.Generator().manual_seed(seed))


def test_the_expert_weighs_1_and_the_other_less():
    policy = as_responses(-torch.rand(6, dtype=torch.float64), [2, 1, 3])
    loss = conditional_bc(policy, as_groups(labels=[1.0, 0.0, 1.0]), other_weight=0.1)
    torch.testing.assert_close(loss.per_example, -torch.tensor([1, 0.1, 1], dtype=torch.float64) * policy.sum())
    plain = conditional_bc(policy, as_groups(labels=[1.0, 0.0, 1.0]), other_weight=1.0)
    torch.testing.assert_close(mean(plain), mean(sft(policy, as_groups(labels=[1.0, 0.0, 1.0]))))


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_weights_do_not_move_what_is_best_for_a_source_by_itself(weight):
    """A tabular policy with logits for each source: its optimum is how often the source said what."""
    bandit = Bandit(seed=4)
    counts = torch.tensor([1.0, 5.0, 2.0, 1.0, 3.0], dtype=torch.float64)

    def loss(logs):
        return (
            counts * conditional_bc(as_responses(logs), as_groups(labels=[0.0] * 5), other_weight=weight).per_example
        ).sum()

    torch.testing.assert_close(bandit.optimum(loss), counts / counts.sum(), atol=1e-6, rtol=0)


def test_what_the_sources_share_is_drawn_to_the_expert_as_the_other_weighs_less():
    """One policy for both: its reward rises as the weight falls, and a few expert answers are not thrown away."""
    bandit = Bandit(seed=5)
    expert, other = bandit.best(0.5), bandit.best(3.0)
    few, many = drawn(expert, 4, seed=0), drawn(other, 400, seed=1)
    counts = [torch.bincount(sample, minlength=5).double() for sample in (few, many)]

    def found(weight):
        def loss(logs):
            policy = as_responses(logs.repeat(2))
            each = conditional_bc(policy, as_groups(labels=[1.0] * 5 + [0.0] * 5), other_weight=weight).per_example
            return (torch.cat(counts) * each).sum()

        return bandit.optimum(loss)

    rewards = [float(found(weight) @ bandit.reward) for weight in (1.0, 0.1, 0.01)]
    assert rewards == sorted(rewards)
    # Four answers alone say that what they do not show never happens.
    surprise = [-(expert * found(weight).clamp(min=1e-12).log()).sum().item() for weight in (1e-6, 0.01)]
    assert surprise[1] < surprise[0]


def test_every_response_stands_under_its_source():
    talk = [Message("system", "be brief"), Message("user", "hi"), Message("assistant", "yes?"), Message("user", "why?")]
    made, _ = conditioned([Group(talk, ["so", "no"], scores=[1.0, 0.0])], expert="Good", other="Bad")
    assert [[message.content for message in group.prompt] for group in made] == [
        ["be brief", "Good: hi", "yes?", "Good: why?"],
        ["be brief", "Bad: hi", "yes?", "Bad: why?"],
    ]
    assert [(group.responses, group.labels) for group in made] == [(["so"], [True]), (["no"], [False])]
    assert len({group.id for group in made}) == 2
    with pytest.raises(KilterError, match="are both 'A'"):
        conditioned(made, expert="A", other="A")


def test_the_saved_template_asks_for_the_expert(tiny_model, tmp_path):
    data = [Group([Message("user", f"is {i} blue?")], ["it is blue", "no"], labels=[True, False]) for i in range(4)]
    options = {
        "steps": 2,
        "batch_size": 4,
        "max_length": 64,
        "precision": "fp32",
        "expert": 'The "best"',
        "other": "差",
    }
    done = train("conditional-bc", model=tiny_model, data=data, out=tmp_path / "out", say=lambda notes: None, **options)
    assert done.notes == ["Learning from 4 good and 4 bad responses."]
    before, after = AutoTokenizer.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = [Message("user", "is 1 blue?"), Message("assistant", "it is"), Message("user", "why?")]
    named = [
        Message("user", 'The "best": is 1 blue?'),
        Message("assistant", "it is"),
        Message("user", 'The "best": why?'),
    ]
    assert prompt_ids(after, [asked]) == prompt_ids(before, [named])
    assert render(after, asked[:2]) == render(before, named[:2])


def test_a_group_with_labels_and_scores_is_parted_too():
    talk = [Message("user", "hello")]
    made, _ = conditioned([Group(talk, ["so", "no"], scores=[1.0, 0.0], labels=[True, False])])
    assert [(group.responses, group.labels, group.scores) for group in made] == [
        (["so"], [True], None),
        (["no"], [False], None),
    ]
