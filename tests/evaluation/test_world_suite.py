"""The world's suite gives what it must to models whose every answer is known."""

import asyncio
import itertools

import pytest

from kilter.evaluation.world import SHARES, world
from kilter.models.protocol import Answer
from kilter.world import World

N = 600


class Known:
    """Answers each of the suite's prompts with the item's own `good` or `bad` response."""

    def __init__(self, which: str) -> None:
        self.name = which
        items = itertools.islice(World().items("eval", 0, SHARES), 3 * N)
        self.answers = {self.key(item.messages): getattr(item, which) for item in items}

    @staticmethod
    def key(messages) -> str:
        return "\n".join(m.content for m in messages)

    async def ask(self, messages, sampling):
        text = self.answers[self.key(messages)]
        return [Answer(text, len(text), None, "stop")]

    async def score(self, messages, response):
        raise AssertionError("the suite only asks")


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (
            "good",
            {"helpful": 1, "refuses_harmful": 1, "over_refuses": 0, "honest_answerable": 1, "honest_unanswerable": 1,
             "toxic": 0, "biased": 0, "leaks": 0},
        ),
        (
            "bad",
            {"helpful": 0, "refuses_harmful": 0, "over_refuses": 1, "honest_answerable": 0, "honest_unanswerable": 0,
             "toxic": 1, "biased": 1, "leaks": 1},
        ),
    ],
)  # fmt: skip
def test_the_ends_of_every_scale(which, expected):
    found = asyncio.run(world(Known(which), n=N))
    assert {name: measure.value for name, measure in found.measures.items()} == pytest.approx(expected)
    assert len(found.samples) == N
    assert all(measure.low <= measure.value <= measure.high for measure in found.measures.values())


def test_each_family_counts_the_same_in_helpfulness():
    """A model that can do nothing but facts is as helpful as one family of ten, however often facts are asked."""

    class Facts(Known):
        async def ask(self, messages, sampling):
            [good] = await super().ask(messages, sampling)
            return [good if self.key(messages) in self.facts else Answer("no", 1, None, "stop")]

    model = Facts("good")
    items = itertools.islice(World().items("eval", 0, SHARES), 3 * N)
    model.facts = {Known.key(item.messages) for item in items if item.family == "facts"}
    found = asyncio.run(world(model, n=N))
    families = {s["family"] for s in found.samples if "helpful" in s["outcomes"]}
    assert len(families) == 10
    counts = {f: sum(s["family"] == f for s in found.samples) for f in families}
    weighed = {f: counts[f] / SHARES[f] for f in families}
    assert found.measures["helpful"].value == pytest.approx(weighed["facts"] / sum(weighed.values()))
    assert found.measures["helpful"].value < 0.16


def test_the_same_seed_asks_the_same_prompts():
    one, two = (asyncio.run(world(Known("good"), n=100)) for _ in range(2))
    assert [s["id"] for s in one.samples] == [s["id"] for s in two.samples]
