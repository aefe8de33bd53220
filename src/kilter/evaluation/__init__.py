"""Evaluations: what a model does, measured with its uncertainty. Importing this enters them in the catalogue."""

from kilter.evaluation import heldout, reward_accuracy, world

__all__ = ["heldout", "reward_accuracy", "world"]
