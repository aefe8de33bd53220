"""Online training on a model of 20,000 random parameters: `python online_runs.py MODEL OUT NAME...`, also by torchrun.

With HANG=N in the environment the feedback does not come back from the Nth prompt, with HANG_RANK=R only in process R.
Before its name a run has what it is told beside: "shared-" (its weights are shared out among the processes), "masked-"
(it draws under a mask), "lora-".

What is rewarded is the letter e, and a little the number of words, so that few responses are rewarded alike.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

import torch

from kilter.engine.loop import LoopOptions, train
from kilter.engine.template import end_ids, prompt_ids
from kilter.feedback.protocol import Signal
from kilter.models.load import load_value_model, load_weights
from kilter.records import Message, Prompt
from kilter.training.grpo import grpo
from kilter.training.mask import MaskOptions
from kilter.training.online import OnlineOptions, OnlineSource
from kilter.training.ppo import ppo, shape
from kilter.training.rloo import rloo

LOOP = {
    "learning_rate": 1e-2,
    "batch_size": 3,
    "steps": 12,
    "warmup": 0,
    "schedule": "constant",
    "log_every": 1,
    "precision": "fp32",
    "checkpoint_every": 0,
    "micro_tokens": 200,
    "max_length": 64,
}
TOLD = {
    "shared": {"shard": True},
    "masked": {"mask": MaskOptions(mask_top_p=0.7, mask_every=2)},
    # Dropout is another in every process, so that two of them could not do what one does.
    "lora": {"adapter": "lora", "adapter_rank": 4, "adapter_targets": "all", "adapter_dropout": 0.0},
}
ONLINE = {"feedback": "letters", "samples": 4, "max_tokens": 6, "minibatches": 2, "updates": 2}


class Letters:
    """Feedback that counts what it is asked, and may stop, or never come back."""

    name = "letters"

    def __init__(self, stop_at=0, hang_at=0):
        self.stop_at, self.hang_at, self.asked = stop_at, hang_at, 0

    async def __call__(self, prompt, responses):
        self.asked += 1
        if self.asked == self.stop_at:
            raise Stop
        while self.asked == self.hang_at:
            time.sleep(1)
        return [Signal(score=float("e" in response) + 0.01 * len(response)) for response in responses]


class Stop(Exception):
    """The process is as good as killed."""


def prompts(count=7):
    return [Prompt([Message("user", f"what is {i}?")]) for i in range(count)]


def source(folder, feedback, **options):
    """Return a policy and a source of its samples."""
    model, tokenizer = load_weights(str(folder))
    asked = prompts()
    ids = prompt_ids(tokenizer, [prompt.messages for prompt in asked])
    told = OnlineOptions(**ONLINE | {k: v for k, v in options.items() if k in OnlineOptions.model_fields})
    rest = {k: v for k, v in options.items() if k not in OnlineOptions.model_fields}
    made = OnlineSource(
        asked, ids, feedback, tokenizer, end_ids(tokenizer), told, batch_size=LOOP["batch_size"], seed=0, **rest
    )
    return model, made


def run(name, folder, out, feedback=None, **options):
    """Train by the method that `name` ends with, with a reference, and for ppo with a critic."""
    *told, name = name.split("-")
    for word in told:
        options = TOLD[word] | options
    objective = {"grpo": partial(grpo, beta=0.1), "rloo": rloo, "ppo": ppo}[name]
    shaped = partial(shape, kl_coef=0.1, kl_target=1.0) if name == "ppo" else None
    given = {k: v for k, v in options.items() if k not in LoopOptions.model_fields}
    model, made = source(folder, feedback or Letters(), wants_reference=True, shape=shaped, **given)
    loop = LoopOptions(**LOOP | {k: v for k, v in options.items() if k in LoopOptions.model_fields})
    critic = load_value_model(str(folder))[0] if name == "ppo" else None
    return train(model, made, objective, loop, out, critic=critic, critic_share=2.0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    hangs = os.environ.get("HANG_RANK") in (None, os.environ.get("RANK"))
    for name in sys.argv[3:]:
        feedback = Letters(hang_at=int(os.environ.get("HANG", "0")) if hangs else 0)
        run(name, sys.argv[1], Path(sys.argv[2]) / name, feedback, checkpoint_every=3)
