"""A policy and its critic as one module: both run over the same ragged batch and learn in the same step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from kilter.engine.among import Among
from kilter.engine.batch import Ragged
from kilter.engine.head import LogProbs
from kilter.engine.scorer import Scorer
from kilter.engine.values import Valuer, module_for
from kilter.errors import KilterError


class ActorCritic(nn.Module):
    """Gives the policy's log-probs, with the critic's value before each scored token beside them."""

    def __init__(self, actor: Scorer, critic: Valuer) -> None:
        super().__init__()
        self.actor, self.critic = actor, critic

    def forward(self, batch: Ragged, entropy: bool = False, among: Among | None = None) -> LogProbs:
        """Return log-probs with `values` [P]; `entropy` and `among` as of Scorer."""
        return replace(self.actor(batch, entropy, among=among), values=self.critic(batch, tokens=True).tokens)

    def release(self) -> None:
        """Give both models back their own attention."""
        self.actor.release()
        self.critic.release()

    def checkpoint_activations(self) -> None:
        """Compute each layer's activations again on the way back instead of keeping them (less memory, more time)."""
        self.actor.checkpoint_activations()
        self.critic.checkpoint_activations()


def together(model: Any, critic: Any | None, *, bf16: bool) -> Scorer | Valuer | ActorCritic:
    """Return the module that runs `model`, and `critic` where there is one, over ragged batches."""
    module = module_for(model, bf16=bf16)
    return module if critic is None else ActorCritic(policy_of(module), Valuer(critic, bf16=bf16))


def policy_of(module: nn.Module) -> Scorer:
    """Return the part of `module` that gives log-probs; raise KilterError where it gives none."""
    found = module.actor if isinstance(module, ActorCritic) else module
    if not isinstance(found, Scorer):
        raise KilterError("A reward model has no log-probs, which this method learns from; give a language model.")
    return found


def trained_by(model: Any, critic: Any | None) -> nn.Module:
    """Return all that a step changes, under the names that a state has it by."""
    whole: nn.Module = model if critic is None else nn.ModuleDict({"policy": model, "critic": critic})
    return whole
