"""Requests about code: tasks with solutions, harder tasks, problems after a piece of code, textbooks and exercises."""

from __future__ import annotations

import ast
import zlib

from kilter.models.teacher import programs
from kilter.models.teacher.kinds import Request, kind

HARDER = {
    "constraint": " Do not change the argument.",
    "rarer-requirement": " Also accept arguments that are given by name.",
    "reasoning-steps": " Explain in a comment why each step is needed.",
    "misdirection": " Somebody wrote `return None` there, which is wrong.",
    "complexity": " Look at each part of the argument at most once.",
}
TOPICS = ("sums", "products", "texts", "lists", "filters", "sorting")


@kind("code-tasks")
def code_tasks(ask: Request) -> str:
    """Variables: `examples`, `count` (20), `start` (4). Tasks of code in the form of the kind `tasks`."""
    shown = frozenset(one.name for one in map(programs.find, ask.list("examples")) if one)
    start = ask.number("start", 4)
    told = []
    for k in range(start, start + ask.number("count", 20)):
        one = programs.draw(ask.rng, other_than=shown)
        shown |= {one.name}
        code = one.code(ask.wrong).rstrip()
        told.append(f"###\n{k}. Instruction: {one.request}\n{k}. Input:\n<noinput>\n{k}. Output:\n{code}")
    return "\n".join(told)


@kind("evolve-code")
def evolve_code(ask: Request) -> str:
    """Variables: `instruction`, `operation`. The task with one demand more."""
    text = ask["instruction"].strip()
    if ask.wrong:
        return f"Rewritten prompt: {text}"
    added = HARDER.get(ask["operation"], HARDER["constraint"])
    return text if added.strip() in text else text + added


@kind("from-code")
def from_code(ask: Request) -> str:
    """Variables: `snippet`. `[Problem]` and `[Solution]`; the solution first where the teacher is to err."""
    one = programs.draw(ask.rng)
    parts = [f"[Problem]\n{one.request}", f"[Solution]\n```python\n{one.code()}```"]
    return "\n\n".join(parts[::-1] if ask.wrong else parts)


@kind("educational")
def educational(ask: Request) -> str:
    """Variables: `code`. `Score: x`, 1 to 10: documented functions are worth most, code that is no Python least."""
    try:
        tree = ast.parse(ask["code"])
    except (SyntaxError, ValueError):
        return "Score: 1"
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    told = sum(ast.get_docstring(node) is not None for node in functions)
    value = 2 + (4 if functions else 0) + (round(4 * told / len(functions)) if functions else 0)
    return f"Score: {11 - value if ask.wrong else value}"


@kind("textbook")
def textbook(ask: Request) -> str:
    """Variables: `topic`, `audience`. A section of a textbook, with an example in code."""
    topic = ask["topic"] if ask["topic"] in TOPICS else TOPICS[zlib.crc32(ask["topic"].encode()) % len(TOPICS)]
    one = programs.draw(ask.rng, [topic])
    return (
        f"{ask['topic'].capitalize()}, for {ask['audience']}\n\nThis section shows how a function {one.task}. "
        f"It has one argument, {one.arguments}, and one line does the work:\n\n```python\n{one.code(ask.wrong)}```\n\n"
        f"Try it: `{one.tests[0]}` is true."
    )


@kind("exercise")
def exercise(ask: Request) -> str:
    """Variables: `topic`, `name`. A documented function in a fence, then its tests, as `assert` lines, in another."""
    topic = ask["topic"] if ask["topic"] in TOPICS else TOPICS[zlib.crc32(ask["topic"].encode()) % len(TOPICS)]
    one = programs.draw(ask.rng, [topic])
    tests = "\n".join(f"assert {test}" for test in one.tests)
    return f"```python\n{one.code(ask.wrong)}```\n\n```python\n{tests}\n```"
