"""LoRA: few weights of low rank beside the model's own, which stay as they are."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.sft import sft


@method("lora", wing="training", paper="arXiv:2106.09685", survey="S2 §3.3")
@learns_from(
    "demonstrations",
    adapter="lora",
    adapter_rank=4,
    adapter_alpha=32.0,
    adapter_dropout=0.1,
    learning_rate=2e-4,
    epochs=5,
    batch_size=8,
    warmup=500,
    schedule="linear",
    min_lr_ratio=0.0,
    weight_decay=0.01,
    beta2=0.999,
)
def lora(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning by low-rank adaptation (Hu et al. 2021, eq. 3).

    A linear layer W [out, in] becomes W + (alpha / r) B A, A [r, in], B [out, r]; only A and B learn, r (in + out)
    numbers a layer. B begins as zeros, so that the model begins as the one that was given, and the first step moves B
    alone. The loss is that of `sft`; the same adapter is an option (`adapter`) of every other training method.

    The defaults are the paper's for GPT-2 (Table 11): rank 4, alpha 32, dropout 0.1 before A, on queries and values
    (where a model has them in one matrix with the keys, on that), AdamW with weight decay 0.01, a rate of 2e-4 that
    falls linearly after 500 steps of warm-up, 5 epochs of batches of 8. A begins uniform as in the authors' code and
    peft (Kaiming), in the paper normal. Their label smoothing of 0.1 is left out: the loss is the likelihood's.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens. Raises
    KilterError, before training starts, for a model without such layers.
    """
    return sft(policy, group)
