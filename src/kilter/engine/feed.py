"""Which trees a step takes: a function of the seed and the step alone, so that a run can go on from any step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator

from kilter.engine import held_out
from kilter.engine.batch import Tree
from kilter.engine.reference import ByContent
from kilter.engine.scorer import Scorer
from kilter.engine.values import Valuer
from kilter.errors import KilterError

if TYPE_CHECKING:
    from kilter.engine.masking import Mask  # which stands on the sampler, and that on this

ROLLOUTS = "rollouts"  # the folder below a run's in which a source keeps what it sampled


@dataclass(slots=True)
class Rig:
    """What the loop lends to a source that samples.

    `policy` and `critic` are the models themselves, which change from step to step; `reference` stands still, and is
    None where the source wants none; so is `mask`, which the source refreshes. What the source keeps goes below `out`,
    under the run's `mark`. `say` shows a few words beside the progress bar. Within `whole()` every process has all
    weights, and may go through the models as often as it likes; processes enter it together.
    """

    policy: Scorer
    critic: Valuer | None
    reference: ByContent | None
    accelerator: Accelerator
    micro_tokens: int
    out: Path
    mark: str
    say: Callable[[str], None]
    mask: Mask | None = None
    whole: Callable[[], AbstractContextManager[None]] = nullcontext


class Sampling(Protocol):
    """A source of trees that the policy itself makes as the run goes (training/online.py).

    `temperature` is what it samples at: log-probs are taken there too. `steps_an_epoch` are the steps in which every
    prompt comes once, `tokens_a_step` the most that one computes. `mask_top_p`: it draws under a mask (masking.py),
    and log-probs are taken under it.
    """

    temperature: float
    wants_reference: bool
    mask_top_p: float | None

    @property
    def steps_an_epoch(self) -> float: ...

    @property
    def tokens_a_step(self) -> float: ...

    def attach(self, rig: Rig) -> None:
        """Take what is lent, once, before the first step."""

    def __call__(self, step: int) -> Sequence[Tree]:
        """Return the trees of a step, none where it is to be skipped; called once for each step, in order."""
        ...

    def fresh(self, step: int) -> bool:
        """Whether the policy is at this step still the very one that sampled the step's trees."""
        ...

    def told(self) -> dict[str, float]:
        """Return what there is to say of the samples at hand, for a line of metrics."""
        ...

    def digest(self) -> str:
        """Return a hash of what decides the trees beside the policy."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return by name, as JSON can hold it, what the source was told."""
        ...

    def notes(self) -> list[str]:
        """Return sentences on what was left out, once the last step is taken."""
        ...

    def release(self) -> None:
        """Let go of what samples; called when the run has ended, whatever ended it, and maybe again."""


Source = Sequence[Tree] | Callable[[int], Sequence[Tree]] | Sampling


@dataclass(slots=True)
class Feed:
    """Trees by step: all of a sequence in a new order every epoch, or what a function makes for the step.

    Of a sequence `learned` and `held` are the numbers of the trees that are learned from, and of those held out.
    """

    source: Source
    batch_size: int
    total: int
    seed: int
    learned: Sequence[int] = ()
    held: Sequence[int] = ()

    @classmethod
    def of(
        cls, source: Source, *, batch_size: int, epochs: float, steps: int | None, seed: int, eval_share: float = 0.0
    ) -> Feed:
        """Work out the number of steps; raise KilterError where there is nothing to learn from, or to hold out."""
        if callable(source):
            if eval_share:
                raise held_out.refuse(samples=hasattr(source, "attach"))
            if steps is None:
                raise KilterError("Training on data that is made step by step has no end; set the option 'steps'.")
            return cls(source, batch_size, steps, seed)
        if not len(source):
            raise KilterError("There is nothing to train on; give data with at least one usable record.")
        held = held_out.choose(source, eval_share, seed)
        learned = sorted({*range(len(source))} - {*held}) if held else range(len(source))
        total = steps or max(1, round(epochs * math.ceil(len(learned) / batch_size)))
        return cls(source, batch_size, total, seed, learned, held)

    @property
    def fixed(self) -> Sequence[Tree] | None:
        """The trees, where they are known beforehand."""
        return None if callable(self.source) else self.source

    @property
    def sampling(self) -> Sampling | None:
        """The source, where it samples from the policy."""
        found: Any = self.source
        return found if hasattr(found, "attach") else None

    @property
    def steps_an_epoch(self) -> float:
        """Steps in which every tree learned from, or every prompt, comes once; 0 where there is no such thing."""
        if self.sampling:
            return self.sampling.steps_an_epoch
        return math.ceil(len(self.learned) / self.batch_size)

    @property
    def tokens_a_step(self) -> float:
        """Tokens that a step computes, each once, where that can be said beforehand; else 0."""
        if self.sampling:
            return self.sampling.tokens_a_step
        return 0 if callable(self.source) else self.batch_size * sum(map(len, self.source)) / len(self.source)

    def __call__(self, step: int) -> tuple[list[int], list[Tree]]:
        """Return the trees of a step and their numbers in the whole (of made ones: in the step).

        There are none only where a source that samples has nothing to learn from at this step.
        """
        if callable(self.source):
            made = list(self.source(step))
            if not made and not self.sampling:
                raise KilterError(f"The source made nothing to learn from for step {step + 1}; look at what it keeps.")
            return list(range(len(made))), made
        epoch, part = divmod(step, math.ceil(len(self.learned) / self.batch_size))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.learned), generator=generator)
        numbers = [self.learned[i] for i in order[part * self.batch_size : (part + 1) * self.batch_size].tolist()]
        return numbers, self.trees(numbers)

    def trees(self, numbers: Sequence[int]) -> list[Tree]:
        """Return the trees of a sequence that have these numbers."""
        assert self.fixed is not None
        return [self.fixed[i] for i in numbers]

    def digest(self) -> str:
        """Return a hash of the trees, where they are known beforehand, or of what decides them."""
        if self.sampling:
            return self.sampling.digest()
        found = hashlib.sha256()
        for tree in self.fixed or ():
            parts = [tree.prompt, *tree.responses, *tree.masks, () if tree.prompt_mask is None else tree.prompt_mask]
            found.update(repr(([len(part) for part in parts], tree.info.get("pairs"), tree.info.get("order"))).encode())
            found.update(np.concatenate([np.asarray(part, dtype=np.int64) for part in parts]).tobytes())
        return found.hexdigest()[:16]
