"""How long to wait for an answer before the request is sent once more, beside the one that is waited for.

A request that hangs looks like one that takes long, and nobody can tell them apart. So none is given up for taking
longer than others: a copy is sent, and whichever is answered first is the answer. What is merely slow is waited for as
long as the user allows, and what hangs holds nobody up. Requests for answers change nothing at a server, so that two of
them do no harm but for what they cost; that is why a copy is sent only to what takes twice as long as the slowest of
the last answers, and why few have one at a time: a server that slows down must not be given twice the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

SEEN = 32  # answers of a kind before anything is concluded from how long they took
REMEMBERED = 256
SLOWEST_TIMES = 2.0
LEAST = 2.0  # seconds that every request is given before a copy is sent
AGAIN_TIMES = 4.0  # for a copy, and once more for each after that
COPIES = 3  # of one request
SHARE = 0.1  # of the requests under way that may have a copy from which an answer is expected yet
LOOK = 0.25  # seconds between two looks at the watch


class Wait:
    """One request: what kind of answer it waits for, since when (monotonic seconds), and the copies sent beside it."""

    __slots__ = ("ask", "began", "copies", "kind", "limit", "newest", "own", "seconds", "unheard")

    def __init__(self, kind: Hashable, ask: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """`ask()` sends the request and returns its answer."""
        self.kind, self.ask = kind, ask
        self.began = self.newest = time.monotonic()  # the latter: when the newest copy began
        self.limit = asyncio.timeout(None)
        self.copies: list[asyncio.Task[tuple[Any, float]]] = []
        self.own = True  # whether the request itself is still under way
        self.seconds = 0.0  # that the answer took, once there is one
        self.unheard = 0  # how many of request and copies may have been answered beside the one that was heard


class Patience:
    """Sends copies of what takes long, and gives up what takes longer than `longest` seconds.

    A `kind` is what answers of like length have in common: how many tokens are asked for. `passing` is raised by a
    request that failed and may be sent again; any other exception is an answer too. For use within one event loop.
    """

    def __init__(self, longest: float, passing: type[Exception]) -> None:
        self.longest, self.passing = longest, passing
        self._took: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._waits: dict[Wait, None] = {}  # the oldest first
        self._watch: asyncio.Task[None] | None = None

    async def first(self, wait: Wait) -> Any:
        """Return what the request or one of its copies is answered, whichever is first.

        Raises TimeoutError where none is answered in time, and `passing` where all have failed.
        """
        self._waits[wait] = None
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look())
        copy = None
        try:
            try:
                async with wait.limit:
                    found = await wait.ask()
                wait.seconds = time.monotonic() - wait.began
            except (TimeoutError, self.passing):
                # Not in time, or failed: but a copy may have been answered, or be so yet.
                wait.unheard += wait.limit.expired()
                wait.own = False
                copy = await self._heard(wait)
                if copy is None:
                    raise
                found, wait.seconds = copy.result()
            self._took[wait.kind].append(wait.seconds)
            return found
        finally:
            del self._waits[wait]
            others = [other for other in wait.copies if other is not copy]
            for other in others:
                other.cancel()
            ends = await asyncio.gather(*others, return_exceptions=True) if others else ()
            wait.unheard += sum(not isinstance(end, self.passing) for end in ends)

    def allowed(self, kind: Hashable, copies: int = 0) -> float:
        """Return the seconds that a request of which so many `copies` were sent may take before another is sent."""
        took = self._took.get(kind, ())
        if len(took) < SEEN:
            return self.longest
        return min(self.longest, max(LEAST, SLOWEST_TIMES * max(took)) * AGAIN_TIMES**copies)

    async def _heard(self, wait: Wait) -> asyncio.Task[tuple[Any, float]] | None:
        """Return the copy that is answered first; None once all have failed."""
        while True:
            for copy in wait.copies:
                if copy.done() and self._answered(copy):
                    return copy
            under_way = [copy for copy in wait.copies if not copy.done()]
            if not under_way:
                return None
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

    def _answered(self, copy: asyncio.Task[Any]) -> bool:
        return not copy.cancelled() and not isinstance(copy.exception(), (TimeoutError, self.passing))

    async def _look(self) -> None:
        """Look after the waits as long as there are any; what is allowed may change while one waits."""
        while self._waits:
            await asyncio.sleep(LOOK)
            now, late, expected = time.monotonic(), [], 0
            allowed: dict[tuple[Hashable, int], float] = {}
            for wait in self._waits:
                if now - wait.began > self.longest:
                    self._interrupt(wait)
                    continue
                manner = wait.kind, len(wait.copies)
                if manner not in allowed:
                    allowed[manner] = self.allowed(*manner)
                if now - wait.newest <= allowed[manner]:
                    expected += bool(wait.copies)
                elif wait.own and len(wait.copies) < COPIES:
                    late.append(wait)
            room = max(1, int(SHARE * len(self._waits))) - expected
            for wait in late[: max(0, room)]:
                self._send_copy(wait)

    def _send_copy(self, wait: Wait) -> None:
        async def copied() -> tuple[Any, float]:
            began = time.monotonic()
            async with asyncio.timeout(self.longest):
                return await wait.ask(), time.monotonic() - began

        def ended(copy: asyncio.Task[Any]) -> None:
            if wait.own and wait in self._waits and self._answered(copy):
                self._interrupt(wait)

        wait.newest = time.monotonic()
        copy = asyncio.create_task(copied())
        copy.add_done_callback(ended)
        wait.copies.append(copy)

    @staticmethod
    def _interrupt(wait: Wait) -> None:
        """End the waiting for the request itself, unless that has ended."""
        # One that has begun and not been entered yet, or been left, cannot be ended, and need not be.
        if wait.own and not wait.limit.expired():
            with contextlib.suppress(RuntimeError):
                wait.limit.reschedule(asyncio.get_running_loop().time())
