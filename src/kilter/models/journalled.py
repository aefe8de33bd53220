"""A model whose every answer is on the disk before anybody uses it: what was answered is never asked again.

An answer is kept under the hash of everything that shaped it: the model (its weights, where they are here), the
messages, the sampling, and the version of the prompt that the messages were rendered from. So a run that is killed goes
on where it was, and a changed prompt or system message makes new exactly what was asked with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any

from kilter.errors import SetAside
from kilter.models.protocol import Answer, Model, Sampling, Usage
from kilter.records import Message
from kilter.store.journal import Journal

_NAMES = tuple(field.name for field in fields(Usage))
_amounts_of = attrgetter(*_NAMES)
# Made once: json.dumps with other than its own defaults makes an encoder a call.
_encode = json.JSONEncoder(sort_keys=True).encode
_encode_readable = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_DEFAULT = asdict(Sampling())


class Journalled:
    """`model` as it was, with its answers in `journal`. Equal requests under way at the same time are one request."""

    def __init__(
        self, model: Model, journal: Journal, check: Callable[[], None] | None = None, *, purpose: str = ""
    ) -> None:
        """`check` is called before anything is asked, and may raise; answers that are kept come all the same.

        What is asked goes into the journal's account under the model's name, after `purpose` where there are several.
        """
        self.model, self.name, self._check = model, model.name, check
        self._who = f"{purpose} {model.name}".strip()
        self.replayed = 0  # requests that the journal had the answer to
        self._journal = journal
        account = journal.account()
        self._before = Usage(*(int(account.get((self._who, what), 0)) for what in _NAMES))
        self._own = Usage()  # where the model does not count by itself
        self._entered = _amounts_of(self._counted())
        self._identity: str | None = None
        self._asking: dict[bytes, asyncio.Future[None]] = {}

    @property
    def usage(self) -> Usage:
        """What was asked of the model in this run and in those before it that the journal knows of."""
        return self._before + self._counted()

    @property
    def tokens(self) -> int:
        """Tokens read and written, all runs together."""
        return self.usage.tokens

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return the answers that are kept, or those of the model once they are kept."""
        version = getattr(messages, "version", "")
        parts = ["ask", _told(messages), _differing(sampling), version]
        regards = getattr(self.model, "regards", None)  # what of a request shapes the answer and is not in its text
        if regards is not None:
            parts.append(regards(messages))
        found = await self._kept(parts, lambda: self._answers(messages, sampling))
        return [Answer(*answer) for answer in found]

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Return the log-probs that are kept, or those that the model tells once they are kept."""
        found: list[float] = await self._kept(
            ["score", _told(messages), response], lambda: self.model.score(messages, response)
        )
        return found

    def __getattr__(self, name: str) -> Any:
        # Plain text can be asked for only where the model itself takes it.
        if name in ("complete", "weigh") and hasattr(self.model, name):
            return getattr(self, f"_{name}")
        raise AttributeError(f"'{type(self).__name__}' has no '{name}'")

    async def _complete(self, text: str, sampling: Sampling) -> list[Answer]:
        """Return the continuations of plain text that are kept, or those of the model once they are kept."""
        model: Any = self.model

        async def work() -> list[list[Any]]:
            return _listed(await model.complete(text, sampling), sampling, self.name)

        found = await self._kept(["complete", text, _differing(sampling)], work)
        return [Answer(*answer) for answer in found]

    async def _weigh(
        self, pairs: Sequence[tuple[str, str | None]], *, progress: Callable[[int], None] = lambda done: None
    ) -> list[Any]:
        """Return the weights of plain text that are kept, and those that the model tells once they are kept.

        What cannot be weighed is told anew each time; it costs nothing.
        """
        from kilter.engine.weigher import Weight

        if self._identity is None:
            identity = getattr(self.model, "identity", None)
            self._identity = await identity() if identity is not None else self.name
        keys = [_key([self._identity, "weigh", *pair]) for pair in pairs]
        found: list[Any] = [Weight(*_opened(*kept)) if (kept := self._journal.get(key)) else None for key in keys]
        lacking = [at for at, weight in enumerate(found) if weight is None]
        before = len(pairs) - len(lacking)
        self.replayed += before
        if lacking:
            if self._check is not None:
                self._check()
            model: Any = self.model
            told = await model.weigh([pairs[at] for at in lacking], progress=lambda done: progress(before + done))
            for at, weight in zip(lacking, told, strict=True):
                found[at] = weight
            fresh = [(keys[at], _packed(list(found[at]))) for at in lacking if isinstance(found[at], Weight)]
            amounts = [self._amounts(), *({} for _ in fresh)]
            await asyncio.gather(
                *(
                    self._journal.put(key, value, amounts=some)
                    for (key, value), some in zip(fresh, amounts, strict=False)
                )
            )
        return found

    def close(self) -> None:
        """Enter what was counted since the last answer; the journal stays open."""
        self._journal.add(self._amounts())

    async def _answers(self, messages: Sequence[Message], sampling: Sampling) -> list[list[Any]]:
        answers = await self.model.ask(messages, sampling)
        if not hasattr(self.model, "usage"):
            self._own += Usage(requests=1, completion_tokens=sum(answer.tokens for answer in answers))
        return _listed(answers, sampling, self.name)

    async def _kept(self, parts: list[Any], work: Callable[[], Awaitable[Any]]) -> Any:
        """Return what the journal has for `parts`, else what `work` gives, kept; a refusal is raised, and kept too."""
        if self._identity is None:
            identity = getattr(self.model, "identity", None)
            self._identity = await identity() if identity is not None else self.name
        key = _key([self._identity, *parts])
        while True:
            found = self._journal.get(key)
            if found is not None:
                self.replayed += 1
                return _opened(*found)
            others = self._asking.get(key)
            if others is None:
                break
            await asyncio.wait([others])
        self._asking[key] = under_way = asyncio.get_running_loop().create_future()
        try:
            if self._check is not None:
                self._check()
            return await self._worked(key, work)
        finally:
            del self._asking[key]
            under_way.cancel()

    async def _worked(self, key: bytes, work: Callable[[], Awaitable[Any]]) -> Any:
        try:
            value = await work()
        except SetAside as why:
            refusal = _packed([why.rule, str(why)])
            await self._journal.put(key, refusal, refused=True, amounts=self._amounts())
            raise
        packed = _packed(value)
        await self._journal.put(key, packed, amounts=self._amounts())
        return value

    def _counted(self) -> Usage:
        found: Usage = getattr(self.model, "usage", self._own)
        return found

    def _amounts(self) -> dict[tuple[str, str], float]:
        """Return what was counted since this was last called, as it goes into the journal's account."""
        counted, before = _amounts_of(self._counted()), self._entered
        self._entered = counted
        return {
            (self._who, what): new - old for what, new, old in zip(_NAMES, counted, before, strict=True) if new > old
        }


def _listed(answers: Sequence[Answer], sampling: Sampling, name: str) -> list[list[Any]]:
    return [
        [a.text, a.tokens, a.logprobs if sampling.logprobs else None, a.finish_reason, a.model or name] for a in answers
    ]


def _told(messages: Sequence[Message]) -> list[list[str]]:
    return [[message.role, message.content] for message in messages]


def _differing(sampling: Sampling) -> dict[str, Any]:
    """Return what of `sampling` is not the default, so that an option more in the future makes nothing new."""
    return {name: value for name, default in _DEFAULT.items() if (value := getattr(sampling, name)) != default}


def _key(parts: list[Any]) -> bytes:
    return hashlib.sha256(_encode(parts).encode()).digest()[:16]


def _packed(value: Any) -> bytes:
    # Half a surrogate pair has no UTF-8, and a teacher may send one all the same.
    return _encode_readable(value).encode("utf-8", "surrogatepass")


def _opened(value: bytes, refused: bool) -> Any:
    found = json.loads(value.decode("utf-8", "surrogatepass"))
    if refused:
        rule, why = found
        raise SetAside(why, rule)
    return found
