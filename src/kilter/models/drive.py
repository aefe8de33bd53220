"""Many items at once: methods are written for one item, this runs them concurrently and shows how far it is."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Item = TypeVar("Item")
Result = TypeVar("Result")


class Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


async def run(
    items: Sequence[Item],
    one: Callable[[Item], Awaitable[Result]],
    *,
    concurrency: int = 512,
    label: str = "",
    quiet: bool = False,
) -> list[Result]:
    """Return `one(item)` for every item, in order, at most `concurrency` at a time.

    The first exception stops the rest and is raised. On a terminal a bar shows items, rate and time left, unless it is
    to be `quiet`.
    """
    results: list[Any] = [None] * len(items)
    waiting = iter(enumerate(items))
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(label, total=len(items))

        async def work() -> None:
            # All workers draw from one iterator, so that a slow item holds up nobody else.
            for index, item in waiting:
                results[index] = await one(item)
                progress.advance(task)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(items))):
                    group.create_task(work())
        except BaseExceptionGroup as failed:
            raise _first(failed) from None
    return results


def wait(value: Any) -> Any:
    """Return `value`, or what it resolves to if it can be awaited; also where a loop already runs, as in a notebook."""
    if not inspect.isawaitable(value):
        return value

    async def whole() -> Any:
        found = await value
        while inspect.isawaitable(found):  # a method of several phases gives the `each` of its last
            found = await found
        return found

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(whole())
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, asyncio.run, whole()).result()


def _first(failed: BaseExceptionGroup) -> BaseException:
    """Return the first exception of a group that holds groups."""
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
