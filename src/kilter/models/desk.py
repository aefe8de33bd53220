"""What every question of a run goes over: the journal that keeps the answers, the budget, the account.

Within `with Desk(...)`, whatever `load` returns is attended to, so that a method that loads a judge by its name need
not know. A dry run's desk asks nothing: it keeps the first questions to be shown, and counts.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Sequence
from contextvars import ContextVar, Token
from pathlib import Path

from kilter.errors import SetAside
from kilter.models.budget import Budget, Price
from kilter.models.each import meter
from kilter.models.journalled import Journalled
from kilter.models.protocol import Answer, Model, Sampling, Usage
from kilter.records import Message
from kilter.store.journal import Journal

SHOWN = 3  # questions that a dry run shows
ASCII_A_TOKEN = 4  # characters of plain text in a token, about; of another script a character is a token, about


class Desk:
    """The desk of one run; used within `with`."""

    def __init__(
        self,
        journal: str | Path | None = None,
        *,
        local: bool = False,
        budget: Budget | None = None,
        price: Price | None = None,
        dry: bool = False,
        purpose: str = "",
    ) -> None:
        """`journal` is the file that answers are kept in, made when a model is first loaded whose answers go there.

        Those are the servers', and with `local` also those of models on this machine. `purpose` parts the account of
        runs that share a journal. Nothing is kept or asked where the run is `dry`.
        """
        self.path = Path(journal) if journal is not None else None
        self.budget, self.price, self.dry = budget, price, dry
        self._local, self._purpose = local or budget is not None, purpose
        self.journal: Journal | None = None
        self._models: dict[str, Model] = {}
        self._began = time.monotonic()
        self._tokens: tuple[Token[Desk | None], Token[object]] | None = None

    def attend(self, model: Model) -> Model:
        """Return what stands for `model` at this desk, for the next who wants one of that name as well."""
        if not hasattr(model, "reward") and self._keeps(model):
            if self.journal is None:
                assert self.path is not None
                self.journal = Journal(self.path)
            model = Journalled(model, self.journal, self._check, purpose=self._purpose)
        self._models[model.name] = model
        return model

    def known(self, name: str) -> Model | None:
        """Return what already stands for the model called `name`, or is to stand for it in a dry run; else None."""
        if self.dry and name not in self._models:
            self._models[name] = Rehearsal(name)
        return self._models.get(name)

    @property
    def usage(self) -> Usage:
        """What was asked over this desk, in earlier runs of the same purpose as well where there is a journal."""
        return sum((getattr(model, "usage", Usage()) for model in self._models.values()), Usage())

    @property
    def replayed(self) -> int:
        """How many questions the journal had the answer to."""
        return sum(getattr(model, "replayed", 0) for model in self._models.values())

    @property
    def seconds(self) -> float:
        """Seconds since this run's desk was opened."""
        return time.monotonic() - self._began

    def account(self) -> dict[str, float]:
        """Return what the asking cost: requests, retries, replayed, tokens read and written, money where priced.

        `unheard` are requests, or copies sent beside such as took long, that were not waited for in the end because
        another was answered first, or which took too long; their tokens are counted like those of the answer that came.
        """
        usage = self.usage
        found: dict[str, float] = {
            "requests": usage.requests,
            "retries": usage.retries,
            "unheard": usage.unheard,
            "replayed": self.replayed,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
        }
        return found | ({"cost": round(self.price.of(usage), 6)} if self.price else {})

    def sentences(self) -> list[str]:
        """Return what to tell the user of the cost; nothing where nobody was asked."""
        usage = self.usage
        if not usage.requests and not self.replayed:
            return []
        again = f", {usage.retries:,} of them again" if usage.retries else ""
        unheard = f" ({usage.unheard:,} not heard to their end, and counted alike)" if usage.unheard else ""
        kept = f"; {self.replayed:,} answers were kept from before" if self.replayed else ""
        cost = f"; cost {self.price.of(usage):,.4f}" if self.price else ""
        return [
            f"{usage.requests:,} requests{again}{unheard}, {usage.prompt_tokens:,} tokens read, "
            f"{usage.completion_tokens:,} written{cost}{kept}."
        ]

    def rehearsed(self) -> list[Rehearsal]:
        """Return what stood for the models of a dry run."""
        return [model for model in self._models.values() if isinstance(model, Rehearsal)]

    def close(self) -> None:
        """Enter the last of the account and close the journal; closing twice does no harm."""
        for model in self._models.values():
            if isinstance(model, Journalled):
                model.close()
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Desk:
        self._began = time.monotonic()
        # Else the collector goes through all that torch has imported, over and over, while tasks come and go in their
        # thousands: half of the time of a fast run.
        gc.freeze()
        self._tokens = _current.set(self), meter.set(self._told)  # type: ignore[assignment]
        return self

    def __exit__(self, *_: object) -> None:
        if self._tokens is not None:
            with contextlib.suppress(ValueError):  # closed in another context than it was opened in
                _current.reset(self._tokens[0])
                meter.reset(self._tokens[1])  # type: ignore[arg-type]
            self._tokens = None
        gc.unfreeze()
        self.close()

    def _keeps(self, model: Model) -> bool:
        from kilter.models.server import Server

        return self.path is not None and (self._local or isinstance(model, Server))

    def _check(self) -> None:
        if self.budget is not None:
            self.budget.check(self.usage)

    def _told(self) -> str:
        """What a progress bar says of it."""
        usage = self.usage
        rate = f"{usage.tokens / max(self.seconds, 1e-3):,.0f} tokens/s" if usage.tokens else ""
        return f"{rate} · {self.price.of(usage):,.2f}" if self.price and rate else rate


class Rehearsal:
    """Stands for a model in a dry run: keeps the first questions, counts them all, answers none."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.shown: list[tuple[list[Message], Sampling]] = []
        self.requests = self.prompt_tokens = self.completion_tokens = 0

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Count the question; raise SetAside, for there is no answer to go on with."""
        self.requests += 1
        self.prompt_tokens += sum(_about(message.content) for message in messages)
        self.completion_tokens += sampling.n * sampling.max_tokens
        if len(self.shown) < SHOWN:
            self.shown.append((list(messages), sampling))
        raise SetAside("In a dry run nothing is asked; leave --dry-run out to ask.", "dry run")

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Count the text to be scored; raise SetAside."""
        self.requests += 1
        self.prompt_tokens += sum(_about(message.content) for message in messages) + _about(response)
        raise SetAside("In a dry run nothing is asked; leave --dry-run out to ask.", "dry run")


def attended(model: Model) -> Model:
    """Return what stands for `model` at the desk of the run that this code is part of; `model` outside of one."""
    desk = _current.get()
    return model if desk is None or isinstance(model, Journalled) else desk.attend(model)


def known(name: str) -> Model | None:
    """Return what stands for the model called `name` at this run's desk, None where it is yet to be loaded."""
    desk = _current.get()
    return None if desk is None else desk.known(name)


def _about(text: str) -> int:
    """Return about how many tokens `text` is."""
    plain = sum(character < "\u0250" for character in text)
    return -(-plain // ASCII_A_TOKEN) + len(text) - plain


_current: ContextVar[Desk | None] = ContextVar("desk", default=None)
