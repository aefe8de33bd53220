"""Where a run is stopped: at a number that is not finite, and where loss or KL divergence are past their bounds.

What was good by then is kept as a checkpoint: going on would train it away, and starting again would lose it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from kilter.engine import adapters, checkpoint
from kilter.engine.options import LoopOptions
from kilter.errors import KilterError

GOOD = "last-good"  # the folder below a run's in which the last good model is kept


class Diverged(KilterError):
    """A run that was stopped where its numbers went out of bounds; another one may do well."""


def trouble(
    done: int,
    losses: Sequence[float],
    norms: Sequence[float],
    means: Mapping[str, float],
    first: float,
    options: LoopOptions,
    told: Mapping[str, Any],
) -> str | None:
    """Return, as a sentence, why a run cannot go on and what to change, or None where all is well.

    `losses` and `norms` are of the steps behind step `done`, since numbers were last looked at; `means` are the
    metrics' over these. `first` is the loss of the run's first step, `told` what the objective was told.
    """
    rate = f"lower learning_rate (it is {options.learning_rate:g})"
    for i, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss became {loss}" if not math.isfinite(loss) else f"gradient's norm became {norm}"
            return f"The {what} at step {done + i + 1}; {rate} or clip (it is {options.clip:g}), or use precision=fp32."
    last = done + len(losses)
    where = f"over the {len(losses)} steps up to step {last}" if len(losses) > 1 else f"at step {last}"
    mean, bound = sum(losses) / len(losses), first + options.loss_bound * (abs(first) + 1)
    if options.loss_bound and mean > bound:
        return (
            f"The loss is {mean:.4g} {where} and began at {first:.4g}, so it diverged; {rate}. "
            f"(Runs are stopped over {bound:.4g}; the option loss_bound moves that, 0 never stops.)"
        )
    kl = means.get("kl")
    if options.kl_bound and kl is not None and not kl <= options.kl_bound:
        beta = told.get("beta")
        hold = f" or raise beta (it is {beta:g})" if isinstance(beta, int | float) else ""
        return (
            f"The policy is {kl:.4g} nats a response away from its reference {where}, so it diverged; "
            f"{rate}{hold}. (Runs are stopped over kl_bound={options.kl_bound:g}, 0 never stops.)"
        )
    return None


def stop(
    why: str,
    out: Path,
    whole: nn.Module,
    optimizer: Optimizer,
    models: Mapping[str, Any],
    tokenizer: Any | None,
    options: LoopOptions,
    *,
    writes: bool,
) -> Diverged:
    """Return the error to raise, once the newest state below `out` is a checkpoint in `out`/last-good.

    `models` are to be saved, by the folder that each has there; `writes` says whether this process does.
    """
    state = checkpoint.find_state(out)
    if state is None:
        return Diverged(f"{why} No state was kept yet: the last good model is the one that training started from.")
    if writes:
        checkpoint.load_state(state, whole, optimizer)
        for name, model in models.items():
            checkpoint.save_model(adapters.trained(model, options), tokenizer, out / GOOD / name)
    step = checkpoint.read_facts(state)["step"]
    return Diverged(f"{why} The last good model, of step {step}, is in {out / GOOD}.")
