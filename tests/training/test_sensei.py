"""SENSEI: judgements laid to the token that they are due to, and an actor that follows."""

import json
import random

import pytest
import torch
from torch.nn.functional import softplus

from kilter.engine import collate
from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.values import Valuer
from kilter.errors import KilterError
from kilter.models.load import load_value_model, load_weights
from kilter.records import Group, Message, Prompt
from kilter.training.run import train
from kilter.training.sensei import distributed, marked, rewards, sensei, sensei_actor
from worlds.tokens import TokenWorld

FAST = {"precision": "fp32", "log_every": 50, "checkpoint_every": 0, "max_length": 32}


def judged(count, seed):
    """Responses of neutral words; those that people approve of have one good word at any place."""
    draw = random.Random(seed)
    found = []
    for i in range(count):
        words = [draw.choice("cd") for _ in range(3)]
        good = draw.random() < 0.5
        if good:
            words[draw.randrange(3)] = "a"
        found.append(Group([Message("user", "x")], [" ".join(words)], labels=[good], id=str(i)))
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sensei")
    world = TokenWorld(words=4, length=4)
    start = world.save(folder / "start", world.model(0))
    options = {"steps": 25, "batch_size": 32, "learning_rate": 1e-2, **FAST}
    train("sensei", model=start, data=judged(400, 0), out=folder / "distributor", **options)
    return world, folder


def test_the_rewards_of_tokens_add_up_to_the_logit_and_its_loss(models):
    world, folder = models
    valuer = Valuer(load_value_model(str(folder / "distributor"), torch.float32, trained=True)[0])
    trees = marked([world.tree([700, 20]), world.tree([3])])
    batch = collate(trees)
    batch.groups.labels = torch.tensor([1.0, 0.0, 1.0])
    values = valuer(batch)
    parts = rewards(values).split([int(n) for n in batch.lengths])
    logit = torch.stack([part.sum() for part in parts])
    # The sum is what the head says at the last token.
    torch.testing.assert_close(logit, values.marks[batch.lengths.cumsum(0) - 1])
    found = sensei(values, batch.groups, course=0).per_example
    torch.testing.assert_close(found, softplus(torch.stack((-logit[0], logit[1], -logit[2]))))
    every = softplus(torch.tensor([-1.0, 1.0, -1.0])[values.mark_owner] * values.marks).split([len(p) for p in parts])
    both = sensei(values, batch.groups, course=0.5).per_example
    torch.testing.assert_close(both - found, 0.5 * torch.stack([part.mean() for part in every]))
    with pytest.raises(KilterError, match="Judgements are due"):
        sensei(values, Groups(batch.groups.pairs, batch.groups.group_of))


def test_the_judgement_is_laid_to_the_token_that_caused_it(models):
    world, folder = models
    valuer = Valuer(load_value_model(str(folder / "distributor"), torch.float32, trained=True)[0])
    good = [n for n in range(len(world)) if world.text(n).split().count("a") == 1 and len(world.text(n).split()) == 3]
    good = [n for n in good if world.ended(n) and not {"b", "x", "y", ":"} & set(world.text(n).split())]
    given = torch.from_numpy(distributed(valuer, [world.tree([n]) for n in good])).split([4] * len(good))
    hits = [int(part.argmax()) == world.text(n).split().index("a") for n, part in zip(good, given, strict=True)]
    assert len(hits) == 12
    assert sum(hits) / len(hits) > 0.9


def test_the_actor_is_the_language_model_at_first_and_then_earns_more(models, tmp_path):
    world, folder = models
    prompts = [Prompt([Message("user", "x")], id=str(i)) for i in range(64)]
    asked = {"distributor": str(folder / "distributor"), "feedback": "contains:a", "max_tokens": 4, "beta": 0.02}
    options = {"batch_size": 64, "learning_rate": 2e-2, "warmup": 0, "schedule": "constant", **asked, **FAST}
    options |= {"steps": 10, "merge": True, "log_every": 1}
    done = train("sensei-actor", model=folder / "start", data=prompts, out=tmp_path / "actor", **options)
    told = [json.loads(line) for line in done.metrics.read_text(encoding="utf-8").splitlines()]
    # Nought at first: what samples is the language model.
    assert told[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert told[-1]["kl"] > 0.01
    said = torch.tensor(["a" in world.text(n).split() for n in range(len(world))])
    before, after = (
        float(world.exact(load_weights(str(where))[0]).log_probs.exp()[said].sum())
        for where in (folder / "start", tmp_path / "actor")
    )
    assert after > before + 0.03


def test_the_loss_written_out():
    torch.manual_seed(0)
    lengths = torch.tensor([2, 1])
    owner = torch.tensor([0, 0, 1])
    numbers = [torch.randn(3, dtype=torch.float64) for _ in range(5)]
    tokens, behaviour, reference, advantages, due = numbers
    tokens = (behaviour + 0.05 * tokens).requires_grad_()
    values = torch.zeros(3, dtype=torch.float64)
    policy = LogProbs(tokens, owner, lengths, values=values)
    group = Groups(torch.empty(0, 2), torch.tensor([0, 1]), rewards=torch.zeros(2), behaviour=behaviour)
    group.advantages, group.returns = advantages, due
    found = sensei_actor(policy, policy.with_tokens(reference), group, beta=0.1, vf_coef=0.5)
    ratio = (tokens - behaviour).exp()
    wanted = 0.5 * due**2 - ratio * advantages + 0.1 * (behaviour - reference) * ratio
    torch.testing.assert_close(found.per_example, torch.stack((wanted[:2].sum(), wanted[2])))
    torch.testing.assert_close(
        found.metrics["kl"], torch.stack(((behaviour - reference)[:2].sum(), (behaviour - reference)[2]))
    )
