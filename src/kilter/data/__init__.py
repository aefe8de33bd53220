"""Where instructions and responses come from: one method, one file. Importing it enters them in the catalogue."""

from kilter.data import (
    decontaminate,
    exact_duplicates,
    language,
    near_duplicates,
    novelty,
    quality,
    sampled_preferences,
    score,
    world_demonstrations,
    world_prompts,
)

__all__ = [
    "decontaminate",
    "exact_duplicates",
    "language",
    "near_duplicates",
    "novelty",
    "quality",
    "sampled_preferences",
    "score",
    "world_demonstrations",
    "world_prompts",
]
