"""Tasks that only the harness' own code can run, with Kilter's engine as its model."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest

from kilter.engine.weigher import Weight
from kilter.errors import KilterError
from kilter.evaluation.lm_eval_tasks import lm_eval
from kilter.models.local import Local

TASK = """
task: kilter_own
test_split: test
dataset_path: nobody/knows
output_type: {kind}
process_docs: !function own.kept
doc_to_text: "{{{{question}}}}:"
doc_to_choice: [" red", " blue"]
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc}}]
unsafe_code: {unsafe}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")
    (tmp_path / "own.py").write_text("def kept(docs):\n    return docs.filter(lambda doc: doc['question'] != 'no')\n")
    rows = [{"question": "sky", "answer": 1}, {"question": "no", "answer": 0}, {"question": "blood", "answer": 0}]
    (tmp_path / "kilter_own_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK.format(kind="multiple_choice", unsafe="false"))
    return tmp_path


def test_a_task_with_code_of_its_own_runs_on_the_engine(folder: Path, tiny_model: Path) -> None:
    local = Local(str(tiny_model))
    found = asyncio.run(lm_eval(local, task="kilter_own", tasks_in=str(folder), data=str(folder)))
    assert [sample["prompt"][0]["content"] for sample in found.samples] == ["sky:", "blood:"]
    pairs = [(f"{name}:", f" {colour}") for name in ("sky", "blood") for colour in ("red", "blue")]
    weights = [weight.logprob for weight in asyncio.run(local.weigh(pairs))]
    assert [value for sample in found.samples for value in sample["logprobs"]] == pytest.approx(weights, abs=1e-4)
    right = [weights[1] > weights[0], weights[2] >= weights[3]]
    assert [sample["outcomes"]["acc"] for sample in found.samples] == [float(each) for each in right]
    assert found.measures["acc"].n == 2


def test_what_would_run_code_outside_of_the_sandbox_is_refused(folder: Path, tiny_model: Path) -> None:
    (folder / "task.yaml").write_text(TASK.format(kind="multiple_choice", unsafe="true"))
    with pytest.raises(KilterError, match="do so in a sandbox"):
        asyncio.run(lm_eval(Local(str(tiny_model)), task="kilter_own", tasks_in=str(folder), data=str(folder)))


def test_data_that_is_not_there_is_named(folder: Path, tiny_model: Path) -> None:
    (folder / "kilter_own_test.jsonl").unlink()
    with pytest.raises(KilterError, match=r"its split 'test' is looked for as test\.jsonl"):
        asyncio.run(lm_eval(Local(str(tiny_model)), task="kilter_own", tasks_in=str(folder), data=str(folder)))


def test_log_probs_that_are_no_numbers_are_no_answer(tmp_path: Path) -> None:
    class Damaged:
        name = "damaged"

        async def weigh(self, pairs, *, progress=lambda done: None):
            return [Weight(math.nan, False, 1) for _ in pairs]

    rows = [{"question": "sky", **{letter: letter for letter in "ABCD"}, "answer": "A"}]
    (tmp_path / "anatomy_test.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(KilterError, match="its weights may be damaged"):
        asyncio.run(lm_eval(Damaged(), task="mmlu_anatomy", data=str(tmp_path)))
