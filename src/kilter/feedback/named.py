"""Feedback by its name, as the command line and recipes give it."""

from __future__ import annotations

from collections.abc import Mapping

from kilter.errors import KilterError
from kilter.feedback.mixture import Mixture
from kilter.feedback.protocol import Feedback
from kilter.feedback.reward_model import RewardModel
from kilter.feedback.rules import RULES, Rule
from kilter.feedback.truth import WorldTruth


def named(name: str | Mapping[str, float]) -> Feedback:
    """Return the feedback called `name`: `world`, a rule (`contains:blue`), or a reward model (folder or hub id).

    A mapping from names to weights is their mixture. Raises KilterError for one that there is not.
    """
    if isinstance(name, Mapping):
        if not name:
            raise KilterError("The feedback is an empty mixture; name at least one source and its weight.")
        return Mixture([(named(part), float(weight)) for part, weight in name.items()])
    if name == "world":
        return WorldTruth()
    if name.partition(":")[0] in RULES:
        return Rule(name)
    if name.startswith(("http://", "https://")):
        raise KilterError(f"'{name}' is a server, which gives no rewards; name a reward model's folder or hub id.")
    try:
        return RewardModel(name)
    except KilterError as error:
        known = f"It may also be 'world' or a rule: {', '.join(RULES)}."
        raise KilterError(f"Of the feedback '{name}': {error} {known}") from None
