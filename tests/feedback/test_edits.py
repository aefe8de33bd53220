"""Chains of edits: least cost, exact both ways, readable, and a rule that rewards what fits."""

import asyncio
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilter.feedback.edits import (
    KINDS,
    Costs,
    Edit,
    align,
    apply,
    chain,
    has_marks,
    is_valid,
    outcome,
    read,
    units,
    write,
)
from kilter.feedback.named import named
from kilter.records import Message, Prompt
from worlds.edits import EditWorld

TEXTS = st.text(alphabet="ab 你好,_\n’1é", max_size=14)
COSTS = [Costs(), Costs(1, 1, 1), Costs(2, 1, 2.5)]


def least(source, target, costs):
    """The same by trying everything."""

    @cache
    def of(i, j):
        if i == len(source) or j == len(target):
            return (len(source) - i) * costs.delete + (len(target) - j) * costs.insert
        swap = of(i + 1, j + 1) + (0 if source[i] == target[j] else costs.replace)
        return min(swap, of(i + 1, j) + costs.delete, of(i, j + 1) + costs.insert)

    return of(0, 0)


def common(a, b):
    """Length of the longest common subsequence, by its own recursion."""

    @cache
    def of(i, j):
        if i == len(a) or j == len(b):
            return 0
        return 1 + of(i + 1, j + 1) if a[i] == b[j] else max(of(i + 1, j), of(i, j + 1))

    return of(0, 0)


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS, st.sampled_from(COSTS))
def test_a_chain_makes_the_target_of_the_source_and_survives_being_written(source, target, costs):
    assert "".join(units(source)) == source
    edits = chain(source, target, costs)
    assert apply(edits, source) == target
    text = write(edits, target)
    if not edits:
        return
    assert read(text) == (edits, target)
    assert outcome(text, source) == target
    assert is_valid(text, source)


def test_the_cost_is_the_least_there_is():
    draw = random.Random(0)
    for _ in range(300):
        source, target = ([draw.choice("abc") for _ in range(draw.randrange(7))] for _ in range(2))
        for costs in COSTS:
            cost, edits = align(source, target, costs)
            assert cost == pytest.approx(least(source, target, costs))
            price = {"keep": 0, "insert": costs.insert, "delete": costs.delete, "replace": costs.replace}
            assert cost == pytest.approx(sum(price[edit.kind] for edit in edits))
        # Where replacing costs as much as deleting and inserting, what is kept is a longest common subsequence.
        cost, _ = align(source, target)
        assert cost == len(source) + len(target) - 2 * common(source, target)


def test_the_written_form():
    edits = chain("the sky is red always", "the sky is blue")
    assert edits == [
        Edit("keep", "the sky is"),
        Edit("replace", " red", " blue"),
        Edit("delete", " always"),
    ] or edits == [
        Edit("keep", "the sky is"),
        Edit("delete", " red"),
        Edit("replace", " always", " blue"),
    ]
    assert (
        write([Edit("keep", "the"), Edit("replace", " a", " b")], "the b") == "<keep>the<replace> a<by> b<answer>the b"
    )
    assert chain("天是红的", "天是蓝的") == [Edit("keep", "天是"), Edit("replace", "红", "蓝"), Edit("keep", "的")]
    assert has_marks("so <by> itself")
    assert not has_marks("a < b > c")


@pytest.mark.parametrize(
    "text",
    ["", "the sky", "so <keep>a<answer>a", "<by>a<answer>a", "<keep>a<by>b<answer>b", "<answer>a<keep>a",
     "<replace>a<delete>b<answer>b"],
)  # fmt: skip
def test_what_is_no_chain_is_none(text):
    assert read(text) is None
    assert not is_valid(text, "a")


def test_edits_that_do_not_fit_leave_what_they_say_comes_out():
    assert outcome("<keep>red<answer>blue", "green") == "blue"
    assert outcome("<keep>red", "green") is None
    assert outcome("<keep>green<insert> tree", "green") == "green tree"  # cut off before its result
    assert not is_valid("<keep>green<insert> tree<answer>a tree", "green")


def test_the_rule_rewards_a_chain_that_fits_the_answer_before_it():
    [group] = EditWorld().groups(1)
    target, source = group.responses
    prompt = Prompt([*group.prompt, Message("assistant", source), Message("user", "edit it")])
    good = write(chain(source, target), target)
    signals = asyncio.run(named("edits")(prompt, [good, good + " jam", target]))
    assert [signal.score for signal in signals] == [1.0, 0.0, 0.0]
    [none] = asyncio.run(named("edits")(Prompt(group.prompt), [good]))
    assert none.score == 0.0


def test_the_world_s_sources_are_few_edits_away():
    world = EditWorld(length=5, most=2)
    for group in world.groups(50):
        target, source = group.responses
        changed = [edit for edit in align(units(source.strip()), units(target))[1] if edit.kind != "keep"]
        # The space before a word belongs to it: without its first word the next one begins otherwise.
        assert 1 <= len(changed) <= 6
    assert KINDS[0] == "keep"
