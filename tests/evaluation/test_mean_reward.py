"""The mean reward of answers: by the truth, by a rule, and what is refused."""

import asyncio

import pytest

from kilter.errors import KilterError
from kilter.evaluation.mean_reward import mean_reward
from kilter.models.load import load
from kilter.records import Message, Prompt
from kilter.world import FAMILIES, World


@pytest.fixture(scope="module")
def nano():
    return load("kilter/nano")


def test_the_true_reward_is_what_the_world_says_of_each_answer(nano):
    found = asyncio.run(mean_reward(nano, n=40, max_tokens=24))
    truth = World()
    prompts = {prompt.id: prompt for prompt in truth.prompts("eval", 40, shares=dict.fromkeys(FAMILIES, 1.0))}
    rewards = [sample["outcomes"]["reward"] for sample in found.samples]
    assert len(rewards) == found.measures["reward"].n == 40
    assert found.measures["reward"].value == pytest.approx(sum(rewards) / 40)
    for sample in found.samples:
        judged = truth.judge(prompts[sample["id"]], sample["response"]).reward
        assert sample["outcomes"]["reward"] == judged
        assert sample["outcomes"][f"reward:{sample['family']}"] == judged


def test_a_rule_rewards_any_prompt(nano):
    prompts = [Prompt([Message("user", "Say something.")], id=str(i)) for i in range(3)]
    found = asyncio.run(mean_reward(nano, prompts, feedback={"contains:e": 1.0, "contains:☃": -1.0}, max_tokens=24))
    expected = [float("e" in sample["response"].lower()) for sample in found.samples]
    assert [sample["outcomes"]["reward"] for sample in found.samples] == expected


def test_the_world_cannot_judge_prompts_that_it_did_not_make(nano):
    with pytest.raises(KilterError, match="The world can judge only prompts that it made"):
        asyncio.run(mean_reward(nano, [Prompt([Message("user", "Hello")])]))
