"""HumanEval+: HumanEval's functions on many more inputs, with a reference solution to say what is right."""

from __future__ import annotations

import json
from pathlib import Path

from kilter.evaluation import code
from kilter.evaluation.code import Draws, Source
from kilter.evaluation.options import spread
from kilter.evaluation.result import Evaluation
from kilter.evaluation.tasks.form import Row
from kilter.evaluation.tasks.suite import Item
from kilter.models.protocol import Model
from kilter.registry import Amount, method
from kilter.sandbox import Limits, Outcome

REFEREE = Path(__file__).with_name("humaneval_plus_referee.py")


@method("humaneval-plus", wing="evaluation", paper="arXiv:2305.01210", survey="S1 §8.1", aliases=("evalplus",))
@spread()
async def humaneval_plus(
    model: Model | None = None,
    *,
    data: str | None = None,
    draws: Draws,
    least_seconds: Amount = 1.0,
    factor: Amount = 4.0,
    source: Source,
) -> Evaluation:
    """Measure programs over HumanEval+ (Liu et al. 2023): the same functions, some eighty times as many inputs.

    An output is right if it equals that of the reference solution on the same input, numbers up to |a - b| <= atol +
    1e-7 |b| (atol as the problem says; 1e-6 where it expects fractions and says none). Inputs that break the problem's
    contract are left out. A call may take max(least_seconds, factor * the reference's time). base@k wants HumanEval's
    own inputs right, plus@k these and the added ones, so that plus <= base. Both are pass@k.

    Rows: task_id, prompt, entry_point, canonical_solution, contract, base_input, plus_input, atol. Stored completions:
    task_id, completion.

    Options:
        data: folder or file with the data; without, it comes from the hub
        least_seconds: a call may always take so long
        factor: a call may take so many times as long as the reference
    """
    referee = REFEREE.read_text(encoding="utf-8")

    def program(row: Row, text: str) -> str:
        told = {
            "reference": row["prompt"] + (row.get("contract") or "") + row["canonical_solution"],
            "candidate": code.completed(row["prompt"], text, row["entry_point"]),
            "entry": row["entry_point"],
            "inputs": {name: _listed(row.get(f"{name}_input")) for name in ("base", "plus")},
            "atol": row.get("atol") or 0.0,
            "least": least_seconds,
            "factor": factor,
        }
        return f"{referee}\nreferee({json.dumps(told)!r})\n"

    def judge(item: Item, outcome: Outcome) -> dict[str, bool] | None:
        if outcome.ok:
            return {"base": True, "plus": True}
        if "reference" in outcome.detail:
            return None
        return {"base": "PlusFailed" in outcome.detail, "plus": False}

    return await code.measured(
        model,
        "humaneval-plus",
        program,
        draws,
        source,
        data=data,
        limits=Limits(seconds=300.0, wall=900.0, memory=2**32),
        judge=judge,
    )


def _listed(inputs: object) -> list[list[object]]:
    """Return the argument lists of a problem, which some copies of the data set hold as text."""
    found = json.loads(inputs) if isinstance(inputs, str) else inputs
    return list(found) if isinstance(found, list) else []
