"""Two models play roles and solve a task together: one instructs, the other does."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass

from kilter.data.drafts import sound
from kilter.data.replies import listed, model_of, requests_in
from kilter.errors import SetAside
from kilter.models.each import Each, each
from kilter.models.protocol import Model, Sampling
from kilter.prompts import Prompts
from kilter.records import Demonstration, Message, Origin, Prompt
from kilter.registry import Amount, Count, method

PROMPTS = Prompts(__file__)
PAPER = "arXiv:2303.17760"
DONE = "<TASK_DONE>"
SIDES = ("professions of an expert who gives help", "professions or roles of a person who wants help")

_INSTRUCTION = re.compile(r"^[ \t*#]*(?:Instruction|指令)[ \t*]*[:：]", re.IGNORECASE | re.MULTILINE)
_FAREWELL = re.compile(r"\b(good ?bye|bye|welcome|thank you|thanks)\b|再见|谢谢|不客气", re.IGNORECASE)
_WITHOUT, _FAREWELLS = 3, 4  # messages in a row


@dataclass(frozen=True)
class Task:
    """What two roles are to do together."""

    assistant_role: str
    user_role: str
    text: str
    parents: tuple[str, ...] = ()


@method("camel", wing="data", paper=PAPER, survey="S1 §4.2, S2 §2.3", aliases=("role-play",))
async def camel(
    model: Model,
    records: list[Prompt] | None = None,
    *,
    user: str = "",
    assistant_roles: str = "",
    user_roles: str = "",
    roles: Count = 50,
    tasks: Count = 10,
    conversations: int | None = None,
    words: Count = 50,
    messages: Count = 40,
    max_tokens: Count = 1024,
    total_tokens: Count = 8192,
    temperature: Amount = 1.0,
    seed: int = 0,
) -> Each[Demonstration]:
    """Conversations of two agents in roles about a task (Li et al. 2023, CAMEL's AI Society).

    `roles` roles of each side; of every pair of them `tasks` tasks; each task made specific; then the user agent gives
    one instruction a turn (Instruction: ... Input: ...) and the assistant agent carries it out (Solution: ...). With
    records, their requests are the tasks and the first roles play all of them. A conversation ends

        done: the user agent writes <TASK_DONE>;                          messages: there are `messages` messages;
        no instructions: three turns of the user in a row are none;       roles turned: the assistant gives one;
        farewells: four messages in a row thank or say good-bye;          tokens: `total_tokens` were written.

    A message counts once, however many words of farewell are in it. The message that ends a conversation by its fault
    (all but `messages` and `tokens`) is not in the record, nor is a last one of the user. One that ends so before the
    first answer is left out. meta: role_1 (assistant), role_2 (user), original_task, specified_task, num_messages,
    termination_reason.

    Options:
        user: model of the user agent; without it the same model is both
        assistant_roles: roles of the assistant, with commas; without them the model names some
        user_roles: roles of the user, with commas; without them the model names some
        roles: how many roles a side the model is to name
        tasks: how many tasks a pair of roles
        conversations: most conversations, drawn from all tasks; without it there is one for every task
        words: most words of a task that was made specific
        messages: most messages of a conversation
        max_tokens: longest message
        total_tokens: most tokens of a conversation
        temperature: sampling temperature
        seed: seed of tasks, draws and messages
    """
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    other = model_of(user, model)
    sides = [
        [name.strip() for name in given.split(",") if name.strip()] or await _roles(model, what, roles, sampling)
        for given, what in zip((assistant_roles, user_roles), SIDES, strict=True)
    ]
    if records:
        all_tasks = [Task(sides[0][0], sides[1][0], text, parents) for text, parents in requests_in(records)]
    else:
        all_tasks = [
            task
            for some in await _tasks(model, list(itertools.product(sides[0], sides[1])), tasks, sampling)
            for task in some
        ]
    if conversations is not None and conversations < len(all_tasks):
        chosen = sorted(random.Random(f"camel {seed}").sample(range(len(all_tasks)), conversations))
        all_tasks = [all_tasks[i] for i in chosen]

    async def one(task: Task) -> Demonstration:
        names = {"assistant_role": task.assistant_role, "user_role": task.user_role}
        asked = PROMPTS("specify", task=task.text, words=words, **names)
        specified = (await sound(model, asked, sampling)).text.strip()
        turns, why, writer = await _played(model, other, {**names, "task": specified}, sampling, messages, total_tokens)
        if not turns:
            raise SetAside(f"The conversation ended before the first answer ({why}).", why)
        meta = {
            "role_1": task.assistant_role,
            "role_2": task.user_role,
            "original_task": task.text,
            "specified_task": specified,
            "num_messages": len(turns),
            "termination_reason": why,
        }
        origin = Origin("camel", PAPER, writer, task.parents, seed, PROMPTS.version("assistant"))
        return Demonstration(turns, origin=origin, meta=meta)

    return each(all_tasks, one, label=f"conversations · {model.name}")


async def _played(
    assistant: Model, user: Model, roles: dict[str, str], sampling: Sampling, most: int, tokens: int
) -> tuple[list[Message], str, str]:
    """Return the messages of a conversation that ended, why it did, and who played the assistant."""
    turns: list[Message] = []
    spent = missing = farewells = 0
    writer = assistant.name
    while True:
        asked = PROMPTS("user", history=turns, done=DONE, **roles)
        said = await sound(user, asked, sampling, cut=True, empty=True)
        spent += said.tokens
        missing = 0 if _INSTRUCTION.search(said.text) else missing + 1
        farewells = farewells + 1 if _FAREWELL.search(said.text) else 0
        why = (
            "done" if DONE in said.text
            else "no instructions" if missing == _WITHOUT
            else "farewells" if farewells == _FAREWELLS
            else "empty" if not said.text.strip()
            else ""
        )  # fmt: skip
        if why:
            return turns, why, writer
        turns = [*turns, Message("user", said.text.strip())]
        reply = await sound(assistant, PROMPTS("assistant", history=turns, **roles), sampling, cut=True, empty=True)
        writer = reply.model or writer
        spent += reply.tokens
        farewells = farewells + 1 if _FAREWELL.search(reply.text) else 0
        why = (
            "roles turned" if _INSTRUCTION.search(reply.text)
            else "farewells" if farewells == _FAREWELLS
            else "empty" if not reply.text.strip()
            else "cut off" if reply.finish_reason == "length"
            else ""
        )  # fmt: skip
        if why:
            return turns[:-1], why, writer
        turns = [*turns, Message("assistant", reply.text.strip())]
        if spent >= tokens:
            return turns, "tokens", writer
        if len(turns) + 2 > most:
            return turns, "messages", writer


async def _roles(model: Model, what: str, n: int, sampling: Sampling) -> list[str]:
    reply = await sound(model, PROMPTS("roles", what=what, n=n, about=""), sampling)
    return listed(reply.text, n)


async def _tasks(model: Model, pairs: list[tuple[str, str]], n: int, sampling: Sampling) -> list[list[Task]]:
    async def one(pair: tuple[str, str]) -> list[Task]:
        assistant_role, user_role = pair
        asked = PROMPTS(
            "tasks",
            n=n,
            what="tasks",
            about=f"{assistant_role}, {user_role}",
            assistant_role=assistant_role,
            user_role=user_role,
        )
        reply = await sound(model, asked, sampling)
        return [Task(assistant_role, user_role, text) for text in listed(reply.text, n)]

    return await each(pairs, one, label=f"tasks · {model.name}")
