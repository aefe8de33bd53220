"""Instructions that evolve: every rule of elimination on its case, equal chances of the operations, whole runs."""

from collections import Counter

import pytest

from kilter.data.community_seeds import REFUSAL, community_seeds, mean_cosine
from kilter.data.evol import OPERATIONS, Course, Evolved, eliminated_after, eliminated_before, evol
from kilter.data.evol import PROMPTS as EVOL
from kilter.data.lamini import lamini, read_topics
from kilter.data.sieve import said
from kilter.data.unnatural import SLOT, fields, unnatural
from kilter.data.wizardcoder import peak, read_curve, wizardcoder
from kilter.errors import KilterError, SetAside
from kilter.models.load import load
from kilter.models.protocol import Sampling
from kilter.models.teacher import known, programs
from kilter.world import World
from scripted_model import by_kind, made, prompt, shown


def world_prompts(n, seed=1):
    return [p for p in World().prompts("train", 3 * n, seed=seed, shares=World.shares(0.0)) if len(p.messages) == 1][:n]


def right(record):
    return known(record.messages[:-1]).judged(record.messages[-1].content.splitlines()[-1]).reward == 1


# ------------------------------------------------------------------------------------------------ evol


def test_operations_have_equal_chances():
    course = Course(EVOL, "evol", "", OPERATIONS, 20, Sampling(), 0)
    drawn = Counter(course.drawn(Evolved(str(k), str(k), "", "", 0), 1) for k in range(6000))
    assert set(drawn) == set(OPERATIONS)
    assert sum((many - 1000) ** 2 / 1000 for many in drawn.values()) < 20.5  # chi-square, 5 degrees, one in a thousand


@pytest.mark.parametrize(
    ("before", "after", "operation", "rule"),
    [
        ("Name a river.", "name  a river.", "deepen", "no information gain"),
        ("Name a river.", "Rewritten Prompt: Name a long river.", "deepen", "scaffold"),
        ("说出一条河。", "改写后的题目：说出一条长河。", "deepen", "scaffold"),
        ("What is a new prompt?", "What is a new prompt good for?", "deepen", None),
        ("Name a river.", "Name a river " + "and a lake " * 10, "constraint", "grown too long"),
        ("Name a river.", "Name a river " + "and a lake " * 10, "breadth", None),
        ("Name a river.", "Name a river that is longer than this one.", "constraint", None),
    ],
)
def test_elimination_before_the_answer(before, after, operation, rule):
    found = eliminated_before(before, after, operation, 20)
    assert (found[0] if found else None) == rule


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("Sorry, that I do not know.", "sorry"),
        ("I am sorry. " + "There is much to tell of it. " * 20, None),
        ("抱歉，我不会。", "sorry"),
        ("... !", "empty answer"),
        ("It is the of and to.", "empty answer"),
        ("It is 12.", None),
        ("好的，是河。", None),
    ],
)
def test_elimination_after_the_answer(answer, rule):
    found = eliminated_after(answer)
    assert (found[0] if found else None) == rule


def test_parents_survive_failures_and_the_books_balance():
    said_by = {
        "good": "good, and say why",
        "same": "same as it was said",
        "copy": "Rewritten prompt: copy",
        "sad": "sad but new",
    }
    model = by_kind(
        evolve=lambda v, s: said_by[v["instruction"].split(",")[0].split()[0]] + "!" * s.seed,
        same=lambda v, s: "Equal" if v["first"].startswith("same") else "Not equal",
        answer=lambda v, s: "I am sorry." if "sad" in v["instruction"] else "An answer.",
    )
    records = [prompt(text) for text in said_by]
    kept, left = made(evol(model, records, rounds=2))
    assert left == {"no information gain": 2, "scaffold": 2, "sorry": 2}
    assert [r.meta["round"] for r in kept] == [1, 2]
    assert len(kept) + sum(left.values()) == 2 * len(records)
    assert kept[0].meta["parent"] == records[0].id
    assert kept[1].meta["parent"] == kept[0].id
    evolved = [asked.variables["instruction"] for asked in model.asked if asked.kind == "evolve"]
    assert evolved[4:] == [kept[0].messages[0].content, "same", "copy", "sad"]


def test_evol_with_the_teacher_is_true_and_grows():
    records = world_prompts(30)
    kept, left = made(evol(load("kilter/teacher"), records, rounds=3, seed=1))
    assert len(kept) + sum(left.values()) == 3 * len(records)
    assert len(kept) > 60
    assert all(right(record) for record in kept)
    deep = {k: [len(r.messages[0].content) for r in kept if r.meta["round"] == k and r.meta["operation"] != "breadth"]
            for k in (1, 3)}  # fmt: skip
    lengths = [sum(these) / len(these) for these in deep.values()]
    assert lengths[1] > lengths[0]
    again, _ = made(evol(load("kilter/teacher"), records, rounds=3, seed=1))
    assert [r.id for r in again] == [r.id for r in kept]
    _, left = made(evol(load("kilter/teacher?errors=1"), records, rounds=1))
    assert left["scaffold"] > 20


# ------------------------------------------------------------------------------------------------ wizardcoder


@pytest.mark.parametrize(
    ("curve", "best"), [([0.3, 0.4, 0.45, 0.41], 2), ([0.5, 0.4, 0.9], 0), ([0.1, 0.1, 0.2], 2), ([0.2], 0)]
)
def test_the_stop_rule_picks_the_peak(curve, best):
    assert peak(curve) == best


def test_wizardcoder_stops_and_its_code_is_right():
    tasks = [prompt(one.request) for one in list(programs.exercises().values())[::12]]
    kept, left = made(wizardcoder(load("kilter/teacher"), tasks, rounds=3, dev="0.2,0.3,0.25,0.4"))
    assert {r.meta["round"] for r in kept} == {1}
    assert len(kept) + sum(left.values()) == len(tasks)
    for record in kept:
        assert record.meta["language"] == "python"
        scope: dict = {}
        exec(record.messages[-1].content.strip("`").removeprefix("python\n"), scope)
        assert all(eval(test, scope) for test in programs.find(record.messages[0].content).tests)
    for wrong in ("a,b", "2,3"):
        with pytest.raises(KilterError, match="dev is"):
            read_curve(wrong)


# ------------------------------------------------------------------------------------------------ unnatural


def test_unnatural_drops_examples_repetitions_and_wordings_without_a_slot():
    replies = [
        "Instruction: Count the letters.\nInput: pear\nConstraints: None.",
        "Instruction: Turn the word around.\nInput: door\nConstraints: None.",
        "Instruction: Say it.\nConstraints: None.",
        "Instruction: Turn the word around.\nInput: door\nConstraints: Be quick.",
    ]
    wordings = [f"Turn this around: {SLOT}", "Turn it around."]
    model = by_kind(
        structured=lambda v, s: replies[s.seed % 4],
        answer=lambda v, s: "rood",
        paraphrase=lambda v, s: wordings[v["number"]],
    )
    seeds = [shown("Count the letters.", "4", input="pear"), shown("Name the colour.", "red", input="rose")]
    kept, left = made(unnatural(model, seeds, n=5))
    assert [(r.messages[0].content, r.meta["input"], r.messages[1].content) for r in kept] == [
        ("Turn the word around.\n\ndoor", "door", "rood"), ("Turn this around: door", "door", "rood"),
    ]  # fmt: skip
    assert kept[1].meta["core"] == kept[0].id
    assert left == {"is an example": 22, "missing field": 22, "duplicate": 43, "no slot": 1}
    with pytest.raises(SetAside, match="constraints"):
        fields("Instruction: a\nInput: b")


def test_unnatural_with_the_teacher_is_true():
    seeds = [d for d in World().demonstrations(60, seed=2, shares=World.shares(0.0)) if len(d.messages) == 2]
    kept, _ = made(unnatural(load("kilter/teacher"), seeds, n=20, reformulations=1))
    cores = [r for r in kept if "core" not in r.meta]
    reworded = [r for r in kept if "core" in r.meta]
    assert len(cores) == 20
    assert reworded
    assert all(known(r.messages[0].content).judged(r.messages[1].content).reward == 1 for r in kept)
    by_id = {r.id: r for r in cores}
    for record in reworded:  # the same input and output in other words
        core = by_id[record.meta["core"]]
        assert (record.meta["input"], record.messages[1]) == (core.meta["input"], core.messages[1])
        assert record.messages[0] != core.messages[0]


# ------------------------------------------------------------------------------------------------ lamini


def test_topics_make_instructions_differ_more(tmp_path):
    path = tmp_path / "topics.txt"
    words = ["Rivers", "Trades", "Bells", "Tea", "Maps", "Glass", "Silk", "Hens", "Ropes", "Inns", "Mills", "Drums"]
    path.write_text("\n".join([*words, "Old houses of the north", "Salt\t3", "Paper\t12"]) + "\n", encoding="utf-8")
    assert read_topics(str(path)) == [*words, "Paper"]
    teacher = load("kilter/teacher")
    seeds = [p for p in world_prompts(60) if p.meta["family"] == "sums" and p.meta["language"] == "en"][:5]
    kept, left = made(lamini(teacher, seeds, n=40, n_topics=40, topics=str(path), per_request=10))
    plain = [r for r in kept if r.meta["instruction_source"] == "self_instruct"]
    guided = [r for r in kept if r.meta["instruction_source"] == "self_instruct_topic"]
    assert (len(plain), len(guided)) == (40, 40)
    assert all(len(r.meta["topics"]) == 3 for r in guided)
    assert all("topics" not in r.meta for r in plain)
    words_of = [{word for r in these for word in said(r, "instruction").split()} for these in (plain, guided)]
    assert len(words_of[1]) > 1.2 * len(words_of[0])
    answered = [r for r in kept if known(r.messages[:-1])]
    assert len(answered) > 50
    assert all(right(r) for r in answered)
    assert sum(left.values()) > 0
    path.write_text("One\nTwo\n", encoding="utf-8")
    with pytest.raises(KilterError, match="2 topics"):
        read_topics(str(path))


# ------------------------------------------------------------------------------------------------ community seeds


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("As an AI language model, I have no views.", True),
        ("I'm sorry, but that is too long.", True),
        ("I cannot help with this.", True),
        ("抱歉，我不能回答这个问题。", True),
        ("作为一个AI语言模型，我没有看法。", True),
        ("The cat is sorry for nothing.", False),
        ("She cannot help laughing.", False),
    ],
)
def test_refusals(text, refuses):
    assert bool(REFUSAL.search(text)) is refuses


def test_the_mean_cosine_of_texts():
    assert mean_cosine(["a b", "a b", "a b"]) == pytest.approx(1)
    assert mean_cosine(["a b", "c d"]) == pytest.approx(0)
    assert mean_cosine(["a b", "a c"]) == pytest.approx(0.5)
    assert mean_cosine(["a"]) == 0


def test_community_questions_are_answered_once_and_looked_through():
    records = world_prompts(40)
    for k, record in enumerate(records):
        record.meta["source"] = "quora" if k % 2 else "stackoverflow"
    alike = [prompt(f"Is the sentence number {k} good, yes or no?", source="p3") for k in range(20)]
    kept, left = made(community_seeds(load("kilter/teacher"), [*records, records[0], *alike], likeness=0.6))
    assert left == {"duplicate seed": 1, "homogeneous": 20}
    assert len(kept) == 40
    assert all(right(r) for r in kept)
    by_id = {r.id: r for r in records}
    for record in kept:  # every record cites its seed question
        assert by_id[record.origin.parents[0]].messages == record.messages[:-1]
        assert record.meta["seed_source"] == by_id[record.origin.parents[0]].meta["source"]
    model = by_kind(
        answer=lambda v, s: "As an AI language model I cannot say." if "a" in v["messages"][0].content else "It is so."
    )
    kept, left = made(community_seeds(model, [prompt("a b"), prompt("c d")]))
    assert [r.messages[-1].content for r in kept] == ["It is so."]
    assert left == {"refusal": 1}
    assert not any(REFUSAL.search(r.messages[-1].content) for r in kept)
