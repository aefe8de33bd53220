"""Training methods: objectives over log-probs, one file each. Importing it enters them in the catalogue."""

from kilter.training import dpo, sft

__all__ = ["dpo", "sft"]
