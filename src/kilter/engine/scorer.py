"""The scorer: a causal language model seen as a function from a ragged batch to log-probs of its scored tokens.

This is the module that `accelerate` prepares; a step's forward passes all go through it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kilter.engine.batch import Ragged
from kilter.engine.head import LogProbs, log_probs
from kilter.engine.trunk import Trunk


class Scorer(Trunk):
    """Wraps a transformers causal language model (or a PEFT model of one), whose weights it shares."""

    reads = "log-probs"
    temperature = 1.0  # what logits are divided by: the policy is the distribution that samples are drawn from

    def forward(self, batch: Ragged, entropy: bool = False) -> LogProbs:
        """Return the differentiable log-probs of the scored tokens; `entropy` asks for that of each position too."""
        with self._manner(batch):
            tokens, spread = (self._laid_out if self.ragged else self._padded)(batch, entropy)
        return LogProbs(tokens, batch.owner, batch.lengths, spread)

    def _laid_out(self, batch: Ragged, entropy: bool) -> tuple[Tensor, Tensor | None]:
        hidden = self._hidden(batch)
        plain = self._plain
        head, config = plain.get_output_embeddings(), plain.config.get_text_config()
        scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)
        return log_probs(
            hidden.index_select(0, batch.at),
            head.weight,
            head.bias,
            batch.targets,
            scale=scale,
            softcap=getattr(config, "final_logit_softcapping", None),
            temperature=self.temperature,
            entropy=entropy,
        )

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
