"""Programs that a model writes: sampled, run in the sandbox, and counted by pass@k."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from kilter import sandbox
from kilter.errors import KilterError
from kilter.evaluation.agreement import split
from kilter.evaluation.pass_at_k import estimate
from kilter.evaluation.result import Evaluation
from kilter.evaluation.rows import LeftOut, read
from kilter.evaluation.statistics import summarize
from kilter.evaluation.tasks import asking
from kilter.evaluation.tasks.form import Row, shipped
from kilter.evaluation.tasks.suite import Item, items_of, progress
from kilter.models.drive import run
from kilter.models.protocol import Model
from kilter.registry import Amount, Count, Share
from kilter.sandbox import Limits, Outcome

_BLOCK = re.compile(r"```(?:[Pp]ython|py)?[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
Judge = Callable[[Item, Outcome], dict[str, bool] | None]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How many programs are drawn of which problems, and how. The fields are options of every suite of programs."""

    n: Annotated[Count | None, Field(description="only the first so many problems")] = None
    samples: Annotated[Count, Field(description="programs of each problem")] = 1
    k: Annotated[str, Field(description="the values of k, with commas")] = "1"
    temperature: Annotated[Amount, Field(description="sampling temperature; 0 is greedy")] = 0.0
    top_p: Annotated[Share, Field(description="smallest set of tokens with this much probability")] = 1.0
    max_tokens: Annotated[Count, Field(description="longest program in tokens")] = 512


_CHAT = "ask through the model's chat template; the first fenced block of the answer is the program"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the programs come from. The fields are options of every suite of programs."""

    seed: Annotated[int, Field(description="seed of the samples")] = 0
    chat: Annotated[bool, Field(description=_CHAT)] = False
    completions: Annotated[str, Field(description="a file of completions to judge, in the place of a model")] = ""


async def measured(
    model: Model | None,
    suite: str,
    program: Callable[[Row, str], str],
    draws: Draws,
    source: Source,
    *,
    data: str | None,
    shots: int | None = None,
    limits: Limits | None = None,
    packages: bool = False,
    judge: Judge | None = None,
) -> Evaluation:
    """Measure by pass@k the programs that `model` writes, or those stored in the file `source.completions`.

    `program(row, completion)` is what is run. `judge` tells what an outcome means, by name (default: pass, the last
    line was reached), or None where this machine cannot tell. Raises KilterError where there is no sandbox.
    """
    sandbox.check()
    if (model is None) == (not source.completions):
        raise KilterError(f"'{suite}' runs what a --model writes, or the stored --completions; give one of the two.")
    task = shipped(suite)
    items, notes = items_of(task, data, shots=shots, n=draws.n)
    if model is None:
        name, written, told = "", *_stored(source.completions, items)
    else:
        if draws.samples > 1 and draws.temperature == 0:
            raise KilterError("Several samples at temperature 0 are all the same; give a temperature, such as 0.8.")
        how = task.generation_kwargs.model_copy(
            update={
                "do_sample": draws.temperature > 0,
                "temperature": draws.temperature,
                "top_p": draws.top_p,
                "max_gen_toks": draws.max_tokens,
            }
        )
        with progress(f"{suite} · {model.name}", len(items)) as tell:
            name = model.name
            contexts = [item.context for item in items]
            written, told = await asking.write(
                model, contexts, how, chat=source.chat, tell=tell, samples=draws.samples, seed=source.seed
            )
    notes += told
    jobs = [(item, text) for item, texts in zip(items, written, strict=True) for text in texts or []]

    async def one(job: tuple[Item, str]) -> Outcome:
        item, text = job
        return await sandbox.tried(program(item.row, text), limits=limits, packages=packages)

    outcomes = await run(jobs, one, label=f"{suite} · sandbox", concurrency=64)
    return _result(name, suite, items, jobs, outcomes, judge or _passes, draws.k, notes)


def block(text: str) -> str:
    """Return the first fenced block of a text, itself where it has none."""
    found = _BLOCK.search(text)
    return found.group(1) if found else text


def completed(prompt: str, text: str, entry: str) -> str:
    """Return the program of a prompt and what was written after it: going on, or a whole function in a fenced block."""
    if "```" not in text:
        return prompt + text
    code = block(text)
    if re.search(rf"^\s*def\s+{re.escape(entry)}\b", code, re.MULTILINE):
        # What the prompt defines and imports before its function belongs to it all the same.
        return prompt.rpartition(f"def {entry}")[0] + code
    return prompt + code


def _passes(item: Item, outcome: Outcome) -> dict[str, bool]:
    return {"pass": outcome.ok}


def _stored(completions: str, items: Sequence[Item]) -> tuple[list[list[str] | None], list[str]]:
    rows, notes = read(completions, ("task_id",))
    left_out = LeftOut()
    known = {str(item.row["task_id"]): at for at, item in enumerate(items)}
    found: list[list[str] | None] = [None] * len(items)
    for row in rows:
        at, text = known.get(str(row.get("task_id"))), row.get("completion", row.get("solution"))
        if at is None:
            left_out.add("no problem is called so", row.get("task_id"))
        elif not isinstance(text, str):
            left_out.add("there is no completion", row.get("task_id"))
        else:
            found[at] = [*(found[at] or []), text]
    without = sum(texts is None for texts in found)
    if without == len(items):
        raise KilterError(
            f"{completions} holds no completion of these problems; each row needs task_id and completion."
        )
    notes += left_out.notes("completions", len(rows))
    return found, [*notes, *([f"{without:,} of {len(items):,} problems have no completion."] if without else [])]


def _result(
    name: str,
    suite: str,
    items: Sequence[Item],
    jobs: Sequence[tuple[Item, str]],
    outcomes: Sequence[Outcome],
    judge: Judge,
    k: str,
    notes: list[str],
) -> Evaluation:
    by_item: dict[str, list[tuple[str, Outcome, dict[str, bool]]]] = {}
    unclear: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for (item, text), outcome in zip(jobs, outcomes, strict=True):
        verdict = judge(item, outcome)
        if verdict is None:
            unclear[outcome.detail] += 1
            continue
        if outcome.status not in ("ended", "failed"):
            ended[outcome.status] += 1
        by_item.setdefault(item.id, []).append((text, outcome, verdict))
    notes += [f"{count:,} programs were left out: {why}." for why, count in unclear.most_common(3)]
    notes += [f"{count:,} of {len(jobs):,} programs: {status}." for status, count in ended.most_common()]
    if not by_item:
        raise KilterError(f"No program of '{suite}' could be judged. {' '.join(notes)}")
    least = min(len(found) for found in by_item.values())
    wanted = [int(number) for number in split(k) if number.isdigit() and int(number) > 0]
    usable = [number for number in wanted if number <= least]
    notes += [
        f"pass@{number} needs {number} programs of every task; one has {least}." for number in wanted if number > least
    ]
    if not usable:
        raise KilterError(f"No pass@k can be computed of '{k}': a task has {least} programs; ask for --samples more.")
    samples = []
    for item in items:
        found = by_item.get(item.id)
        if found is None:
            continue
        passed = {what: sum(verdict[what] for _, _, verdict in found) for what in found[0][2]}
        samples.append(
            {
                "id": str(item.row.get("task_id", item.id)),
                "prompt": [{"role": "user", "content": item.context}],
                "response": found[0][0],
                "family": str(item.row.get("family", suite)),
                "language": "en",
                "outcomes": {
                    f"{what}@{number}": estimate(len(found), count, number)
                    for what, count in passed.items()
                    for number in usable
                },
                "runs": [_told(outcome) for _, outcome, _ in found],
            }
        )
    return Evaluation(name, summarize(samples) | _by_family(samples), samples, suite=suite, notes=notes)


def _told(outcome: Outcome) -> dict[str, Any]:
    return {"status": outcome.status, "detail": outcome.detail, "seconds": round(outcome.seconds, 3)}


def _by_family(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    families = sorted({sample["family"] for sample in samples})
    return {
        f"{family}:{name}": measure
        for family in (families if len(families) > 1 else ())
        for name, measure in summarize([sample for sample in samples if sample["family"] == family]).items()
    }
