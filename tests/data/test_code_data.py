"""Data of code: tasks from seeds, problems after pieces of code, exercises that pass their tests."""

import ast
import json

import pytest

from kilter.data.codealpaca import codealpaca
from kilter.data.oss_instruct import oss_instruct, piece, sources
from kilter.data.phi1 import alike, described, parts, phi1, predicted, shape
from kilter.errors import KilterError, SetAside
from kilter.models.load import load
from kilter.models.teacher import programs
from scripted_model import by_kind, made, shown


def passes(code, tests):
    scope: dict = {}
    exec(code.strip("`").removeprefix("python\n"), scope)
    return all(eval(test, scope) for test in tests)


EXERCISES = list(programs.exercises().values())


def test_code_alpaca_grows_tasks_whose_code_is_right():
    seeds = [shown(one.request, one.code()) for one in EXERCISES[::40]]
    kept, left = made(codealpaca(load("kilter/teacher"), seeds, n=30, novelty=0.95))
    assert len(kept) == 30
    assert len({r.messages[0].content for r in kept}) == 30
    assert all(passes(r.messages[1].content, programs.find(r.messages[0].content).tests) for r in kept)
    canned = "###\n4. Instruction: Write a program that reads a file.\n4. Input:\n<noinput>\n4. Output:\nopen('f')"
    kept, left = made(codealpaca(by_kind(code_tasks=lambda v, s: canned), seeds, n=1))
    assert [r.messages[0].content for r in kept] == ["Write a program that reads a file."]
    assert left == {"ROUGE-L": 7}


@pytest.fixture
def code(tmp_path):
    for k, one in enumerate(EXERCISES[:30]):
        (tmp_path / f"f{k}.py").write_text("\n" + one.code() + "\n\n", encoding="utf-8")
    (tmp_path / "empty.py").write_text("\n \n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no code", encoding="utf-8")
    return tmp_path


def test_pieces_are_lines_of_their_files(code):
    import random

    files = list(sources(str(code)))
    assert len(files) == 30
    for k in range(300):
        _, language, text = files[k % 30]
        snippet = piece(text, 15, random.Random(k))
        assert language == "Python"
        assert snippet.strip()
        assert snippet in text
        assert 1 <= len(snippet.splitlines()) <= 15
    with pytest.raises(KilterError, match="no code"):
        list(sources(str(code / "prompts")) if (code / "prompts").mkdir() is None else [])


def test_oss_instruct_parses_two_parts_and_keeps_the_benchmark_out(code, tmp_path_factory):
    bench = tmp_path_factory.mktemp("bench") / "humaneval.jsonl"
    planted = 'def has_close(numbers):\n    """Check whether two of the numbers are close."""'
    bench.write_text(json.dumps({"prompt": planted}) + "\n", encoding="utf-8")
    replies = [
        "[Problem]\nAdd two.\n[Solution]\ndef f(x): return x + 2",
        "[solution]\nfirst\n[problem]\nthen",
        "[Problem]\nOnly this.",
        "[Problem]\nComplete it:\n" + planted.replace("    ", "\t") + "\n[Solution]\nreturn 1",
        "[Problem]\nA task.\n[Solution]\n" + planted,
    ]
    count = iter(range(99))
    model = by_kind(from_code=lambda v, s: replies[next(count) % 5])
    kept, left = made(oss_instruct(model, code=str(code), n=10, benchmark=str(bench)))
    assert [r.messages[0].content for r in kept] == ["Add two."] * 2
    assert left == {"two parts": 4, "in benchmark": 4}
    texts = {path: text for path, _, text in sources(str(code))}
    assert all(r.meta["seed_snippet"] in texts[r.meta["file"]] for r in kept)
    kept, left = made(oss_instruct(load("kilter/teacher"), code=str(code)))
    assert len(kept) == 30
    assert all(passes(r.messages[1].content, programs.find(r.messages[0].content).tests) for r in kept)
    _, left = made(oss_instruct(load("kilter/teacher?errors=1"), code=str(code)))
    assert left == {"two parts": 30}


def test_exercises_parse_and_pass_their_tests(tmp_path):
    kept, left = made(phi1(load("kilter/teacher"), n=12, seed=1))
    assert len(kept) + sum(left.values()) == 12
    assert len(kept) >= 8
    for record in kept:
        ast.parse(record.messages[1].content)
        scope: dict = {}
        exec(record.messages[1].content + "\n" + record.meta["tests"], scope)
        assert record.meta["signature"].startswith("def ")
        assert record.meta["docstring"] in record.messages[0].content
    _, left = made(phi1(load("kilter/teacher?errors=1"), n=4))
    assert left == {"tests failed": 4}
    # What resembles a solution of a benchmark, names apart, is left out, from the similarity on that is asked for.
    bench = tmp_path / "bench.jsonl"
    renamed = kept[0].messages[1].content.replace(kept[0].meta["signature"][4:].split("(")[0], "other_name")
    bench.write_text(json.dumps({"prompt": "", "canonical_solution": renamed}) + "\n", encoding="utf-8")
    model = by_kind(
        exercise=lambda v, s: f"```python\n{kept[0].messages[1].content}\n```\n```\n{kept[0].meta['tests']}\n```"
    )
    assert made(phi1(model, n=1, benchmark=str(bench)))[1] == {"in benchmark": 1}
    assert made(phi1(model, n=2))[1] == {"duplicate": 1}


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        ("```python\ndef f(x):\n    return x\n```", "two parts"),
        ("```python\ndef f(x:\n```\n```python\nassert f(1)\n```", "syntax"),
        ("```python\nx = 1\n```\n```python\nassert x\n```", "no docstring"),
        ("```python\ndef f(x):\n    return x\n```\n```python\nassert f(1)\n```", "no docstring"),
    ],
)
def test_exercises_that_are_none(reply, rule):
    with pytest.raises(SetAside) as why:
        described(parts(reply)[0])
    assert why.value.rule == rule


def test_shapes_are_blind_to_names():
    one, two, three = (
        "def f(x):\n    return x + 2",
        "def g(y):\n    'Doc.'\n    return y + 3",
        "for i in a:\n    print(i)",
    )
    assert alike(shape(one), shape(two)) == 1
    assert alike(shape(one), shape(three)) < 0.5
    assert shape("def (") == []
    assert alike([], shape(one)) == 0


def test_textbooks_cover_topics_and_audiences():
    kept, _ = made(phi1(load("kilter/teacher"), part="textbooks", n=20, topics="sums,texts"))
    assert {r.meta["topic"] for r in kept} == {"sums", "texts"}
    pairs = [(r.meta["topic"], r.meta["audience"]) for r in kept]
    assert len(set(pairs)) == 10
    assert all(r.meta["audience"] in r.messages[1].content for r in kept)


def test_the_filter_keeps_what_teaches(code):
    (code / "config.py").write_text("A = 1\nB = 2\n", encoding="utf-8")
    (code / "broken.py").write_text("def (:\n", encoding="utf-8")
    kept, left = made(phi1(load("kilter/teacher"), part="filter", code=str(code)))
    assert {r.meta["file"] for r in kept} == {f"f{k}.py" for k in range(30)}
    assert left == {"grade under 6": 2}
    assert {r.meta["edu_score"] for r in kept} == {10.0}
    kept, left = made(phi1(load("kilter/teacher"), part="filter", code=str(code), labelled=12))
    assert len(kept) + sum(left.values()) == 32
    assert sum(not r.meta["graded"] for r in kept) > 10
    texts = ["alpha beta"] * 10 + ["gamma delta"] * 10
    assert predicted([*texts, "alpha beta", "gamma delta"], [9.0] * 10 + [2.0] * 10) == pytest.approx([9, 2], abs=0.5)
