"""What becomes of the trees of a step: micro-batches, dealt out to the processes, an objective over each, gradients.

An objective's numerators and weights are summed over the whole step before one is divided by the other, so nothing
depends on how a step is cut. Every process goes through the model equally often.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from kilter.engine import sharding
from kilter.engine.asks import Asks
from kilter.engine.batch import Ragged, Tree, collate, deal
from kilter.engine.feed import Feed
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss, Objective, compares
from kilter.engine.masking import Mask
from kilter.engine.meter import Meter
from kilter.engine.reference import Reference
from kilter.engine.vocabulary import Heads


class Learner:
    """Runs an objective over trees, and back through the model where something is learned of them."""

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        asks: Asks,
        feed: Feed,
        accelerator: Accelerator,
        meter: Meter,
        micro_tokens: int,
        *,
        entropy: bool,
        reference: Reference | None,
        against: Callable[[Ragged], Heads] | None,
        mask: Mask | None,
    ) -> None:
        """`module` is what accelerate prepared: all forward passes go through it. Metrics go to `meter`."""
        self.module, self.objective, self.asks, self.feed = module, objective, asks, feed
        self.accelerator, self.meter, self.micro_tokens = accelerator, meter, micro_tokens
        self.entropy, self.reference, self.against, self.mask = entropy, reference, against, mask
        self.compares = compares(objective)

    def learn(self, step: int, numbers: Sequence[int], trees: Sequence[Tree]) -> Tensor:
        """Add the gradients of a step's numerators, as means over the processes; return their and the weights' sums."""
        told = self._survey(numbers, trees) if self.asks.survey else {}
        hands = self._hands(trees)
        sums = torch.zeros(2, device=self.accelerator.device)
        for turn, (hand, chosen) in enumerate(hands):
            last = turn == len(hands) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                loss = self._loss(step, [trees[i] for i in chosen], [numbers[i] for i in chosen], told)
                self.accelerator.backward(loss.per_example.sum() * (1.0 if hand else 0.0))
            if hand:
                sums += _sums(loss)
            self.meter.add(loss.metrics if hand else {name: values[:0] for name, values in loss.metrics.items()})
        return self._over_all(sums)

    @torch.no_grad()
    def measure(self, step: int, numbers: Sequence[int], trees: Sequence[Tree]) -> Tensor:
        """Return the sums [2] over all processes of what the objective gives for `trees`: numerators and weights.

        The numerators are those of the loss's `value`, where it has one.
        """
        told = self._survey(numbers, trees) if self.asks.survey else {}
        sums = torch.zeros(2, device=self.accelerator.device)
        for hand, chosen in self._hands(trees):
            loss = self._loss(step, [trees[i] for i in chosen], [numbers[i] for i in chosen], told)
            if hand:
                sums += _sums(loss if loss.value is None else replace(loss, per_example=loss.value))
        sharding.settle(self.module)
        return self._over_all(sums)

    def _hands(self, trees: Sequence[Tree]) -> list[tuple[list[int], list[int]]]:
        """Return this process's micro-batches, each with what it computes.

        A process without trees of its own goes along with one that counts for nothing.
        """
        costs = [len(tree) for tree in trees]
        dealt = deal(costs, self.accelerator.num_processes, self.micro_tokens)[self.accelerator.process_index]
        return [(hand, hand or [costs.index(min(costs))]) for hand in dealt]

    def _over_all(self, sums: Tensor) -> Tensor:
        found: Tensor = self.accelerator.reduce(sums, reduction="sum")
        return found

    @torch.no_grad()
    def _survey(self, numbers: Sequence[int], trees: Sequence[Tree]) -> dict[str, dict[str, Tensor]]:
        """Return, as the objective's argument, the means over all trees of a step of what it surveys beforehand."""
        asked = [tree.info.get("aside", tree) for tree in trees]
        if self.feed.fixed is not None and "aside" in trees[0].info:
            numbers = [len(self.feed.fixed) + i for i in numbers]
        sums: dict[str, Tensor] = {}
        for hand, chosen in self._hands(asked):
            batch = collate([asked[i] for i in chosen]).to(self.accelerator.device)
            given = self._given(batch, [numbers[i] for i in chosen])
            assert self.asks.survey is not None
            for name, (values, weights) in self.asks.survey(self.module(batch), **given).items():
                found = torch.stack((values.sum().float(), weights.sum().float()))
                sums[name] = sums.get(name, torch.zeros_like(found)) + found * (1.0 if hand else 0.0)
        whole = {name: self._over_all(found) for name, found in sorted(sums.items())}
        return {"survey": {name: found[0] / torch.where(found[1] > 0, found[1], 1.0) for name, found in whole.items()}}

    def _given(self, batch: Ragged, numbers: list[int]) -> dict[str, Any]:
        """Return what an objective is given beside the policy's log-probs of `batch`."""
        group = batch.groups
        if not self.compares:
            return {"group": group}
        blank = LogProbs(batch.targets, batch.owner, batch.lengths)
        if self.reference is not None:
            return {"group": group, "reference": self.reference(blank, batch, numbers)}
        return {"group": group, "reference": None if group.reference is None else blank.with_tokens(group.reference)}

    def _policy(self, batch: Ragged) -> LogProbs:
        """Return the policy's log-probs, or a judge's numbers, with what else is asked for."""
        if self.asks.rivals or self.against:
            heads = self.against(batch) if self.against else None
            found: LogProbs = self.module(batch, self.entropy, self.asks, heads)
        else:
            wanted = {"entropy": self.entropy, "tokens": self.asks.tokens, "among": self.mask and self.mask(batch)}
            found = self.module(batch, **{name: value for name, value in wanted.items() if value})
        return found

    def _loss(self, step: int, trees: list[Tree], numbers: list[int], told: dict[str, Any]) -> Loss:
        batch = collate(trees).to(self.accelerator.device)
        policy, group = self._policy(batch), batch.groups
        loss = self.objective(policy, **self._given(batch, numbers), **told)
        if self.feed.sampling and self.feed.sampling.fresh(step) and group.behaviour is not None:
            # The weights are those that sampled: what differs is how the two compute, a token in nats.
            loss.metrics["mismatch"] = (policy.tokens.detach() - group.behaviour).abs()
        return loss


def _sums(loss: Loss) -> Tensor:
    return torch.stack((loss.per_example.detach().sum(), loss.weight.detach().sum())).float()
