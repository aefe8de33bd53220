"""Log-probs of the reference policy: scored once before the first step and kept, or as the steps come.

Trees that are known beforehand are scored once with the weights that training starts from (or with a model that is
given), and the result is a file that a continued run reads back. Trees that are made step by step are scored as they
come, by a model that does not change. What the policy samples is scored once for its content, however often it is
sampled again, and the result is kept on disk too.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.func import functional_call

from kilter.engine import adapters
from kilter.engine.adapter_files import is_adapted
from kilter.engine.batch import Ragged, Tree, collate, fill
from kilter.engine.checkpoint import writing
from kilter.engine.head import LogProbs
from kilter.engine.meter import bar
from kilter.engine.scorer import Scorer
from kilter.engine.vocabulary import Heads
from kilter.errors import KilterError
from kilter.files import replacing

FILE = "reference.safetensors"
FOLDER = "reference"

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
        return Live(standing(scorer, model, accelerator.device))
    kept = read(out, mark)
    if kept is None:
        itself = model is None and not is_adapted(scorer.model)
        now = scorer if itself else standing(scorer, model, accelerator.device)
        kept = score_all(now, trees, micro_tokens, accelerator)
        if accelerator.is_main_process:
            kept.write(out, mark)
    # Every process waits, also one that came after the file was written.
    accelerator.wait_for_everyone()
    return kept


def standing(scorer: Scorer, model: Any | None, device: torch.device) -> Callable[[Ragged], LogProbs]:
    """Return what goes on scoring as `model` does, or where that is None as the model that `scorer` was made of.

    Of a model with an adapter that is the same weights, never a second copy: with the adapter off where it is a fresh
    one, else with the adapter's own few as they are now.
    """
    if model is None and is_adapted(scorer.model):
        return _bare(scorer) if getattr(scorer.model, "fresh", False) else _as_now(scorer)
    found = copy.deepcopy(scorer) if model is None else Scorer(model.to(device), bf16=scorer.bf16)
    found.temperature = scorer.temperature
    return found.requires_grad_(False)


def heads_of(scorer: Scorer, model: Any | None, device: torch.device) -> Callable[[Ragged], Heads]:
    """Return what gives whole distributions of the same policy as `standing`, without a gradient."""
    if model is not None or not is_adapted(scorer.model):
        still = copy.deepcopy(scorer) if model is None else Scorer(model.to(device), bf16=scorer.bf16)
        still.temperature = scorer.temperature
        return still.requires_grad_(False).heads
    if not getattr(scorer.model, "fresh", False):
        raise KilterError(
            "An adapter that was trained before cannot be measured against itself by whole distributions; merge it "
            "into its model first (merge=true), or set the regulariser to another one."
        )

    def heads(batch: Ragged) -> Heads:
        with adapters.off(scorer.model):
            return scorer.heads(batch)

    return heads


def _bare(scorer: Scorer) -> Callable[[Ragged], LogProbs]:
    def score(batch: Ragged) -> LogProbs:
        with adapters.off(scorer.model):
            found: LogProbs = scorer(batch)
        return found

    return score


def _as_now(scorer: Scorer) -> Callable[[Ragged], LogProbs]:
    held = {name: p.detach().clone() for name, p in scorer.named_parameters() if p.requires_grad}

    def score(batch: Ragged) -> LogProbs:
        found: LogProbs = functional_call(scorer, held, (batch,))
        return found

    return score


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

    def __init__(self, score: Callable[[Ragged], LogProbs]) -> None:
        self._score = score

    @torch.no_grad()
    def __call__(self, policy: LogProbs, batch: Ragged, indices: Sequence[int]) -> LogProbs:
        return self._score(batch)


class ByContent:
    """Reference log-probs of responses that are sampled, each scored once for its content.

    What was scored in a phase is one file below `out`; a run that is continued has what it had by then, and so comes to
    the same bits.
    """

    def __init__(
        self, score: Callable[[Ragged], LogProbs], micro_tokens: int, out: Path, mark: str, accelerator: Accelerator
    ) -> None:
        """`score` stands still; `mark` names the run whose files may be read back."""
        self._score, self._micro_tokens, self._accelerator = score, micro_tokens, accelerator
        self._folder, self._mark = out / FOLDER, mark
        self._known: dict[bytes, np.ndarray] | None = None

    def __call__(self, trees: Sequence[Tree], phase: int) -> None:
        """Put "reference" into the `info` of the trees of `phase`: log-probs of each response's scored tokens."""
        if self._known is None:
            self._known = self._read(phase)
        known = self._known
        keys = [[_content(tree, k) for k in range(len(tree.responses))] for tree in trees]
        new: dict[bytes, None] = {}
        asked: list[Tree] = []
        for tree, own in zip(trees, keys, strict=True):
            first = {key: k for k, key in reversed(list(enumerate(own))) if key not in known}
            chosen = sorted(k for key, k in first.items() if key not in new)
            if chosen:
                new.update((own[k], None) for k in chosen)
                asked.append(Tree(tree.prompt, [tree.responses[k] for k in chosen], [tree.masks[k] for k in chosen]))
        scored = score_dealt(self._score, asked, self._micro_tokens, self._accelerator)
        sizes = [sum(mask) for tree in asked for mask in tree.masks]
        parts = torch.cat(scored).split(sizes) if scored else ()
        known.update(zip(new, (part.numpy() for part in parts), strict=True))
        if new and self._accelerator.is_main_process:
            self._write(phase, list(new), sizes)
        for tree, own in zip(trees, keys, strict=True):
            tree.info["reference"] = [known[key] for key in own]

    def _file(self, phase: int) -> Path:
        return self._folder / f"phase-{phase:06d}.safetensors"

    def _write(self, phase: int, keys: Sequence[bytes], sizes: Sequence[int]) -> None:
        tensors = {
            "keys": torch.from_numpy(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1).copy()),
            "sizes": torch.tensor(sizes),
            "tokens": torch.from_numpy(np.concatenate([(self._known or {})[key] for key in keys])),
        }
        with writing(self._folder.parent), replacing(self._file(phase)) as temporary:
            save_file(tensors, temporary, metadata={"mark": self._mark})

    def _read(self, phase: int) -> dict[bytes, np.ndarray]:
        """Return what this run scored in phases before `phase`."""
        known: dict[bytes, np.ndarray] = {}
        for file in sorted(self._folder.glob("phase-*.safetensors")):
            if file.name >= self._file(phase).name:
                break
            with safe_open(file, "pt") as handle:
                if (handle.metadata() or {}).get("mark") == self._mark:
                    parts = handle.get_tensor("tokens").split(handle.get_tensor("sizes").tolist())
                    keys = (bytes(key) for key in handle.get_tensor("keys").numpy())
                    known.update(zip(keys, (part.numpy() for part in parts), strict=True))
        return known


def _content(tree: Tree, k: int) -> bytes:
    """Return what stands for response `k` to this prompt: equal where every token is, and what of it is scored."""
    parts = (tree.prompt, tree.responses[k], tree.masks[k])
    found = hashlib.blake2b(repr([len(part) for part in parts]).encode(), digest_size=16)
    for part in parts:
        found.update(np.asarray(part, dtype=np.int64).tobytes())
    return found.digest()


@torch.no_grad()
def score(
    module: Callable[[Ragged], Any],
    trees: Sequence[Tree],
    micro_tokens: int,
    device: torch.device,
    done: Callable[[int], None] | None = None,
) -> list[Tensor]:
    """Return what a scorer or valuer says of the scored tokens of each tree, on the CPU.

    `done` is told how many trees were finished each time.
    """
    found: list[Tensor] = [torch.empty(0)] * len(trees)
    for hand in fill([len(tree) for tree in trees], micro_tokens):
        batch = collate([trees[i] for i in hand])
        tokens = module(batch.to(device)).tokens.cpu()
        sizes = [int(part.sum()) for part in batch.lengths.split([len(trees[i].responses) for i in hand])]
        for i, part in zip(hand, tokens.split(sizes), strict=True):
            found[i] = part
        if done is not None:
            done(len(hand))
    return found


def score_dealt(
    module: Callable[[Ragged], Any],
    trees: Sequence[Tree],
    micro_tokens: int,
    accelerator: Accelerator,
    done: Callable[[int], None] | None = None,
) -> list[Tensor]:
    """Return the same as `score`; each process scores a share and gets all."""
    world, rank = accelerator.num_processes, accelerator.process_index
    mine = range(rank, len(trees), world)
    own = score(module, [trees[i] for i in mine], micro_tokens, accelerator.device, done)
    found = list(zip(mine, own, strict=True))
    if world > 1:
        found = gather_object(found)
    return [part for _, part in sorted(found, key=lambda pair: pair[0])]


def score_all(
    module: Callable[[Ragged], LogProbs], trees: Sequence[Tree], micro_tokens: int, accelerator: Accelerator
) -> Kept:
    """Return the log-probs of every scored token of `trees`; each process scores a share and gets all."""
    with bar("reference", "prompts", quiet=not accelerator.is_main_process) as progress:
        task = progress.add_task("", total=-(-len(trees) // accelerator.num_processes), note="")
        parts = score_dealt(module, trees, micro_tokens, accelerator, lambda count: progress.advance(task, count))
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
