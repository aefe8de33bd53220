"""What a run can be told, and what of it decides its course: the mark by which a folder knows its run again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from kilter.engine.adapters import AdapterOptions
from kilter.engine.optim import Schedule
from kilter.store import fingerprint

# Below this many parameters bf16 is no faster on a CPU.
WORTH_BF16 = 200_000
# Options that change nothing of the course.
ASIDE = {"shard", "log_every", "checkpoint_every", "loss_bound", "kl_bound"}


class StepOptions(BaseModel):
    """What every training method can be told about its steps."""

    model_config = ConfigDict(extra="forbid")

    learning_rate: float = Field(default=2e-5, gt=0, description="Highest learning rate.")
    epochs: float = Field(default=1.0, gt=0, description="Passes over the data.")
    steps: int | None = Field(default=None, gt=0, description="Optimizer steps; overrides epochs.")
    batch_size: int = Field(default=32, gt=0, description="Prompts (with all their responses) in an optimizer step.")
    micro_tokens: int = Field(default=4096, gt=0, description="Most tokens computed at once: a matter of memory.")
    warmup: float = Field(default=0.05, ge=0, description="Steps of linear warm-up; below 1, that share of all steps.")
    schedule: Schedule = Field(default="cosine", description="Course of the learning rate after the warm-up.")
    min_lr_ratio: float = Field(
        default=0.1, ge=0, le=1, description="Share of the highest rate that the last step has."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay of matrices.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's decay of the gradient's mean.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's decay of the gradient's square.")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's epsilon; larger spares what has tiny gradients.")
    clip: float = Field(default=1.0, ge=0, description="Norm that gradients are clipped to; 0 clips nothing.")
    residual_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Rate at which the last layer's additions are dropped; the first's is 0."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(default="auto", description="Of arithmetic; weights stay fp32.")
    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="Have torch compile the layers; auto does where the run is long enough to gain."
    )
    max_length: int = Field(default=1024, gt=1, description="Most tokens of a prompt with its response.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    eval_share: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the records that is held out: its loss is measured, not learned."
    )
    eval_every: int = Field(
        default=100, gt=0, description="Steps between measurements of the loss on what is held out."
    )
    patience: int = Field(
        default=0, ge=0, description="End the run after so many measurements in a row without a better one; 0: never."
    )
    keep_best: bool = Field(
        default=True, description="Leave the model with the least loss on what is held out, not the last one."
    )
    checkpoint_every: int = Field(default=200, ge=0, description="Steps between states to continue from; 0 keeps none.")
    gradient_checkpointing: bool = Field(default=False, description="Keep no activations: less memory, more time.")
    shard: bool = Field(
        default=False, description="Share weights, gradients and moments out among the processes (FSDP2)."
    )
    log_every: int = Field(default=10, gt=0, description="Steps between lines of metrics.jsonl.")
    loss_bound: float = Field(
        default=20.0, ge=0, description="Stop where the loss rose by so many times its first value plus one; 0: never."
    )
    kl_bound: float = Field(
        default=1000.0, ge=0, description="Stop where a response is so many nats from the reference policy; 0: never."
    )


class LoopOptions(AdapterOptions, StepOptions):
    """What every training method can be told about the run itself: its steps, and the adapter that it trains."""


def bf16_for(model: Any, precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16: where asked, or where the hardware and the size make it the faster one."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return fast and sum(p.numel() for p in model.parameters()) >= WORTH_BF16


def options_told(objective: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """Return an objective's name and the options that it was given."""
    inner = objective.func if isinstance(objective, partial) else objective
    given = objective.keywords if isinstance(objective, partial) else {}
    return getattr(inner, "__qualname__", type(inner).__name__), given


def settings_of(objective: Callable[..., Any], options: LoopOptions) -> dict[str, Any]:
    """Return by name, as JSON can hold it, what decides a run beside its model and data."""
    name, given = options_told(objective)
    plain = {key: value if isinstance(value, str | int | float | None) else str(value) for key, value in given.items()}
    return {"method": name, **options.model_dump(exclude=ASIDE), **plain}


def mark_of(
    models: Sequence[Any], digest: str, objective: Callable[..., Any], options: LoopOptions, critic_share: float
) -> str:
    """Return a hash of what decides a run's course: a state with another one is not continued."""
    weights = [
        (name, tuple(p.shape), float(p.detach().reshape(-1)[:64].double().sum()))
        for each in models
        if each is not None
        for name, p in each.named_parameters()
    ]
    told = options.model_dump(exclude=ASIDE)
    return fingerprint(*options_told(objective), weights, told, digest, critic_share)
