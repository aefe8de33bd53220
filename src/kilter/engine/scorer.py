"""The scorer: a causal language model seen as a function from a ragged batch to log-probs of its scored tokens.

This is the module that `accelerate` prepares; a step's forward passes all go through it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kilter.engine.among import Among, log_probs_among
from kilter.engine.asks import NOTHING, Asks
from kilter.engine.batch import Ragged
from kilter.engine.head import LogProbs, log_probs
from kilter.engine.trunk import Trunk
from kilter.engine.vocabulary import Heads, divergence, rivals
from kilter.errors import KilterError


class Scorer(Trunk):
    """Wraps a transformers causal language model (or a PEFT model of one), whose weights it shares."""

    reads = "log-probs"
    reads_some = True
    temperature = 1.0  # what logits are divided by: the policy is the distribution that samples are drawn from

    def forward(
        self,
        batch: Ragged,
        entropy: bool = False,
        asks: Asks = NOTHING,
        against: Heads | None = None,
        among: Among | None = None,
    ) -> LogProbs:
        """Return the differentiable log-probs of the scored tokens; `entropy` asks for that of each position too.

        `asks` may ask for rivals, and for the divergence from a policy whose `heads` of the same batch are `against`.
        With `among` log-probs are those of the tokens that a mask leaves (masking.py); the rest is the policy's own.
        """
        with self._manner(batch):
            if not asks.rivals and against is None and among is None:
                tokens, spread = (self._laid_out if self.ragged else self._padded)(batch, entropy)
                return LogProbs(tokens, batch.owner, batch.lengths, spread)
            self.need_layout()
            heads = self._heads(batch)
            left = None if among is None else log_probs_among(heads, among, batch.targets)
            tokens, whole = _read(heads, batch.targets, entropy) if left is None or entropy else (left, None)
            found = LogProbs(tokens if left is None else left, batch.owner, batch.lengths, whole)
            if asks.rivals:
                found.rivals = _read(heads, rivals(heads, batch.targets, asks.rivals), False)[0]
            if against is not None:
                found.divergence = divergence(against, heads)
        return found

    @torch.no_grad()
    def heads(self, batch: Ragged) -> Heads:
        """Return what the distributions at the scored positions are made of, without a gradient."""
        self.need_layout()
        with self._manner(batch):
            return self._heads(batch)

    def need_layout(self) -> None:
        """Raise KilterError where whole distributions cannot be read: in a model that is run with padding."""
        if not self.ragged:
            raise KilterError(
                f"{type(self._plain).__name__} is trained with padding, and this objective reads whole distributions, "
                "which it can where a model is laid out without; choose another model or another method."
            )

    def _heads(self, batch: Ragged) -> Heads:
        plain = self._plain
        head, config = plain.get_output_embeddings(), plain.config.get_text_config()
        return Heads(
            self._hidden(batch, batch.at).index_select(0, batch.at),
            head.weight,
            head.bias,
            getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0),
            getattr(config, "final_logit_softcapping", None),
            self.temperature,
        )

    def _laid_out(self, batch: Ragged, entropy: bool) -> tuple[Tensor, Tensor | None]:
        return _read(self._heads(batch), batch.targets, entropy)

    def _padded(self, batch: Ragged, entropy: bool) -> tuple[Tensor, Tensor | None]:
        """The model's own forward and logits, a row for each response."""
        tokens, seen = self._rows(batch)
        logits = self.model(input_ids=tokens, attention_mask=seen, use_cache=False).logits[:, -tokens.shape[1] :]
        logits = logits[batch.owner, batch.positions[batch.at]].float() / self.temperature
        logs = torch.log_softmax(logits, dim=-1)
        spread = -(logs.exp() * logs).sum(-1) if entropy else None
        return logs.gather(1, batch.targets[:, None])[:, 0], spread

    def _trial(self, batch: Ragged, *, laid_out: bool) -> Tensor:
        return (self._laid_out if laid_out else self._padded)(batch, False)[0]


def _read(heads: Heads, targets: Tensor, entropy: bool) -> tuple[Tensor, Tensor | None]:
    return log_probs(
        heads.hidden,
        heads.weight,
        heads.bias,
        targets,
        scale=heads.scale,
        softcap=heads.softcap,
        temperature=heads.temperature,
        entropy=entropy,
    )
