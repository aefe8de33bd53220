"""Requests to one HTTP endpoint, as many at a time as it bears, sent again while there is hope.

What passes (a crowded server, an internal error, a dropped connection, a reply that is no JSON) is tried again, later
each time; beside a request that takes unusually long a copy is sent (patience.py). What is one request's fault is a
SetAside; what would befall every other request as well is a KilterError that ends the run.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from kilter.errors import KilterError, SetAside, first_line
from kilter.models.patience import Patience, Wait
from kilter.models.protocol import Usage
from kilter.models.throttle import Throttle

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds before a second try, and at most
TRIES = {"fault": 8, "crowded": 64, "late": 2}  # how often each kind of trouble is borne
UNREACHED_TRIES = 3  # while the server has never answered: more likely it is not there
HOPELESS = 64  # requests given up in a row, after which the others need not be tried
CROWDED = {429, 503, 529}
PASSING = {408, 409, 425, 500, 502, 504} | CROWDED
UNPAID = ("insufficient_quota", "exceeded your current quota", "billing")
LARGEST = 2**20  # bytes of a reply beside those that its tokens may need


class Refused(Exception):
    """The server answered with a status that another try will not change."""

    def __init__(self, status: int, told: str) -> None:
        self.status, self.told = status, told


class _Trouble(Exception):
    """What another try may change: its kind, what the server says, how many seconds of peace it asks for."""

    def __init__(self, kind: str, why: str, wait: float = 0.0) -> None:
        self.kind, self.why, self.wait = kind, why, wait


class Line:
    """The connections of one event loop to one server, and what was learnt of it."""

    def __init__(self, address: str, key: str | None, *, timeout: float, concurrency: int, usage: Usage) -> None:
        """`key` is what the server wants to see, `usage` counts requests, `timeout` is in seconds."""
        self.address, self._key, self.timeout, self.usage = address, key, timeout, usage
        self.reached = False
        self.throttle = Throttle(most=concurrency)
        self.patience = Patience(timeout, _Trouble)
        self.counted: dict[Hashable, int] = {}
        self._given_up = 0  # in a row
        self._proxy = _proxy(address)
        self._session: aiohttp.ClientSession | None = None
        self._kept = self._open()

    async def _open(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Yield the session, once. It is closed with the event loop, which ends the generators that began in it."""
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
            connector=aiohttp.TCPConnector(limit=0),
        ) as session:
            yield session

    async def send(self, verb: str, path: str, body: Any = None, *, tokens: int = 0) -> dict[str, Any]:
        """Return the reply to a request that may be answered with `tokens` tokens.

        Raises Refused for a status that stays, SetAside for a request that keeps failing while others do not, and
        KilterError where the server is not there or fails everybody.
        """
        had: Counter[str] = Counter()
        waits: list[Wait] = []
        if self._session is None:
            # Nothing is awaited before the session is there, so that only one is made.
            self._session = await anext(self._kept)
        while True:
            try:
                self.usage.retries += bool(had)
                waits.append(Wait(tokens, partial(self._reply, verb, path, body, tokens)))
                reply = await self._once(waits[-1])
                self._given_up = 0
                # A server need not tell what it did for nothing, and bill for it all the same.
                _count(self.usage, reply, 1 + sum(wait.unheard for wait in waits))
                return reply
            except _Trouble as trouble:
                had[trouble.kind] += 1
                allowed = TRIES[trouble.kind] if self.reached else UNREACHED_TRIES
                if had[trouble.kind] >= allowed:
                    raise await self._hopeless(verb, had, trouble) from None
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (had.total() - 1)) * random.uniform(0.5, 1.0)
                await asyncio.sleep(max(pause, trouble.wait * random.uniform(1.0, 1.25)))

    async def _once(self, wait: Wait) -> dict[str, Any]:
        """Send a request, and copies where it takes long; raise _Trouble where it may be sent again."""
        async with self.throttle:  # a request has one place, however many copies it has
            try:
                found: dict[str, Any] = await self.patience.first(wait)
            except _Trouble as trouble:
                if trouble.kind == "crowded":
                    self.throttle.slow(trouble.wait)
                raise
            except TimeoutError:
                self.throttle.slow()
                raise _Trouble("late", f"no answer within {time.monotonic() - wait.began:.0f} s") from None
            finally:
                self.usage.retries += len(wait.copies)
                self.usage.unheard += wait.unheard
            if wait.copies or wait.seconds > self.timeout / 4:
                self.throttle.slow()  # so many are before us that answers will soon come too late
            else:
                self.throttle.well()
            return found

    async def _reply(self, verb: str, path: str, body: Any, tokens: int) -> dict[str, Any]:
        """Return what a request that is sent once is answered; raise _Trouble where it may be sent again."""
        assert self._session is not None
        self.usage.requests += 1
        try:
            async with self._session.request(verb, f"{self.address}/{path}", json=body, proxy=self._proxy) as reply:
                self.reached = True
                if reply.status != 200:
                    raise _trouble(reply.status, _told(await _read(reply, LARGEST)), reply.headers)
                raw = await _read(reply, LARGEST + 64 * tokens * (16 if body and body.get("logprobs") else 1))
            found = json.loads(raw)
            if not isinstance(found, dict):
                raise ValueError("the reply is no JSON object")
        except (aiohttp.ClientError, OSError, ValueError, RecursionError) as error:
            raise _Trouble("fault", first_line(error)) from None
        return found

    async def _hopeless(self, verb: str, had: Counter[str], trouble: _Trouble) -> KilterError:
        """Return what it means that a request was tried so often."""
        where = f"The server at {self.address}"
        if not self.reached:
            return KilterError(f"No server answers at {self.address} ({trouble.why}); start it or check the address.")
        self._given_up += 1
        tried = had.total()
        if self._given_up >= HOPELESS:
            return KilterError(
                f"{where} failed {self._given_up} requests in a row, last: {trouble.why}; see its log, then go on."
            )
        if verb == "POST" and not await self._alive():
            return KilterError(f"{where} answers no more ({trouble.why}); start it again, then go on.")
        return SetAside(f"{where} failed {tried} times in a row, last: {trouble.why}; see its log, then go on.")

    async def _alive(self) -> bool:
        """Whether the server answers a plain question, whatever it answers."""
        assert self._session is not None
        try:
            question = self._session.get(f"{self.address}/models", proxy=self._proxy)
            async with asyncio.timeout(min(30.0, self.timeout)), question:
                return True
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def _count(usage: Usage, reply: Mapping[str, Any], times: int) -> None:
    """Enter the tokens that a reply tells, `times` over."""
    told = reply.get("usage")
    if isinstance(told, dict):
        for name in ("prompt_tokens", "completion_tokens"):
            if isinstance(told.get(name), int):
                setattr(usage, name, getattr(usage, name) + times * told[name])


def _proxy(address: str) -> str | None:
    """Return the proxy that the environment names for `address`. (aiohttp would look for it at every request.)"""
    found = urlsplit(address)
    host = found.hostname or ""
    return None if proxy_bypass(host) else getproxies().get(found.scheme)


async def _read(reply: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the body of a reply; raise SetAside where it is longer than `most` bytes."""
    if (reply.content_length or 0) <= most:
        found = bytearray()
        async for chunk in reply.content.iter_any():
            found += chunk
            if len(found) > most:
                break
        else:
            return bytes(found)
    reply.close()
    raise SetAside(
        f"The server sent more than {most / 2**20:.1f} MiB as an answer; no answer of the length asked for is so long.",
        "too long",
    )


def _trouble(status: int, told: str, headers: Mapping[str, str]) -> Exception:
    """Return what a status other than 200 is: trouble that may pass, or a refusal that stays."""
    if status == 429 and any(word in told for word in UNPAID):
        return KilterError(f"The server's account is used up ({told}); pay for more, then go on.")
    if status not in PASSING:
        return Refused(status, told)
    kind = "crowded" if status in CROWDED else "fault"
    return _Trouble(kind, f"{status}: {told}", _retry_after(headers))


def _told(raw: bytes) -> str:
    """Return what an error reply says, in one line: OpenAI's {"error": {"message"}}, or any text."""
    text = raw.decode("utf-8", "replace")
    try:
        found = json.loads(text)
        error = found.get("error", found)
        told = (error.get("message") or error.get("detail") or error) if isinstance(error, dict) else error
        code = error.get("code") if isinstance(error, dict) else None
        text = f"{told} ({code})" if isinstance(code, str) and code not in str(told) else str(told)
    except (ValueError, AttributeError, RecursionError):
        pass
    return " ".join(text.split())[:300].rstrip(".") or "no reason given"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds to wait that a reply asks for (a number or a date), at most LONGEST_PAUSE; 0: it does not."""
    value = headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(0.0, seconds), LONGEST_PAUSE)
