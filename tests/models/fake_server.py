"""A real HTTP server on this machine that talks as OpenAI-compatible ones do, and misbehaves as they do."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from aiohttp import web


class FakeServer:
    """`trouble` is what the next requests get, in order; then answers come.

    It is a status, a status and what is told with it, "drop", "slow", "hang", or the text of a reply that is none. What
    hangs is answered once `opened` is set.
    """

    def __init__(self, trouble=(), *, most=None, key=None, prompt_logprobs=False, one_at_a_time=False, refuses=()):
        self.trouble = list(trouble)
        self.most, self.key, self.refuses = most, key, refuses
        self.prompt_logprobs, self.one_at_a_time = prompt_logprobs, one_at_a_time
        self.bodies, self.statuses, self.inside, self.crowd = [], Counter(), 0, 0
        self.opened = asyncio.Event()

    async def models(self, request):
        return web.json_response({"data": [{"id": "echo-1"}]})

    async def chat(self, request):
        self.inside += 1
        self.crowd = max(self.crowd, self.inside)
        try:
            reply = await self._reply(request)
        finally:
            self.inside -= 1
        self.statuses[reply.status] += 1
        return reply

    async def _reply(self, request):
        body = await request.json()
        self.bodies.append(body)
        await asyncio.sleep(0.002)
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        trouble = self.trouble.pop(0) if self.trouble else None
        if trouble == "drop":
            request.transport.close()
            return web.Response()
        if trouble == "hang":
            await self.opened.wait()
        elif trouble == "slow":
            await asyncio.sleep(5)
        elif isinstance(trouble, str):
            return web.Response(text=trouble, content_type="application/json")
        elif trouble:
            trouble, told = trouble if isinstance(trouble, tuple) else (trouble, f"trouble {trouble}")
            headers = {"Retry-After": "0.05"} if trouble == 429 else {}
            return web.json_response({"error": {"message": told}}, status=trouble, headers=headers)
        if self.most and self.inside > self.most:
            return web.json_response({"error": {"message": "too many"}}, status=429, headers={"Retry-After": "0.01"})
        for name in self.refuses:
            if name in body:
                return web.json_response({"error": {"message": f"Unsupported parameter: '{name}'."}}, status=400)
        if body["model"] != "echo-1":
            return web.json_response({"error": {"message": "no such model"}}, status=404)
        return web.json_response(self._answers(body))

    def _answers(self, body):
        words = [word for message in body["messages"] for word in message["content"].split()]
        text = "you said " + body["messages"][-1]["content"]
        token = {"token": "x", "logprob": -0.5}
        choice = {
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [token] * len(text.split())} if body.get("logprobs") else None,
        }
        reply = {
            "choices": [choice] * (1 if self.one_at_a_time else body.get("n", 1)),
            "usage": {"prompt_tokens": len(words), "completion_tokens": 5, "total_tokens": len(words) + 5},
        }
        if self.prompt_logprobs and "prompt_logprobs" in body:
            told = [{str(i): {"logprob": -float(len(word))}} for i, word in enumerate(words)]
            reply["prompt_logprobs"] = [None, *told[1:]]
        return reply


@asynccontextmanager
async def serving(server):
    """Run `server` on a free port of 127.0.0.1; yields its address."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
    finally:
        await runner.cleanup()
