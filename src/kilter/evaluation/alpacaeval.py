"""AlpacaEval's win rates, judged now or from the store: raw or weighted, discrete, and with the length controlled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kilter.errors import KilterError, nearest
from kilter.evaluation import length_control
from kilter.evaluation.judging import Way, run
from kilter.evaluation.kappa import Ints, many_over_items
from kilter.evaluation.options import spread
from kilter.evaluation.questions import from_file
from kilter.evaluation.result import Evaluation, Measure
from kilter.evaluation.rows import LeftOut, Row, number, read, sample
from kilter.evaluation.statistics import interval
from kilter.models.protocol import Model
from kilter.records import identify
from kilter.registry import method

Floats = NDArray[np.float64]
LENGTHS = (("len_model", "len_reference"), ("length_2", "length_1"))


@dataclass(slots=True)
class Judged:
    """One model's judgements: per instruction its share of the win in 0..1 and both lengths in characters (or nan)."""

    keys: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    length: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Counted:
    """AlpacaEval's row of a model: percentages of wins with their standard error, counts, mean length rounded down."""

    win_rate: float
    standard_error: float
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    discrete_win_rate: float
    avg_length: int | None


@method("alpacaeval", wing="evaluation", paper="arXiv:2404.04475", survey="S1 §8.4, S2 §4.2")
@spread(judge=None, orders="random", merge="mean", reason=False, judge_tokens=100, max_tokens=2048)
def alpacaeval(
    model: Model | None = None,
    *,
    questions: str | None = None,
    data: str | None = None,
    candidate: str | None = None,
    length_controlled: bool = True,
    weighted: Literal["stored", "logprobs"] = "stored",
    resamples: int = 200,
    seed: int = 0,
    way: Way,
) -> Evaluation | Awaitable[Evaluation]:
    """Compare models with one reference as AlpacaEval does, by a judge or from the store (Dubois et al. 2023, 2024).

    With a model, a baseline and a judge each instruction is answered and the two answers are shown to the judge in an
    order that is drawn; --verdict logprobs takes its probabilities (AlpacaEval 2), else the verdict that it says. The
    judge's biases stand beside the win rate, and its words are kept.

    win_rate: mean share of the win that goes to the model, the judge's probability where it gave one, one half for a
    draw; discrete_win_rate: each judgement rounded to a win, a draw or a loss first; length_controlled: what it would
    be at equal lengths (see length_control.py), with percentile intervals over instructions; length: mean characters.
    A judgement without a preference is left out and counted. With several models the measures are MODEL:win_rate ...

    Rows of the questions: instruction. Rows of stored judgements: AlpacaEval's annotations (instruction, generator_1:
    the reference, generator_2: the model, preference 1 to 2, output_1 and output_2 or their lengths), or with
    `logprobs` raw_completion, from which the preference is read again.

    Options:
        questions: the file of the instructions, which the model is to answer
        data: file, folder or hub id of stored judgements, in the place of a model and a judge
        candidate: of stored judgements, score this model only
        length_controlled: also control for the length
        weighted: take the preference that is stored, or compute it from the judge's token log-probs
        resamples: resamples of the length-controlled interval
        seed: seed of the resamples
    """
    if model is not None or data is None:
        return _asked(model, questions, way, resamples if length_controlled else 0)
    rows, notes = read(data)
    left_out = LeftOut()
    models = collect(rows, left_out, from_logprobs=weighted == "logprobs")
    if not models:
        why = " ".join(left_out.notes("judgements", len(rows))) or "give rows with a preference."
        raise KilterError(f"{data} holds no judgement that can be counted; {why}")
    if candidate is not None and candidate not in models:
        raise KilterError(f"The model '{candidate}' is not judged in {data}.{nearest(candidate, models)}")
    controlled, said = _controlled(models, resamples, seed) if length_controlled else ({}, [])
    chosen = (
        [candidate] if candidate is not None else sorted(models, key=lambda name: -float(np.mean(models[name].share)))
    )
    measures: dict[str, Measure] = {}
    samples: list[Row] = []
    for name in chosen:
        start = "" if len(chosen) == 1 else f"{name}:"
        one = models[name]
        measures[f"{start}win_rate"] = interval(one.share)
        measures[f"{start}discrete_win_rate"] = interval([_rounded(share) for share in one.share])
        if name in controlled:
            measures[f"{start}length_controlled"] = controlled[name]
        long = [n for n in one.length if math.isfinite(n)]
        if long:
            measures[f"{start}length"] = interval(long)
        samples += _samples(one, name if start else "", start)
    notes = [*notes, *left_out.notes("judgements", len(rows)), *said]
    return Evaluation(chosen[0] if len(chosen) == 1 else "", measures, samples, "alpacaeval", seed, notes)


async def _asked(model: Model | None, questions: str | None, way: Way, resamples: int) -> Evaluation:
    if model is None or questions is None:
        raise KilterError("Give a model and --questions to be judged, or --data with stored judgements.")
    if way.baseline is None:
        raise KilterError("AlpacaEval compares with a reference; name a model or a file of answers with --baseline.")
    items, notes = from_file(questions, way.n, way.seed)
    found = await run(model, items, way, suite="alpacaeval", notes=notes)
    one = Judged()
    for row in found.samples:
        share = row["outcomes"].get("win_rate")
        if share is not None:
            row["outcomes"]["discrete_win_rate"] = _rounded(share)
            one.keys.append(row["id"])
            one.share.append(share)
            one.length.append(float(len(row["response"])))
            one.baseline.append(float(len(row["baseline"][0])))
    controlled, said = _controlled({model.name: one}, resamples, way.seed) if resamples else ({}, [])
    first = {"win_rate": found.measures["win_rate"], "discrete_win_rate": interval([_rounded(s) for s in one.share])}
    if model.name in controlled:
        first["length_controlled"] = controlled[model.name]
    first["length"] = interval(one.length)
    found.measures = first | found.measures
    found.notes += said
    return found


def collect(rows: Sequence[Row], left_out: LeftOut, from_logprobs: bool = False) -> dict[str, Judged]:
    """Return the judgements by model; one without a preference is counted and left out."""
    models: dict[str, Judged] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for row in rows:
        name = str(row.get("model") or row.get("generator_2") or "model")
        share = from_tokens(row) if from_logprobs else preferred(row.get("preference"))
        if share is None:
            left_out.add("the judge gave no preference", row.get("preference"))
            continue
        text = str(row.get("instruction", row.get("id", "")))
        seen[name, text] += 1
        model_length, base_length = lengths(row)
        one = models.setdefault(name, Judged())
        # Some instructions are in the benchmark twice; each is an item.
        key = identify("instruction", text)
        one.keys.append(key if seen[name, text] == 1 else f"{key}#{seen[name, text]}")
        one.prompts.append(text)
        one.share.append(share)
        one.length.append(model_length)
        one.baseline.append(base_length)
    return models


def preferred(preference: Any) -> float | None:
    """Return the second model's share of a preference: 1 to 2, or 0 for a draw; None for anything else."""
    value = number(preference)
    if value == 0:
        return 0.5
    return value - 1 if value is not None and 1 <= value <= 2 else None


def from_tokens(row: Row, first: str = "m", second: str = "M") -> float | None:
    """Return the second model's share from the judge's log-probs of the two letters it may answer with.

    P(m) = e^lp(m) / (e^lp(m) + e^lp(M)); a letter that is not among the top tokens has no probability, and where
    neither is there is no preference. `is_switched_outputs` says whether the judge saw the outputs the other way
    round; AlpacaEval does not store it, and the order is then the one that the stored preference is nearer to.
    """
    tokens = _tokens(row.get("raw_completion"))
    if tokens is None:
        return None
    low = {letter: tokens.get(letter, -math.inf) for letter in (first, second)}
    if max(low.values()) == -math.inf:
        return None
    share = 1 / (1 + math.exp(low[first] - low[second])) if low[second] > -math.inf else 0.0
    if "is_switched_outputs" in row:
        return 1 - share if row["is_switched_outputs"] else share
    stored = preferred(row.get("preference"))
    return None if stored is None else min(share, 1 - share, key=lambda s: abs(s - stored))


def _tokens(completion: Any) -> dict[str, float] | None:
    """The log-probs of the first token's alternatives, as the completion's API gives them."""
    logprobs = completion.get("logprobs") if isinstance(completion, Mapping) else None
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else logprobs
    if not isinstance(content, list) or not content or not isinstance(content[0], Mapping):
        return None
    top = content[0].get("top_logprobs")
    if not isinstance(top, list):
        return None
    return {str(entry["token"]): float(entry["logprob"]) for entry in top if {"token", "logprob"} <= set(entry)}


def lengths(row: Row) -> tuple[float, float]:
    """Return the characters of the model's and of the reference's response, nan where they are not told."""
    if isinstance(row.get("output_2"), str) and isinstance(row.get("output_1"), str):
        return float(len(row["output_2"])), float(len(row["output_1"]))
    for mine, theirs in LENGTHS:
        found = number(row.get(mine)), number(row.get(theirs))
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return math.nan, math.nan


def counted(share: Sequence[float], length: Sequence[float] = ()) -> Counted:
    """Return a model's row of the leaderboard, in percent, from its shares of the win (and lengths)."""
    p = np.asarray(share, dtype=np.float64)
    error = float(100 * p.std(ddof=1) / math.sqrt(len(p))) if len(p) > 1 else math.nan
    wins, draws = int((p > 0.5).sum()), int((p == 0.5).sum())
    mean = float(np.mean(length)) if len(length) else math.nan
    whole = math.floor(mean) if math.isfinite(mean) else None
    return Counted(
        100 * float(p.mean()),
        error,
        wins,
        len(p) - wins - draws,
        draws,
        len(p),
        100 * (wins + draws / 2) / len(p),
        whole,
    )


def table(models: Mapping[str, Judged]) -> tuple[Floats, Floats]:
    """Return shares and length leads [models, instructions], nan where a model was not judged on an instruction."""
    keys = list(dict.fromkeys(key for one in models.values() for key in one.keys))
    place = {key: at for at, key in enumerate(keys)}
    share, lead = (np.full((len(models), len(keys)), np.nan) for _ in range(2))
    for m, one in enumerate(models.values()):
        at = [place[key] for key in one.keys]
        share[m, at] = one.share
        lead[m, at] = np.array(one.baseline) - np.array(one.length)
    return share, lead


def _controlled(models: dict[str, Judged], resamples: int, seed: int) -> tuple[dict[str, Measure], list[str]]:
    told = {name: one for name, one in models.items() if np.isfinite(np.array(one.length)).all()}
    varied = {name: one for name, one in told.items() if len({*(np.array(one.baseline) - np.array(one.length))}) > 1}
    notes = []
    if len(told) < len(models):
        who = "The responses'" if not told else f"{len(models) - len(told)} models' responses'"
        notes.append(f"{who} lengths are not told, so they are not controlled for.")
    if len(varied) < len(told):
        notes.append(f"The length of {len(told) - len(varied)} models never varies, so its effect is not known.")
    if not varied:
        return {}, notes
    share, lead = table(varied)
    found = length_control.fit(share, lead)
    how = (
        "with the difficulty of each instruction found from the models judged"
        if found.gamma.any()
        else f"without instruction difficulty, for which at least {length_control.MODELS} models are needed"
    )
    again = partial(_again, share, lead, found.gamma if found.gamma.any() else None)
    measures = many_over_items(again, share.shape[1], resamples=resamples, seed=seed)
    return dict(zip(varied, measures, strict=True)), [*notes, f"Lengths are controlled for {how}."]


def _again(share: Floats, lead: Floats, gamma: Floats | None, at: Ints) -> Floats:
    """The length-controlled win rates on a resample of the instructions; their difficulty stays."""
    part = None if gamma is None else gamma[at]
    try:
        return length_control.fit(share[:, at], lead[:, at], part, difficulty=False).win_rates()
    except (KilterError, np.linalg.LinAlgError):
        return np.full(len(share), np.nan)


def _rounded(share: float) -> float:
    return 1.0 if share > 0.5 else 0.5 if share == 0.5 else 0.0


def _samples(one: Judged, model: str, start: str) -> list[Row]:
    samples = []
    for key, prompt, share in zip(one.keys, one.prompts, one.share, strict=True):
        outcomes = {f"{start}win_rate": share, f"{start}discrete_win_rate": _rounded(share)}
        turns = [{"role": "user", "content": prompt}]
        samples.append(sample(f"{model}/{key}" if model else key, outcomes) | {"prompt": turns})
    return samples
