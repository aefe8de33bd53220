"""AdaLoRA: low-rank updates whose ranks go to the layers that gain by them."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.sft import sft


@method("adalora", wing="training", paper="arXiv:2303.10512", survey="S2 §3.3")
@learns_from(
    "demonstrations",
    adapter="adalora",
    adapter_rank=8,
    adapter_alpha=32.0,
    adapter_dropout=0.0,
    learning_rate=5e-4,
    epochs=25,
    batch_size=64,
    schedule="linear",
    min_lr_ratio=0.0,
    beta2=0.999,
)
def adalora(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning by adaptive budget allocation (Zhang et al. 2023, algorithm 1).

    W becomes W + P diag(l) Q; P and Q are held near orthogonal by gamma (||P^T P - I|| + ||Q Q^T - I||), gamma = 0.1,
    added to the loss of `sft`. After a step the triplets (l_i, P_i, Q_i) are scored by s(l_i) + mean s(P_i) + mean
    s(Q_i), where s = I U, I the running mean of |w dL/dw| and U that of its deviation (both 0.85), over all layers
    together, and the l of all but the best b(t) are set to 0, from which they may come back. b(t) falls from 1.5 times
    the budget to it along a cubic: b_T + (b_0 - b_T) (1 - (t - t_i) / (T - t_i - t_f))^3; here t_i is a tenth of the
    steps and t_f a third. It is a sensitivity that is ranked; no singular values are computed.

    The defaults are the paper's for BART on XSum: rank 8 on average, begun at 12, on all linear layers, a
    rate of 5e-4, 25 epochs of batches of 64. Like its authors' code the term is a mean over the matrices.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens. Raises
    KilterError, before training starts, for a model without linear layers.
    """
    return sft(policy, group)
