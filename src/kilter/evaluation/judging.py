"""One judged run: the model answers, a judge rates the answers or compares them with a baseline's, biases are probed.

A suite says what is asked; everything else is the same for all of them, and so are the options (`Way`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from kilter.errors import KilterError, SetAside
from kilter.evaluation import probes, scoring
from kilter.evaluation.probes import Rate
from kilter.evaluation.questions import IDS, Item
from kilter.evaluation.result import PARTS, Evaluation, Measure, group_of
from kilter.evaluation.rows import Row, read
from kilter.evaluation.statistics import clusters_of, interval, summarize, weights_of
from kilter.feedback.judge import Case, Judge, Judgement, case_of
from kilter.models.each import each
from kilter.models.load import load
from kilter.models.protocol import Model, Sampling
from kilter.records import Message
from kilter.registry import Amount, Count, Whole

SCALED = ("category:", "skill:", "ability:", "difficulty:", "domain:", "turn_")  # parts of a rating, on its scale
RATINGS = ("rated", "skills", "level", "graded")
RESPONSES = ("response", "output", "answer", "text", "responses", "choices", "turns")


@dataclass(frozen=True, kw_only=True)
class Way:
    """How answers are had and judged. The fields are options of every judged suite."""

    judge: Annotated[str, Field(description="the model that judges: a folder, hub id, server URL or kilter/teacher")]
    baseline: Annotated[
        str | None,
        Field(description="compare with the answers of this model, or with those in this file; else rate each answer"),
    ] = None
    orders: Annotated[
        Literal["both", "random"], Field(description="show a pair in both orders, or in one that is drawn")
    ] = "both"
    merge: Annotated[
        Literal["agree", "mean"],
        Field(description="of two orders: a win is one in both and anything else a tie, or the mean of the two"),
    ] = "agree"
    evidences: Annotated[
        Count, Field(description="judgements of each answer or order, drawn at a temperature of 1 where several")
    ] = 1
    reason: Annotated[bool, Field(description="the judge's reasons before its verdict, or after it")] = True
    shots: Annotated[bool, Field(description="show the judge worked examples first")] = False
    verdict: Annotated[
        Literal["text", "logprobs"], Field(description="read the judge's words, or its probabilities of the verdicts")
    ] = "text"
    probes: Annotated[Whole, Field(description="items on which the judge's biases are measured; 0 measures none")] = 16
    judge_temperature: Annotated[Amount, Field(description="sampling temperature of the judge")] = 0.0
    judge_tokens: Annotated[Count, Field(description="longest text of the judge in tokens")] = 512
    n: Annotated[Count | None, Field(description="how many items, drawn with the seed; all where not given")] = None
    temperature: Annotated[Amount, Field(description="sampling temperature of the answers; 0 is greedy")] = 0.0
    max_tokens: Annotated[Count, Field(description="longest answer in tokens")] = 512
    seed: Annotated[int, Field(description="seed of the draws")] = 0

    def opened(self, criterion: str = "", form: Literal["verdict", "scores"] = "verdict") -> Judge:
        """Return the judge. Raises KilterError where there is no such model, and where none is named."""
        if self.judge is None:
            raise KilterError("Name the model that is to judge with --judge, such as --judge kilter/teacher.")
        return Judge(
            opened(self.judge), form=form,
            orders=self.orders, evidences=self.evidences, reason=self.reason, shots=self.shots,
            by=self.verdict, criterion=criterion, temperature=self.judge_temperature, max_tokens=self.judge_tokens,
            seed=self.seed,
        )  # fmt: skip

    @property
    def sampling(self) -> Sampling:
        """How the model under test is asked."""
        return Sampling(max_tokens=self.max_tokens, temperature=self.temperature, seed=self.seed)


def opened(model: str | Model) -> Model:
    """Return a model by its name, or as it is. Raises KilterError for one that cannot be asked."""
    found = load(model) if isinstance(model, str) else model
    if not hasattr(found, "ask"):
        raise KilterError(f"'{model}' is a reward model, which says nothing in words; name a language model as judge.")
    return found


async def run(
    model: Model,
    items: Sequence[Item],
    way: Way,
    *,
    suite: str,
    notes: Sequence[str] = (),
    judge: Judge | None = None,
    sampling: Callable[[Item], Sampling] | None = None,
    referenced: Callable[[Item], bool] = lambda item: True,
    rate: Callable[[Judge, Item], Rate] | None = None,
    about: Callable[[Item], Row] = lambda item: {},
) -> Evaluation:
    """Return what `way.judge` says of `model`'s answers to `items`, with its biases beside it.

    `sampling(item)` says how an item is answered, where that differs; `referenced(item)` whether the judge is shown the
    item's reference; `rate(judge, item)` how an answer is rated, where that is not by the judge's own prompt, and
    `about(item)` what the sample holds beside (its `scoring`, its `scale`). Raises KilterError where no answer has a
    verdict, and for probabilities of verdicts where answers are rated otherwise.
    """
    if way.temperature < 0 or not items:
        raise KilterError("There is nothing to ask; give a file with at least one question.")
    notes = [*notes, *_idle(way, suite)] if rate and way.baseline is None else notes
    asked_by = judge or way.opened()
    other = Baseline(way.baseline) if way.baseline is not None else None
    probed = {item.id for item in random.Random(way.seed).sample(list(items), min(way.probes, len(items)))}

    async def one(item: Item) -> Row:
        settings = sampling(item) if sampling else way.sampling
        mine = await conversation(model, item, settings)
        theirs = await other.answers(item, settings) if other else []
        ask = rate(asked_by, item) if rate else _by_itself(asked_by)
        turns = range(min(len(mine), len(theirs)) if other else len(mine))
        told = await asyncio.gather(
            *(
                _judgements(
                    asked_by, ask, _case(item, turn, mine, referenced(item)), turn, mine, theirs, item.id in probed
                )
                for turn in turns
            )
        )
        sample = item.sample(mine[-1]) | {
            "prompt": [m.to_json() for m in [*item.before, *_turns(item.turns, mine[:-1])]],
            "scoring": "compared" if other else "rated",
            "judgements": [one.to_json() for some in told for one in some],
        }
        if len(mine) > 1:
            sample["responses"] = mine
        if other:
            sample |= {"baseline": theirs, "merge": "mean" if way.verdict == "logprobs" else way.merge}
        if item.references:
            sample["expected"] = item.references[-1]
        more = about(item)
        return scoring.scored(sample | {name: value for name, value in more.items() if not other or name != "scoring"})

    samples = await each(items, one, label=f"{suite} · {model.name}")
    return evaluated(model.name, samples, suite=suite, seed=way.seed, notes=[*notes, *remarks(model, asked_by, other)])


def _idle(way: Way, suite: str) -> list[str]:
    """Refuse what the prompt of a suite that has its own cannot do, and return a sentence on what it does not show."""
    if way.verdict != "text":
        raise KilterError(f"'{suite}' has a prompt of its own, whose answer is read as text; leave --verdict as it is.")
    return [f"'{suite}' has a prompt of its own; it shows no worked examples (--shots)."] if way.shots else []


def evaluated(
    name: str, samples: list[Row], *, suite: str, seed: int | None = None, notes: Sequence[str] = ()
) -> Evaluation:
    """Return judged samples as an evaluation. Raises KilterError where none of them has a verdict."""
    notes = [*notes, *scoring.unread(samples)]
    scoring.nest(samples)
    measures = summarize(samples) | _of_ratings(samples)
    if not any(not measure.startswith("judge:") for measure in measures):
        why = f": {notes[-1]}" if notes else "; look at what was left out."
        raise KilterError(f"No answer has a verdict that can be read{why}")
    last = [measure for measure in measures if measure.startswith("judge:")]
    last.sort(key=lambda measure: scoring.TOLD.index(measure) if measure in scoring.TOLD else len(scoring.TOLD))
    first = [measure for measure in measures if measure not in last]
    first.sort(key=lambda measure: PARTS.index(group) + 1 if (group := group_of(measure)) else 0)
    order = [*first, *last]
    return Evaluation(name, {measure: measures[measure] for measure in order}, samples, suite, seed, [*notes])


def _of_ratings(samples: Sequence[Row]) -> dict[str, Measure]:
    """Return the measures of ratings that happen to be 0 and 1 only, which elsewhere are shares of a whole."""
    rated = [s for s in samples if s.get("scoring") in RATINGS and s.get("scale") != [0, 1]]
    names = dict.fromkeys(
        name
        for s in rated
        for name in s["outcomes"]
        if name in ("score", *s.get("levels", ())) or name.startswith(SCALED)
    )
    found = {}
    for name in names:
        part = [s for s in rated if name in s["outcomes"]]
        if {s["outcomes"][name] for s in part} <= {0.0, 1.0}:
            # Of twice the values nobody would take them for shares.
            twice = interval([2 * s["outcomes"][name] for s in part], clusters_of(part), weights=weights_of(part, name))
            found[name] = Measure(twice.value / 2, twice.low / 2, twice.high / 2, twice.n)
    return found


async def conversation(model: Model, item: Item, sampling: Sampling) -> list[str]:
    """Return the model's answer to each turn of the user's, each given all that came before."""
    said: list[str] = []
    for at in range(len(item.turns)):
        messages = [*item.before, *_turns(item.turns[: at + 1], said)]
        [answer] = await model.ask(messages, sampling)
        if answer.finish_reason == "filter":
            raise SetAside("The server's filter kept a part of the answer back.", "filtered")
        said.append(answer.text)
    return said


def remarks(model: Model, judge: Judge, other: Baseline | None) -> list[str]:
    """Return what a reader should know of who judged whom."""
    names = {model.name, other.name if other else ""}
    if judge.name in names:
        return [f"The judge {judge.name} is one of those judged; its verdict on itself is no independent one."]
    return []


class Baseline:
    """What answers are compared with: another model's, or those in a file."""

    def __init__(self, name: str | Model) -> None:
        stored = isinstance(name, str) and Path(name).is_file()
        self.model = None if stored else opened(name)
        self.stored = responses(str(name)) if stored else {}
        self.name = str(name) if self.model is None else self.model.name

    async def answers(self, item: Item, sampling: Sampling) -> list[str]:
        if self.model is not None:
            return await conversation(self.model, item, sampling)
        found = self.stored.get(item.id)
        if not found:
            raise SetAside(f"The baseline {self.name} has no answer to item {item.id}.", "no baseline")
        return found


def responses(path: str) -> dict[str, list[str]]:
    """Return the answers in a file by the item's id: rows with an id and a response, or an evaluation's samples.

    Raises KilterError where there are none.
    """
    rows, _ = read(path)
    if len(rows) == 1 and isinstance(rows[0].get("samples"), list):
        rows = rows[0]["samples"]
    found: dict[str, list[str]] = {}
    for row in rows:
        name = next((str(row[key]) for key in IDS if row.get(key) is not None), None)
        given: Any = next((row[key] for key in ("responses", *RESPONSES) if row.get(key)), None)
        if isinstance(given, list) and given and isinstance(given[0], dict):  # FastChat's choices
            given = given[0].get("turns")
        texts = [str(text) for text in given] if isinstance(given, list) else [str(given)] if given else []
        if name is not None and texts:
            found[name] = texts
    if not found:
        raise KilterError(f"{path} holds no answers: a row has an id and one of {', '.join(RESPONSES)}.")
    return found


async def _judgements(
    judge: Judge, ask: Rate, case: Case, turn: int, mine: Sequence[str], theirs: Sequence[str], probed: bool
) -> list[Judgement]:
    if not theirs:
        plain = _in_turn(ask(case, mine[turn], ""), turn + 1)
        more = probes.of_ratings(ask, case, mine[turn], turn + 1)
    else:
        plain = judge.compare(case, mine[turn], theirs[turn], turn=turn + 1)
        more = probes.of_comparisons(judge, case, mine[turn], theirs[turn], turn + 1)
    if not probed:
        more.close()
        return await plain
    found = await asyncio.gather(plain, more)
    return [*found[0], *found[1]]


def _case(item: Item, turn: int, mine: Sequence[str], referenced: bool) -> Case:
    messages = [*item.before, *_turns(item.turns[: turn + 1], mine[:turn])]
    return case_of(messages, item.reference(turn) if referenced else "")


def _by_itself(judge: Judge) -> Rate:
    async def rate(case: Case, response: str, claim: str) -> list[Judgement]:
        return await judge.rate(case, response, claim=claim)

    return rate


async def _in_turn(told: Awaitable[list[Judgement]], turn: int) -> list[Judgement]:
    return [dataclasses.replace(one, turn=turn) for one in await told]


def _turns(asked: Sequence[str], said: Sequence[str]) -> list[Message]:
    """Return the user's and the assistant's turns in their order."""
    found = []
    for at, text in enumerate(asked):
        found.append(Message("user", text))
        if at < len(said):
            found.append(Message("assistant", said[at]))
    return found
