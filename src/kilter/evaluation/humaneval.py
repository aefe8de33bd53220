"""HumanEval: 164 Python functions to write from their docstrings, judged by running their tests."""

from __future__ import annotations

from kilter.evaluation import code
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Row, shipped
from kilter.models.protocol import Model
from kilter.registry import Amount, Count, Share, method
from kilter.sandbox import Limits


@method("humaneval", wing="evaluation", paper="arXiv:2107.03374", survey="S1 §8.1, S2 §4.1")
async def humaneval(
    model: Model | None = None,
    *,
    data: str | None = None,
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
    """Measure the writing of programs over HumanEval (Chen et al. 2021).

    The model goes on from a function's signature and docstring, up to the next definition. The function is run with its
    tests in the sandbox; it passes if the last line is reached. pass@k = mean over problems of 1 - C(n - c, k) /
    C(n, k), c of the problem's n samples having passed. The paper samples with top_p 0.95, at temperature 0.2 for k = 1
    and at 0.8 for k = 100. Refuses where no sandbox can be had.

    Rows: task_id, prompt, entry_point, test. Stored completions: task_id, completion.

    Options:
        data: folder or file with the data; without, it comes from the hub
        n: only the first so many problems
        samples: programs of each problem
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
        return (
            f"{code.completed(row['prompt'], text, row['entry_point'])}\n{row['test']}\ncheck({row['entry_point']})\n"
        )

    return await code.measured(
        model,
        shipped("humaneval"),
        program,
        suite="humaneval",
        data=data,
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
