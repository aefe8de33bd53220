"""The critic that learns along with a policy: where it starts from, and how fast it learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from kilter.errors import KilterError
from kilter.models.load import load_value_model


class CriticOptions(BaseModel):
    """What a method with a critic can be told about it."""

    model_config = ConfigDict(extra="forbid")

    critic: str | None = Field(
        default=None, description="What the critic starts as: a reward model; none: the policy with a head of zeros."
    )
    critic_learning_rate: float | None = Field(
        default=None, gt=0, description="Highest learning rate of the critic; none: the policy's."
    )


def load_critic(model: str, tokenizer: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the critic and its share of the learning rate, as the loop takes them.

    Raises KilterError for a model that is none, or one that reads other tokens than the policy `model` writes.
    """
    name = given["critic"] or model
    critic, its = load_value_model(name, torch.float32, adapter=given.get("adapter", "none"))
    if its.get_vocab() != tokenizer.get_vocab():
        raise KilterError(
            f"The critic '{name}' has another vocabulary than '{model}', whose tokens it has to read; start it from a "
            "model of the same family, or leave the option critic out."
        )
    share = (given["critic_learning_rate"] or given["learning_rate"]) / given["learning_rate"]
    return {"critic": critic, "critic_share": share}
