"""Evaluations: what a model does, measured with its uncertainty. Importing this enters them in the catalogue."""

from kilter.evaluation import heldout, world

__all__ = ["heldout", "world"]
