"""How many requests a server is given at a time: more while it keeps up, fewer when it says that it does not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Throttle:
    """Lets `limit` requests in at a time: one more for every `limit` that went well, half as many when told to slow.

    That is TCP's additive increase and multiplicative decrease. For use within one event loop.
    """

    def __init__(self, start: int = 32, most: int = 2048) -> None:
        self.limit = float(start)
        self.most = most
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._slowed = 0  # requests that have to be done before one that fails counts again

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until one more may be in, and be it."""
        if self.inside >= int(self.limit) or self._waiting:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # let in, and gone at the same moment
                    self.inside -= 1
                    self._admit()
                raise
        else:
            self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
            self._slowed -= 1
            self._admit()

    def well(self) -> None:
        """A request went well."""
        self.limit = min(self.most, self.limit + 1 / self.limit)
        self._admit()

    def slow(self) -> None:
        """The server asked for fewer requests. The failures of those that are under way count as this one."""
        if self._slowed <= 0:
            self.limit = max(1.0, self.limit / 2)
            self._slowed = self.inside

    def _admit(self) -> None:
        while self._waiting and self.inside < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)
