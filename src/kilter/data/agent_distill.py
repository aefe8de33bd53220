"""Trajectories of models that use tools: single calls, searches, thoughts with actions; kept by what they come to."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from kilter.data.answers import due_of, equal, final
from kilter.data.calls import Call, Interface, fault, interfaces, listing, parsed
from kilter.data.drafts import sound
from kilter.data.replies import asked_of, listed, model_of
from kilter.data.sieve import leave_out
from kilter.data.tokens import tokenise
from kilter.data.tool_search import Search, depth_first
from kilter.errors import KilterError, SetAside
from kilter.feedback.numbers import number
from kilter.models.each import each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, Share, method

PROMPTS = Prompts(__file__)
Way = Literal["calls", "search", "react", "fireact", "filter"]
PAPERS = {
    "calls": "arXiv:2305.15334", "search": "arXiv:2307.16789", "react": "arXiv:2306.05301",
    "fireact": "arXiv:2310.05915", "filter": "arXiv:2310.12823",
}  # fmt: skip
_STEP = re.compile(
    r"^[ \t*]*thought[ \t*]*[:：](.*?)^[ \t*]*action[ \t*]*[:：](.*)", re.IGNORECASE | re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Step:
    """A thought, the action as it was written, and what came of it."""

    thought: str
    action: str
    observation: str


@method("agent-distill", wing="data", paper="arXiv:2305.15334", survey="S3 §imitation", aliases=("gorilla", "toolllm"))
async def agent_distill(
    model: Model | None = None,
    records: list[Prompt | Demonstration] | None = None,
    *,
    way: Way = "calls",
    tools: str = "",
    executor: str = "",
    n: Count = 10,
    shown: Count = 1,
    depth: Count = 8,
    width: Count = 2,
    tries: Count = 2,
    reward: str = "reward",
    least: float = 1.0,
    agents: Share = 0.2,
    max_tokens: Count = 512,
    temperature: Amount = 0.7,
    seed: int = 0,
) -> list[Demonstration]:
    """Data for agents that use tools; `tools` is a file of functions (name, description, parameters).

        calls     Gorilla (Patil et al. 2023): `n` requests of each function, and the call that fulfils each, written
                  beside `shown` functions of the reference that resemble the request (a retriever, by shared words).
                  The call is read as a syntax tree: a function that is not in `tools` is a hallucination; missing,
                  unknown or doubled arguments are faults; another function than the request was made for is wrong
        search    ToolLLM (Qin et al. 2023): of each record's request a depth-first search over actions, `width` at a
                  point and `depth` deep; a branch ends badly with GiveUp, a faulty call or an error, well with Finish
        react     ToolAlpaca (Tang et al. 2023): the same without going back, one action after the other
        fireact   FireAct (Chen et al. 2023): of each record with a known answer a chain of thought, a trajectory as in
                  react, and where that was wrong one more after a reflection (Reflexion); those that come to the answer
                  stay, and so the methods mix. meta["style"]
        filter    AgentTuning (Zeng et al. 2023): records with meta[`reward`] of at least `least` stay, mixed with
                  those that have none (general data) so that the share `agents` (eta = 0.2) are trajectories

    What a function returns is played by the `executor`, which is told its description and the calls before. Nothing is
    called or run. meta: task, tools, trajectory [{thought, action, observation}], reward, kept.

    Options:
        way: what is made
        tools: file of the functions
        executor: model that plays the functions; without it the same model
        n: requests of a function
        shown: functions that a request is shown with
        depth: most actions of a trajectory
        width: most actions that are tried at one point of a search
        tries: trajectories of one style, where the first does not come to the answer
        reward: name in the records' meta of a trajectory's reward
        least: lowest reward that is kept
        agents: share of trajectories in the mixture of filter
        max_tokens: longest reply
        temperature: sampling temperature
        seed: seed of replies and draws
    """
    if way == "filter":
        return _filtered(_some(records, way), reward, least, agents, seed)
    if model is None or not tools:
        raise KilterError(f"The way '{way}' asks a model about functions; give a model, and their file as tools=FILE.")
    known = interfaces(tools)
    agent = _Agent(model, model_of(executor, model), known, way, depth, width, max_tokens, temperature, seed)
    if way == "calls":
        return await _calls(agent, n, shown)
    requests = _some(records, way)
    label = f"{way} · {model.name}"
    if way == "fireact":
        made = await each(requests, lambda record: agent.mixed(record, tries), label=label)
        return [record for some in made for record in some]
    return await each(requests, agent.one, label=label)


def _some(records: list[Prompt | Demonstration] | None, way: str) -> list[Prompt | Demonstration]:
    if not records:
        raise KilterError(f"The way '{way}' reads records; give it some.")
    return records


def step_in(text: str) -> tuple[str, str]:
    """Return thought and action of a reply; raise SetAside where it has no action."""
    found = _STEP.search(text)
    thought, action = (found[1], found[2]) if found else ("", text)
    if not action.strip():
        raise SetAside("The reply has no action.", "no action")
    return thought.strip(), action.strip()


@dataclass(frozen=True)
class _Agent:
    model: Model
    executor: Model
    known: dict[str, Interface]
    way: Way
    depth: int
    width: int
    max_tokens: int
    temperature: float
    seed: int

    async def one(self, record: Prompt | Demonstration) -> Demonstration:
        question = asked_of(record.messages)
        told = Search()
        path = await self.path(question, width=self.width if self.way == "search" else 1, told=told)
        if path is None:
            raise SetAside(f"No path of {told.steps} actions that were tried comes to an end.", "no path")
        return self.made(record, question, path, steps=told.steps)

    async def path(
        self, question: str, *, width: int, told: Search | None = None, advice: str = "", k: int = 0
    ) -> list[Step] | None:
        """Return the steps to Finish, None where the search ends without it."""
        tools = listing(list(self.known.values()))

        async def expand(path: Sequence[Step], tried: Sequence[Step]) -> Step | None:
            before = [step.action for step in tried]
            asked = PROMPTS("act", question=question, tools=tools, steps=list(path), tried=before, advice=advice)
            reply = await sound(self.model, asked, self.sampling(k + len(tried)))
            thought, action = step_in(reply.text)
            if action in before:
                return None
            return Step(thought, action, await self.observed(action, path))

        return await depth_first(expand, ended, depth=self.depth, width=width, told=told)

    async def observed(self, action: str, path: Sequence[Step]) -> str:
        """Return what an action comes to, an error where it is no call of the functions."""
        call = parsed(action)
        if call is None:
            return "error: this is no call of a function"
        if call.name in ("Finish", "GiveUp"):
            return ""
        wrong = fault(call, self.known)
        if wrong:
            return f"error: {wrong[1]}"
        asked = PROMPTS("execute", tool=listing([self.known[call.name]])[0], call=action, steps=list(path))
        return (await sound(self.executor, asked, self.sampling(0))).text.strip()

    async def mixed(self, record: Prompt | Demonstration, tries: int) -> list[Demonstration]:
        """Return the trajectories of three styles that come to the record's answer."""
        question, due = asked_of(record.messages), due_of(record)
        if not due:
            raise SetAside("It tells no right answer, so that no trajectory could be judged.", "no answer")
        made = []
        for k in range(tries):
            reply = await sound(self.model, PROMPTS("think", question=question), self.sampling(k))
            if equal(due, final(reply.text)):
                made.append(self.made(record, question, [], style="cot", text=reply.text.strip()))
                break
        path = await self.path(question, width=1)
        if path is not None and equal(due, finished(path)):
            return [*made, self.made(record, question, path, style="react")]
        steps = path or []
        for k in range(1, tries + 1):
            asked = PROMPTS("reflect", question=question, steps=steps)
            advice = (await sound(self.model, asked, self.sampling(k))).text.strip()
            path = await self.path(question, width=1, advice=advice, k=k)
            if path is not None and equal(due, finished(path)):
                made.append(self.made(record, question, path, style="reflexion", advice=advice))
                break
            steps = path or steps
        if not made:
            raise SetAside(f"No trajectory comes to the answer {due[:40]!r}.", "wrong answer")
        return made

    def sampling(self, k: int) -> Sampling:
        return Sampling(self.max_tokens, self.temperature, seed=self.seed + k)

    def made(
        self, record: Prompt | Demonstration, question: str, path: Sequence[Step], *, text: str = "", **more: object
    ) -> Demonstration:
        """Return a trajectory as a conversation: what the functions returned stands in the user's turns."""
        turns = [Message("user", question)]
        for step in path:
            turns.append(Message("assistant", f"Thought: {step.thought}\nAction: {step.action}"))
            if step.observation:
                turns.append(Message("user", f"Observation: {step.observation}"))
        if text:
            turns.append(Message("assistant", text))
        if self.known and path:
            names = ", ".join(f"{tool.name}({', '.join(tool.parameters)})" for tool in self.known.values())
            turns.insert(0, Message("system", f"Functions: {names}, Finish(answer)."))
        meta = {
            "task": question,
            "tools": list(self.known),
            "trajectory": [asdict(step) for step in path],
            "reward": 1.0,
            "kept": True,
            **more,
        }
        origin = Origin(
            "agent-distill", PAPERS[self.way], self.model.name, (record.id,), self.seed, PROMPTS.version("act")
        )
        return Demonstration(turns, origin=origin, meta=meta)


def ended(step: Step) -> bool | None:
    """Whether a step ends its path well (Finish), badly (GiveUp, an error), or not at all."""
    call = parsed(step.action)
    if call is not None and call.name in ("Finish", "GiveUp"):
        return call.name == "Finish" and bool(_answer(call))
    return False if step.observation.lower().startswith(("error", '{"error', "{'error")) else None


def finished(path: Sequence[Step]) -> str:
    """Return the answer that a path ends with."""
    call = parsed(path[-1].action) if path else None
    return _answer(call) if call is not None else ""


def _answer(call: Call) -> str:
    return str(call.names.get("answer", call.places[0] if call.places else "")).strip()


async def _calls(agent: _Agent, n: int, shown: int) -> list[Demonstration]:
    tools = list(agent.known.values())

    async def requests(tool: Interface) -> list[tuple[Interface, str]]:
        asked = PROMPTS("instructions", tool=listing([tool])[0], n=n, what="requests", about=tool.name)
        reply = await sound(agent.model, asked, agent.sampling(0))
        return [(tool, text) for text in listed(reply.text, n)]

    async def one(item: tuple[Interface, str]) -> Demonstration:
        tool, request = item
        near = listing(retrieved(request, tools, shown))
        reply = await sound(agent.model, PROMPTS("call", question=request, tools=near), agent.sampling(0))
        call = parsed(reply.text)
        if call is None:
            raise SetAside("The reply holds no call that can be read.", "no call")
        wrong = fault(call, agent.known)
        if wrong:
            raise SetAside(wrong[1], wrong[0])
        if call.name != tool.name:
            raise SetAside(f"The request is one for '{tool.name}', and '{call.name}' is called.", "wrong function")
        prompt = Prompt([Message("user", request)])
        made = agent.made(prompt, request, [], text=reply.text.strip(), reference=[t["name"] for t in near])
        return Demonstration(made.messages, origin=made.origin, meta={**made.meta, "call": call.name})

    asked = await each(tools, requests, label=f"requests · {agent.model.name}")
    return await each([item for some in asked for item in some], one, label=f"calls · {agent.model.name}")


def retrieved(request: str, tools: Sequence[Interface], count: int) -> list[Interface]:
    """Return the functions whose names and descriptions share most words with the request, best first."""
    texts = [f"{tool.name.replace('_', ' ').replace('.', ' ')} {tool.description}" for tool in tools]
    found = tokenise([request, *texts])
    rows = [set(found.hashes[a:b].tolist()) for a, b in zip(found.starts[:-1], found.starts[1:], strict=True)]
    shared = [len(rows[0] & row) / max(1, len(row)) ** 0.5 for row in rows[1:]]
    return [tools[i] for i in sorted(range(len(tools)), key=lambda i: -shared[i])[:count]]


def _filtered(
    records: list[Prompt | Demonstration], name: str, least: float, share: float, seed: int
) -> list[Demonstration]:
    """Return trajectories whose reward is high enough, mixed with general data."""
    agents: list[Demonstration] = []
    general: list[Demonstration] = []
    for record in records:
        told = record.meta.get(name, (record.meta.get("extra") or {}).get(name))
        value = number(told)
        if not isinstance(record, Demonstration) or record.messages[-1].role != "assistant":
            leave_out(record, "no answer", "It does not end with a turn of the assistant.")
        elif told is None:
            general.append(record)
        elif value is None:
            leave_out(record, "no reward", f"Its reward is {told!r}, which is no number.")
        elif value < least:
            leave_out(record, f"reward under {least:g}", f"Its reward is {value:g}.")
        else:
            meta = {**record.meta, "kept": True}
            agents.append(Demonstration(record.messages, record.id, record.origin, meta))
    draw = random.Random(f"agent-distill {seed}")
    if general and agents and 0 < share < 1:
        # As many of each as the mixture allows.
        size = min(len(agents) / share, len(general) / (1 - share))
        for kept, part in ((agents, share), (general, 1 - share)):
            draw.shuffle(kept)
            for record in kept[round(size * part) :]:
                leave_out(record, "mixture", "The mixture has enough of its kind.")
            del kept[round(size * part) :]
    mixed = [*agents, *general] if share not in (0.0, 1.0) else agents if share else general
    draw.shuffle(mixed)
    return mixed
