"""Where instructions and responses come from: one method, one file. Importing it enters them in the catalogue."""

from kilter.data import (
    decontaminate,
    exact_duplicates,
    near_duplicates,
    novelty,
    sampled_preferences,
    score,
    world_demonstrations,
    world_prompts,
)

__all__ = [
    "decontaminate",
    "exact_duplicates",
    "near_duplicates",
    "novelty",
    "sampled_preferences",
    "score",
    "world_demonstrations",
    "world_prompts",
]
