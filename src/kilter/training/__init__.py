"""Training methods: objectives over log-probs, one file each. Importing it enters them in the catalogue."""

from kilter.training import dpo, grpo, ppo, reward, reward_listwise, reward_outcome, reward_process, rloo, sft

__all__ = ["dpo", "grpo", "ppo", "reward", "reward_listwise", "reward_outcome", "reward_process", "rloo", "sft"]
