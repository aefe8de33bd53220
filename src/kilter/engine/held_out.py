"""Trees that nothing is learned from: the objective's loss on them says when to stop, and which model to keep.

The loss of a run goes on falling while it learns its own data by heart; on trees that it does not learn from the loss
falls and rises again. The best weights so far are a file in the run's folder, named by their step. A state to continue
from knows every measurement up to its step, and the file that was best by then stays until a newer state is there: so
a continued run can go back to where it stood, and comes to the same choice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kilter.engine import checkpoint, sharding
from kilter.errors import KilterError
from kilter.files import need_space, replacing

if TYPE_CHECKING:
    from kilter.engine.batch import Tree
    from kilter.engine.feed import Feed  # which asks this what is held out
    from kilter.engine.learner import Learner
    from kilter.engine.options import LoopOptions

BEST = "best-"
LOSS = "eval_loss"  # what the number is called in a line of metrics.jsonl
Beside = Callable[[], Mapping[str, Tensor]]
WEIGHTS, BESIDE = "weights|", "beside|"  # what stands before the names of tensors in a file


def check(options: LoopOptions, *, samples: bool = False) -> None:
    """Raise KilterError for patience with nothing to go by, and for a share of what the policy `samples` itself."""
    if options.patience and not options.eval_share:
        raise KilterError(
            f"patience is {options.patience}, and nothing is held out to go by; set eval_share too, to 0.1 say."
        )
    if options.eval_share and samples:
        raise refuse(samples=True)


def choose(trees: Sequence[Tree], share: float, seed: int) -> list[int]:
    """Return in order the numbers of the trees that are held out: of a `share` of them, by their prompts and the seed.

    At least one is where `share` is not 0. Trees with the same prompt stay together, unless all have the same: what is
    learned of a prompt says much of another response to it. Raises KilterError where there is but one tree.
    """
    if not share:
        return []
    if len(trees) == 1:
        raise KilterError(
            f"eval_share is {share:g}, and of one record none can be held out; give more data or set eval_share to 0."
        )
    alike: dict[Any, list[int]] = {}
    for i, tree in enumerate(trees):
        prompt = np.asarray(tree.prompt, dtype=np.int64).tobytes()
        alike.setdefault(hashlib.blake2b(prompt, digest_size=16).digest() if prompt else i, []).append(i)
    units = list(alike.values()) if len(alike) > 1 else [[i] for i in range(len(trees))]
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(_number(seed))).tolist()
    due = min(max(1, round(share * len(trees))), len(trees) - 1)
    held: list[int] = []
    for unit in (units[at] for at in order):
        if len(held) + len(unit) <= due:
            held += unit
    return sorted(held or min((units[at] for at in order), key=len))


def refuse(*, samples: bool) -> KilterError:
    """Return the error to raise where trees come as the run goes, so that there is none to hold out."""
    if samples:
        return KilterError(
            "A method that learns from its own samples has no data to hold out; set eval_share to 0 (`gold` names "
            "feedback that is measured and not learned from, kl_bound stops a policy that is too far away)."
        )
    return KilterError(
        "Of trees that are made step by step none can be held out; set eval_share to 0, or give all of them at once."
    )


class HeldOut:
    """What a run holds out, what was measured on it, and the model that did best; of nothing, nothing happens."""

    def __init__(self, feed: Feed, options: LoopOptions, out: Path, accelerator: Accelerator) -> None:
        self._feed, self._options, self._out, self._accelerator = feed, options, out, accelerator
        self.history: list[tuple[int, float]] = []  # steps taken, and the loss by then

    @property
    def best(self) -> tuple[int, float] | None:
        """The first of the least losses that are finite, with its step."""
        return _best(self.history)

    @property
    def kept(self) -> int | None:
        """The step whose model the run leaves, where there is a choice."""
        if not self.history:
            return None
        found = self.best if self._options.keep_best else None
        return (found or self.history[-1])[0]

    @property
    def spent(self) -> bool:
        """Whether so many measurements in a row brought nothing better that the run ends."""
        if not self._options.patience:
            return False
        best = self.best[0] if self.best else -1
        return sum(step > best for step, _ in self.history) >= self._options.patience

    def measure(self, step: int, learner: Learner, whole: nn.Module, beside: Beside) -> bool:
        """Measure after `step` steps, and keep what is better than all before; return False where it is not the time.

        `whole` is all that a step changes; what `beside` gives is kept with its weights. Objectives that draw are given
        the same random numbers every time, and the next step its own, whatever is drawn here. Raises KilterError where
        nothing of what is held out counts.
        """
        held, size = self._feed.held, self._options.batch_size
        if not held or not (step % self._options.eval_every == 0 or step == self._feed.total):
            return False
        torch.manual_seed(_number(self._options.seed) * 1009 + self._accelerator.process_index)
        sums = torch.zeros(2, device=self._accelerator.device, dtype=torch.float64)
        for start in range(0, len(held), size):
            numbers = list(held[start : start + size])
            sums += learner.measure(step, numbers, self._feed.trees(numbers))
        numerator, weight = sums.tolist()
        if not weight:
            records = f"the {len(held)} records" if len(held) > 1 else "the one record"
            raise KilterError(f"The objective has nothing to measure on {records} held out; raise eval_share.")
        before = self.best
        self.history.append((step, numerator / weight))
        if self._options.keep_best:
            if self.best != before:
                self._write(step, whole, beside)
            if self._accelerator.is_main_process:
                self._prune()
        return True

    def told(self, step: int) -> dict[str, float]:
        """Return what there is to say in the line of `step`."""
        return {LOSS: self.history[-1][1]} if self.history and self.history[-1][0] == step else {}

    def recall(self, history: Sequence[Sequence[Any]]) -> None:
        """Go on from what a state knew, from nothing where there is none; what was best later was never measured."""
        self.history = [(int(step), float(loss)) for step, loss in history]
        if self._accelerator.is_main_process:
            drop(self._out, keep=() if self.best is None else (self.best[0],))

    def settle(self, whole: nn.Module) -> dict[str, Tensor] | None:
        """Put the weights that are to be kept into `whole`; return what stood beside them, None where they are there.

        Every process does, and waits for the others: then the file may go.
        """
        if self.kept is None or self.kept == self.history[-1][0]:
            return None
        # The process that wrote it has come this far.
        self._accelerator.wait_for_everyone()
        found = self._read(self.kept)
        own = checkpoint.trained(whole)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(sharding.part_of(found[WEIGHTS + name], tensor))
        self._accelerator.wait_for_everyone()
        return {name.removeprefix(BESIDE): tensor for name, tensor in found.items() if name.startswith(BESIDE)}

    def notes(self) -> list[str]:
        """Return sentences on what was measured and which model is kept."""
        if not self.history:
            return []
        (_, first), (last, final), total = self.history[0], self.history[-1], self._feed.total
        held, told = len(self._feed.held), []
        if last < total:
            row = _plural(self._options.patience, "measurement")
            told.append(f"Training ended at step {last} of {total}, after {row} in a row without a better one.")
        what = f"The loss on {_plural(held, 'record')} held out"
        if self.best is None:
            return [*told, f"{what} was never a finite number; the last model is kept."]
        step, least = self.best
        went = f"{first:.4g} at the start, {final:.4g} at the last"
        model = "that model" if self._options.keep_best else "the last model"
        if step == 0:
            model = "the model that training started from" if self._options.keep_best else model
            return [*told, f"{what} was never less than at the start ({went}): {model} is kept."]
        return [*told, f"{what} was least at step {step} of {last} ({least:.4g}; {went}): {model} is kept."]

    def _write(self, step: int, whole: nn.Module, beside: Beside) -> None:
        main = self._accelerator.is_main_process
        trained = sharding.gathered(checkpoint.trained(whole), keep=main)
        if not main:
            return
        weights = {WEIGHTS + name: tensor.contiguous() for name, tensor in trained.items()}
        weights |= {BESIDE + name: tensor for name, tensor in beside().items()}
        need_space(self._out, sum(x.nbytes for x in weights.values()), "The best model so far")
        with checkpoint.writing(self._out), replacing(_file(self._out, step)) as temporary:
            save_file(weights, temporary)

    def _prune(self) -> None:
        """Delete all but the best model, and the one that was the best by the state on disk."""
        state = checkpoint.find_state(self._out)
        then = _best(checkpoint.read_facts(state).get("held_out", [])) if state else None
        drop(self._out, keep=[found[0] for found in (self.best, then) if found])

    def _read(self, step: int) -> dict[str, Tensor]:
        file = _file(self._out, step)
        try:
            return load_file(file)
        except (OSError, SafetensorError) as error:
            raise KilterError(
                f"The model of step {step}, which did best on what is held out, cannot be read from {file} ({error}); "
                f"delete {self._out} and start again."
            ) from error


def drop(out: Path, keep: Sequence[int] = ()) -> None:
    """Delete the best models below `out` but those of the steps `keep`, and what a killed run left half written."""
    kept = {_file(out, step) for step in keep}
    for pattern in (f"{BEST}*.safetensors", f".tmp-*-{BEST}*.safetensors"):
        for file in out.glob(pattern):
            if file not in kept:
                file.unlink(missing_ok=True)


def _number(seed: int) -> int:
    """Return a seed of its own: those of a run's epochs and steps begin with the next one."""
    return seed * 1_000_003 - 1


def _best(history: Sequence[Sequence[Any]]) -> tuple[int, float] | None:
    finite = [(step, loss) for step, loss in history if math.isfinite(loss)]
    return min(finite, key=lambda found: found[1], default=None)


def _file(out: Path, step: int) -> Path:
    return out / f"{BEST}{step:09d}.safetensors"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
