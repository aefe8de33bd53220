"""DS-1000: data-science problems over seven libraries, judged by running and by how it may be written."""

from __future__ import annotations

import re

from kilter.evaluation import code
from kilter.evaluation.code import Draws, Source
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Row
from kilter.evaluation.tasks.suite import Item
from kilter.models.protocol import Model
from kilter.registry import Amount, method
from kilter.sandbox import Limits, Outcome

MODULES = {"numpy": "Numpy", "pandas": "Pandas", "matplotlib": "Matplotlib", "sklearn": "Sklearn", "scipy": "Scipy",
           "torch": "Pytorch", "tensorflow": "Tensorflow"}  # fmt: skip


@method("ds1000", wing="evaluation", paper="arXiv:2211.11501", survey="S1 §8.1")
@spread()
async def ds1000(
    model: Model | None = None,
    *,
    data: str | None = None,
    draws: Draws,
    seconds: Amount = 120.0,
    source: Source,
) -> Evaluation:
    """Measure data-science programs over DS-1000 (Lai et al. 2023), in its form of completions.

    A solution passes if the problem's own test_execution accepts what it computes and, where there is one, test_string
    accepts how it is written (forbidden loops, required functions). pass@k over all problems and by library; the paper
    samples 40 at temperature 0.2 and top_p 0.95. Problems of a library that is not installed are left out and counted.
    Refuses where no sandbox can be had.

    Rows: prompt, code_context, metadata (library, problem_id). Stored completions: task_id (problem_id), completion.

    Options:
        data: folder or file with the data; without, it comes from the hub
        seconds: processor time that a program may take
    """

    def program(row: Row, text: str) -> str:
        solution = re.sub(r"^\s*(BEGIN SOLUTION|<code>)\n?", "", code.block(text))
        test = row["code_context"]
        calls = ["test_execution(solution)"] + (["test_string(solution)"] if "def test_string(" in test else [])
        return "\n".join([test, f"solution = {solution!r}", *calls, ""])

    def judge(item: Item, outcome: Outcome) -> dict[str, bool] | None:
        lacking = re.match(r"ModuleNotFoundError: No module named '(\w+)", outcome.detail)
        return None if lacking and lacking.group(1) in MODULES else {"pass": outcome.ok}

    return await code.measured(
        model,
        "ds1000",
        program,
        draws,
        source,
        data=data,
        limits=Limits(seconds=seconds, wall=4 * seconds + 60, memory=2**32, processes=64),
        packages=True,
        judge=judge,
    )
