"""Suites of programs: run in the sandbox against known tests, from stored completions and from a tiny real model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jsonl import write
from kilter.errors import KilterError
from kilter.evaluation import code
from kilter.evaluation.ds1000 import ds1000
from kilter.evaluation.humaneval import humaneval
from kilter.evaluation.humaneval_plus import humaneval_plus
from kilter.evaluation.mbpp import mbpp
from kilter.evaluation.result import Evaluation
from kilter.models.local import Local
from kilter.sandbox import box, walls
from sandboxed import needs_a_sandbox

PROMPT = 'import math\n\ndef upto(n: int) -> int:\n    """Sum of 1 to n.\n    >>> upto(3)\n    6\n    """\n'
RIGHT = "    return n * (n + 1) // 2\n"
PROBLEM = {
    "task_id": "T/0",
    "prompt": PROMPT,
    "entry_point": "upto",
    "canonical_solution": RIGHT,
    "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(1) == 1\n",
}


def run(coroutine) -> Evaluation:
    return asyncio.run(coroutine)


def judged(tmp_path: Path, suite, problems: list[dict], *texts: str, **options) -> Evaluation:
    data = write(tmp_path / "problems.jsonl", problems)
    rows = [{"task_id": problem["task_id"], "completion": text} for problem in problems for text in texts]
    return run(suite(None, data=data, completions=write(tmp_path / "completions.jsonl", rows), **options))


@needs_a_sandbox
def test_humaneval_counts_what_passes(tmp_path: Path) -> None:
    endless = "    while True: pass\n"
    cheat = "    import sys; sys.exit(0)\n"
    found = judged(
        tmp_path, humaneval, [PROBLEM], RIGHT, "    return 6\n", endless, cheat, "    retrn\n", k="1,2,5", seconds=0.5
    )
    [sample] = found.samples
    assert [each["status"] for each in sample["runs"]] == ["ended", "failed", "timed out", "failed", "failed"]
    assert found.measures["pass@1"].value == pytest.approx(0.2)  # n = 5, c = 1, k = 1
    assert found.measures["pass@2"].value == pytest.approx(0.4)
    assert found.measures["pass@5"].value == 1
    assert any("1 of 5 programs: timed out" in note for note in found.notes)


@needs_a_sandbox
def test_a_program_in_a_fenced_block_keeps_what_the_prompt_imports(tmp_path: Path) -> None:
    whole = "Sure:\n```python\ndef upto(n):\n    return math.comb(n + 1, 2)\n```\nDone."
    body = "```python\n    return n * (n + 1) // 2\n```"
    found = judged(tmp_path, humaneval, [PROBLEM], whole, body)
    assert [each["status"] for each in found.samples[0]["runs"]] == ["ended", "ended"]
    assert code.block("no fence") == "no fence"


@needs_a_sandbox
def test_a_model_of_its_own_is_asked_and_judged(tmp_path: Path, tiny_model: Path) -> None:
    model = Local(str(tiny_model))
    data = write(tmp_path / "humaneval.jsonl", [PROBLEM])
    found = run(humaneval(model, data=data, samples=3, temperature=1.0, max_tokens=4, k="1,3,7"))
    assert len(found.samples[0]["runs"]) == 3
    assert found.measures["pass@1"].value == 0
    assert any("pass@7 needs 7 programs" in note for note in found.notes)
    with pytest.raises(KilterError, match="temperature 0 are all the same"):
        run(humaneval(model, data=data, samples=3))


@needs_a_sandbox
def test_humaneval_plus_wants_the_added_inputs_too(tmp_path: Path) -> None:
    plus = PROBLEM | {
        "contract": "    assert n >= 0\n",
        "base_input": [[3], [1]],
        "plus_input": [[0], [10], [-5], [10**6]],
        "atol": 0,
    }
    off_by_one = "    return n * (n + 1) // 2 if n < 10 else n * (n - 1) // 2\n"
    negative = "    if n < 0: raise ValueError('beyond the contract')\n    return n * (n + 1) // 2\n"
    slow = "    return sum(i for i in range(n + 1) for _ in range(50)) // 50\n"
    wrong = "    return 0\n"
    found = judged(tmp_path, humaneval_plus, [plus], RIGHT, off_by_one, negative, slow, wrong, least_seconds=0.3)
    assert found.measures["base@1"].value == pytest.approx(4 / 5)
    assert found.measures["plus@1"].value == pytest.approx(2 / 5)  # the contract keeps -5 out; a million is too slow
    details = [each["detail"] for each in found.samples[0]["runs"]]
    assert "PlusFailed" in details[1]
    assert "10]" in details[1]
    assert "Slow" in details[3]
    assert "BaseFailed" in details[4]


@needs_a_sandbox
def test_humaneval_plus_compares_fractions_nearly_and_drops_a_reference_that_fails(tmp_path: Path) -> None:
    half = PROBLEM | {
        "canonical_solution": "    return n / 3\n",
        "base_input": [[1]],
        "plus_input": "[[2]]",
        "atol": 1e-6,
    }
    found = judged(tmp_path, humaneval_plus, [half], "    return n * (1 / 3) + 1e-8\n", "    return n / 3 + 1e-3\n")
    assert found.measures["plus@1"].value == 0.5
    broken = PROBLEM | {"canonical_solution": "    return 1 / 0\n", "base_input": [[1]], "plus_input": []}
    with pytest.raises(KilterError, match="the reference fails on"):
        judged(tmp_path, humaneval_plus, [broken], RIGHT)


@needs_a_sandbox
def test_mbpp_asks_with_three_shots_and_stops_at_done(tmp_path: Path) -> None:
    def task(number: int) -> dict:
        tests = [f"assert add(1, {i}) == {1 + i}" for i in range(3)]
        return {"task_id": number, "text": f"Task {number}.", "code": "def add(a, b): return a + b", "test_list": tests}

    data = write(tmp_path / "mbpp.jsonl", [task(number) for number in (1, 2, 3, 4, 10, 11, 510, 511)])
    good, bad = "def add(a, b):\r\n    return a + b\n[DONE]\nnonsense(", "def add(a, b): return 1"
    rows = [
        {"task_id": 11, "completion": good},
        {"task_id": 510, "completion": bad},
        {"task_id": 511, "completion": good},
    ]
    found = run(mbpp(None, data=data, completions=write(tmp_path / "said.jsonl", rows)))
    assert [sample["id"] for sample in found.samples] == ["11", "510"]
    assert found.measures["pass@1"].value == 0.5
    assert any("no problem is called so (first: 511)" in note for note in found.notes)
    prompt = found.samples[0]["prompt"][0]["content"]
    assert [prompt.index(f"Task {number}.") for number in (2, 3, 4, 11)] == sorted(
        prompt.index(f"Task {n}.") for n in (2, 3, 4, 11)
    )
    assert prompt.count("[BEGIN]\ndef add(a, b): return a + b\n[DONE]\n\n") == 3
    assert prompt.endswith("assert add(1, 2) == 3\n[BEGIN]\n")


@needs_a_sandbox
def test_ds1000_runs_and_reads_the_solution(tmp_path: Path) -> None:
    context = """
import numpy as np

def test_execution(solution):
    space = {}
    exec("import numpy as np\\na = np.arange(4)\\n" + solution, space)
    assert space["result"] == 6

def test_string(solution):
    assert "for" not in solution.split(), "no loops"
"""
    absent = "import tensorflow as tf\ndef test_execution(solution): pass\n"
    rows = [
        {"prompt": "Sum a.", "code_context": context, "metadata": {"problem_id": 0, "library": "Numpy"}},
        {"prompt": "Flow.", "code_context": absent, "metadata": {"problem_id": 1, "library": "Tensorflow"}},
    ]
    data = write(tmp_path / "ds1000.jsonl", rows)
    said = ["result = a.sum()", "result = 0\nfor x in a: result += x", "```python\nresult = a.max()\n```"]
    stored = [{"task_id": at, "completion": text} for at in (0, 1) for text in said]
    found = run(ds1000(None, data=data, completions=write(tmp_path / "said.jsonl", stored)))
    assert found.measures["pass@1"].value == pytest.approx(1 / 3)
    assert [each["detail"] for each in found.samples[0]["runs"]][1] == "AssertionError: no loops"
    assert any(
        "3 programs were left out: ModuleNotFoundError: No module named 'tensorflow'" in note for note in found.notes
    )


def test_without_a_sandbox_the_suite_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walls, "known", lambda: [walls.Wall("bubblewrap", "it is not installed")])
    box.check.cache_clear()
    try:
        with pytest.raises(KilterError, match="apt install bubblewrap"):
            judged(tmp_path, humaneval, [PROBLEM], RIGHT)
    finally:
        box.check.cache_clear()


@needs_a_sandbox
def test_either_a_model_or_completions(tmp_path: Path) -> None:
    with pytest.raises(KilterError, match="give one of the two"):
        run(humaneval(None, data=write(tmp_path / "x.jsonl", [PROBLEM])))
    other = write(tmp_path / "c.jsonl", [{"task_id": "other", "completion": "x"}])
    with pytest.raises(KilterError, match="holds no completion of these problems"):
        run(humaneval(None, data=write(tmp_path / "x.jsonl", [PROBLEM]), completions=other))
