"""pass@k: the chance that one of k programs, drawn from the n that were sampled for a task, passes its tests."""

from __future__ import annotations

from collections.abc import Sequence

from kilter.errors import KilterError
from kilter.evaluation.agreement import split
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import LeftOut, read, sample
from kilter.evaluation.statistics import interval
from kilter.registry import method

TRUE = {True, "true", "passed", "1"}  # 1 is True here
FALSE = {False, "false", "failed", "0", "timed out", "timeout"}


@method("pass-at-k", wing="evaluation", paper="arXiv:2107.03374", survey="S1 §8.2")
def pass_at_k(*, data: str, k: str = "1,10,100", task: str = "task_id", passed: str = "passed") -> Evaluation:
    """Estimate pass@k without bias from stored results of programs (Chen et al. 2021).

    pass@k = mean over tasks of 1 - C(n - c, k) / C(n, k), c of the task's n programs having passed. A k is left out
    where a task has fewer than k programs. A program without a result is no failure: it is left out and counted.

    Rows: one a program, task_id and passed (true or false).

    Options:
        data: file, folder or hub id of results
        k: the values of k, with commas
        task: name of the task's column
        passed: name of the result's column
    """
    rows, notes = read(data, (task, passed))
    wanted = [int(number) for number in split(k) if number.isdigit() and int(number) > 0]
    if not wanted:
        raise KilterError(f"'{k}' names no k; write --k 1,10,100.")
    left_out = LeftOut()
    results: dict[str, list[bool]] = {}
    for row in rows:
        said = row.get(passed)
        said = said.strip().lower() if isinstance(said, str) else said
        if isinstance(said, str | bool | int) and (said in TRUE or said in FALSE):
            results.setdefault(str(row[task]), []).append(said in TRUE)
        else:
            left_out.add("the result is neither passed nor failed", row.get(passed))
    if not results:
        raise KilterError(f"{data} holds no result; {' '.join(left_out.notes('programs', len(rows)))}")
    least = min(len(found) for found in results.values())
    measures = {}
    for number in wanted:
        if number <= least:
            values = [estimate(len(found), sum(found), number) for found in results.values()]
            measures[f"pass@{number}"] = interval(values)
        else:
            notes.append(f"pass@{number} needs {number} programs of every task; one has {least}.")
    if not measures:
        raise KilterError(f"No pass@k can be computed: a task has {least} programs; ask for a k of at most that.")
    kept = [int(name.removeprefix("pass@")) for name in measures]
    samples = [
        sample(name, {f"pass@{number}": estimate(len(found), sum(found), number) for number in kept})
        for name, found in results.items()
    ]
    return Evaluation("", measures, samples, suite="pass-at-k", notes=[*notes, *left_out.notes("programs", len(rows))])


def estimate(n: int, c: int, k: int) -> float:
    """Return 1 - C(n - c, k) / C(n, k) as a product: 1 - prod_{i = n - c + 1 .. n} (1 - k / i); 1 where n - c < k."""
    if not 0 <= c <= n or not 0 < k <= n:
        raise KilterError(f"pass@{k} of {c} passed among {n} programs is not defined; k is at most n.")
    if n - c < k:
        return 1.0
    missed = 1.0
    for i in range(n - c + 1, n + 1):
        missed *= 1 - k / i
    return 1 - missed


def mean(counts: Sequence[tuple[int, int]], k: int) -> float:
    """Return pass@k over tasks given as (n, c)."""
    return sum(estimate(n, c, k) for n, c in counts) / len(counts)
