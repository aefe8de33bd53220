"""Prompt tuning: learned embeddings before every sequence."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.sft import sft


@method("prompt-tuning", wing="training", paper="arXiv:2104.08691", survey="S2 §3.3", aliases=("soft-prompt",))
@learns_from(
    "demonstrations",
    adapter="prompt",
    virtual_tokens=100,
    learning_rate=0.03,
    steps=30_000,
    batch_size=32,
    warmup=0.0,
    schedule="constant",
    weight_decay=1e-5,
    beta2=0.999,
)
def prompt_tuning(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning of a soft prompt (Lester, Al-Rfou and Constant 2021, §2).

    max over P_e [l, d] of log pi(Y | [P_e; X_e]): l embeddings that stand before every sequence are all that learns,
    l d numbers; they begin as words of the vocabulary. Set to the embeddings of real tokens they are that very prompt.
    The loss is that of `sft`.

    The defaults are the paper's: l = 100, 30,000 steps of 32, a constant rate, weight decay 1e-5. Its rate of 0.3 is
    Adafactor's, which multiplies it by the size of what it moves; AdamW does not, so that 0.03 stands here, for
    embeddings whose entries are of the order of 0.1.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens. Raises
    KilterError, before training starts, for a model without attention, and where the prompt leaves no positions.
    """
    return sft(policy, group)
