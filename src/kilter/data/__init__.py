"""Where instructions and responses come from: one method, one file. Importing it enters them in the catalogue."""

from kilter.data import sampled_preferences, world_demonstrations

__all__ = ["sampled_preferences", "world_demonstrations"]
