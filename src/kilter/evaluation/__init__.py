"""Evaluations: what a model does, measured with its uncertainty. Importing this enters them in the catalogue."""

from kilter.evaluation import (
    agreement,
    bradley_terry,
    elo,
    heldout,
    multielo,
    ordering,
    prd,
    reward_accuracy,
    weightedvote,
    win_rate,
    world,
)

__all__ = [
    "agreement",
    "bradley_terry",
    "elo",
    "heldout",
    "multielo",
    "ordering",
    "prd",
    "reward_accuracy",
    "weightedvote",
    "win_rate",
    "world",
]
