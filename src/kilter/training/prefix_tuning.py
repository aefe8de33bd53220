"""Prefix-tuning: keys and values before every sequence, in every layer."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.sft import sft


@method("prefix-tuning", wing="training", paper="arXiv:2101.00190", survey="S2 §3.3")
@learns_from(
    "demonstrations",
    adapter="prefix",
    virtual_tokens=10,
    learning_rate=5e-5,
    epochs=5,
    batch_size=5,
    warmup=0.0,
    schedule="linear",
    min_lr_ratio=0.0,
    beta2=0.999,
)
def prefix_tuning(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning of a prefix (Li and Liang 2021, eq. 2 and 3).

    Every layer gets the keys and values of l virtual tokens, which every token of every sequence sees; the model itself
    stays as it is. While it trains, a network makes them: P_i = MLP(P'_i), 512 wide, which steadies the course; it is
    dropped at the end, and what it made is kept (the layers' keys and values, l * layers * 2 * width numbers). The loss
    is that of `sft`.

    The defaults are the paper's for GPT-2 and table-to-text: 10 virtual tokens (200 for summaries), a rate
    of 5e-5 that falls linearly, 5 epochs of batches of 5. A prefix cannot be merged into weights.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens. Raises
    KilterError, before training starts, for a model without attention, and where the prefix leaves no positions.
    """
    return sft(policy, group)
