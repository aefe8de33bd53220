"""Second Thoughts: what is learned of a pair, and a model that answers, edits and is followed."""

import asyncio

import pytest

from kilter.errors import KilterError, SetAside
from kilter.feedback.edits import is_valid
from kilter.models.protocol import Answer
from kilter.records import Group, Message, Prompt
from kilter.training.run import train
from kilter.training.second_thoughts import edits_of, think_again
from worlds.edits import EditWorld


def test_of_a_pair_comes_the_chain_that_makes_the_better_answer():
    groups = EditWorld().groups(5)
    made, notes = edits_of(groups)
    assert not notes
    for group, record in zip(groups, made, strict=True):
        target, source = group.responses
        assert [m.role for m in record.prompt] == ["user", "assistant", "user"]
        assert record.prompt[1].content == source
        [text] = record.responses
        assert text.endswith(f"<answer>{target}")
        assert is_valid(text, source)
        assert record.origin.parents == (group.id,)


def test_several_costs_give_several_chains():
    group = Group([Message("user", "q")], ["the sky is blue", "a red thing"], ranking=[0, 1])
    one, _ = edits_of([group])
    two, _ = edits_of([group], costs="1,1,2;1,1,3")
    assert (len(one), len(two)) == (1, 2)
    assert len({record.id for record in two}) == 2
    assert all(is_valid(record.responses[0], "a red thing") for record in two)


def test_what_cannot_be_edited_is_left_out_and_told():
    marked = Group([Message("user", "q")], ["fine", "see <keep> here"], ranking=[0, 1])
    empty = Group([Message("user", "q")], ["fine", " "], ranking=[0, 1])
    made, notes = edits_of([marked, empty])
    assert not made
    assert notes == ["2 pairs left out: the worse answer is empty, or one holds a mark such as <keep>."]


@pytest.mark.parametrize(
    ("costs", "says"), [("1,1", "says no costs"), ("1,0,1", "have to be above 0"), ("1,1,nan", "above 0")]
)
def test_costs_that_cannot_be_are_refused(costs, says):
    with pytest.raises(KilterError, match=says):
        edits_of([], costs=costs)


def test_it_trains_by_name_and_learns_nothing_of_the_worse_answer(tiny_model, tmp_path):
    fast = {"steps": 4, "batch_size": 4, "max_length": 256, "precision": "fp32", "log_every": 1, "learning_rate": 1e-2}
    done = train("second-thoughts", model=tiny_model, data=EditWorld().groups(8), out=tmp_path / "out", **fast)
    assert done.losses[-1] < done.losses[0]
    assert done.notes == []


class Scripted:
    """Answers a question with a slip, and edits it when it is asked to."""

    name = "scripted"

    def __init__(self, edits):
        self.edits = edits

    async def ask(self, messages, sampling):
        text = self.edits if messages[-1].content.startswith("Edit your answer") else "the sky is red"
        if text == self.edits:
            assert messages[-2] == Message("assistant", "the sky is red")
        return [Answer(text, 5, None, "stop", self.name)]


async def _made(edits):
    return await think_again(Scripted(edits), [Prompt([Message("user", "the sky?")], meta={"kind": "fact"})])


def test_the_answer_is_what_the_edits_make_of_the_draft():
    [found] = asyncio.run(_made("<keep>the sky is<replace> red<by> blue<answer>the sky is blue"))
    assert found.messages[-1] == Message("assistant", "the sky is blue")
    assert found.meta["draft"] == "the sky is red"
    assert found.meta["kind"] == "fact"
    assert found.origin.prompt
    with pytest.raises(SetAside, match="no chain of edits"):
        asyncio.run(_made("it should be blue"))
