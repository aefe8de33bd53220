"""How many requests a server is given at a time: more while it keeps up, fewer when it says that it does not.

TCP's additive increase and multiplicative decrease, with two differences. A server that turns one request in twenty
away whatever its load is not crowded, so a share of refusals is borne. And a server that turns most of them away has
told how many it bears: those that it took.
"""

from __future__ import annotations

import asyncio
from collections import deque

START = 128
BORNE = 0.1  # share of refusals that says nothing about the load
SEEN = 32  # requests that have to be done before anything is concluded
STEEPEST, LEAST_STEP = 0.25, 0.9  # what is left of the limit after one cut, at the worst and at the best
GROWTH = 1 / 32  # of a request, for each that goes well just after a cut; twice that whenever enough went well since


class Throttle:
    """Lets `limit` requests in at a time: whoever is within `async with`. For use within one event loop."""

    def __init__(self, start: int = START, most: int = 2048) -> None:
        self.limit = float(min(start, most))
        self.most = most
        self.inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._growth = 1.0  # every request that goes well makes room for so many more
        self._done = self._refused = 0  # since anything was last concluded
        self._spoken_for = 0  # requests under way when the limit was last cut: they tell what is known
        self._cut = False
        self._held_until = 0.0

    async def __aenter__(self) -> None:
        """Wait until one more may be in, and be it."""
        if not self._waiting and self._open():
            self.inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in, and gone at the same moment
                self.inside -= 1
                self._admit()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.inside -= 1
        self._admit()

    def well(self) -> None:
        """A request went well."""
        if self._tells():
            self._done += 1
            self._conclude()
        self.limit = min(self.most, self.limit + self._growth)

    def slow(self, wait: float = 0.0) -> None:
        """The server refused a request for being busy, or let it wait too long; it asks for `wait` seconds of peace."""
        if not self._tells():
            return
        self._done += 1
        self._refused += 1
        crowded = self._refused > self._done / 2
        self._conclude()
        if crowded and not self._refused:  # the limit has just been cut
            self._hold(wait)

    def _tells(self) -> bool:
        """Whether the request that has just ended tells anything new."""
        self._spoken_for -= 1
        return self._spoken_for < 0

    def _conclude(self) -> None:
        """Cut the limit where more than a few were refused; start to count anew where enough were seen."""
        window = max(SEEN, int(self.limit))
        if self._refused > BORNE * window:
            # The limit begun with is a guess; later, the first few of a crowd do not speak for those that are inside.
            kept = 1 - self._refused / (max(self._done, SEEN) if self._cut else self._done)
            self._cut = True
            self.limit = max(1.0, min(self.limit - 1, self.limit * min(LEAST_STEP, max(STEEPEST, kept))))
            self._growth = GROWTH
            self._spoken_for = max(0, self.inside - 1)  # the one that tells is still inside
            self._done = self._refused = 0
        elif self._done >= window:
            self._growth = min(1.0, 2 * self._growth)
            self._done = self._refused = 0

    def _hold(self, wait: float) -> None:
        """Let nobody in for `wait` seconds: one by one they would only be refused as well."""
        if wait > 0:
            loop = asyncio.get_running_loop()
            self._held_until = max(self._held_until, loop.time() + wait)
            loop.call_at(self._held_until, self._admit)

    def _open(self) -> bool:
        if self._held_until and asyncio.get_running_loop().time() < self._held_until:
            return False
        return self.inside < int(self.limit)

    def _admit(self) -> None:
        while self._waiting and self._open():
            turn = self._waiting.popleft()
            if not turn.done():
                self.inside += 1
                turn.set_result(None)
