"""Prompts of the world: other ones than the demonstrations', and all of them can be judged after a trip to the disk."""

import asyncio

from kilter import formats
from kilter.data.world_demonstrations import world_demonstrations
from kilter.data.world_prompts import world_prompts
from kilter.feedback import WorldTruth
from kilter.feedback.numbers import check, rewards


def test_prompts_of_the_world_are_new_and_can_be_judged(tmp_path):
    made = world_prompts(n=200, seed=1)
    assert len({prompt.id for prompt in made}) == 200
    assert all(prompt.messages[-1].role != "assistant" for prompt in made)
    assert {prompt.meta["split"] for prompt in made} == {"train"}
    shown = [tuple(demonstration.messages[:-1]) for demonstration in world_demonstrations(n=200, seed=1)]
    assert sum(tuple(prompt.messages) in shown for prompt in made) < 20
    assert [prompt.id for prompt in world_prompts(n=200, seed=1)] == [prompt.id for prompt in made]
    formats.write(made, tmp_path / "prompts.jsonl")
    read = formats.read(tmp_path / "prompts.jsonl", want="prompts").records
    assert [(prompt.id, prompt.meta) for prompt in read] == [(prompt.id, prompt.meta) for prompt in made]
    check(WorldTruth(), read)
    for prompt in read:
        [empty] = asyncio.run(rewards(WorldTruth(), prompt, [""]))
        assert empty in (0.0, 1.0)
