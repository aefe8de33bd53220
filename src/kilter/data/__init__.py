"""Where instructions and responses come from: one method, one file. Importing it enters them in the catalogue."""

from kilter.data import sampled_preferences, score, world_demonstrations, world_prompts

__all__ = ["sampled_preferences", "score", "world_demonstrations", "world_prompts"]
