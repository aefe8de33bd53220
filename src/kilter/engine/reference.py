"""Log-probs of the reference policy: scored once before the first step and kept, or as the steps come.

Trees that are known beforehand are scored once with the weights that training starts from (or with a model that is
given), and the result is a file that a continued run reads back. Trees that are made step by step are scored as they
come, by a model that does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kilter.engine.batch import Ragged, Tree, collate, fill
from kilter.engine.checkpoint import writing
from kilter.engine.head import LogProbs
from kilter.engine.meter import bar
from kilter.engine.scorer import Scorer
from kilter.files import replacing

FILE = "reference.safetensors"

# (the policy's log-probs, the batch, the numbers of its trees) -> the reference's log-probs of the same tokens
Reference = Callable[[LogProbs, Ragged, Sequence[int]], LogProbs]


def recall(
    scorer: Scorer,
    trees: Sequence[Tree] | None,
    model: Any | None,
    micro_tokens: int,
    out: Path,
    mark: str,
    accelerator: Accelerator,
) -> Reference:
    """Return the reference policy: `model`, or where that is None the scorer's own weights as they are now.

    `trees` are all that will be asked for, or None where that is not known. `mark` names the run whose file may be
    read back.
    """
    if trees is None:
        standing = copy.deepcopy(scorer) if model is None else _standing(model, scorer, accelerator.device)
        return Live(standing.requires_grad_(False))
    kept = read(out, mark)
    if kept is None:
        standing = scorer if model is None else _standing(model, scorer, accelerator.device)
        kept = score_all(standing, trees, micro_tokens, accelerator)
        if accelerator.is_main_process:
            kept.write(out, mark)
    # Every process waits, also one that came after the file was written.
    accelerator.wait_for_everyone()
    return kept


def _standing(model: Any, like: Scorer, device: torch.device) -> Scorer:
    return Scorer(model.to(device), bf16=like.bf16)


class Kept:
    """Reference log-probs of a fixed list of trees, by the tree's index."""

    def __init__(self, tokens: Tensor, starts: Tensor) -> None:
        """`tokens` [all scored tokens]; `starts` [trees + 1], where each tree's begin."""
        self.tokens, self.starts = tokens, starts

    def __call__(self, policy: LogProbs, batch: Ragged, indices: Sequence[int]) -> LogProbs:
        """Return what belongs beside `policy`, for the trees `indices` in the batch's order."""
        parts = [self.tokens[self.starts[i] : self.starts[i + 1]] for i in indices]
        return policy.with_tokens(torch.cat(parts))

    def write(self, out: Path, mark: str) -> None:
        """Keep the log-probs below `out`, whole or not at all."""
        with writing(out), replacing(out / FILE) as temporary:
            save_file({"tokens": self.tokens, "starts": self.starts}, temporary, metadata={"mark": mark})


class Live:
    """Reference log-probs from a model that stands still."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @torch.no_grad()
    def __call__(self, policy: LogProbs, batch: Ragged, indices: Sequence[int]) -> LogProbs:
        return self._scorer(batch)


@torch.no_grad()
def score_all(scorer: Scorer, trees: Sequence[Tree], micro_tokens: int, accelerator: Accelerator) -> Kept:
    """Return the log-probs of every scored token of `trees`; each process scores a share and gets all."""
    mine = range(accelerator.process_index, len(trees), accelerator.num_processes)
    found: list[tuple[int, Tensor]] = []
    with bar("reference", "prompts", quiet=not accelerator.is_main_process) as progress:
        task = progress.add_task("", total=len(mine), note="")
        for hand in fill([len(trees[i]) for i in mine], micro_tokens):
            numbers = [mine[i] for i in hand]
            batch = collate([trees[i] for i in numbers])
            tokens = scorer(batch.to(accelerator.device)).tokens.cpu()
            sizes = [int(part.sum()) for part in batch.lengths.split([len(trees[i].responses) for i in numbers])]
            found += zip(numbers, tokens.split(sizes), strict=True)
            progress.advance(task, len(hand))
    if accelerator.num_processes > 1:
        found = gather_object(found)
    parts = [part for _, part in sorted(found, key=lambda pair: pair[0])]
    return Kept(torch.cat(parts), torch.tensor([0] + [len(part) for part in parts]).cumsum(0))


def read(out: Path, mark: str) -> Kept | None:
    """Return the reference log-probs below `out` if they are of this run."""
    file = out / FILE
    if not file.is_file():
        return None
    with safe_open(file, "pt") as handle:
        if (handle.metadata() or {}).get("mark") != mark:
            return None
        return Kept(handle.get_tensor("tokens"), handle.get_tensor("starts"))
