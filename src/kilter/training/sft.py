"""Supervised fine-tuning: imitate demonstrations."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method


@method("sft", wing="training", paper="arXiv:2203.02155", survey="S2 §3")
def sft(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning on demonstrations (Ouyang et al. 2022, stage 1).

    L = - sum_t m_t log pi(y_t | x, y_<t) / sum_t m_t, where m_t is 1 on the tokens of the assistant's turns (the one
    that ends the turn is among them) and the sums run over the whole optimizer step: every token weighs the same,
    whatever the length of its response. Nats a token. TRL's default (`loss_type="nll"`) is the same.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens.
    """
    return Loss(-policy.sum(), policy.lengths)
