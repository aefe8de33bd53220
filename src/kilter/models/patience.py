"""How long to wait for an answer: as long as answers of that length take here, several times over, and not for ever.

A request that hangs looks like one that takes long, until so much time has gone by that no other took as long. So the
limit follows the slowest of the answers seen, and a request that is sent again is given four times as long as before.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass

SEEN = 32  # answers of a kind before anything is concluded from how long they took
REMEMBERED = 256
SLOWEST_TIMES = 3.0
LEAST = 5.0  # seconds that every request is given
AGAIN_TIMES = 4.0
LOOK = 0.25  # seconds between two looks at the watch


@dataclass(eq=False, slots=True)
class _Wait:
    kind: Hashable
    began: float
    again: int
    limit: asyncio.Timeout


class Patience:
    """Limits the waiting, at most to `longest` seconds. For use within one event loop, while `watching`.

    A `kind` is what answers of like length have in common: how many tokens are asked for.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self._took: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._waits: set[_Wait] = set()

    @asynccontextmanager
    async def limit(self, kind: Hashable, again: int) -> AsyncIterator[None]:
        """Raise TimeoutError within the block when it takes too long; `again`: how often it has taken too long."""
        async with asyncio.timeout(self.longest) as limit:
            wait = _Wait(kind, time.monotonic(), again, limit)
            self._waits.add(wait)
            try:
                yield
                self._took[kind].append(time.monotonic() - wait.began)
            finally:
                self._waits.discard(wait)

    def allowed(self, kind: Hashable, again: int) -> float:
        """Return the seconds that a request may take now."""
        took = self._took.get(kind, ())
        if len(took) < SEEN:
            return self.longest
        return min(self.longest, max(LEAST, SLOWEST_TIMES * max(took)) * AGAIN_TIMES**again)

    async def watch(self) -> None:
        """Look after the waits for ever; what is allowed may change while one waits."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            allowed: dict[tuple[Hashable, int], float] = {}
            now = time.monotonic()
            for wait in self._waits:
                manner = wait.kind, wait.again
                if manner not in allowed:
                    allowed[manner] = self.allowed(*manner)
                if now - wait.began > allowed[manner] and not wait.limit.expired():
                    wait.limit.reschedule(loop.time())
