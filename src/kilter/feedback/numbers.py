"""Feedback as plain numbers, one finite reward a response: what training and selection stand on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kilter.errors import KilterError
from kilter.feedback.protocol import Feedback
from kilter.records import Prompt


async def rewards(feedback: Feedback, prompt: Prompt, responses: Sequence[str]) -> list[float]:
    """Return what `feedback` says of each response as a number: its score, or its verdict as 1 or 0.

    Raises KilterError where it answers for another number of responses than it was asked for, or says of one neither a
    score nor a verdict, or a score that is not finite.
    """
    signals = await feedback(prompt, list(responses))
    if len(signals) != len(responses):
        raise KilterError(
            f"The feedback '{feedback.name}' was asked for {len(responses)} responses to prompt {prompt.id} and "
            f"answered for {len(signals)}; it has to answer for each."
        )
    found = []
    for signal in signals:
        value = float(signal.verdict) if signal.score is None and signal.verdict is not None else signal.score
        if value is None:
            raise KilterError(
                f"The feedback '{feedback.name}' gives neither a score nor a verdict for a response to prompt "
                f"{prompt.id}; use one that does."
            )
        if not math.isfinite(value):
            raise KilterError(
                f"The feedback '{feedback.name}' rewards a response to prompt {prompt.id} with {value}; "
                "mend it so that every reward is a finite number."
            )
        found.append(float(value))
    return found


def check(feedback: Feedback, prompts: Sequence[Prompt]) -> None:
    """Raise KilterError, before anything is asked, if `feedback` knows of a prompt that it can say nothing of it."""
    look = getattr(feedback, "check", None)
    if look is not None:
        look(prompts)


def number(value: Any) -> float | None:
    """Return a finite number, also from text, or None: NaN, an empty cell and words are no number."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None
