"""Tasks from seeds: canned replies with known survivors, the pool's novelty, and whole runs that the world judges."""

import asyncio
import random

import pytest

from kilter.data.alpaca import alpaca, tasks_in
from kilter.data.drafts import fault, script
from kilter.data.self_instruct import answered_inputs, labelled, self_instruct, sifted, verdict, written
from kilter.data.sieve import said
from kilter.data.tokens import tokenise
from kilter.errors import KilterError, SetAside
from kilter.models.load import load
from kilter.models.protocol import Answer
from kilter.models.teacher import known
from kilter.models.teacher.writing import lead_in
from kilter.records import Origin
from kilter.world import World
from scripted_model import by_kind, made, shown


def seeds(n=24):
    return [d for d in World().demonstrations(4 * n, seed=7, shares=World.shares(0.0)) if len(d.messages) == 2][:n]


def answer(text, finish="stop"):
    return Answer(text, len(text.split()), None, finish, "scripted")


def closest(texts):
    """The highest ROUGE-L F of each text with any one before it."""
    found = [0.0]
    for k in range(1, len(texts)):
        cut = tokenise([texts[k], *texts[:k]], "rouge")
        rows = [cut.hashes[a:b] for a, b in zip(cut.starts, cut.starts[1:], strict=False)]
        best = 0.0
        for row in rows[1:]:
            table = [[0] * (len(row) + 1) for _ in range(len(rows[0]) + 1)]
            for i, x in enumerate(rows[0]):
                for j, y in enumerate(row):
                    table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            lcs = table[-1][-1]
            total = len(rows[0]) + len(row)
            best = max(best, 2 * lcs / total if total else 0.0)
        found.append(best)
    return found


# ------------------------------------------------------------------------------------------------ instructions


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Name three rivers.", "too short"),
        ("给我三条河。", None),
        ("河流名", "too short"),
        ("word " * 151, "too long"),
        ("Draw a house with a garden.", "beyond text"),
        ("Describe the pictures on this wall.", "beyond text"),
        ("The drawer of a desk sticks: why?", None),
        ("画图说明这个过程是怎样的。", "beyond text"),
        ("Write a program that sorts a list.", "program"),
        ("- Name the largest river there is.", "first character"),
        ("“Sort these numbers from small to large", "first character"),
        ("12 + 7 is how much?", None),
        ("Écrivez une phrase sur la mer.", None),
    ],
)
def test_what_is_wrong_with_an_instruction(text, rule):
    found = fault(text)
    assert (found[0] if found else None) == rule


def test_a_list_is_taken_apart_and_its_cut_end_is_left_out():
    reply = (
        "Sure:\n9. name the largest   river of the land\n10) Go to the shop and buy bread\n11. \n"
        "12、写一句关于大海的话\n"
        "13. Tell me more about the"
    )
    batch = written(answer(reply, "length"))
    assert [text for text, _ in batch.items] == ["Name the largest river of the land", "写一句关于大海的话"]
    assert [rule for _, rule, _ in batch.dropped] == ["beyond text", "empty", "cut off"]
    assert len(written(answer(reply)).items) == 3
    with pytest.raises(SetAside, match="no numbered list"):
        written(answer("I would rather not."))


@pytest.mark.parametrize(
    ("reply", "said"), [("Yes", True), ("no.", False), (" YES, it is", True), ("是", True), ("否", False)]
)
def test_verdicts(reply, said):
    assert verdict(reply) is said


@pytest.mark.parametrize("reply", ["", "Maybe", "Nothing", "Yesterday"])
def test_verdicts_that_are_none(reply):
    with pytest.raises(SetAside) as why:
        verdict(reply)
    assert why.value.rule == "no verdict"


# ------------------------------------------------------------------------------------------------ instances


def test_instances_of_both_orders():
    text = "Class label: sport\nInput: They scored.\n\nClass label: music\nInput: The violin.\nIt was late."
    assert labelled(answer(text)) == [("They scored.", "sport"), ("The violin.\nIt was late.", "music")]
    assert labelled(answer(text, "length")) == [("They scored.", "sport")]
    text = "Example 1\nInput: a b\nOutput: b a\n\nExample 2\nInput: none\nOutput: c"
    assert answered_inputs(answer(text)) == [("a b", "b a"), ("", "c")]
    assert answered_inputs(answer(text, "length")) == [("a b", "b a")]
    assert answered_inputs(answer("Output: one\ntwo")) == [("", "one\ntwo")]
    for reader in (labelled, answered_inputs):
        with pytest.raises(SetAside):
            reader(answer("Here you are."))


def test_the_rules_of_the_fourth_step_and_their_ledger():
    found = [
        ("a", "b"),
        ("a", "b"),
        ("c", ""),
        ("d", "d"),
        ("e:", "f"),
        ("g", "h:"),
        ("i", "1"),
        ("i", "2"),
        ("k", "l"),
    ]
    batch = sifted("t", found, 5, random.Random(0))
    assert batch.items == [("a", "b"), ("k", "l")]
    assert [rule for _, rule, _ in batch.dropped] == [
        "repeated instance", "empty output", "output is input", "ends with a colon", "ends with a colon",
        "conflicting outputs", "conflicting outputs",
    ]  # fmt: skip
    many = sifted("t", [(str(k), "x") for k in range(9)], 5, random.Random(0))
    assert (len(many.items), [rule for _, rule, _ in many.dropped]) == (5, ["over the most"] * 4)


# ------------------------------------------------------------------------------------------------ whole runs


def test_a_known_teacher_gives_a_known_pool():
    lists = [
        "3. Name the largest river of the land.\n4. Name the largest river of the country.\n5. Say hello.",
        "3. Explain why the sea is salty.\n4. Draw a map of the old town.",
    ]
    model = by_kind(
        instructions=lambda v, s: lists[s.seed % 8] if s.seed % 8 < 2 else "3. Explain why the sea is salty.",
        classify_task=lambda v, s: "No",
        instances_input_first=lambda v, s: "Output: Because." if "why" in v["instruction"] else "Output: It is long.",
    )
    records = [
        shown("Count the chairs in this room", "12"),
        shown("Give the opposite of this word", "cold", input="hot"),
    ]
    kept, left = made(self_instruct(model, records, n=50))
    assert [(said(r, "instruction"), r.messages[-1].content) for r in kept] == [
        ("Name the largest river of the land.", "It is long."), ("Explain why the sea is salty.", "Because."),
    ]  # fmt: skip
    # One round brings both; ten more bring nothing, and then it stops. All that was written is accounted for.
    rounds = [asked for asked in model.asked if asked.kind == "instructions"]
    assert len(rounds) == 88
    assert {rule: left[rule] for rule in ("too short", "beyond text")} == {"too short": 11, "beyond text": 11}
    assert len(kept) + sum(left.values()) == 11 * (3 + 2 + 6)


def test_self_instruct_with_the_teacher_is_true_new_and_balanced():
    teacher = load("kilter/teacher")
    records = seeds()
    kept, left = made(self_instruct(teacher, records, n=60, seed=1))
    texts = [said(r, "instruction") for r in kept]
    different = list(dict.fromkeys(texts))
    assert len(different) == 60
    assert max(closest([*[said(r, "instruction") for r in records], *different])[len(records) :]) <= 0.7
    for record in kept:
        assert known(record.messages[:-1]).judged(record.messages[-1].content).reward == 1
        assert record.origin.method == "self-instruct"
        assert record.origin.model == "kilter/teacher"
    assert any(r.meta.get("input") for r in kept)
    assert any(lead_in(text) for text in different)
    assert left["ROUGE-L"] > 0
    # The same seed gives the same bytes, another seed asks otherwise.
    again, _ = made(self_instruct(load("kilter/teacher"), records, n=60, seed=1))
    assert [r.id for r in again] == [r.id for r in kept]
    other, _ = made(self_instruct(load("kilter/teacher"), records, n=60, seed=2))
    assert [r.id for r in other] != [r.id for r in kept]
    # What errs is found wrong by the world.
    wrong, _ = made(self_instruct(load("kilter/teacher?errors=0.5"), records, n=30, seed=1))
    assert 0.2 < sum(known(r.messages[:-1]).judged(r.messages[-1].content).reward < 1 for r in wrong) / len(wrong) < 0.9


def test_labels_are_balanced_when_they_come_before_the_inputs():
    model = load("kilter/teacher")
    kept, _ = made(self_instruct(model, seeds(), n=40, seed=3))
    labels = [r.messages[-1].content for r in kept if r.meta.get("is_classification") and r.meta.get("input")]
    assert labels
    assert len(set(labels)) >= 2
    assert max(labels.count(x) for x in set(labels)) <= len(labels) / 2


def test_seeds_that_cannot_be_used_are_counted():
    records = [shown("Sort these numbers please", "1"), shown("Sort these numbers please", "2"), shown("a b c d", " ")]
    _, left = made(self_instruct(load("kilter/teacher"), records, n=3))
    assert left["duplicate seed"] == 1
    assert left["no answer"] == 1
    with pytest.raises(KilterError, match="no seed"):
        asyncio.run(alpaca(load("kilter/teacher"), [shown(" ", "x")], n=3))


# ------------------------------------------------------------------------------------------------ alpaca


CANNED = """###
4. Instruction: name the largest river of the land
4. Input:
<noinput>
4. Output:
The Amber.
###
5. Instruction: Draw a house with a garden.
5. Input: <noinput>
5. Output: No.
###
6. Instruction: Give the opposite of the word.
6. Input: cold
6. Output:
hot
###
7. Instruction: Explain why the sea is salty.
7. Output: Because.
###
8. Instruction: Explain why the night is dark.
8. Input: No input.
8. Output:
###
9. Instruction: Name the largest river of the land.
9. Input: <noinput>
9. Output: It is
"""


def test_alpaca_s_parser_on_a_canned_completion():
    batch = tasks_in(answer(CANNED, "length"), Origin("alpaca"))
    assert [(r.messages[0].content, r.meta.get("input"), r.messages[1].content) for r in batch.items] == [
        ("Name the largest river of the land", None, "The Amber."),
        ("Give the opposite of the word.\n\ncold", "cold", "hot"),
    ]
    assert [rule for _, rule, _ in batch.dropped] == ["beyond text", "broken task", "empty output", "cut off"]
    with pytest.raises(SetAside):
        tasks_in(answer("No."), Origin("alpaca"))


def test_alpaca_leaves_out_what_is_there_already():
    model = by_kind(tasks=lambda v, s: CANNED)
    records = [shown("Give the opposite of this word", "cold", input="hot")]
    kept, left = made(alpaca(model, records, n=9))
    assert [said(r, "instruction") for r in kept] == ["Name the largest river of the land"]
    assert left["ROUGE-L"] == 88 * 3 - 1
    assert left["beyond text"] == left["broken task"] == left["empty output"] == 88
    assert len(kept) + sum(left.values()) == 88 * 6
    assert model.asked[0].variables["inputs"] == ["hot"]


def test_alpaca_with_the_teacher_is_true():
    kept, left = made(alpaca(load("kilter/teacher"), seeds(), n=50, novelty=0.9))
    assert len(kept) == 50
    for record in kept:
        assert known(record.messages[:-1]).judged(record.messages[-1].content).reward == 1
    assert {len(r.origin.parents) for r in kept} == {3}
    assert sum(left.values()) > 0


@pytest.mark.parametrize(
    ("text", "found"),
    [("This is an English sentence.", "Latin"), ("这是一个中文句子，很长。", "CJK"), ("calc(1)", ""), ("", "")],
)
def test_scripts(text, found):
    assert script(text) == found
