"""MBPP: short Python tasks told in a sentence, with three asserts that the program has to pass."""

from __future__ import annotations

from kilter.evaluation import code
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Row, shipped
from kilter.models.protocol import Model
from kilter.registry import Amount, Count, Share, Whole, method
from kilter.sandbox import Limits


@method("mbpp", wing="evaluation", paper="arXiv:2108.07732", survey="S1 §8.1, S2 §4.1")
async def mbpp(
    model: Model | None = None,
    *,
    data: str | None = None,
    shots: Whole = 3,
    n: Count | None = None,
    samples: Count = 1,
    k: str = "1",
    temperature: Amount = 0.0,
    top_p: Share = 1.0,
    max_tokens: Count = 512,
    seconds: Amount = 3.0,
    seed: int = 0,
    chat: bool = False,
    completions: str = "",
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
        k: the values of k, with commas
        temperature: sampling temperature; 0 is greedy
        top_p: smallest set of tokens with this much probability
        max_tokens: longest program in tokens
        seconds: processor time that a program may take
        seed: seed of the samples
        chat: ask through the model's chat template; the first fenced block of the answer is the program
        completions: a file of completions to judge, in the place of a model
    """

    def program(row: Row, text: str) -> str:
        written = code.block(text).partition("[DONE]")[0].replace("\r\n", "\n")
        return "\n".join([written, row.get("test_setup_code") or "", *row["test_list"], ""])

    return await code.measured(
        model,
        shipped("mbpp"),
        program,
        suite="mbpp",
        data=data,
        shots=shots,
        n=n,
        samples=samples,
        k=k,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        chat=chat,
        completions=completions,
        limits=Limits(seconds=seconds),
    )
