"""What a recipe may say under `report:`. Every key has a default, so a recipe need not say anything."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kilter.errors import KilterError, nearest


class Target(BaseModel):
    """What a dimension's value is meant to reach. Bounds are in the dimension's unit: 0.85 is 85 %."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="Label of the model it is meant for; the last one where not given.")
    minimum: float | None = Field(None, description="The value is to be at least this.")
    maximum: float | None = Field(None, description="The value is to be at most this.")
    maximum_of_base: float | None = Field(
        None, gt=0, description="The value is to be at most this share of the baseline's, e.g. 0.2 for a fifth."
    )

    @model_validator(mode="after")
    def _something(self) -> Target:
        if self.minimum is None and self.maximum is None and self.maximum_of_base is None:
            raise ValueError("a target says a minimum, a maximum or a maximum_of_base")
        return self


class Settings(BaseModel):
    """What the report compares, promises and shows."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(None, description="Heading of the page; the recipe's name where not given.")
    baseline: str | None = Field(None, description="Label of the model the others are compared with; else the first.")
    samples: int = Field(6, ge=0, description="How many samples each part of the page shows.")
    targets: dict[str, Target | list[Target]] = Field(
        default_factory=dict, description="What each dimension is meant to reach; the page says whether it did."
    )

    def check(self, labels: Sequence[str]) -> None:
        """Raise KilterError where the baseline or a target names a model that is not among `labels`, those measured."""
        targets = [(f"target of '{name}'", t.model) for name in self.targets for t in self.targets_of(name)]
        for what, label in [("baseline", self.baseline), *targets]:
            if label is not None and label not in labels:
                hint = nearest(label, labels) or f" Measured are: {', '.join(labels) or 'none'}."
                raise KilterError(f"The report's {what} names the model '{label}', which no stage measures.{hint}")

    def targets_of(self, dimension: str) -> list[Target]:
        """Return the targets of `dimension`, none or more."""
        found = self.targets.get(dimension, [])
        return found if isinstance(found, list) else [found]
