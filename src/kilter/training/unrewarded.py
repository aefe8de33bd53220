"""Prompts of which the feedback cannot say anything, as a judge whose words hold no rating.

They are left out where they would be learned from, counted, and said; only where nothing is rewarded a run ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kilter.errors import KilterError, SetAside
from kilter.feedback.protocol import Feedback
from kilter.training.rollouts import Rollout

IN_A_ROW = 3  # rollouts without a single reward, after which the next would hardly have one
# What a rollout remembers of this run's: prompts, whole rollouts, those of them in a row, and who said why of one.
MEMORY = "unrewarded"


def rewarded(found: Sequence[list[float] | SetAside], feedback: Feedback) -> tuple[list[int], list[str]]:
    """Return the places of the prompts that have rewards, and a sentence on the others, if there are any.

    Raises KilterError where that are all.
    """
    places = [at for at, rewards in enumerate(found) if not isinstance(rewards, SetAside)]
    why = next((str(reason) for reason in found if isinstance(reason, SetAside)), None)
    if why is None:
        return places, []
    if not places:
        raise KilterError(f"The feedback '{feedback.name}' rewards nothing: {why} Take another judge, or mend it.")
    return places, [_sentence(len(found) - len(places), len(found), feedback.name, why)]


def count(rollout: Rollout, left: Sequence[tuple[str, str]]) -> None:
    """Enter into a rollout the prompts that were left out of it, each as who did not judge it and why.

    Raises KilterError where too many rollouts in a row have lost all.
    """
    before = rollout.memory.get(MEMORY)
    if not left and not before:
        return
    known: dict[str, Any] = (
        dict(before) if before else {"prompts": 0, "rollouts": 0, "in a row": 0, "by": "", "why": ""}
    )
    known["prompts"] += len(left)
    if left:
        known["by"], known["why"] = left[0]
    known["in a row"] = 0 if rollout.trees else known["in a row"] + 1
    known["rollouts"] += not rollout.trees
    rollout.memory[MEMORY] = known
    rollout.told["unrewarded"] = float(len(left))
    if known["in a row"] == IN_A_ROW:
        raise KilterError(
            f"The feedback '{known['by']}' rewarded nothing in {IN_A_ROW} rollouts in a row, so there is nothing to "
            f"learn from: {known['why']} Take another judge, or mend it; the same command goes on from the last state."
        )


def notes(rollout: Rollout, rollouts: int, prompts: int) -> list[str]:
    """Return sentences on what was left out by the end of `rollout`, the last of so many, of `prompts` each."""
    left = rollout.memory.get(MEMORY)
    if not left:
        return []
    found = [_sentence(left["prompts"], rollouts * prompts, left["by"], left["why"])]
    if left["rollouts"]:
        found.append(f"{left['rollouts']:,} of {rollouts:,} rollouts had no reward at all; their steps were skipped.")
    return found


def _sentence(left: int, total: int, name: str, why: str) -> str:
    return f"{left:,} of {total:,} prompts were left out, for the feedback '{name}' did not reward them; one: {why}"
