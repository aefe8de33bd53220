"""LIMA: a thousand good demonstrations, seen many times, with more dropout the deeper the layer."""

from __future__ import annotations

from kilter.engine.batch import Groups
from kilter.engine.head import LogProbs
from kilter.engine.loss import Loss
from kilter.registry import method
from kilter.training.objective import learns_from
from kilter.training.sft import sft


@method("lima", wing="training", paper="arXiv:2305.11206", survey="S1 §4.2, S2 §2.4")
@learns_from(
    "demonstrations",
    epochs=15,
    batch_size=32,
    learning_rate=1e-5,
    min_lr_ratio=0.1,
    schedule="linear",
    warmup=0.0,
    weight_decay=0.1,
    max_length=2048,
    residual_dropout=0.3,
)
def lima(policy: LogProbs, group: Groups) -> Loss:
    """Supervised fine-tuning on few and good demonstrations (Zhou et al. 2023, §3).

    The loss is that of `sft`; what differs is the course, which these defaults are: 15 epochs, AdamW (0.9, 0.95, weight
    decay 0.1), a learning rate that falls linearly from 1e-5 to 1e-6 without a warm-up, 32 demonstrations a step, 2,048
    tokens. What layer l of L adds to the residual stream is dropped at the rate p_l = residual_dropout l / (L - 1): 0
    at the first layer, 0.3 at the last (the paper's smaller models have 0.2). Choose the demonstrations with
    `kilter data lima`: a thousand.

    The paper marks the end of every turn with a token of its own, so that it is not the one that ended documents in
    pretraining: here that is the chat template's matter, whose end of turn is learned like any other token. It chose
    its checkpoint by the answers to 50 prompts, and not by perplexity, which rises all the while: compare runs of some
    lengths (`epochs`) with `kilter eval`.

    policy: log-probs of R responses. The result is per response [R], weighted by its number of scored tokens.
    """
    return sft(policy, group)
