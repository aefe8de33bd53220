"""Where instructions and responses come from: one method, one file. Importing it enters them in the catalogue."""

from kilter.data import (
    decontaminate,
    exact_duplicates,
    flacuna,
    flan,
    language,
    mix,
    near_duplicates,
    novelty,
    quality,
    sampled_preferences,
    score,
    tulu,
    world_demonstrations,
    world_prompts,
)

__all__ = [
    "decontaminate",
    "exact_duplicates",
    "flacuna",
    "flan",
    "language",
    "mix",
    "near_duplicates",
    "novelty",
    "quality",
    "sampled_preferences",
    "score",
    "tulu",
    "world_demonstrations",
    "world_prompts",
]
