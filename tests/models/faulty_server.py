"""An OpenAI-compatible server in a process of its own that misbehaves by plan: `python faulty_server.py PLAN.json`.

What becomes of a request depends on its text alone (and on how often that was asked), so that two runs meet the same
faults. The first line of stdout is the address; SIGTERM ends it. Every request is a line in the plan's `log`, written
before it is answered: the number of the request and the row that it asks for.

    PLAN: {"log": FILE, "refuse": [rows], "crowd": [rows], "hang": [rows], "drop": [rows], "break": [rows],
           "empty": [rows], "cut": [rows], "huge": [rows], "odd": [rows], "seconds": [least, most]}

A row is the number after "row" in the last message. Crowded, hung, dropped and broken rows are so the first time only.
"""

import asyncio
import hashlib
import json
import re
import sys
from collections import Counter

from aiohttp import web

FIRST_TIME_ONLY = ("crowd", "hang", "drop", "break")


class FaultyServer:
    def __init__(self, plan):
        self.rows = {name: set(rows) for name, rows in plan.items() if name not in ("log", "seconds")}
        self.seconds = plan.get("seconds", (0.0, 0.0))
        self.log = open(plan["log"], "a", encoding="utf-8")  # noqa: SIM115 - as long as the process
        self.asked = Counter()

    async def models(self, request):
        return web.json_response({"data": [{"id": "teacher"}]})

    async def chat(self, request):
        body = await request.json()
        row = int(re.search(r"row (\d+)", body["messages"][-1]["content"])[1])
        asked = json.dumps([body["messages"], body["seed"], body["model"]], ensure_ascii=False)
        self.asked[asked] += 1
        self.log.write(f"{self.asked.total()} {row}\n")
        self.log.flush()
        faults = {name for name, rows in self.rows.items() if row in rows}
        if self.asked[asked] > 1:
            faults -= set(FIRST_TIME_ONLY)
        least, most = self.seconds
        await asyncio.sleep(least + (most - least) * share(asked))
        if "hang" in faults:
            await asyncio.sleep(3600)
        if "drop" in faults:
            request.transport.abort()
            return web.Response()
        if "refuse" in faults:
            return web.json_response({"error": {"message": f"row {row} is not for us"}}, status=400)
        if "crowd" in faults:
            return web.json_response({"error": {"message": "busy"}}, status=429, headers={"Retry-After": "0.2"})
        if "break" in faults:
            return web.Response(text='{"choices": [{"message": {"content": "half an ans')
        return web.json_response(answer(body, row, asked, faults))


def answer(body, row, asked, faults):
    text = f"answer {row} 回答 {hashlib.sha256(asked.encode()).hexdigest()[:12]}"
    text = {"empty": " \n", "huge": "x" * 10_000_000, "odd": text + " \ud83d"}.get(next(iter(faults), ""), text)
    choice = {
        "message": {"role": "assistant", "content": text},
        "finish_reason": "length" if "cut" in faults else "stop",
    }
    read = sum(len(message["content"].split()) for message in body["messages"])
    return {"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": 4, "total_tokens": read + 4}}


def share(text):
    """A number from 0 to 1 that depends on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


async def main(plan):
    server = FaultyServer(plan)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    print(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        asyncio.run(main(json.load(file)))
