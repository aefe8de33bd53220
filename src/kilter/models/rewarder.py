"""A reward model on this machine: it says a number of a response. Whatever is asked at the same time is one batch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from kilter.engine.batch import Tree, collate, fill
from kilter.engine.conversations import SEPARATOR, conversation_trees, step_cuts
from kilter.engine.template import Dropped
from kilter.engine.values import Valuer
from kilter.engine.virtual import room
from kilter.errors import KilterError, SetAside
from kilter.models.gather import Gatherer, Request
from kilter.models.load import checkpoint, load_value_model
from kilter.models.protocol import Answer, Sampling
from kilter.records import Group, Message

DOUBT = "doubt.safetensors"  # beside the weights of a reward model that knows what it does not know
JUDGED_TOKENS = 16384  # tokens that are read in one forward


class _Judge(NamedTuple):
    messages: tuple[Message, ...]
    response: str
    cuts: tuple[int, ...]  # where steps end in the response; none: the whole is judged


Judges = list[Request[_Judge]]


@dataclass(frozen=True)
class Doubt:
    """How little a linear reward model knows of a response, where that was learned along (zhu-pessimism).

    root [H, H], reference [H] of hidden states: what is taken off a score is |root (phi - v)|, and v scores `level`.
    """

    root: torch.Tensor
    reference: torch.Tensor
    level: torch.Tensor

    @classmethod
    def of(cls, folder: Path, device: torch.device) -> Doubt | None:
        """Return what stands in a checkpoint's folder; None where there is nothing of the kind."""
        if not (folder / DOUBT).is_file():
            return None
        found = load_file(folder / DOUBT, str(device))
        return cls(found["root"], found["reference"], found["level"])

    def __call__(self, states: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the pessimistic scores [R] of responses whose states [R, H] have the `scores` [R]."""
        return scores - self.level - ((states - self.reference) @ self.root).norm(dim=1)


class Rewarder:
    """A sequence-classification checkpoint with one label. `tokens` counts what it has read."""

    def __init__(self, name: str, *, dtype: torch.dtype | None = None, device: str | None = None) -> None:
        """Load the reward model called `name` (see load.py); on a GPU where there is one, there in bfloat16 by default.

        Raises KilterError where it cannot be had, or is a language model.
        """
        self.name = name
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        kind = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        model, self.tokenizer = load_value_model(name, kind, trained=True)
        self.model: Any = model.to(self.device).eval()  # type: ignore[arg-type]
        self.positions = room(model)
        self.tokens = 0
        self._valuer: Valuer | None = None
        self._gatherer = Gatherer(self._work, name)
        self.doubt = Doubt.of(checkpoint(name), self.device)

    async def reward(self, messages: Sequence[Message], response: str) -> float:
        """Return the number that the model says of a response to a conversation; higher is better.

        It is what transformers' `AutoModelForSequenceClassification` says of the conversation as the chat template
        writes it. One that is longer than the model has positions for is cut from the left. Raises SetAside where the
        response alone is longer or the chat template refuses it, KilterError for a number that is not finite.
        """
        [found] = await self._gatherer.ask(_Judge(tuple(messages), response, ()))
        return float(found)

    async def rewards(self, messages: Sequence[Message], responses: Sequence[str]) -> list[float]:
        """Return `reward` of each response; the conversation is computed once for all of them."""
        return list(await asyncio.gather(*(self.reward(messages, response) for response in responses)))

    async def steps(
        self, messages: Sequence[Message], steps: Sequence[str], *, separator: str = SEPARATOR
    ) -> list[float]:
        """Return P(step is right) for each step of the response that they make, joined by `separator`.

        For a model trained by `reward-process`. Raises KilterError as `reward` does.
        """
        if not steps:
            raise KilterError("A response without steps has no step to judge; give at least one.")
        response = separator.join(steps)
        found = await self._gatherer.ask(_Judge(tuple(messages), response, tuple(step_cuts(steps, separator))))
        return [1 / (1 + math.exp(-number)) if number > -700 else 0.0 for number in found]

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Raise KilterError: a reward model writes no text."""
        raise KilterError(f"'{self.name}' is a reward model, which writes no text; give a language model here.")

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Raise KilterError: a reward model has no log-probs."""
        raise KilterError(
            f"'{self.name}' is a reward model, which has no log-probs; ask it by reward(), `kilter score` or "
            "`kilter eval reward-accuracy`."
        )

    def _work(self, batch: Sequence[Request[Any]], check: Callable[[], None]) -> None:
        """Judge what `batch` asks for, in the gatherer's thread; responses to one conversation share a tree."""
        same: dict[tuple[Any, ...], Judges] = {}
        for request in batch:
            same.setdefault((request.item.messages, bool(request.item.cuts)), []).append(request)
        wanted = [found for judges in same.values() if (found := self._tree(judges)) is not None]
        for hand in fill([len(tree) for tree, _ in wanted], JUDGED_TOKENS):
            check()
            self._judge([wanted[i] for i in hand])

    def _tree(self, judges: Judges) -> tuple[Tree, Judges] | None:
        """Return the tree of responses to one conversation, and the requests that it answers."""
        dropped = Dropped()
        group = Group(list(judges[0].item.messages), [judge.item.response for judge in judges], id="-")
        cuts = [[judge.item.cuts for judge in judges]] if judges[0].item.cuts else None
        try:
            [tree] = conversation_trees(self.tokenizer, [group], cuts=cuts, max_length=self.positions, dropped=dropped)
        except KilterError as error:
            for judge in judges:
                judge.settle(error=error)
            return None
        kept = tree.info["kept"] if tree else []
        for k, judge in enumerate(judges):
            if k not in kept:
                why = f"A response cannot be judged by {self.name}: {dropped}; leave it out."
                judge.settle(error=SetAside(why, "refused"))
        return (tree, [judges[k] for k in kept]) if tree else None

    @torch.no_grad()
    def _judge(self, batch: Sequence[tuple[Tree, Judges]]) -> None:
        if self._valuer is None:
            self._valuer = Valuer(self.model)
        ragged = collate([tree for tree, _ in batch]).to(self.device)
        values = self._valuer(ragged)
        self.tokens += len(ragged.tokens)
        ends = (values.ends if self.doubt is None else self.doubt(self._valuer.states(ragged), values.ends)).tolist()
        marks: list[list[float]] = [[] for _ in ends]
        if values.marks is not None and values.mark_owner is not None:
            for owner, number in zip(values.mark_owner.tolist(), values.marks.tolist(), strict=True):
                marks[owner].append(number)
        judges = (judge for _, some in batch for judge in some)
        for judge, end, steps in zip(judges, ends, marks, strict=True):
            said = steps if judge.item.cuts else [end]
            if all(map(math.isfinite, said)):
                judge.settle(said)
            else:
                judge.settle(
                    error=KilterError(f"'{self.name}' says {said} of a response; train it again, or use fp32.")
                )
