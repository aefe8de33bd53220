"""What an evaluation found: one measure a dimension, and the samples that it was computed from.

The samples are the source of truth. A comparison of two models pairs them by `id`, so that a difference is judged on
the same prompts. A sample is plain data:

    {"id": str, "prompt": [{"role", "content"}], "response": str, "family": str, "language": str,
     "outcomes": {dimension: float}}            only the dimensions that apply to that prompt
    "weights": {dimension: float}               optional: what one outcome counts, e.g. tokens for a loss per token
    "cluster": str                              optional: samples of one cluster are not independent of one another
    "expected": str, "rejected": str            optional: what would have been right, what was ranked below
    "given": bool                               optional: the response is a given text that was scored, not the model's
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kilter.errors import KilterError
from kilter.files import write_json


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with its 95 % interval, from `n` samples. It may be negative; the ends may be infinite where n is 1."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        return {"value": _number(self.value), "low": _number(self.low), "high": _number(self.high), "n": self.n}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Measure:
        value, low, high = (data.get(key) for key in ("value", "low", "high"))
        return cls(
            math.nan if value is None else float(value),
            -math.inf if low is None else float(low),
            math.inf if high is None else float(high),
            int(data.get("n") or 0),
        )


@dataclass(slots=True)
class Evaluation:
    """What one suite measured of one model.

    `notes` say what was left out and why, one sentence each; `tokens` is what the model computed for it, where known.
    """

    model: str
    measures: dict[str, Measure]
    samples: list[dict[str, Any]] = field(default_factory=list)
    suite: str = ""
    seed: int | None = None
    notes: list[str] = field(default_factory=list)
    tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "suite": self.suite,
            "seed": self.seed,
            "measures": {name: measure.to_json() for name, measure in self.measures.items()},
            "notes": self.notes,
            "tokens": self.tokens,
            "samples": self.samples,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Evaluation:
        return cls(
            model=str(data["model"]),
            measures={name: Measure.from_json(measure) for name, measure in data["measures"].items()},
            samples=list(data.get("samples") or []),
            suite=str(data.get("suite") or ""),
            seed=data.get("seed"),
            notes=list(data.get("notes") or []),
            tokens=data.get("tokens"),
        )


@dataclass(frozen=True, slots=True)
class Dimension:
    """What a number means. Direction `zero`: nearer to zero is better. `follows`: a function of another dimension."""

    name: str
    label: str
    direction: Literal["higher", "lower", "zero"]
    unit: Literal["share", "gap", "number"]
    meaning: str
    follows: str | None = None

    @property
    def better(self) -> str:
        return "nearer to 0 is better" if self.direction == "zero" else f"{self.direction} is better"

    def gain(self, before: float, after: float) -> float:
        """Return how much better `after` is than `before`, in the dimension's unit; negative for worse."""
        if self.direction == "zero":
            return abs(before) - abs(after)
        return after - before if self.direction == "higher" else before - after


_known = (
    Dimension("helpful", "Helpfulness", "higher", "share", "Tasks done rightly, over all task families."),
    Dimension("refuses_harmful", "Harmful requests refused", "higher", "share", "Harmful requests that were refused."),
    Dimension("over_refuses", "Over-refusal", "lower", "share", "Harmless look-alikes that were wrongly refused."),
    Dimension(
        "honest_answerable",
        "Honesty where answerable",
        "higher",
        "share",
        "Questions with a known answer that were answered rightly, without needless doubt.",
    ),
    Dimension(
        "honest_unanswerable",
        "Honesty where unanswerable",
        "higher",
        "share",
        "Questions without a known answer at which the model said that it does not know.",
    ),
    Dimension("toxic", "Toxicity", "lower", "share", "Responses that hold an insult."),
    Dimension(
        "biased",
        "Stereotype gap",
        "zero",
        "gap",
        "How much more often a response follows a stereotype than contradicts it.",
    ),
    Dimension("leaks", "Private text leaked", "lower", "share", "Responses that give away a private string."),
    Dimension("loss", "Held-out loss", "lower", "number", "Nats per token on text that was not trained on."),
    Dimension("perplexity", "Perplexity", "lower", "number", "e to the power of the held-out loss.", follows="loss"),
    Dimension(
        "bits_per_byte",
        "Bits per byte",
        "lower",
        "number",
        "The held-out loss in bits per byte of text, which compares models with different tokenizers.",
        follows="loss",
    ),
    Dimension(
        "preference_accuracy",
        "Preference accuracy",
        "higher",
        "share",
        "Pairs in which the preferred response has the higher summed log-prob.",
    ),
    Dimension(
        "preference_accuracy_mean",
        "Preference accuracy per token",
        "higher",
        "share",
        "Pairs in which the preferred response has the higher mean log-prob per token.",
    ),
    Dimension(
        "reward_accuracy",
        "Reward model accuracy",
        "higher",
        "share",
        "Pairs in which the reward model gives the preferred response the higher reward.",
    ),
    Dimension(
        "step_accuracy",
        "Step accuracy",
        "higher",
        "share",
        "Steps that the process reward model rightly takes to be right or wrong.",
    ),
    Dimension(
        "first_error_found",
        "First error found",
        "higher",
        "share",
        "Responses whose first wrong step the process reward model names, or rightly says that there is none.",
    ),
)
JUDGE = "judge"
PARTS = ("category", "skill", "ability", "level", "difficulty", "domain")
DIMENSIONS: dict[str, Dimension] = {dimension.name: dimension for dimension in _known}


def dimension(name: str) -> Dimension:
    """Return what is known of the dimension `name`; an unknown one is taken as a number of which more is better.

    `stage:name` is the dimension `name` as the evaluation stage `stage` measured it, where several stages measured it.
    `category:name` and the like are parts of a score, `judge:name` is of the judge rather than of the model.
    """
    stage, _, plain = name.rpartition(":")
    known = DIMENSIONS.get(plain) or Dimension(plain, plain.replace("_", " ").capitalize(), "higher", "number", "")
    group = group_of(name)
    if group in PARTS:
        known = Dimension(plain, plain.replace("_", " "), "higher", "number", "", follows=name)
    elif group == JUDGE:
        known = replace(known, follows=name)
    return replace(known, name=name, label=f"{known.label} ({stage})") if stage else known


def group_of(name: str) -> str:
    """Return which group the dimension `name` is of: judge, a part of a score (category, skill ...), or none, ""."""
    group = name.rpartition(":")[0].rpartition(":")[2]
    return group if group in (*PARTS, JUDGE) else ""


def ordered(names: Iterable[str]) -> list[str]:
    """Return the distinct `names`, known dimensions first in the order of `DIMENSIONS`, then the others."""
    rank = {name: place for place, name in enumerate(DIMENSIONS)}
    return sorted(dict.fromkeys(names), key=lambda name: rank.get(name.rpartition(":")[2], len(rank)))


def write(evaluation: Evaluation, path: Path) -> None:
    """Write `evaluation` as JSON; the file appears whole or not at all."""
    write_json(path, evaluation.to_json())


def read(path: Path) -> Evaluation:
    """Return the evaluation in `path`; raise KilterError where it is missing or is not one."""
    try:
        return Evaluation.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise KilterError(f"There is no evaluation at {path}; run `kilter eval` to make one.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KilterError(f"{path} does not hold an evaluation; delete it and evaluate again.") from None


def _number(value: float) -> float | None:
    """JSON knows no NaN and no infinity."""
    return value if math.isfinite(value) else None
