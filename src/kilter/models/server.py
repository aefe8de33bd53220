"""A model behind an OpenAI-compatible endpoint: `http://host:port/v1#name`.

Requests go out as they are asked for, as many at a time as the server bears (throttle.py). What may pass (429, 5xx, a
timeout, a dropped connection) is tried again, later each time; what will not pass is told in a sentence.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urldefrag, urlsplit

import aiohttp

from kilter.errors import KilterError, nearest
from kilter.models.protocol import Answer, Sampling
from kilter.models.throttle import Throttle
from kilter.records import Message

TRIES = 8
UNREACHED_TRIES = 3  # while the server has never answered: more likely it is not there
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds before a second try, and at most
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
CROWDED = {429, 503, 529}
KEYS = ("KILTER_API_KEY", "OPENAI_API_KEY")
# Options that some servers refuse, and an answer can do without.
DISPENSABLE = ("logprobs", "seed")


@dataclass(slots=True)
class _Line:
    """What belongs to one event loop: a session of connections, who is in it, and the throttle."""

    session: aiohttp.ClientSession
    throttle: Throttle
    users: int = 0
    counted: dict[tuple[Message, ...], int] = field(default_factory=dict)


class _Refused(Exception):
    """The server answered with a status that another try will not change."""

    def __init__(self, status: int, told: str) -> None:
        self.status, self.told = status, told


class Server:
    """A chat model behind an OpenAI-compatible endpoint. `tokens` counts what the server says it has computed.

    The key, where the server wants one, is in the environment as KILTER_API_KEY or OPENAI_API_KEY.
    """

    def __init__(self, name: str, *, timeout: float = 600.0, concurrency: int = 2048) -> None:
        """`name` is the endpoint's address up to /v1, then # and the model; the latter may be left out where the server
        has one model only. `timeout` (seconds) is for one request, `concurrency` the most at a time."""
        address, model = urldefrag(name)
        if not urlsplit(address).hostname:
            raise KilterError(f"'{name}' is no address of a server; write http://host:port/v1#name.")
        self.name = name
        self.address = address.rstrip("/")
        self.model = model
        self.timeout, self.concurrency = timeout, concurrency
        self.tokens = 0
        self.reached = False
        self._left_out: set[str] = set()
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` answers; log-probs where the server tells them.

        Raises KilterError where the server is not there, refuses the request, or keeps failing.
        """
        body: dict[str, Any] = {
            "messages": [message.to_json() for message in messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "n": sampling.n,
            "logprobs": True,
            "seed": sampling.seed,
        }
        # Not OpenAI's, but understood by vLLM and SGLang.
        body |= {name: getattr(sampling, name) for name in ("top_k", "min_p") if getattr(sampling, name)}
        body |= {"stop": list(sampling.stop)} if sampling.stop else {}
        answers: list[Answer] = []
        while len(answers) < sampling.n:  # some servers give one answer, however many are asked for
            reply = await self._post("chat/completions", body)
            self._count(reply)
            got = [_answer(choice, reply) for choice in reply.get("choices") or []]
            if not got:
                raise KilterError(f"The server at {self.address} sent no answer; see its log.")
            answers += got
            body |= {"n": sampling.n - len(answers), "seed": sampling.seed + len(answers)}
        return answers[: sampling.n]

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Return the log-prob (nats) of each token of `response`, and of what the chat template writes behind it.

        That takes a server that tells `prompt_logprobs`, as vLLM does. Raises KilterError for one that does not.
        """
        async with self._connected() as line:
            begun = line.counted.get(tuple(messages))
            if begun is None:
                probe = {"messages": [message.to_json() for message in messages], "max_tokens": 1, "temperature": 0.0}
                begun = int((await self._post("chat/completions", probe))["usage"]["prompt_tokens"])
                line.counted[tuple(messages)] = begun
            whole = [message.to_json() for message in (*messages, Message("assistant", response))]
            body = {"messages": whole, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
            reply = await self._post("chat/completions", body | {"add_generation_prompt": False})
        self._count(reply)
        told = reply.get("prompt_logprobs")
        if not told:
            raise KilterError(
                f"The server at {self.address} does not tell the log-probs of a given text, which scoring needs; "
                "use vLLM's server, or the model's weights on this machine."
            )
        # One dictionary a token, from its id to what is known of it; the first has nothing before it.
        return [float(next(iter(token.values()))["logprob"]) for token in told[begun:]]

    def _count(self, reply: Mapping[str, Any]) -> None:
        usage = reply.get("usage") or {}
        self.tokens += int(usage.get("total_tokens") or 0)

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the server's reply to `body` with the model's name, less what the server does not take."""
        async with self._connected() as line:
            if not self.model:
                self.model = await self._only_model(line)
            while True:
                sent = {key: value for key, value in body.items() if key not in self._left_out}
                if "max_tokens" in self._left_out:
                    sent["max_completion_tokens"] = body["max_tokens"]
                try:
                    return await self._patiently(line, "POST", path, sent | {"model": self.model})
                except _Refused as refused:
                    culprit = next((name for name in (*DISPENSABLE, "max_tokens") if name in refused.told), None)
                    if refused.status in (400, 422) and culprit in sent:
                        self._left_out.add(str(culprit))
                        continue
                    raise await self._explained(line, refused) from None

    async def _only_model(self, line: _Line) -> str:
        try:
            known = _models(await self._patiently(line, "GET", "models", None))
        except _Refused as refused:
            raise await self._explained(line, refused) from None
        if len(known) != 1:
            raise KilterError(f"The server at {self.address} has several models: add # and one of {', '.join(known)}.")
        return known[0]

    async def _explained(self, line: _Line, refused: _Refused) -> KilterError:
        """Return what a refusal means and what to do."""
        where = f"The server at {self.address}"
        if refused.status in (401, 403):
            return KilterError(f"{where} wants another key ({refused.status}); set {KEYS[0]} to one that it takes.")
        if refused.status == 404:
            try:
                known = _models(await self._patiently(line, "GET", "models", None))
            except (_Refused, KilterError):
                return KilterError(f"{where} knows no chat completions; check the address, which often ends with /v1.")
            if self.model not in known:
                hint = nearest(self.model, known) or f" It has {', '.join(known)}."
                return KilterError(f"{where} has no model '{self.model}'.{hint}")
        return KilterError(f"{where} refuses a request ({refused.status}): {refused.told}; change what it names.")

    async def _patiently(self, line: _Line, verb: str, path: str, body: Any) -> dict[str, Any]:
        """Return the reply to a request, trying again while there is hope."""
        tried = 0
        while True:
            tried += 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tried - 1)) * random.uniform(0.5, 1.0)
            try:
                async with (
                    line.throttle.slot(),
                    line.session.request(verb, f"{self.address}/{path}", json=body) as reply,
                ):
                    self.reached = True
                    if reply.status == 200:
                        found: dict[str, Any] = await reply.json(content_type=None)
                        line.throttle.well()
                        return found
                    why = _told(await reply.text(errors="replace"))
                    if reply.status not in PASSING:
                        raise _Refused(reply.status, why)
                    if reply.status in CROWDED:
                        line.throttle.slow()
                    pause = max(pause, _retry_after(reply.headers))
                    why = f"{reply.status}: {why}"
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    line.throttle.slow()
                why = "it took too long" if isinstance(error, TimeoutError) else str(error) or repr(error)
            if tried >= (TRIES if self.reached else UNREACHED_TRIES):
                if not self.reached:
                    raise KilterError(f"No server answers at {self.address} ({why}); start it or check the address.")
                raise KilterError(
                    f"The server at {self.address} failed {tried} times in a row, last: {why}; see its log, then go on."
                )
            await asyncio.sleep(pause)

    def _connected(self) -> _Connection:
        return _Connection(self)


class _Connection:
    """The line of the running event loop. Its session is closed when nobody is in it, for loops end without notice."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def __aenter__(self) -> _Line:
        loop, lines = asyncio.get_running_loop(), self.server._lines
        if loop not in lines:
            key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
            session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=aiohttp.ClientTimeout(total=self.server.timeout),
                connector=aiohttp.TCPConnector(limit=0),
                trust_env=True,
            )
            lines[loop] = _Line(session, Throttle(most=self.server.concurrency))
        self.line = lines[loop]
        self.line.users += 1
        return self.line

    async def __aexit__(self, *_: object) -> None:
        self.line.users -= 1
        if not self.line.users:
            self.server._lines.pop(asyncio.get_running_loop(), None)
            await self.line.session.close()


def _answer(choice: Mapping[str, Any], reply: Mapping[str, Any]) -> Answer:
    content = (choice.get("logprobs") or {}).get("content")
    logprobs = [float(token["logprob"]) for token in content] if content else None
    usage = reply.get("usage") or {}
    several = max(1, len(reply.get("choices") or []))
    tokens = len(logprobs) if logprobs else int(usage.get("completion_tokens") or 0) // several
    text = (choice.get("message") or {}).get("content") or ""
    return Answer(text.strip(), tokens, logprobs, "length" if choice.get("finish_reason") == "length" else "stop")


def _models(reply: Mapping[str, Any]) -> list[str]:
    return sorted(str(entry.get("id")) for entry in reply.get("data") or [])


def _told(text: str) -> str:
    """Return what an error reply says, in one line: OpenAI's {"error": {"message"}}, or any text."""
    try:
        found = json.loads(text)
        error = found.get("error", found)
        text = str(error.get("message") or error.get("detail") or error) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
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
