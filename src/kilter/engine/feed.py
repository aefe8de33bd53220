"""Which trees a step takes: a function of the seed and the step alone, so that a run can go on from any step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kilter.engine.batch import Tree
from kilter.errors import KilterError

Source = Sequence[Tree] | Callable[[int], Sequence[Tree]]


@dataclass(slots=True)
class Feed:
    """Trees by step: all of a sequence in a new order every epoch, or what a function makes for the step."""

    source: Source
    batch_size: int
    total: int
    seed: int

    @classmethod
    def of(cls, source: Source, *, batch_size: int, epochs: float, steps: int | None, seed: int) -> Feed:
        """Work out the number of steps; raise KilterError where there is nothing to learn from."""
        if callable(source):
            if steps is None:
                raise KilterError("Training on data that is made step by step has no end; set the option 'steps'.")
            return cls(source, batch_size, steps, seed)
        if not len(source):
            raise KilterError("There is nothing to train on; give data with at least one usable record.")
        return cls(source, batch_size, steps or max(1, round(epochs * math.ceil(len(source) / batch_size))), seed)

    @property
    def fixed(self) -> Sequence[Tree] | None:
        """The trees, where they are known beforehand."""
        return None if callable(self.source) else self.source

    @property
    def steps_an_epoch(self) -> int:
        """Steps in which every tree comes once; 0 where there is no such thing."""
        return 0 if callable(self.source) else math.ceil(len(self.source) / self.batch_size)

    def __call__(self, step: int) -> tuple[list[int], list[Tree]]:
        """Return the trees of a step and their numbers in the whole (of made ones: in the step)."""
        if callable(self.source):
            made = list(self.source(step))
            if not made:
                raise KilterError(f"The source made nothing to learn from for step {step + 1}; look at what it keeps.")
            return list(range(len(made))), made
        epoch, part = divmod(step, self.steps_an_epoch)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.source), generator=generator)
        numbers = order[part * self.batch_size : (part + 1) * self.batch_size].tolist()
        return numbers, [self.source[i] for i in numbers]

    def digest(self) -> str:
        """Return a hash of the trees, where they are known beforehand."""
        found = hashlib.sha256()
        for tree in self.fixed or ():
            parts = [tree.prompt, *tree.responses, *tree.masks, () if tree.prompt_mask is None else tree.prompt_mask]
            found.update(repr(([len(part) for part in parts], tree.info.get("pairs"), tree.info.get("order"))).encode())
            found.update(np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]).tobytes())
        return found.hexdigest()[:16]
