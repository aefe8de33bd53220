"""Imitation from language feedback: what is chosen, what is imitated, and words taken out as feedback asks."""

import asyncio
import math
import random

import pytest
import torch

from kilter.errors import KilterError
from kilter.models.protocol import Answer
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.training.ilf import WORDINGS, choose, chosen, refinements
from kilter.training.run import train

ASKED = [Message("user", "what is the sky?")]


def test_the_best_refinement_is_imitated_as_fine_tuning_would(tiny_model, tmp_path):
    group = Group(ASKED, ["red", "blue", "so very grey"], scores=[0.2, 0.9, 0.9])
    assert [choose(group, how, 0) for how in ("score", "longest", "first")] == [1, 2, 0]
    [made], _ = chosen([group])
    assert made.messages == [*ASKED, Message("assistant", "blue")]
    fast = {"steps": 2, "batch_size": 2, "max_length": 64, "precision": "fp32", "log_every": 1, "learning_rate": 1e-2}
    ours = train("ilf", model=tiny_model, data=[group], out=tmp_path / "ilf", **fast)
    theirs = train("sft", model=tiny_model, data=[Demonstration(made.messages)], out=tmp_path / "sft", **fast)
    assert ours.losses == theirs.losses
    with pytest.raises(KilterError, match="has no scores to choose by"):
        choose(Group(ASKED, ["red"]), "score", 0)


class Editor:
    """Drafts with a bad word, wants it gone, and takes it out of half its refinements; it sees if it is gone."""

    name = "editor"

    async def ask(self, messages, sampling):
        said = messages[-1].content
        draw = random.Random(f"{said} {sampling.seed}")
        if said.startswith("what"):
            texts = ["the awful sky is blue"]
        elif "What should be better" in said:
            texts = ["Leave out the word awful."]
        else:
            texts = [draw.choice(["the sky is blue", "the awful blue sky"]) + " now" * k for k in range(sampling.n)]
        return [Answer(text, 5, None, "stop", self.name) for text in texts]

    async def score(self, messages, response):
        new = messages[-1].content.partition("New answer:\n")[2].partition("\n")[0]
        good = math.log(0.1 if "awful" in new else 0.9)
        return [good if response == "Yes" else math.log(1 - math.exp(good)), 0.0]


async def _made(records, **options):
    return await refinements(Editor(), records, **options)


def test_choosing_by_the_reward_beats_choosing_by_chance():
    prompts = [Prompt([Message("user", f"what is the sky on day {i}?")]) for i in range(40)]
    groups = asyncio.run(_made(prompts))
    assert {round(score, 6) for group in groups for score in group.scores} == {0.1, 0.9}
    assert (
        groups[0].meta | {"draft": "the awful sky is blue", "feedback": "Leave out the word awful."} == groups[0].meta
    )

    def clean(select):
        found, _ = chosen(groups, select=select)
        return sum("awful" not in record.messages[-1].content for record in found) / len(found)

    assert clean("score") > 0.9 > 0.7 > clean("random")


def test_a_draft_and_a_person_s_feedback_are_taken_as_they_are():
    record = Group(ASKED, ["an awful day", "other"], critiques=["Too short.", ""])
    [group] = asyncio.run(_made([record], n=2))
    assert (group.meta["draft"], group.meta["feedback"]) == ("an awful day", "Too short.")
    assert group.origin.parents == (record.id,)
    assert WORDINGS == 5
    [alone] = asyncio.run(_made([record], n=1))
    assert (alone.scores, alone.ranking, len(chosen([alone])[0])) == (None, [0], 1)


def test_the_best_of_many_proposals_approaches_the_tilted_distribution():
    """Self-normalised weights exp(R / beta) of samples of p estimate E under p* = p exp(R / beta) / Z of log pi."""
    torch.manual_seed(0)
    p, reward, pi = (torch.randn(6, dtype=torch.float64) for _ in range(3))
    p, logs = torch.softmax(p, 0), torch.log_softmax(pi, 0)
    tilted = p * (reward / 0.5).exp()
    exact = (tilted / tilted.sum() * logs).sum()
    drawn = torch.multinomial(p, 200_000, replacement=True)
    weights = (reward[drawn] / 0.5).exp()
    assert float((weights * logs[drawn]).sum() / weights.sum()) == pytest.approx(float(exact), abs=0.02)
    # As beta goes to 0 all the weight is the best one's, which is what `ilf` imitates.
    sharp = torch.softmax(reward[drawn[:100]] / 1e-3, 0)
    group = Group(ASKED, [str(i) for i in range(100)], scores=reward[drawn[:100]].tolist())
    assert float(sharp[reward[drawn[:100]] == reward[drawn[choose(group, "score", 0)]]].sum()) == pytest.approx(1.0)
