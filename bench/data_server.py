"""A scripted server that answers as OpenAI-compatible ones do, lean enough not to be what is measured.

    python -m bench.data_server '{"latency": "tail", "refuse": 0.01, "crowd": 0.05, "hang": 0.01}'

It prints its address. Every answer, how long it takes and what goes wrong on the way follow from the row that is asked
for ("row N" in the last message) alone. latency: "none"; "tail", log-normal with a median of 1 s and a 99th percentile
of 10 s; "even", 0.5 to 1.5 s. refuse, crowd, hang: shares of the rows that are answered 400 always, 429 with
Retry-After 1 the first time, and never the first time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import sys
from statistics import NormalDist
from typing import Any

WORDS = 300  # of an answer
_ROW = re.compile(rb"row (\d+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_SIGMA = math.log(10) / NormalDist().inv_cdf(0.99)  # 99th percentile ten times the median


def share(row: int, purpose: str) -> float:
    """A number from 0 to 1 that depends on the row and the purpose alone."""
    return (int(hashlib.sha256(f"{purpose} {row}".encode()).hexdigest()[:12], 16) + 0.5) / 2**48


def latency(row: int, kind: str) -> float:
    """Seconds that the answer to `row` takes."""
    if kind == "tail":
        return math.exp(_SIGMA * NormalDist().inv_cdf(share(row, "latency")))
    return 0.5 + share(row, "latency") if kind == "even" else 0.0


def fault(row: int, plan: dict[str, Any]) -> str:
    """What goes wrong with `row`: refuse, crowd, hang or nothing."""
    at = share(row, "fault")
    for name in ("refuse", "crowd", "hang"):
        if at < plan.get(name, 0.0):
            return name
        at -= plan.get(name, 0.0)
    return ""


def answer(row: int) -> str:
    """The text that is answered."""
    return " ".join(f"w{(row * 31 + k * 7) % 997}" for k in range(WORDS))


class _Connection(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self, plan: dict[str, Any], asked: dict[int, int]) -> None:
        self.plan, self.asked, self.read = plan, asked, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, gap, rest = self.read.partition(b"\r\n\r\n")
        if not gap:
            return
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        self.read = rest[size:]
        found = _ROW.findall(rest[:size])
        if not found:
            self.send(200, {"object": "list", "data": [{"id": "teacher", "object": "model"}]})
            return
        row = int(found[-1])
        self.asked[row] = self.asked.get(row, 0) + 1
        wrong = fault(row, self.plan)
        if wrong == "refuse":
            self.send(400, {"error": {"message": f"row {row} is not for us"}})
        elif wrong == "crowd" and self.asked[row] == 1:
            self.send(429, {"error": {"message": "busy"}}, "Retry-After: 1\r\n")
        elif wrong != "hang" or self.asked[row] > 1:
            seconds = latency(row, self.plan.get("latency", "none"))
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self.reply, row)
            else:
                self.reply(row)

    def reply(self, row: int) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": answer(row)}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 30, "completion_tokens": 400, "total_tokens": 430}
        told = {"id": f"c{row}", "object": "chat.completion", "created": 0, "model": "teacher"}
        self.send(200, {**told, "choices": [choice], "usage": usage})

    def send(self, status: int, value: Any, more: str = "") -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        if not self.transport.is_closing():
            self.transport.write(head.encode() + body)


async def main(plan: dict[str, Any]) -> None:
    """Serve until somebody ends the process."""
    asked: dict[int, int] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(plan, asked), "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
