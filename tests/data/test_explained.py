"""Answers that explain, follow principles or speak as somebody; texts with attributes; Lion's round."""

import re
from collections import Counter

import pytest

from kilter.data.attrprompt import aps, attrprompt, drawn_values
from kilter.data.cot import cot
from kilter.data.dromedary import IDENTITY, dromedary, engraved
from kilter.data.expertprompting import GENERIC, expertprompting, stripped
from kilter.data.lion import compared, lion, scores_in
from kilter.data.orca import CAPS, OF_COLLECTION, SYSTEM, marginal, orca, sample
from kilter.data.phoenix import phoenix
from kilter.errors import KilterError, SetAside
from kilter.models.load import load
from kilter.models.protocol import Answer
from kilter.models.teacher import known
from kilter.recipe.wait import wait
from kilter.records import Demonstration, Message
from kilter.store.rejects import Rejects
from kilter.world import World
from scripted_model import by_kind, made, prompt, shown


def world_prompts(n, seed=1, values=0.0):
    found = World().prompts("train", 3 * n, seed=seed, shares=World.shares(values))
    return [p for p in found if len(p.messages) == 1][:n]


def right(record):
    asked = [m for m in record.messages[:-1] if m.role != "system"]
    said = re.split("So the answer is: |所以答案是：", record.messages[-1].content)[-1].splitlines()[-1]
    return known(asked).judged(said).reward == 1


# ------------------------------------------------------------------------------------------------ cot


def test_reasoning_is_kept_where_it_comes_to_the_right_answer():
    replies = {"2 + 2?": "2 and 2 is 4.", "3 + 3?": "3 and 3 is 7.", "Why?": "Because of that."}
    model = by_kind(
        steps=lambda v, s: replies[v["question"]], conclude=lambda v, s: v["rationale"].split()[-1].strip(".")
    )
    records = [shown("2 + 2?", "4"), shown("3 + 3?", "6"), prompt("Why?")]
    kept, left = made(cot(model, records))
    assert [(r.messages[-1].content, r.meta["answer"], r.meta["correct"]) for r in kept] == [
        ("2 and 2 is 4.", "4", True), ("Because of that.", "that", None),
    ]  # fmt: skip
    assert left == {"wrong answer": 1}
    kept, left = made(cot(model, records, wrong=True))
    assert [r.meta["correct"] for r in kept] == [True, False, None]
    assert left == {}
    with pytest.raises(KilterError, match="examples=FILE"):
        made(cot(model, records, way="few-shot"))


def test_cot_with_the_teacher_rejects_its_errors(tmp_path):
    demonstrations = World().demonstrations(30, seed=3, shares={"sums": 1.0, "sorting": 1.0})
    kept, left = made(cot(load("kilter/teacher"), demonstrations))
    assert (len(kept), left) == (30, {})
    assert all("\n" in r.messages[-1].content and r.meta["correct"] for r in kept)
    kept, left = made(cot(load("kilter/teacher?errors=0.5"), demonstrations))
    assert set(left) == {"wrong answer"}
    assert 5 < left["wrong answer"] < 28
    assert len(kept) + left["wrong answer"] == 30
    examples = tmp_path / "e.jsonl"
    examples.write_text('{"question": "1 + 1?", "rationale": "One more than 1.", "answer": "2"}\n', encoding="utf-8")
    kept, _ = made(cot(load("kilter/teacher"), demonstrations[:5], way="few-shot", examples=str(examples)))
    assert len(kept) == 5


# ------------------------------------------------------------------------------------------------ orca


def test_caps_are_exact_and_system_messages_are_those_of_the_table():
    records = [prompt(f"question {c} {k}", collection=c) for c in OF_COLLECTION for k in range(60)]
    records += [prompt("other one"), prompt("x")]
    records[-1].messages.insert(0, Message("user", "an example"))
    with Rejects() as rejects:
        drawn = sample(records, "collection", 2e-5, 0)
    counts = Counter(name for _, name in drawn)
    assert counts == {"cot": 3, "niv2": 9, "flan2021": 50, "t0": 40, "other": 1}
    assert counts["cot"] == round(CAPS["cot"] * 2e-5)
    assert len(drawn) + rejects.total == len(records)
    assert rejects.counts["not zero-shot"] == 1
    model = by_kind(explain=lambda v, s: "Because.")
    kept, _ = made(orca(model, records[:-1]))
    assert len(SYSTEM) == len(set(SYSTEM)) == 16
    for name, found in marginal(kept).items():
        allowed = OF_COLLECTION.get(name, range(16))
        assert set(found) <= set(allowed)
        if name != "other":
            expected = 60 / len(allowed)
            assert sum((found[k] - expected) ** 2 / expected for k in allowed) < 27  # chi-square, up to 7 degrees
    assert {m.role for r in kept if r.meta["system_id"] == 0 for m in r.messages} == {"user", "assistant"}
    with pytest.raises(KilterError, match="share"):
        orca(model, records, share=0)


def test_orca_with_the_teacher_explains_and_is_right():
    records = world_prompts(30, values=0.3)
    kept, left = made(orca(load("kilter/teacher"), records))
    assert (len(kept), left) == (30, {})
    assert all("\n" in r.messages[-1].content for r in kept)
    assert sum(map(right, kept)) >= 29


# ------------------------------------------------------------------------------------------------ dromedary

LONG = "This is what one can say about it, and there is a good deal more to say. " * 4


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        (f"Thoughts: helpful\nAnswer: {LONG}", "no identity"),
        (f"{IDENTITY}\nThoughts: helpful. {LONG}", "no answer part"),
        (f"{IDENTITY}\nThoughts: helpful\nAnswer: Short.", "too short"),
        (f"{IDENTITY}\nThoughts: helpful\nAnswer: Tell me about the sea and its waves. {LONG}", "echo"),
        (f"{IDENTITY}\nThoughts: helpful\nAnswer: {LONG}\n\n{LONG}", "repetition"),
        (f"{IDENTITY}\nThoughts: helpful\nAnswer: By my rules. {LONG}", "thoughts leak"),
        (f"{IDENTITY}\nThoughts: By helpful I answer.\nAnswer: By helpful I answer. {LONG}", "thoughts leak"),
    ],
)
def test_replies_that_break_a_rule_of_the_filter(reply, rule):
    with pytest.raises(SetAside) as why:
        engraved(reply, "Tell me about the sea and its waves.")
    assert why.value.rule == rule


def test_thoughts_never_reach_what_is_learned():
    reply = f"{IDENTITY}\nThoughts: By helpful and by candor I say it.\nAnswer: {LONG}\nUser: And then?\nNo."
    thoughts, answer = engraved(reply, "What is it?")
    assert thoughts == "By helpful and by candor I say it."
    assert answer == LONG.strip()
    kept, left = made(dromedary(load("kilter/teacher"), world_prompts(30, values=0.4), shortest=10))
    assert len(kept) + sum(left.values()) == 30
    assert len(kept) > 20
    for record in kept:
        text = record.messages[-1].content
        assert len(record.meta["used_rules"]) == 2
        assert record.meta["thoughts"] not in text
        assert "Thoughts" not in text
        assert IDENTITY not in text
        assert not any(m.role == "system" for m in record.messages)


# ------------------------------------------------------------------------------------------------ experts and roles


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("As a physicist, I would say no.", "I would say no."),
        ("As an experienced sea captain, the wind matters.", "The wind matters."),
        ("作为一名面包师，先看面团。", "先看面团。"),
        ("As a result, it falls.", "As a result, it falls."),
        ("As a rule, it falls.", "As a rule, it falls."),
        ("It is as a baker, that I speak.", "It is as a baker, that I speak."),
    ],
)
def test_openings_that_give_the_expert_away(text, left):
    assert stripped(text) == left


def test_experts_answer_and_are_not_in_what_is_learned():
    records = world_prompts(30)
    kept, left = made(expertprompting(load("kilter/teacher"), records))
    assert (len(kept), left) == (30, {})
    for record, asked in zip(kept, records, strict=True):
        assert record.messages[:-1] == asked.messages
        assert record.meta["expert_identity"] not in " ".join(m.content for m in record.messages)
        assert right(record)
    assert len({r.meta["expert_identity"] for r in kept}) > 5
    kept, _ = made(expertprompting(load("kilter/teacher"), records[:3], generic=True))
    assert {r.meta["expert_identity"] for r in kept} == {GENERIC}
    _, left = made(expertprompting(load("kilter/teacher?errors=1"), records))
    assert left == {"no identity": 30}


def test_phoenix_keeps_the_role_of_every_record(tmp_path):
    roles = tmp_path / "roles.txt"
    roles.write_text("nurse\njudge\n\nnurse\n", encoding="utf-8")
    kept, left = made(
        phoenix(load("kilter/teacher"), world_prompts(20), n=30, roles=str(roles), n_roles=4, novelty=0.9)
    )
    assert len(kept) == 30
    names = {r.meta["role_id"]: r.meta["role"] for r in kept}
    assert {names[0], names[1]} == {"nurse", "judge"}
    assert len(names) == 6
    answered = [r for r in kept if known(r.messages[:-1])]
    assert len(answered) > 15
    assert all(right(r) for r in answered)
    assert {r.meta["lang"] for r in kept} >= {"en", "zh"}
    assert sum(left.values()) > 0


# ------------------------------------------------------------------------------------------------ lion


def test_the_order_of_the_answers_does_not_matter():
    # A referee that gives the first answer 2 more: in both orders it adds to both and the gap stays what it is.
    value = {"good": 7, "bad": 4}
    model = by_kind(
        score_both=lambda v, s: (
            f"So.\nScore of the first: {value[v['first']] + 2}\nScore of the second: {value[v['second']]}"
        )
    )
    assert wait(compared(model, "q", "good", "bad")) == (8, 5)
    assert wait(compared(model, "q", "bad", "good")) == (5, 8)
    calls = iter(["no idea", Answer("Score of the first: 11\nScore of the second: 3", 1, None, "stop")])
    model = by_kind(score_both=lambda v, s: next(calls, "Assistant 1: 6\nAssistant 2: 6.5"))
    assert wait(compared(model, "q", "a", "b")) == (6.25, 6.25)
    model = by_kind(score_both=lambda v, s: "-1 -1")
    with pytest.raises(SetAside):
        wait(compared(model, "q", "a", "b"))
    assert len(model.asked) == 3
    assert scores_in("Score of the first: **8**\nScore of the second: 5") == (8, 5)


def test_lion_finds_what_the_student_fails_and_writes_as_much_after_both_pools():
    records = world_prompts(40)
    kept, left = made(
        lion(load("kilter/teacher"), records, student="kilter/teacher?errors=0.5", n=20, novelty=0.95, seed=1)
    )
    seeds = [r for r in kept if "new" not in r.meta]
    new = [r for r in kept if "new" in r.meta]
    assert len(seeds) == 40
    hard = [r for r in seeds if r.meta["pool"] == "hard"]
    assert 8 < len(hard) < 32
    for record in seeds:  # the pool is what the world says of the student
        wrong = known(record.messages[:-1]).judged(record.meta["student"]).reward < 1
        assert (record.meta["pool"] == "hard") is wrong
        assert (record.meta["gap"] >= 1) is wrong
    assert Counter(r.meta["pool"] for r in new) == {"hard": 10, "easy": 10}
    of_pool = {r.origin.parents[0]: r.meta["pool"] for r in seeds}
    assert all(of_pool[r.origin.parents[0]] == r.meta["pool"] for r in new)
    assert all(right(r) for r in kept)
    assert isinstance(left, dict)
    with pytest.raises(KilterError, match="name the student"):
        made(lion(load("kilter/teacher"), records))


# ------------------------------------------------------------------------------------------------ attrprompt


def test_values_are_drawn_with_equal_chances():
    table = {"place": ["a", "b", "c", "d"], "style": ["x", "y"]}
    drawn = [drawn_values(table, 0, k) for k in range(4000)]
    for name, options in table.items():
        counts = Counter(values[name] for values in drawn)
        expected = 4000 / len(options)
        assert sum((counts[o] - expected) ** 2 / expected for o in options) < 16.3  # chi-square, 3 degrees, 1 in 1000


def test_texts_with_attributes_differ_more_than_those_of_the_class_alone():
    teacher = load("kilter/teacher")
    kept, _ = made(attrprompt(teacher, labels="positive,negative", n=40, values=6))
    assert Counter(r.meta["label"] for r in kept)["positive"] >= 15
    for record in kept:
        assert (
            known(f"Is this positive or negative? {record.meta['text']}").good
            == record.meta["label"].capitalize() + "."
        )
        assert all(value in record.meta["text"] for value in record.meta["attrs"].values())
        assert isinstance(record, Demonstration)
        assert record.messages[-1].content == record.meta["label"]
    plain, _ = made(attrprompt(teacher, labels="positive,negative", n=40, simple=True))
    assert all(r.meta["attrs"] == {} for r in plain)
    assert aps([r.meta["text"] for r in kept]) < 0.6 * aps([r.meta["text"] for r in plain])


def test_planted_values_of_another_class_are_left_out():
    model = by_kind(
        attribute_values=lambda v, s: (
            "1. sunny\n2. rainy negative day\n3. windy" if v["label"] == "positive" else "1. dark\n2. cold"
        ),
        fits_class=lambda v, s: "Yes" if v["label"] in v["value"] else "No",
        labelled_text=lambda v, s: f"{v['label']} {' '.join(v['values'])} {s.seed}",
    )
    kept, left = made(attrprompt(model, labels="positive,negative", attributes="weather", of_class="weather", n=20))
    assert left == {"fits another class": 1}
    assert {r.meta["attrs"]["weather"] for r in kept if r.meta["label"] == "positive"} == {"sunny", "windy"}
    with pytest.raises(KilterError, match="no attribute"):
        made(attrprompt(model, labels="a,b", attributes="weather", of_class="wether"))
    with pytest.raises(KilterError, match="two classes"):
        made(attrprompt(model, labels="a"))
