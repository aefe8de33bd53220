"""DoRA: LoRA on the directions of the weights, and a magnitude of its own for each."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.sft import sft


@method("dora", wing="training", paper="arXiv:2402.09353")
@learns_from(
    "demonstrations",
    adapter="dora",
    adapter_rank=32,
    adapter_alpha=64.0,
    adapter_dropout=0.05,
    learning_rate=2e-4,
    epochs=3,
    batch_size=16,
    warmup=100,
    schedule="linear",
    min_lr_ratio=0.0,
    beta2=0.999,
)
def dora(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning by weight-decomposed low-rank adaptation (Liu et al. 2024, eq. 5).

    W becomes m (W + (alpha / r) B A) / ||W + (alpha / r) B A||, the norm of each output's row [out, 1]; m begins as
    ||W||, B as zeros, so that the model begins as the one that was given. A, B and m learn. As in the paper (§4.3) the
    norm is taken as a constant in the gradient. The loss is that of `sft`.

    The defaults are the paper's for LLaMA-7B: rank 32, alpha 64, dropout 0.05, on queries, keys, values, up
    and down, a rate of 2e-4 that falls linearly after 100 steps, 3 epochs of batches of 16.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens. Raises
    KilterError, before training starts, for a model without linear layers.
    """
    return sft(policy, group)
