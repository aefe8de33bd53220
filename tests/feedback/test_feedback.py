"""Feedback tells what its source knows, and simulated annotators err at the rate they are said to."""

import asyncio

import pytest

from kilter.feedback import Annotators, WorldTruth
from kilter.records import Prompt
from kilter.world import FAMILIES, World


@pytest.fixture(scope="module")
def judged() -> list[tuple[Prompt, str, str]]:
    """Prompts with a good and a bad response."""
    world = World()
    found = []
    for item, _ in zip(world.items("train", 5, dict.fromkeys(FAMILIES, 1.0)), range(2000), strict=False):
        meta = {"family": item.family, "kind": item.kind, "language": item.language, "check": item.check}
        found.append((Prompt(item.messages, meta=meta), item.good, item.bad))
    return found


def test_the_truth_scores_good_above_bad(judged):
    truth = WorldTruth()
    for prompt, good, bad in judged[:300]:
        first, second = asyncio.run(truth(prompt, [good, bad]))
        assert (first.score, first.verdict) == (1.0, True)
        assert (second.score, second.verdict) == (0.0, False)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_annotators_err_at_their_rate(judged, noise):
    annotators = Annotators(WorldTruth(), noise=noise, seed=3)

    async def wrong() -> int:
        return sum([await annotators.compare(p, bad, good) == 0 for p, good, bad in judged])

    rate = asyncio.run(wrong()) / len(judged)
    assert rate == pytest.approx(noise, abs=3 * (max(noise, 0.001) / len(judged)) ** 0.5)


def test_annotators_say_the_same_again_and_nothing_of_equals(judged):
    prompt, good, bad = judged[0]
    one, two = (Annotators(WorldTruth(), noise=0.5, seed=1) for _ in range(2))
    for prompt, good, bad in judged[:100]:
        assert asyncio.run(one.compare(prompt, good, bad)) == asyncio.run(two.compare(prompt, good, bad))
    assert asyncio.run(one.compare(prompt, good, good)) is None
