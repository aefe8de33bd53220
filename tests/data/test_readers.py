"""What people and benchmarks have written, made into records: templates, tasks, trees, flat conversations."""

import itertools
import json
import random
from collections import Counter

import pytest

from kilter.data.dolly import CATEGORIES, dolly
from kilter.data.oasst import oasst
from kilter.data.oig import oig, parse, render
from kilter.data.promptsource import Template, promptsource, read_templates
from kilter.data.promptsource import render as rendered
from kilter.data.ranked_pairs import merged
from kilter.data.superni import TEST_TYPES, superni
from kilter.errors import KilterError
from kilter.records import Demonstration, Message
from kilter.store.rejects import Rejects

YAML = """
dataset: tiny_nli
subset: small
templates:
  1111-aa: !Template
    answer_choices: Yes ||| No ||| Maybe
    id: 1111-aa
    jinja: "{{premise}}\\n\\nDoes it follow that {{hypothesis}}? {{ answer_choices | join(', ') }}\\n|||\\n
      {% if label >= 0 %}{{ answer_choices[label] }}{% endif %}"
    metadata: !TemplateMetadata
      choices_in_prompt: true
      languages: [en]
      metrics: [Accuracy]
      original_task: true
    name: follows
    reference: made for a test
  2222-bb: !Template
    answer_choices: null
    id: 2222-bb
    jinja: 'Write {{ ["one", "a"] | choice }} hypothesis: {{premise}} ||| {{hypothesis}} ||| {{hypothesis | upper}}'
    metadata: !TemplateMetadata
      choices_in_prompt: false
      languages: []
      metrics: []
      original_task: false
    name: generate
    reference: ''
"""
ROWS = [
    {"premise": "It rains.", "hypothesis": "it is wet", "label": 0},
    {"premise": "It snows a|||b.", "hypothesis": "it is hot", "label": 1},
    {"premise": "猫在睡觉。", "hypothesis": "猫是黑的", "label": 2},
    {"premise": "Nobody said.", "hypothesis": "it is so", "label": -1},
    {"premise": "Nothing follows.", "hypothesis": "", "label": 1},
]


@pytest.fixture
def nli(tmp_path):
    (tmp_path / "templates.yaml").write_text(YAML, encoding="utf-8")
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    (tmp_path / "rows.jsonl").write_text(lines + "not json\n", encoding="utf-8")
    return {"rows": str(tmp_path / "rows.jsonl"), "templates": str(tmp_path / "templates.yaml")}


def test_templates_are_counted_and_read(nli, tmp_path):
    name, found = read_templates(tmp_path / "templates.yaml")
    assert name == "tiny_nli/small"
    assert [t.name for t in found] == ["follows", "generate"]
    assert found[0].metadata["metrics"] == ["Accuracy"]


def test_rows_are_rendered_by_every_template(nli):
    with Rejects() as rejects:
        found = list(promptsource(**nli))
    assert rejects.unread == 1
    by = Counter(r.meta["template"] for r in found)
    assert by == {"follows": 4, "generate": 4}  # a label that is none, and an empty hypothesis, are skipped
    first = found[0]
    assert first.messages[0].content == "It rains.\n\nDoes it follow that it is wet? Yes, No, Maybe"
    assert first.messages[1].content == "Yes"
    assert first.meta["options"] == ["Yes", "No", "Maybe"]
    assert first.meta["task"] == "tiny_nli/small"
    for record in found:
        if "options" in record.meta:
            assert record.messages[-1].content in record.meta["options"]
    bars = next(r for r in found if "snows" in r.messages[0].content)
    assert "a|||b" in bars.messages[0].content
    generated = next(r for r in found if r.meta["template"] == "generate")
    assert generated.meta["references"] == ["it is wet", "IT IS WET"]


def test_rendering_is_pure(nli):
    first, second = list(promptsource(**nli)), list(promptsource(**nli))
    assert [r.id for r in first] == [r.id for r in second]
    texts = {
        rendered(Template("x", "t", "{{ ['a', 'b', 'c'] | random }} ||| y"), {"row": row}, seed)[0]
        for row in range(5)
        for seed in range(5)
    }
    assert texts == {"a", "b", "c"}


def test_which_templates_are_used(nli):
    assert {r.meta["template"] for r in promptsource(**nli, original=True)} == {"follows"}
    assert {r.meta["template"] for r in promptsource(**nli, only="generate")} == {"generate"}
    assert len(list(promptsource(**nli, n=1))) == 2
    drawn = [list(promptsource(**nli, per_row=1, seed=seed)) for seed in range(6)]
    assert all(len(found) <= 5 for found in drawn)
    assert len({tuple(r.meta["template"] for r in found) for found in drawn}) > 1
    with pytest.raises(KilterError, match="Did you mean 'generate'"):
        list(promptsource(**nli, only="generates"))


def test_templates_that_are_none(nli, tmp_path):
    with pytest.raises(KilterError, match="cannot render a row"):
        rendered(Template("x", "t", "{{ missing.part.deeper }} ||| y"), {})
    with pytest.raises(KilterError, match="cannot render a row"):
        rendered(Template("x", "t", "{% if %}"), {})
    with pytest.raises(KilterError, match="cannot render a row"):  # the sandbox lets nobody out
        rendered(Template("x", "t", "{{ ''.__class__.__mro__[1].__subclasses__() }} ||| y"), {})
    (tmp_path / "other.yaml").write_text("a: 1\n")
    with pytest.raises(KilterError, match="no file of PromptSource's templates"):
        list(promptsource(rows=nli["rows"], templates=str(tmp_path / "other.yaml")))


def task(kind, **more):
    return {
        "Categories": [kind],
        "Definition": ["Say whether the review is good."],
        "Positive Examples": [
            {"input": f"fine {i}", "output": "good", "explanation": f"it says fine {i}"} for i in range(3)
        ],
        "Negative Examples": [{"input": "poor", "output": "good", "explanation": "it is not"}],
        "Instances": [{"id": f"t-{i}", "input": f"review {i}", "output": ["good", "fine"]} for i in range(5)],
    } | more


@pytest.fixture
def tasks(tmp_path):
    for name, kind in (("task1_a", "Sentiment Analysis"), ("task2_b", "Word Analogy"), ("task3_c", "Summarization")):
        (tmp_path / f"{name}.json").write_text(json.dumps(task(kind)))
    return str(tmp_path)


def test_no_type_of_task_is_in_both_splits(tasks):
    parts = {split: {r.meta["type"] for r in superni(tasks=tasks, split=split)} for split in ("train", "test", "all")}
    assert parts["train"] == {"Sentiment Analysis", "Summarization"}
    assert parts["test"] == {"Word Analogy"} <= TEST_TYPES
    assert parts["all"] == parts["train"] | parts["test"]
    assert len(TEST_TYPES) == 12


def test_encodings_differ_by_the_examples_alone(tasks):
    def first(**options):
        record = next(superni(tasks=tasks, **options))
        return record.messages[0].content

    bare, two = first(positives=0), first(positives=2)
    definition, rest = "Say whether the review is good.", "\n\nNow do this one.\nInput: review 0\nOutput:"
    assert bare == definition + rest
    assert two.startswith(definition)
    assert two.endswith(rest)
    block = two[len(definition) : -len(rest)]
    assert block.count("of a right output") == 2
    assert "fine 1" in block
    assert "fine 2" not in block
    assert "says fine" not in block
    assert "it says fine 1" in first(explanations=True)
    both = first(negatives=1, explanations=True)
    assert "of a wrong output.\nInput: poor\nOutput: good\nReason: it is not" in both


def test_instances_and_their_references(tasks):
    found = list(superni(tasks=tasks, instances=3))
    assert Counter(r.meta["task"] for r in found) == {"task1_a": 3, "task2_b": 3, "task3_c": 3}
    assert found[0].messages[-1].content == "good"
    assert found[0].meta["references"] == ["good", "fine"]


def test_a_file_that_is_no_task(tasks, tmp_path):
    (tmp_path / "task0_x.json").write_text(json.dumps({"Definition": []}))
    with Rejects() as rejects:
        assert len(list(superni(tasks=tasks))) == 15
    assert rejects.counts == {"no task": 1}
    with pytest.raises(KilterError, match="lacks Categories"):
        list(superni(tasks=tasks))
    with pytest.raises(KilterError, match="holds no tasks"):
        list(superni(tasks=str(tmp_path / "none.json")))


@pytest.mark.parametrize(
    ("rankings", "order"),
    [
        ([["a", "b", "c"]] * 3, "abc"),
        ([["b", "c", "a"], ["a", "b", "c"], ["b", "a", "c"]], "bac"),
        # a > b by 5, b > c by 3, c > a by 1: the weakest, c > a, is dropped.
        ([["a", "b", "c"]] * 3 + [["b", "c", "a"]] * 2 + [["c", "a", "b"]] * 2, "abc"),
        ([["a", "b"], ["b", "a"]], "ab"),
        ([["a", "b"], ["b", "c"]], "abc"),
        ([], ""),
    ],
)
def test_ranked_pairs(rankings, order):
    assert "".join(merged(rankings)) == order


def test_whoever_beats_all_others_is_first():
    draw = random.Random(0)
    found = 0
    for _ in range(200):
        rankings = [draw.sample("abcde", 5) for _ in range(7)]
        wins = Counter(pair for ranking in rankings for pair in itertools.combinations(ranking, 2))
        winner = [x for x in "abcde" if all(wins[x, y] > wins[y, x] for y in "abcde" if y != x)]
        if winner:
            found += 1
            assert merged(rankings)[0] == winner[0]
    assert found > 50


def node(identity, role, *replies, **more):
    return {
        "message_id": identity,
        "role": role,
        "text": f"text of {identity}",
        "lang": "en",
        "replies": list(replies),
    } | more


TREE = {
    "message_tree_id": "p",
    "tree_state": "ready_for_export",
    "prompt": node(
        "p",
        "prompter",
        node("a1", "assistant", node("q1", "prompter"), rank=1),
        node("a0", "assistant", node("q0", "prompter", node("b0", "assistant")), rank=0),
        node("a2", "assistant", rank=2),
        node("bad", "assistant", rank=3, labels={"spam": {"value": 0.9, "count": 3}, "quality": {"value": 0.9}}),
        node("gone", "assistant", node("after", "prompter"), rank=4, deleted=True),
        node("same", "prompter", node("below", "assistant")),
    ),
}


@pytest.fixture
def trees(tmp_path):
    other = {
        "message_tree_id": "x",
        "tree_state": "aborted_low_grade",
        "prompt": node("x", "prompter", node("y", "assistant")),
    }
    path = tmp_path / "trees.jsonl"
    path.write_text("".join(json.dumps(tree) + "\n" for tree in (TREE, other)))
    return str(path)


def texts(record):
    return [m.content.removeprefix("text of ") for m in record.messages]


def test_a_tree_gives_its_best_path_its_paths_and_its_ranked_answers(trees):
    with Rejects() as rejects:
        [best] = list(oasst(trees=trees))
    assert texts(best) == ["p", "a0", "q0", "b0"]
    assert best.meta == {"tree": "p", "language": "en"}
    assert rejects.counts == {"spam": 1, "deleted": 1, "roles": 1, "state": 1}
    paths = [texts(r) for r in oasst(trees=trees, what="paths")]
    assert paths == [["p", "a0", "q0", "b0"], ["p", "a1"], ["p", "a2"]]
    for path in oasst(trees=trees, what="paths"):
        assert all(a.role != b.role for a, b in itertools.pairwise(path.messages))
    [group] = list(oasst(trees=trees, what="groups"))
    assert group.responses == ["text of a0", "text of a1", "text of a2"]
    assert group.ranking == [0, 1, 2]
    assert len(group.pairs()) == 3


def test_thresholds_states_and_languages(trees):
    assert len(list(oasst(trees=trees, states=""))) == 2
    [group] = list(oasst(trees=trees, what="groups", labels=0.95))
    assert group.responses[-1] == "text of bad"
    assert list(oasst(trees=trees, languages="de")) == []
    [group] = list(oasst(trees=trees, what="groups", labels=0.95, quality=0.95))
    assert "text of bad" not in group.responses


def test_annotators_rankings_are_merged(tmp_path):
    tree = json.loads(json.dumps(TREE))
    votes = [["a2", "a0", "a1"], ["a2", "a1", "a0"], ["a0", "a2", "a1"]]
    tree["prompt"]["events"] = {"ranking": [{"ranked_message_ids": v, "not_rankable": False} for v in votes]}
    path = tmp_path / "one.json"
    path.write_text(json.dumps(tree))
    [group] = list(oasst(trees=str(path), what="groups"))
    assert group.responses == ["text of a2", "text of a0", "text of a1"]
    assert [texts(r) for r in oasst(trees=str(path))] == [["p", "a2"]]


def test_messages_that_form_trees(tmp_path, trees):
    flat = []

    def walk(message, parent):
        flat.append(
            {**{k: v for k, v in message.items() if k != "replies"}, "parent_id": parent, "message_tree_id": "p"}
        )
        for reply in message["replies"]:
            walk(reply, message["message_id"])

    walk(TREE["prompt"], None)
    path = tmp_path / "flat.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in flat))
    assert [texts(r) for r in oasst(trees=str(path))] == [["p", "a0", "q0", "b0"]]


FLAT = "<human>: What is 2 + 2?\n<bot>: It is 4.\n<human>: 谢谢\n<bot>: 不客气。"


def test_flat_conversations_there_and_back(tmp_path):
    assert [m.role for m in parse(FLAT)] == ["user", "assistant"] * 2
    assert render(parse(FLAT)) == FLAT
    with_system = "Background: a shop.\n" + FLAT
    assert render(parse(with_system)) == with_system
    assert parse(with_system)[0] == Message("system", "Background: a shop.")


def test_subsets_add_up(tmp_path, capsys):
    rows = [{"text": FLAT, "metadata": {"source": "unified_p3"}}] * 3
    rows += [{"text": FLAT + "\n<human>: And?", "metadata": {"source": "chip2"}}]
    rows += [{"text": "<bot>: Hello\n<human>: Hi\n<bot>: Yes", "metadata": {"source": "chip2"}}]
    rows += [{"text": "<human>: Hello", "metadata": {"source": "chip2"}}, {"other": 1}]
    path = tmp_path / "oig.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Rejects() as rejects:
        found = list(oig(rows=str(path)))
    assert Counter(r.meta["source"] for r in found) == {"unified_p3": 3, "chip2": 1}
    assert all([m.role for m in r.messages] == ["user", "assistant"] * 2 for r in found)
    assert rejects.counts == {"turns": 1, "empty": 1}
    assert rejects.unread == 1
    assert len(rows) == len(found) + rejects.total + rejects.unread
    assert "unified_p3 3, chip2 1; 4 in all." in capsys.readouterr().err
    assert len(list(oig(rows=str(path), sources="chip2"))) == 1


def written(category, context="", answer="Yes."):
    meta = {"extra": {"category": category}} | ({"input": context} if context else {})
    asked = f"Question about {category}." + (f"\n\n{context}" if context else "")
    return Demonstration([Message("user", asked), Message("assistant", answer)], meta=meta)


def test_dolly_s_categories_and_citations(capsys):
    passage = "Bread is baked.[12] It rises[citation needed]. x[i] stays."
    records = [written(category) for category in CATEGORIES] + [written("closed_qa", passage, "Baked [3].")]
    records += [written("poems"), written("open_qa", answer=" ")]
    with Rejects() as rejects:
        found = list(dolly(records))
    assert rejects.counts == {"category": 1, "empty": 1}
    assert found[-1].meta["input"] == "Bread is baked. It rises. x[i] stays."
    assert found[-1].messages[0].content.endswith("Bread is baked. It rises. x[i] stays.")
    assert found[-1].messages[1].content == "Baked."
    assert "closed_qa 2 (1 with a passage)" in capsys.readouterr().err
    assert len(list(dolly(records, quota=1))) == 8
    assert {r.meta["category"] for r in dolly(records, strict=True)} == set(CATEGORIES) - {
        "information_extraction",
        "summarization",
    }
