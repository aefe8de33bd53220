"""A mask of the vocabulary: the policy draws among the tokens that an older copy of itself finds likely, and no others.

So natural language policy optimisation learns which actions are worth trying (Ramamurthy et al. 2022, §4). A masking
policy is the policy itself as it was some rollouts ago; at every position M is the top-p set of its distribution: the
fewest likeliest tokens whose probabilities together reach p. What is drawn from, and log-probs are learned of, is

    pi(v | M) = pi(v) / sum_{u in M} pi(u)  for v in M, 0 for others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from kilter.engine import steered
from kilter.engine.among import Among, outside
from kilter.engine.batch import Ragged
from kilter.engine.checkpoint import trained
from kilter.engine.choose import Shaping
from kilter.engine.plain import obstacle
from kilter.engine.sampler import Completion
from kilter.engine.scorer import Scorer
from kilter.errors import KilterError

MARK = "mask|"  # before the names of a masking policy's weights, where they are kept with a state


class Mask:
    """The masking policy of a policy: a copy of it that stands still until it is brought up to date."""

    def __init__(self, policy: Scorer, top_p: float) -> None:
        """`policy` has the temperature that is sampled at. Raises KilterError for a model that cannot be masked."""
        why = obstacle(policy.model) or ("" if policy.ragged else "it is trained with padding")
        if why:
            raise KilterError(
                f"{type(policy.model).__name__} cannot be sampled under a mask: {why}; set mask_top_p to none."
            )
        self.policy, self.top_p = policy, top_p
        self.copy = copy.deepcopy(policy).requires_grad_(False)
        obstacle(self.copy.model)  # found out once, and not in the reduced precision that samples are drawn in

    @torch.no_grad()
    def refresh(self) -> None:
        """Make it the policy as it is now."""
        held = self._held()
        for name, tensor in trained(self.policy.model).items():
            held[name].copy_(tensor)

    def memory(self) -> dict[str, Tensor]:
        """Return its weights, to be kept with a state."""
        held = self._held()
        return {MARK + name: held[name].contiguous() for name in trained(self.policy.model)}

    @torch.no_grad()
    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Go on from what `memory` gave."""
        held = self._held()
        for name, tensor in memory.items():
            if name.startswith(MARK):
                held[name.removeprefix(MARK)].copy_(tensor)

    def _held(self) -> dict[str, Tensor]:
        return {name: p.detach() for name, p in self.copy.model.named_parameters()}

    def __call__(self, batch: Ragged) -> Among:
        """Return what may stand at the scored positions of a batch."""
        return Among(self.copy.heads(batch), self.top_p)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        max_tokens: int,
        temperature: float,
        stop_ids: Collection[int],
        seed: int,
        keys: Sequence[int],
        batch_size: int,
        check: Callable[[], None] = lambda: None,
    ) -> list[list[Completion]]:
        """Return `n` completions of each prompt, drawn from the policy under the mask.

        The arguments are sampler.sample's, and so is the noise: a mask that leaves every token in changes no sample.
        """
        rows = [prompt for prompt in prompts for _ in range(n)]

        def steer(own: Tensor, others: list[Tensor]) -> Tensor:
            return own.masked_fill(outside(others[0] / temperature, self.top_p), -torch.inf)

        found = steered.sample(
            [steered.Stream(model, rows) for model in (self.policy.model, self.copy.model)],
            steer,
            max_tokens=[max_tokens] * len(rows),
            shaping=Shaping(temperature),
            stop_ids=stop_ids,
            noise=[(seed, key, k) for key in keys for k in range(n)],
            batch_size=batch_size,
            check=check,
        )
        return [found[first : first + n] for first in range(0, len(found), n)]
