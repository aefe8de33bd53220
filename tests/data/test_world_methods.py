"""The data methods that stand on the world."""

import asyncio
import itertools

import pytest

from kilter.data.sampled_preferences import sampled_preferences
from kilter.data.world_demonstrations import world_demonstrations
from kilter.models.protocol import Answer
from kilter.records import Prompt
from kilter.world import World
from kilter.world.tasks import HELPFUL

N = 400


class HalfGood:
    """Gives a good and a bad answer to every prompt of the training split, in turn."""

    name = "half-good"

    def __init__(self, seed: int, values_share: float) -> None:
        items = itertools.islice(World().items("train", seed, World.shares(values_share)), 3 * N)
        self.items = {self.key(item.messages): item for item in items}

    @staticmethod
    def key(messages) -> str:
        return "\n".join(m.content for m in messages)

    async def ask(self, messages, sampling):
        item = self.items[self.key(messages)]
        answers = (item.bad, item.good) * sampling.n
        return [Answer(text, len(text), None, "stop") for text in answers[: sampling.n]]

    async def score(self, messages, response):
        raise AssertionError("sampling needs no scores")


def preferred_good(groups) -> float:
    """Return the share of groups whose preferred response is the better one in truth."""
    world, hits = World(), 0
    for group in groups:
        [(better, worse)] = group.pairs()
        prompt = Prompt(group.prompt, meta=group.meta)
        reward = [world.judge(prompt, response).reward for response in group.responses]
        assert reward[better] != reward[worse]
        hits += reward[better] > reward[worse]
    return hits / len(groups)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_preferences_follow_the_truth_but_for_the_noise(noise):
    model = HalfGood(1_000_003, 0.5)
    groups = asyncio.run(sampled_preferences(model, n=N, k=4, values_share=0.5, noise=noise))
    assert len(groups) == N
    assert preferred_good(groups) == pytest.approx(1 - noise, abs=3 * (max(noise, 1e-9) / N) ** 0.5)
    assert all(group.origin.method == "sampled-preferences" and group.origin.model == "half-good" for group in groups)
    again = asyncio.run(sampled_preferences(model, n=N, k=4, values_share=0.5, noise=noise))
    assert [g.ranking for g in again] == [g.ranking for g in groups]


def test_prompts_whose_answers_are_equally_good_are_left_out():
    class AlwaysBad(HalfGood):
        async def ask(self, messages, sampling):
            return (await super().ask(messages, sampling))[:1]

    model = AlwaysBad(1_000_003, 0.5)
    assert asyncio.run(sampled_preferences(model, n=50, k=4, values_share=0.5)) == []


def test_demonstrations_have_the_shares_that_were_asked_for():
    made = world_demonstrations(n=3000, values_share=0.2, careless=0.0, lenient=0.0, seed=4)
    assert len({d.id for d in made}) == 3000
    values = sum(d.meta["family"] not in HELPFUL for d in made) / len(made)
    assert values == pytest.approx(0.2, abs=0.03)
    world = World()
    assert all(world.judge(Prompt(d.messages[:-1], meta=d.meta), d.messages[-1].content).reward == 1 for d in made)
