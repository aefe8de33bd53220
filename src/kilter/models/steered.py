"""A model that answers by a way of decoding: its own weights, steered by experts or by other prompts at every token.

The folder that `kilter train self-detox` and its like leave holds `decoding.json`: the method, whose function makes one
distribution of several, its options, the model by its name, experts (folders beside it) and prefixes, which are put
before the user's last turn. It is a model wherever something is asked, and no weights to be trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kilter import registry
from kilter.engine import steered
from kilter.engine.batch import Tree
from kilter.engine.choose import Shaping
from kilter.engine.steered import Steering, Stream
from kilter.engine.template import cut_left, prompt_ids
from kilter.errors import KilterError
from kilter.files import write_json
from kilter.models.gather import Request
from kilter.models.load import DECODING, load_weights
from kilter.models.local import ROWS, Local
from kilter.records import Message, identify

FILE = DECODING


def write(
    folder: Path,
    method: str,
    base: str,
    options: dict[str, Any],
    *,
    experts: Sequence[str] = (),
    prefixes: Sequence[str] = (),
    **facts: Any,
) -> None:
    """Make `folder` a model of this kind; `experts` are the names of folders in it, `facts` are kept along."""
    known = str(Path(base).resolve()) if Path(base).exists() else base
    told = {"method": method, "model": known, "options": options, "experts": list(experts), "prefixes": list(prefixes)}
    write_json(folder / FILE, {**told, **facts})


def read(folder: str | Path) -> dict[str, Any]:
    """Return what the folder's file says; raise KilterError where it cannot be read."""
    try:
        told = json.loads((Path(folder).expanduser() / FILE).read_text(encoding="utf-8"))
        return {**told, "options": dict(told["options"]), "model": str(told["model"]), "method": str(told["method"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise KilterError(f"{folder} has a {FILE} that cannot be read; make it again with `kilter train`.") from None


class Steered(Local):
    """A model on this machine whose next token is drawn from what its method makes of several distributions."""

    def __init__(self, name: str, *, dtype: torch.dtype | None = None, device: str | None = None) -> None:
        """Load what the folder `name` tells of. Raises KilterError where a part is missing or does not fit."""
        told = read(name)
        super().__init__(told["model"], dtype=dtype, device=device)
        self.base, self.name, self.told = told["model"], name, told
        found = registry.find(told["method"], "training").function
        steer = getattr(found, "steers", None)
        if steer is None:
            raise KilterError(f"'{name}' decodes by '{told['method']}', which is no way of decoding; make it again.")
        self.steer: Steering = partial(steer, **told["options"])
        self.prefixes = [str(prefix) for prefix in told.get("prefixes", ())]
        self.experts = [self._expert(str(Path(name).expanduser() / expert)) for expert in told.get("experts", ())]

    def _expert(self, name: str) -> Any:
        model, tokenizer = load_weights(name, self.model.dtype)
        if tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise KilterError(f"The expert {name} splits texts otherwise than '{self.base}' does; train it from that.")
        return model.to(self.device).eval()  # type: ignore[arg-type]

    async def identity(self) -> str:
        """Return a text that is another for other weights, experts or options."""
        own = await super().identity()
        experts = Path(self.name).expanduser().glob("*/*.safetensors")
        dates = [[expert.name, expert.stat().st_size, expert.stat().st_mtime_ns] for expert in sorted(experts)]
        return f"{own} {identify(self.told, dates)}"

    def folder_names(self) -> list[str]:
        """Return the names of the checkpoints whose files the identity is made of."""
        return [self.base]

    async def weigh(self, *_: Any, **__: Any) -> Any:
        """Raise KilterError: plain text without a chat template is not steered."""
        raise KilterError(f"'{self.name}' is steered in its answers only; measure the model below, '{self.base}'.")

    async def complete(self, *_: Any, **__: Any) -> Any:
        """Raise KilterError, as `weigh` does."""
        await self.weigh()

    def _streams(self, prompts: Sequence[Sequence[int]], asked: Sequence[Any], room: Sequence[int]) -> list[Stream]:
        """Return the model itself, its experts, and itself behind every prefix."""
        streams = [Stream(model, prompts) for model in (self.model, *self.experts)]
        for prefix in self.prefixes:
            talks: list[Any] = [behind(prefix, messages) for messages in asked]
            rows = prompt_ids(self.tokenizer, talks)
            streams.append(
                Stream(self.model, [cut_left(self.tokenizer, ids, most) for ids, most in zip(rows, room, strict=True)])
            )
        return streams

    def _sample(self, prompts: Sequence[Sequence[int]], asks: Sequence[Request[Any]], **how: Any) -> None:
        n, limits, ready = how["n"], how["max_tokens"], how["ready"]
        room = [max(1, self.positions - limit) for limit in limits]
        streams = self._streams(prompts, [ask.item.messages for ask in asks], room)
        for stream in streams:
            stream.prompts = [prompt for prompt in stream.prompts for _ in range(n)]
        done = steered.sample(
            streams,
            self.steer,
            max_tokens=[limit for limit in limits for _ in range(n)],
            shaping=Shaping(*(how[name] for name in ("temperature", "top_p", "top_k", "min_p"))),
            stop_ids=how["stop_ids"],
            stop=how["stop"],
            noise=[(0, key, k) for key in how["keys"] for k in range(n)],
            batch_size=ROWS,
            check=lambda: how["progress"](0, 0),
        )
        for at in range(len(asks)):
            ready(at, done[at * n : (at + 1) * n])

    def _score_batch(self, batch: Sequence[tuple[Tree, Any]]) -> None:
        for tree, scores in batch:
            asked = [score.item.messages for score in scores]
            room = [max(1, self.positions - len(response)) for response in tree.responses]
            streams = self._streams([tree.prompt] * len(scores), asked, room)
            self.usage.prompt_tokens += len(streams) * len(tree)
            for score, logprobs in zip(scores, steered.score(streams, self.steer, tree.responses), strict=True):
                score.settle(logprobs)


def behind(prefix: str, messages: Sequence[Message]) -> list[Message]:
    """Return a conversation with `prefix` before its last user turn."""
    last = max((i for i, message in enumerate(messages) if message.role == "user"), default=len(messages) - 1)
    changed = Message(messages[last].role, f"{prefix}\n{messages[last].content}")
    return [*messages[:last], changed, *messages[last + 1 :]]
