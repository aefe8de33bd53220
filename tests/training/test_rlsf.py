"""Synthetic feedback: which comparisons are kept, what a reward model learns of them, and dialogues that it guides."""

import asyncio
import random

import pytest
from judged_data import groups as ranked
from judged_data import worth

import kilter
from kilter.models.protocol import Answer
from kilter.records import Group, Message, Prompt
from kilter.training.rlsf import compared, keeps, self_play
from kilter.training.run import train

ASKED = [Message("user", "say more")]


def test_the_rule_of_lengths():
    # Lengths 2, 10, 12: mean 8, sd 4.3, so that under 5.8 characters is short.
    texts = ["ab", "abcdefghij", "abcdefghijkl"]
    assert [keeps(texts, *pair) for pair in ((0, 1), (1, 0), (1, 2), (2, 1))] == [False, True, True, True]
    assert keeps(["ab", "abcdefghij"], 0, 1)
    group = Group(ASKED, texts, ranking=[0, 1, 2])
    made, notes = compared([group])
    assert [pair.responses for pair in made] == [texts[1:]]
    assert notes == ["2 pairs left out: the better is short beside the other answers."]
    assert len(compared([group], by_length=False)[0]) == 3
    assert not compared([Group(ASKED, texts, ranking=[1, 1, 1])])[0]


def mistaken(groups, rate):
    """Return the groups with rankings that are the wrong way round at this rate."""
    draw = random.Random(0)
    return [
        Group(
            g.prompt,
            g.responses,
            ranking=[int(s) for s in (g.scores if draw.random() < rate else [-s for s in g.scores])],
        )
        for g in groups
    ]


@pytest.fixture(scope="module")
def judges(tiny_model, tmp_path_factory):
    """Reward models of comparisons of which none, or a quarter, are the wrong way round."""
    found = {}
    for rate in (0.0, 0.25):
        out = tmp_path_factory.mktemp("rlsf") / str(rate)
        options = {"batch_size": 16, "learning_rate": 1e-2, "log_every": 30, "checkpoint_every": 0, "max_length": 128}
        data = mistaken(ranked(150, 0), rate)
        found[rate] = train("rlsf", model=tiny_model, data=data, out=out, steps=30, by_length=False, **options).out
    return found


def test_accuracy_is_above_chance_and_bears_mistakes(judges):
    held = ranked(80, 1)
    told = {
        rate: kilter.evaluate("reward-accuracy", model=str(out), records=held).measures["reward_accuracy"]
        for rate, out in judges.items()
    }
    assert told[0.0].low > 0.6
    assert told[0.25].value > 0.5
    assert told[0.0].value > told[0.25].value - 0.05


class Speaker:
    """Says three words by chance, and as a user that it wants more."""

    name = "speaker"

    async def ask(self, messages, sampling):
        if messages[-1].content.startswith("Here is a conversation"):
            return [Answer("say more", 2, None, "stop", self.name)]
        draw = random.Random(f"{messages[-1].content} {len(messages)} {sampling.seed}")
        words = ["it", "is", "blue", "what", "of", "sky"]
        return [Answer(" ".join(draw.choices(words, k=3)), 3, None, "stop", self.name) for _ in range(sampling.n)]


async def _played(prompts, judge, n):
    return await self_play(Speaker(), prompts, feedback=str(judge), n=n)


def test_the_best_of_more_answers_is_worth_more(judges):
    prompts = [Prompt([Message("user", f"say {i}")]) for i in range(25)]
    means = []
    for n in (1, 3, 9):
        found = asyncio.run(_played(prompts, judges[0.0], n))
        assert all([m.role for m in record.messages] == ["user", "assistant"] * 2 for record in found)
        assert all(len(record.meta["rewards"]) == 2 for record in found)
        said = [m.content for record in found for m in record.messages if m.role == "assistant"]
        means.append(sum(map(worth, said)) / len(said))
    assert means == sorted(means)
    assert means[2] > means[0] + 0.5
