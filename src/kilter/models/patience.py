"""How long to wait for an answer: as long as answers of that length take here, several times over, and not for ever.

A request that hangs looks like one that takes long, until so much time has gone by that no other took as long. So the
limit follows the slowest of the answers seen, and a request that is sent again is given four times as long as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

SEEN = 32  # answers of a kind before anything is concluded from how long they took
REMEMBERED = 256
SLOWEST_TIMES = 3.0
LEAST = 5.0  # seconds that every request is given
AGAIN_TIMES = 4.0
LOOK = 0.25  # seconds between two looks at the watch


@dataclass(eq=False, slots=True)
class Wait:
    """One wait: for what kind of answer, since when, how often it was too long before, and what ends it."""

    kind: Hashable
    began: float
    again: int
    limit: asyncio.Timeout


class Patience:
    """Limits the waiting, at most to `longest` seconds. For use within one event loop.

    A `kind` is what answers of like length have in common: how many tokens are asked for.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self._took: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._waits: set[Wait] = set()
        self._watch: asyncio.Task[None] | None = None

    def begin(self, kind: Hashable, again: int) -> Wait:
        """Return a wait that begins now; `async with wait.limit` raises TimeoutError when it takes too long.

        `again` says how often it has taken too long. Whoever begins a wait ends it.
        """
        wait = Wait(kind, time.monotonic(), again, asyncio.timeout(None))
        self._waits.add(wait)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look())
        return wait

    def end(self, wait: Wait, well: bool) -> float:
        """End a wait; return how many seconds it took, remembered where it went `well`."""
        seconds = time.monotonic() - wait.began
        self._waits.discard(wait)
        if well:
            self._took[wait.kind].append(seconds)
        return seconds

    def allowed(self, kind: Hashable, again: int) -> float:
        """Return the seconds that a request may take now."""
        took = self._took.get(kind, ())
        if len(took) < SEEN:
            return self.longest
        return min(self.longest, max(LEAST, SLOWEST_TIMES * max(took)) * AGAIN_TIMES**again)

    async def _look(self) -> None:
        """Look after the waits as long as there are any; what is allowed may change while one waits."""
        loop = asyncio.get_running_loop()
        while self._waits:
            await asyncio.sleep(LOOK)
            allowed: dict[tuple[Hashable, int], float] = {}
            now = time.monotonic()
            for wait in self._waits:
                manner = wait.kind, wait.again
                if manner not in allowed:
                    allowed[manner] = self.allowed(*manner)
                if now - wait.began > allowed[manner] and not wait.limit.expired():
                    # One that has begun and not been entered yet, or been left and not ended, is for the next look.
                    with contextlib.suppress(RuntimeError):
                        wait.limit.reschedule(loop.time())
