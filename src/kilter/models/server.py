"""A model behind an OpenAI-compatible endpoint: `http://host:port/v1#name`.

Requests go out as they are asked for, as many at a time as the server bears (throttle.py). What may pass is tried
again, what will not pass is told in a sentence (line.py).
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urldefrag, urlsplit

from kilter.errors import KilterError, SetAside, nearest
from kilter.models.line import Line, Refused
from kilter.models.protocol import Answer, Sampling, Usage
from kilter.records import Message

KEYS = ("KILTER_API_KEY", "OPENAI_API_KEY")
# Options that some servers refuse, and an answer can do without.
DISPENSABLE = ("logprobs", "seed")
# How a server says that it does not know an option, rather than that it does not like its value.
_UNKNOWN = re.compile(r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|extra", re.IGNORECASE)
# An emoji that was cut in two: half of a surrogate pair is no character, and no file can hold it.
_HALVES = re.compile("[\ud800-\udfff]")
_REASONS = {"length": "length", "max_tokens": "length", "content_filter": "filter"}


class Server:
    """A chat model behind an OpenAI-compatible endpoint. `usage` counts what the server says it has computed.

    A copy of a request that nobody waited for in the end is counted like the answer that came: it may be on the bill.

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
        self.usage = Usage()
        self._left_out: set[str] = set()
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}

    @property
    def tokens(self) -> int:
        """Tokens read and written so far."""
        return self.usage.tokens

    async def identity(self) -> str:
        """Return address and model; the server is asked for the latter where it was not named."""
        if not self.model:
            self.model = await self._only_model(self._line())
        return f"{self.address}#{self.model}"

    async def ask(self, messages: Sequence[Message], sampling: Sampling) -> list[Answer]:
        """Return `sampling.n` answers; log-probs where they are wanted and the server tells them.

        Raises SetAside where the server refuses this request or keeps failing at it, KilterError where it is not there.
        """
        body: dict[str, Any] = {
            "messages": [message.to_json() for message in messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "n": sampling.n,
            "seed": sampling.seed,
        }
        # top_k and min_p are not OpenAI's, but understood by vLLM and SGLang.
        body |= {name: getattr(sampling, name) for name in ("top_k", "min_p", "logprobs") if getattr(sampling, name)}
        body |= {"stop": list(sampling.stop)} if sampling.stop else {}
        answers: list[Answer] = []
        while len(answers) < sampling.n:  # some servers give one answer, however many are asked for
            reply = await self._post("chat/completions", body)
            got = self._answers(reply, sampling.stop)
            if not got:
                raise SetAside(f"The server at {self.address} sent no answer; see its log.", "empty")
            answers += got
            body |= {"n": sampling.n - len(answers), "seed": sampling.seed + len(answers)}
        return answers[: sampling.n]

    async def score(self, messages: Sequence[Message], response: str) -> list[float]:
        """Return the log-prob (nats) of each token of `response`, and of what the chat template writes behind it.

        That takes a server that tells `prompt_logprobs`, as vLLM does. Raises KilterError for one that does not.
        """
        counted = self._line().counted
        begun = counted.get(tuple(messages))
        if begun is None:
            probe = {"messages": [message.to_json() for message in messages], "max_tokens": 1, "temperature": 0.0}
            usage = (await self._post("chat/completions", probe)).get("usage")
            begun = usage.get("prompt_tokens") if isinstance(usage, dict) else None
            if not isinstance(begun, int):
                raise KilterError(
                    f"The server at {self.address} does not tell how many tokens a prompt has, which scoring needs; "
                    "use vLLM's server, or the model's weights on this machine."
                )
            counted[tuple(messages)] = begun
        whole = [message.to_json() for message in (*messages, Message("assistant", response))]
        body = {"messages": whole, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        untold = KilterError(
            f"The server at {self.address} does not tell the log-probs of a given text, which scoring needs; "
            "use vLLM's server, or the model's weights on this machine."
        )
        try:
            reply = await self._post("chat/completions", body | {"add_generation_prompt": False})
        except SetAside as refused:
            if "prompt_logprobs" in str(refused):  # some ignore what they do not know, some refuse it
                raise untold from None
            raise
        told = reply.get("prompt_logprobs")
        if not told:
            raise untold
        # One dictionary a token, from its id to what is known of it; the first has nothing before it.
        return [float(next(iter(token.values()))["logprob"]) for token in told[begun:]]

    def _answers(self, reply: Mapping[str, Any], stop: Sequence[str]) -> list[Answer]:
        try:
            return [_answer(choice, reply, self.name, stop) for choice in reply.get("choices") or []]
        except (AttributeError, TypeError, ValueError, KeyError, OverflowError) as error:
            raise SetAside(
                f"The server at {self.address} sent an answer that is not built like OpenAI's ({error}); see its log.",
                "malformed",
            ) from None

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the server's reply to `body` with the model's name, less what the server does not take."""
        tokens = int(body["max_tokens"]) * int(body.get("n", 1))
        line = self._line()
        if not self.model:
            self.model = await self._only_model(line)
        left_out = set(self._left_out)
        while True:
            sent = {key: value for key, value in body.items() if key not in left_out}
            if "max_tokens" in left_out:
                sent["max_completion_tokens"] = body["max_tokens"]
            try:
                reply = await line.send("POST", path, sent | {"model": self.model}, tokens=tokens)
            except Refused as refused:
                culprit = _culprit(refused)
                if culprit not in sent:
                    raise await self._explained(line, refused) from None
                left_out.add(str(culprit))
                continue
            # Only now is it known that this was why; a refusal may also have quoted the request.
            self._left_out |= left_out
            return reply

    async def _only_model(self, line: Line) -> str:
        try:
            known = _models(await line.send("GET", "models"))
        except Refused as refused:
            raise await self._explained(line, refused) from None
        except SetAside as trouble:
            raise KilterError(
                f"The server at {self.address} does not say which models it has ({str(trouble).rstrip('.')}); "
                "add # and the name of one to its address."
            ) from None
        if len(known) != 1:
            raise KilterError(f"The server at {self.address} has several models: add # and one of {', '.join(known)}.")
        return known[0]

    async def _explained(self, line: Line, refused: Refused) -> KilterError:
        """Return what a refusal means and what to do: of this request, or of all."""
        where = f"The server at {self.address}"
        if refused.status in (401, 403):
            return KilterError(f"{where} wants another key ({refused.status}); set {KEYS[0]} to one that it takes.")
        if refused.status == 402:
            return KilterError(f"{where} wants to be paid first ({refused.told}); pay, then go on.")
        if refused.status in (404, 405):
            try:
                known = _models(await line.send("GET", "models"))
            except (Refused, KilterError):
                return KilterError(f"{where} knows no chat completions; check the address, which often ends with /v1.")
            if self.model not in known:
                hint = nearest(self.model, known) or f" It has {', '.join(known)}."
                return KilterError(f"{where} has no model '{self.model}'.{hint}")
        return SetAside(
            f"{where} refuses a request ({refused.status}): {refused.told}; change what it names.", "refused"
        )

    def _line(self) -> Line:
        loop = asyncio.get_running_loop()
        if loop not in self._lines:
            for ended in [other for other in self._lines if other.is_closed()]:
                del self._lines[ended]
            key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
            line = Line(self.address, key, timeout=self.timeout, concurrency=self.concurrency, usage=self.usage)
            self._lines[loop] = line
        return self._lines[loop]


def _culprit(refused: Refused) -> str | None:
    """Return the option that the server does not take, where that is why it refuses."""
    if refused.status not in (400, 422):
        return None
    if "max_tokens" in refused.told and _UNKNOWN.search(refused.told):
        return "max_tokens"
    return next((name for name in DISPENSABLE if name in refused.told), None)


def _answer(choice: Mapping[str, Any], reply: Mapping[str, Any], model: str, stop: Sequence[str]) -> Answer:
    content = (choice.get("logprobs") or {}).get("content")
    logprobs = [float(token["logprob"]) for token in content] if content else None
    usage = reply.get("usage") or {}
    several = max(1, len(reply.get("choices") or []))
    tokens = len(logprobs) if logprobs else int(usage.get("completion_tokens") or 0) // several
    text = (choice.get("message") or {}).get("content") or ""
    if not isinstance(text, str):
        raise TypeError("its content is no text")
    reason = _REASONS.get(str(choice.get("finish_reason")), "stop")
    for ending in stop:
        text = text.partition(ending)[0]  # some servers leave it on
    return Answer(_HALVES.sub("\ufffd", text.strip()), tokens, logprobs, reason, model)


def _models(reply: Mapping[str, Any]) -> list[str]:
    return sorted(str(entry.get("id")) for entry in reply.get("data") or [])
