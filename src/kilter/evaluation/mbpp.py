"""MBPP: short Python tasks told in a sentence, with three asserts that the program has to pass."""

from __future__ import annotations

from kilter.evaluation import code
from kilter.evaluation.code import Draws, Source
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Row
from kilter.models.protocol import Model
from kilter.registry import Amount, Whole, method
from kilter.sandbox import Limits


@method("mbpp", wing="evaluation", paper="arXiv:2108.07732", survey="S1 §8.1, S2 §4.1")
@spread()
async def mbpp(
    model: Model | None = None,
    *,
    data: str | None = None,
    shots: Whole = 3,
    draws: Draws,
    seconds: Amount = 3.0,
    source: Source,
) -> Evaluation:
    """Measure the writing of programs over MBPP's 500 test tasks, 11 to 510 (Austin et al. 2021).

    The prompt tells the task with its three asserts, after tasks 2, 3 and 4 with their programs between [BEGIN] and
    [DONE]; what the model writes up to [DONE] is run with the asserts in the sandbox. pass@k as HumanEval's; the paper
    counts a task as solved if any of 80 samples at temperature 0.5 passes. Refuses where no sandbox can be had.

    Rows: task_id, text, code, test_list, test_setup_code. Stored completions: task_id, completion.

    Options:
        data: folder or file with the data; without, it comes from the hub
        shots: worked examples before each task, at most 3
        n: only the first so many tasks
        samples: programs of each task
        seconds: processor time that a program may take
    """

    def program(row: Row, text: str) -> str:
        written = code.block(text).partition("[DONE]")[0].replace("\r\n", "\n")
        return "\n".join([written, row.get("test_setup_code") or "", *row["test_list"], ""])

    return await code.measured(
        model, "mbpp", program, draws, source, data=data, shots=shots, limits=Limits(seconds=seconds)
    )
