"""Training methods: objectives over log-probs, one file each. Importing it enters them in the catalogue."""

from kilter.training import (
    dpo,
    dpo_hinge,
    dpo_robust,
    f_dpo,
    grpo,
    ipo,
    orpo,
    ppo,
    reward,
    reward_listwise,
    reward_outcome,
    reward_process,
    rloo,
    sft,
    simpo,
    slic_hf,
)

__all__ = [
    "dpo",
    "dpo_hinge",
    "dpo_robust",
    "f_dpo",
    "grpo",
    "ipo",
    "orpo",
    "ppo",
    "reward",
    "reward_listwise",
    "reward_outcome",
    "reward_process",
    "rloo",
    "sft",
    "simpo",
    "slic_hf",
]
