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
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kilter.engine.batch import Ragged, Tree, collate, fill
from kilter.engine.checkpoint import writing
from kilter.engine.head import LogProbs
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
        if accelerator.is_main_process:
            standing = scorer if model is None else _standing(model, scorer, accelerator.device)
            write(out, *score_all(standing, trees, micro_tokens, accelerator.device), mark)
        accelerator.wait_for_everyone()
        kept = read(out, mark)
    assert kept is not None
    return kept


def _standing(model: Any, like: Scorer, device: torch.device) -> Scorer:
    return Scorer(model.to(device), bf16=like.bf16)


class Kept:
    """Reference log-probs of a fixed list of trees, by the tree's index."""

    def __init__(self, tokens: Tensor, starts: Tensor) -> None:
        """`tokens` [all scored tokens]; `starts` [trees + 1], where each tree's begin."""
        self._tokens, self._starts = tokens, starts.tolist()

    def __call__(self, policy: LogProbs, batch: Ragged, indices: Sequence[int]) -> LogProbs:
        """Return what belongs beside `policy`, for the trees `indices` in the batch's order."""
        parts = [self._tokens[self._starts[i] : self._starts[i + 1]] for i in indices]
        return policy.with_tokens(torch.cat(parts))


class Live:
    """Reference log-probs from a model that stands still."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    @torch.no_grad()
    def __call__(self, policy: LogProbs, batch: Ragged, indices: Sequence[int]) -> LogProbs:
        return self._scorer(batch)


@torch.no_grad()
def score_all(scorer: Scorer, trees: Sequence[Tree], micro_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the log-probs of every scored token, tree by tree, and where each tree's begin [trees + 1]."""
    found: list[Tensor] = [torch.empty(0)] * len(trees)
    for hand in fill([len(tree) for tree in trees], micro_tokens):
        batch = collate([trees[i] for i in hand]).to(device)
        tokens = scorer(batch).tokens.cpu()
        responses = [len(trees[i].responses) for i in hand]
        sizes = [int(part.sum()) for part in batch.lengths.cpu().split(responses)]
        for i, part in zip(hand, tokens.split(sizes), strict=True):
            found[i] = part
    starts = torch.tensor([0] + [len(part) for part in found]).cumsum(0)
    return torch.cat(found), starts


def write(out: Path, tokens: Tensor, starts: Tensor, mark: str) -> None:
    """Keep reference log-probs below `out`, whole or not at all."""
    with writing(out), replacing(out / FILE) as temporary:
        save_file({"tokens": tokens, "starts": starts}, temporary, metadata={"mark": mark})


def read(out: Path, mark: str) -> Kept | None:
    """Return the reference log-probs below `out` if they are of this run."""
    file = out / FILE
    if not file.is_file():
        return None
    with safe_open(file, "pt") as handle:
        if (handle.metadata() or {}).get("mark") != mark:
            return None
        return Kept(handle.get_tensor("tokens"), handle.get_tensor("starts"))
