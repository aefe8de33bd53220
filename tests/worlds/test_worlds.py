"""The worlds themselves: what is claimed to be exact is."""

import math

import pytest
import torch

from kilter.engine import Scorer, collate
from kilter.engine.template import end_ids, prompt_ids, trees
from kilter.models.drive import wait
from kilter.records import Message
from worlds.bandit import Bandit
from worlds.preferences import Annotator, bayes_accuracy
from worlds.tokens import Gold, TokenWorld


@pytest.mark.parametrize("beta", [0.2, 1.0, 5.0])
def test_no_policy_of_the_bandit_is_worth_more_than_the_tilted_reference(beta):
    bandit = Bandit(seed=3)
    best = bandit.best(beta)
    assert bandit.value(best, beta).item() == pytest.approx(bandit.best_value(beta).item(), abs=1e-12)
    found = bandit.optimum(lambda logs: -bandit.value(logs.exp(), beta))
    torch.testing.assert_close(found, best, atol=1e-8, rtol=0)


def test_every_response_of_the_token_world_is_there_once():
    world = TokenWorld(words=3, length=3)
    assert len(world) == 1 + 6 + 36 + 216
    logs = world.log_probs(world.model(scale=4.0))
    assert logs.exp().sum().item() == pytest.approx(1.0, abs=1e-6)
    exact = world.exact(world.model(scale=4.0), reference=world.model(scale=4.0))
    assert exact.kl.item() == pytest.approx(0.0, abs=1e-9)
    assert 0 < exact.entropy.item() < math.log(len(world))


def test_the_engine_and_the_tokenizer_speak_the_token_world_s_language():
    world = TokenWorld(words=3, length=3)
    model, tokenizer = world.model(scale=4.0), world.tokenizer()
    ended = [n for n in range(0, len(world), 11) if world.ended(n)]
    batch = collate([world.tree(ended, "y")])
    torch.testing.assert_close(
        Scorer(model)(batch).sum().double(), world.log_probs(model, "y")[ended], rtol=0, atol=1e-5
    )
    written = [n for n in ended if world.text(n)]
    [made] = trees(tokenizer, [world.group(written, "y")])
    assert [list(row) for row in made.responses] == world.tree(written).responses
    assert list(made.prompt) == world.prompt_ids("y") == prompt_ids(tokenizer, [[Message("user", "y")]])[0]
    assert end_ids(tokenizer) == {0}


def test_samples_of_the_token_world_are_worth_what_is_expected():
    world = TokenWorld(words=3, length=3, ease=(0.0, 0.5))
    model = world.model(scale=4.0)
    drawn = world.sample(model, 20_000, "y")
    rewards = world.rewards[drawn] + 0.5
    error = rewards.std().item() / math.sqrt(len(drawn))
    assert abs(rewards.mean().item() - world.exact(model, "y").reward.item()) < 4 * error
    prompt = world.prompts()[1]
    signals = wait(Gold(world)(prompt, [world.text(n) for n in range(9)]))
    assert [signal.score for signal in signals] == (world.rewards[:9] + 0.5).tolist()


def test_annotators_err_as_they_are_told_to():
    assert Annotator().chance(1.0, 0.0) == pytest.approx(1 / (1 + math.exp(-1)))
    assert Annotator(flip=0.3).chance(90.0, 0.0) == pytest.approx(0.7)
    assert Annotator(length_bias=1.0).chance(0.0, 2.0, longer=2) == pytest.approx(0.5)
    assert Annotator(poisoned=1.0).chance(1.0, 0.0) == 0.0
    annotator, chance = Annotator(tau=2.0, flip=0.1, seed=5), Annotator(tau=2.0, flip=0.1).chance(1.0, 0.0)
    said = sum(annotator.prefers(1.0, 0.0) for _ in range(4000)) / 4000
    assert abs(said - chance) < 4 * math.sqrt(chance * (1 - chance) / 4000)
    assert bayes_accuracy([2.0, -2.0]) == pytest.approx(1 / (1 + math.exp(-2)))
    group = Annotator(seed=1).pair([Message("user", "x")], "a a", "b", (90.0, 0.0))
    assert group.pairs() == [(0, 1)]
