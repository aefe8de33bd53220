"""SelFee: chains as conversations and back, what of them is learned, and revisions left to the model or enforced."""

import asyncio
import json
import random

import pytest
from transformers import AutoTokenizer

from kilter import formats
from kilter.engine.template import trees as as_trees
from kilter.errors import KilterError
from kilter.models.protocol import Answer
from kilter.records import Demonstration, Message, Prompt
from kilter.training.run import train
from kilter.training.selfee import NEEDLESS, chains, is_enough, parsed, revised, steps_of, written

ASKED = [Message("user", "what is 2 + 3?")]
STEPS = [("4", "Too small. Revision is needed."), ("5", f"Right. {NEEDLESS}.")]


def record(steps=STEPS, **more):
    outputs = [{"output": output, "feedback": feedback} for output, feedback in steps]
    return Demonstration([*ASKED, Message("assistant", steps[-1][0])], meta={"outputs": outputs, **more})


@pytest.mark.parametrize("steps", [STEPS, STEPS[:1], [("4", "More."), ("5", "")], [("5", f"{NEEDLESS}.")]])
def test_a_chain_is_read_back_as_it_was_written(steps):
    messages = written(ASKED, steps)
    assert parsed(messages, len(ASKED)) == steps
    assert [m.role for m in messages[1:]] == ["assistant", "user"] * ((len(messages) - 1) // 2) + ["assistant"]


def test_what_is_no_chain_is_none():
    messages = written(ASKED, STEPS)
    assert parsed(messages[:-1], 1) is None
    assert parsed([*messages[:2], Message("user", "why?"), *messages[3:]], 1) is None
    for outputs in ([], "4", [{"output": ""}], [{"output": "4"}, {"output": "5", "feedback": "good"}], [4]):
        assert steps_of({"outputs": outputs}) is None


@pytest.mark.parametrize(
    ("feedback", "enough"),
    [("Good. Revision is not needed.", True), ("no revision is needed", True), ("Revision is needed.", False),
     ("There is no need for a revision", True), ("不需要修改。", True), ("", False)],
)  # fmt: skip
def test_when_it_is_enough(feedback, enough):
    assert is_enough(feedback) is enough


def test_answers_and_feedback_are_learned_and_the_user_s_words_are_not(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    [made], notes = chains([record()])
    assert not notes
    [tree] = as_trees(tokenizer, [made])
    ids, mask = [*tree.prompt, *tree.responses[0]], [*tree.prompt_mask, *tree.masks[0]]
    learned = tokenizer.decode([token for token, m in zip(ids, mask, strict=True) if m])
    end = tokenizer.eos_token
    assert learned.split(end) == [f" {text}" for step in STEPS for text in step] + [""]
    [short], _ = chains([record([*STEPS, ("6", "no"), ("7", "")])], longest=1)
    assert len(parsed(short.messages, 1)) == 2


def test_it_trains_by_name_from_a_file(tiny_model, tmp_path):
    file = tmp_path / "chains.jsonl"
    formats.write([record(), Demonstration([*ASKED, Message("assistant", "5")])], file)
    fast = {"steps": 2, "batch_size": 2, "max_length": 256, "precision": "fp32", "log_every": 1, "learning_rate": 1e-2}
    done = train("selfee", model=tiny_model, data=file, out=tmp_path / "out", **fast)
    assert done.losses[1] < done.losses[0]
    assert done.notes[0] == "1 of 2 records left out: no outputs with feedback in meta."
    with pytest.raises(KilterError, match="make some with `kilter data selfee"):
        train("selfee", model=tiny_model, data=[Demonstration([*ASKED, Message("assistant", "5")])], out=tmp_path / "x")
    assert json.loads((tmp_path / "out" / "training.json").read_text())["options"]["longest"] == 0


class Sums:
    """Adds up with slips: a first answer is right by half, a revision of a wrong one too; it knows right from wrong."""

    name = "sums"

    async def ask(self, messages, sampling):
        draw = random.Random(repr([m.content for m in messages]))
        a, b = (int(part) for part in messages[0].content.removeprefix("what is ").rstrip("?").split(" + "))
        outputs = [m.content for m in messages if m.role == "assistant"][::2]
        right = bool(outputs) and outputs[-1] == str(a + b)
        if messages[-1].content.startswith("Give feedback"):
            text = f"So it is. {NEEDLESS}." if right else "That is not it. Revision is needed."
        else:
            text = str(a + b) if right or draw.random() < 0.5 else str(a + b + 1)
        return [Answer(text, 3, None, "stop", self.name)]


async def _answers(prompts, **options):
    return await revised(Sums(), prompts, **options)


def _right(found):
    return [record.messages[-1].content == str(record.meta["sum"]) for record in found]


def test_enforced_revisions_are_exactly_so_many_and_accuracy_does_not_fall():
    prompts = [Prompt([Message("user", f"what is {i} + {i + 3}?")], meta={"sum": 2 * i + 3}) for i in range(60)]
    shares = []
    for count in range(4):
        found = asyncio.run(_answers(prompts, revisions=count))
        assert {record.meta["iteration"] for record in found} == {count}
        assert not any(is_enough(step["feedback"]) for record in found for step in record.meta["outputs"])
        shares.append(sum(_right(found)) / len(found))
    assert shares == sorted(shares)
    assert shares[0] < 0.7 < 0.8 < shares[3]


def test_left_to_the_model_it_ends_with_its_verdict():
    prompts = [Prompt([Message("user", f"what is {i} + {i + 3}?")], meta={"sum": 2 * i + 3}) for i in range(40)]
    found = asyncio.run(_answers(prompts, most=12))
    assert all(_right(found))
    for record_ in found:
        *before, last = record_.meta["outputs"]
        assert is_enough(last["feedback"])
        assert not any(is_enough(step["feedback"]) for step in before)
    with pytest.raises(KilterError, match="revisions is -2"):
        asyncio.run(_answers(prompts, revisions=-2))
