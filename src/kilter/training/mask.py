"""What a method whose samples are drawn under a mask (engine/masking.py) can be told about it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MaskOptions(BaseModel):
    """The mask of NLPO (Ramamurthy et al. 2022), and how often it follows the policy."""

    model_config = ConfigDict(extra="forbid")

    mask_top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Draw only what is in the top-p set of the policy as it was some rollouts ago; none: draw freely.",
    )
    mask_every: int = Field(default=20, gt=0, description="Rollouts after which the mask becomes the policy's own.")
