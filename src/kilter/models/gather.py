"""Requests made at the same time go to a thread as one batch, so that the event loop stays alive.

A batch is closed when the event loop has nothing else to do; what is asked while it is worked on forms the next one.
Batches form by what is asked, never by the clock, so that a run that is repeated computes the same.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from inspect import ismethod
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
QUIET = 16  # turns of the event loop without a new request after which nothing more is expected


class Cancelled(BaseException):
    """Raised in the thread when nobody waits for its work any more."""


@dataclass(eq=False, slots=True)
class Request(Generic[Item]):
    """What is asked, and whoever waits for it. `settle` is called in the thread, once."""

    item: Item
    answer: asyncio.Future[Any]

    def settle(self, value: Any = None, error: Exception | None = None) -> None:
        def tell() -> None:
            if self.answer.done():  # cancelled meanwhile
                return
            if error is not None:
                self.answer.set_exception(error)
            else:
                self.answer.set_result(value)

        try:
            self.answer.get_loop().call_soon_threadsafe(tell)
        except RuntimeError:  # the event loop is closed
            raise Cancelled from None


Work = Callable[[Sequence[Request[Any]], Callable[[], None]], None]


class Gatherer:
    """Gives `work(requests, check)` what was asked, in one thread; `check()` raises Cancelled when it was all in vain.

    `work` has to settle every request. It may be used from several event loops, one after the other or at once. The
    method of an object does not keep that alive: a model that nobody has any more is gone at once, with its weights and
    this thread, and not when Python next looks for rings of references, which may be gigabytes later.
    """

    def __init__(self, work: Work, name: str) -> None:
        self._work: Callable[[], Work | None] = weakref.WeakMethod(work) if ismethod(work) else lambda: work
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._queues: dict[asyncio.AbstractEventLoop, list[Request[Any]]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def ask(self, item: Any) -> Any:
        """Return what `work` settles for `item`."""
        loop = asyncio.get_running_loop()
        request = Request(item, loop.create_future())
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = []
            task = loop.create_task(self._serve(queue))
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        queue.append(request)
        return await request.answer

    async def _serve(self, queue: list[Request[Any]]) -> None:
        """Work off `queue` until nobody asks any more."""
        loop = asyncio.get_running_loop()
        cancelled = threading.Event()
        do = self._work()
        assert do is not None  # whoever asks holds the object
        batch: list[Request[Any]] = []

        def check() -> None:
            if cancelled.is_set() or all(request.answer.cancelled() for request in batch):
                raise Cancelled

        def work() -> None:
            try:
                check()
                do(batch, check)
            except Cancelled:
                pass

        try:
            while True:
                quiet = 0
                while quiet < QUIET:
                    before = len(queue)
                    await asyncio.sleep(0)
                    quiet = quiet + 1 if len(queue) == before else 0
                if not queue:
                    return
                batch, queue[:] = list(queue), []
                await loop.run_in_executor(self._thread, work)
        except Exception as error:
            for request in (*batch, *queue):
                if not request.answer.done():
                    request.answer.set_exception(error)
        finally:
            cancelled.set()
            self._queues.pop(loop, None)
