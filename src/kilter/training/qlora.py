"""QLoRA: LoRA on a model that is kept in four bits."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.sft import sft


@method("qlora", wing="training", paper="arXiv:2305.14314", survey="S2 §3.3")
@learns_from(
    "demonstrations",
    adapter="qlora",
    adapter_rank=64,
    adapter_alpha=16.0,
    adapter_dropout=0.1,
    learning_rate=2e-4,
    steps=1875,
    batch_size=16,
    warmup=0.03,
    schedule="constant",
    beta2=0.999,
    clip=0.3,
    max_length=512,
)
def qlora(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning of a quantised model by LoRA (Dettmers et al. 2023, eq. 5).

    Y = X dequant(W) + (alpha / r) X A B. W is kept as NF4: blocks of 64 weights, each the nearest of 16 quantiles of a
    normal distribution times the block's largest |w|; these scales are 8-bit numbers themselves, in blocks of 256
    (double quantisation), 4.127 bits a weight in all. Products are computed with the weights decoded; gradients go to
    A and B alone. The loss is that of `sft`. It needs bitsandbytes.

    The defaults are the paper's for Guanaco-7B (Appendix B): rank 64, alpha 16, dropout 0.1, on all linear layers, a
    constant rate of 2e-4 after 3 % of warm-up, norms clipped to 0.3, 1,875 steps of 16, 512 tokens. Not here: its paged
    optimiser, which pages to the CPU what a GPU has no room for.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens. Raises
    KilterError, before training starts, where bitsandbytes is not there or does not work, and for a layer whose rows
    are no whole blocks of 64.
    """
    return sft(policy, group)
