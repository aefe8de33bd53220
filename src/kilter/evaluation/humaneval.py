"""HumanEval: 164 Python functions to write from their docstrings, judged by running their tests."""

from __future__ import annotations

from kilter.evaluation import code
from kilter.evaluation.code import Draws, Source
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Row
from kilter.models.protocol import Model
from kilter.registry import Amount, method
from kilter.sandbox import Limits


@method("humaneval", wing="evaluation", paper="arXiv:2107.03374", survey="S1 §8.1, S2 §4.1")
@spread()
async def humaneval(
    model: Model | None = None,
    *,
    data: str | None = None,
    draws: Draws,
    seconds: Amount = 3.0,
    source: Source,
) -> Evaluation:
    """Measure the writing of programs over HumanEval (Chen et al. 2021).

    The model goes on from a function's signature and docstring, up to the next definition. The function is run with its
    tests in the sandbox; it passes if the last line is reached. pass@k = mean over problems of 1 - C(n - c, k) /
    C(n, k), c of the problem's n samples having passed. The paper samples with top_p 0.95, at temperature 0.2 for k = 1
    and at 0.8 for k = 100. Refuses where no sandbox can be had.

    Rows: task_id, prompt, entry_point, test. Stored completions: task_id, completion.

    Options:
        data: folder or file with the data; without, it comes from the hub
        seconds: processor time that a program may take
    """

    def program(row: Row, text: str) -> str:
        return (
            f"{code.completed(row['prompt'], text, row['entry_point'])}\n{row['test']}\ncheck({row['entry_point']})\n"
        )

    return await code.measured(model, "humaneval", program, draws, source, data=data, limits=Limits(seconds=seconds))
