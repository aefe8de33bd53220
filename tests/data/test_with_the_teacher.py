"""Dialogues, languages, imitation and preferences end to end: `kilter data METHOD --model kilter/teacher`, offline.

What comes out is judged by the world where it can be: the teacher knows the world, so a method that passes on what it
was told makes answers that are right.
"""

import itertools
import json
from pathlib import Path

import pytest

from kilter import formats, registry
from kilter.models.desk import Desk
from kilter.models.teacher import known
from kilter.recipe.making import make_file, rehearse
from kilter.records import Demonstration, Group
from kilter.world import World

QUESTIONS = World().prompts("train", 60, seed=5)
SINGLE = [p for p in QUESTIONS if len(p.messages) == 1 and known(p.messages[0].content)]
SUMS = [p for p in World().prompts("train", 12, seed=6, shares={"sums": 1.0}) if known(p.messages[0].content)]
TEACHER = "kilter/teacher"


def written(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def asked(folder):
    return written(folder / "asked.jsonl", [{"messages": [m.to_json() for m in p.messages]} for p in SINGLE[:12]])


def english(folder):
    asked_in = [p for p in SINGLE if p.meta["language"] == "en" and p.meta["family"] in ("facts", "sums", "sorting")]
    rows = [{"messages": [m.to_json() for m in p.messages]} for p in asked_in[:8]]
    return written(folder / "english.jsonl", rows)


def sums(folder):
    rows = [{"instruction": p.messages[0].content, "output": str(p.meta["check"]["answer"])} for p in SUMS[:6]]
    return written(folder / "sums.jsonl", rows)


def shown(folder, good=True):
    found = [(p.messages[0].content, known(p.messages[0].content)) for p in SINGLE[:12]]
    rows = [{"instruction": text, "output": k.good if good else k.bad} for text, k in found]
    return written(folder / "shown.jsonl", rows)


def ranked(folder):
    found = [(p, known(p.messages[0].content)) for p in SINGLE[:12]]
    rows = [{"prompt": [m.to_json() for m in p.messages], "chosen": [{"role": "assistant", "content": k.good}],
             "rejected": [{"role": "assistant", "content": k.bad}]} for p, k in found]  # fmt: skip
    return written(folder / "ranked.jsonl", rows)


def talks(folder):
    texts = [p.messages[0].content for p in SINGLE[:12]]
    rows = []
    for one, other in zip(texts[::2], texts[1::2], strict=True):
        turns = [one, known(one).good, f"{other} And again, as before?", known(other).good]
        roles = ("user", "assistant") * 2
        rows.append({"messages": [{"role": r, "content": t} for r, t in zip(roles, turns, strict=True)]})
    return written(folder / "talks.jsonl", rows)


def tools(folder):
    rows = [{"name": "calc", "description": "works out a sum", "parameters": ["expression"]},
            {"name": "find", "description": "finds a name", "parameters": {"name": "whose"}}]  # fmt: skip
    return written(folder / "tools.jsonl", rows)


def facts(folder):
    return written(
        folder / "facts.jsonl", [{"subject": f"国{i}", "relation": "首都", "object": f"城{i}"} for i in range(5)]
    )


def table(folder):
    return written(folder / "table.jsonl", [{"text": f"text {i}", "label": "good", "year": 1900 + i} for i in range(6)])


def code(folder):
    rows = [{"messages": [{"role": "user", "content": f"def add_{k}(x):\n    return x + {k}"}]} for k in (2, 3, 5, 7)]
    return written(folder / "code.jsonl", rows)


def consenting(folder):
    rows = [json.loads(line) for line in Path(shown(folder)).read_text(encoding="utf-8").splitlines()]
    return written(folder / "live.jsonl", [{**row, "consent": i % 2} for i, row in enumerate(rows)])


# id -> (what makes the records, options that are files, other options, share of the answers that the world finds right)
CASES = {
    "baize": (asked, {}, {}, 1.0),
    "baize-sdf": (asked, {}, {"judge": TEACHER, "samples": 8}, 1.0),
    "camel": (asked, {}, {"assistant_roles": "clerk", "user_roles": "guest"}, None),
    "belle-multiturn": (None, {}, {"n": 6}, 1.0),
    "selfee": (lambda folder: shown(folder, good=False), {}, {}, 1.0),
    "ultrachat": (None, {}, {"subtopics": 1, "questions": 1, "conversations": 5}, 1.0),
    "humanloop": (consenting, {}, {"least": 4}, 1.0),
    "post-answer": (english, {}, {"to": "zh"}, 1.0),
    "post-translate": (english, {}, {"to": "zh"}, 1.0),
    "bactrian": (english, {}, {"to": "zh,en"}, 1.0),
    "coig": (None, {"rows": facts}, {"part": "counterfactual"}, None),
    "dynosaur": (None, {"rows": table}, {}, None),
    "llm2llm": (sums, {}, {"student": "kilter/teacher?errors=1"}, 1.0),
    "humpback": (shown, {}, {"step": "augment"}, None),
    "longform": (shown, {}, {"shortest": 5, "length": 0}, None),
    "gpt4llm": (asked, {}, {}, 1.0),
    "parrot": (talks, {}, {"step": "negatives"}, None),
    "zeroshotaug": (None, {}, {"task": "How does the writer feel?", "labels": "Positive,Negative", "n": 5}, None),
    "math-distill": (sums, {}, {"way": "answer"}, 1.0),
    "code-distill": (code, {}, {"core": 3}, None),
    "agent-distill": (sums, {"tools": tools}, {"way": "search"}, None),
    "ultrafeedback": (asked, {}, {"completions": 2}, 1.0),
    "zephyr": (ranked, {}, {}, 1.0),
    "openchat": (shown, {}, {"keep_unknown": True, "other_prefix": ""}, 1.0),
    "almost": (asked, {}, {"levels": "model:0 > kilter/teacher?errors=1:0"}, 1.0),
    "metaaligner": (ranked, {}, {}, None),
    "safer-instruct": (lambda folder: shown(folder, good=False), {}, {}, None),
    "aligner": (lambda folder: shown(folder, good=False), {}, {"step": "correct"}, 1.0),
    "iteralign": (asked, {}, {"oracle": TEACHER, "keep_sound": True}, 1.0),
}
ASKS_NOBODY = {"zephyr", "openchat", "metaaligner"}
# One that always says the same has nothing to choose from.
ASKS = {"baize-sdf": "kilter/teacher?errors=0.5"}


def make(name, folder, model=None, **more):
    records, files, options, _ = CASES[name]
    options = {**{key: of(folder) for key, of in files.items()}, **options, **more}
    out = folder / "out.jsonl"
    made = make_file(
        registry.find(name, "data"),
        options,
        out=out,
        rejects=formats.rejects_beside(out),
        desk=Desk(f"{out}.journal"),
        model=None if name in ASKS_NOBODY else model or ASKS.get(name, TEACHER),
        records=records(folder) if records else None,
    )
    return made, list(formats.read(out).records)


def right(record):
    """How many answers of a record the world knows, and how many of those are right."""
    if isinstance(record, Group):
        order = record.order()
        prompt, answers = record.prompt, [record.responses[order.index(max(order))]]
        pairs = [(prompt[-1].content, answers[0])]
    else:
        turns = [m for m in record.messages if m.role != "system"]
        pairs = [(q.content, a.content) for q, a in itertools.pairwise(turns) if q.role == "user"]
    found = [(known(question), answer) for question, answer in pairs]
    judged = [k.judged(answer.removeprefix("GPT4 Correct User: ")).reward == 1.0 for k, answer in found if k]
    return len(judged), sum(judged)


@pytest.mark.parametrize("name", CASES)
def test_end_to_end(name, tmp_path):
    made, records = make(name, tmp_path)
    assert made.records == len(records) > 0
    assert all(isinstance(record, Demonstration | Group) for record in records)
    for record in records:
        assert record.origin is not None
        assert record.origin.method == name
    share = CASES[name][3]
    if share is not None:
        counts = [right(record) for record in records]
        known_, fine = sum(n for n, _ in counts), sum(n for _, n in counts)
        assert known_ >= len(records) / 2
        assert fine / known_ >= share
    # The same again, byte for byte.
    first = (tmp_path / "out.jsonl").read_bytes()
    make(name, tmp_path)
    assert (tmp_path / "out.jsonl").read_bytes() == first


def test_a_teacher_that_errs_is_seen_in_the_answers(tmp_path):
    _, records = make("gpt4llm", tmp_path, "kilter/teacher?errors=1")
    counts = [right(record) for record in records]
    assert sum(n for _, n in counts) < sum(n for n, _ in counts) / 3


@pytest.mark.parametrize("name", sorted(set(CASES) - ASKS_NOBODY - {"zephyr", "openchat"}))
def test_a_dry_run_shows_what_would_be_asked(name, tmp_path):
    records, files, options, _ = CASES[name]
    options = {**{key: of(tmp_path) for key, of in files.items()}, **options}
    rehearsed = rehearse(
        registry.find(name, "data"),
        options,
        desk=Desk(None, dry=True),
        model="http://127.0.0.1:9/v1#none",
        records=records(tmp_path) if records else None,
    )
    assert sum(one.requests for one in rehearsed) > 0
    assert any(one.shown for one in rehearsed)
