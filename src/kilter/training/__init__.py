"""Training methods: objectives over log-probs, one file each. Importing it enters them in the catalogue."""

from kilter.training import dpo, reward, reward_listwise, reward_outcome, reward_process, sft

__all__ = ["dpo", "reward", "reward_listwise", "reward_outcome", "reward_process", "sft"]
