"""A method is written for one item; `each` does it for all of them, many at a time, and gives the results in order.

    async def one(prompt: Prompt) -> Demonstration:
        answer = await answered(model, PROMPTS("answer", request=prompt.messages[-1].content), sampling)
        return Demonstration([*prompt.messages, Message("assistant", answer.text)])

    return each(records, one, label="answers")

What comes out streams: of however many items, a bounded number is in memory. An item whose `one` raises SetAside is
entered in the run's rejects and left out; whatever else it raises stops the rest and is raised.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from kilter.errors import SetAside
from kilter.models.budget import Enough
from kilter.models.drive import Rate, wait
from kilter.models.protocol import Answer, Model, Sampling
from kilter.records import Demonstration, Group, Message, Prompt
from kilter.store import rejects

Item = TypeVar("Item")
Result = TypeVar("Result")

CONCURRENCY = 512
AT_A_TIME = 256  # results that are handed on to whoever writes them
AHEAD = 16_384  # items, and
HELD = 2**28  # characters of text, that may wait for one that takes long

meter: ContextVar[Callable[[], str] | None] = ContextVar("meter", default=None)
"""What the progress bar says of tokens and cost, where the run counts them."""


class Each(Generic[Result]):
    """`one(item)` of every item, in order: iterate over it with `async for`, or `await` the list. Good for once."""

    def __init__(
        self, items: Iterable[Any], one: Callable[[Any], Awaitable[Result]], concurrency: int, label: str
    ) -> None:
        self._items, self._one, self._concurrency, self._label = items, one, concurrency, label

    def __await__(self) -> Generator[Any, None, list[Result]]:
        return self._all().__await__()

    async def _all(self) -> list[Result]:
        return [result async for result in self]

    async def __aiter__(self) -> AsyncIterator[Result]:
        kept = rejects.current()
        with _bar(self._label, self._items) as bar:
            line = _Line(self._items, self._one, self._concurrency)
            try:
                async for item, outcome in line.outcomes():
                    bar.advance()
                    if isinstance(outcome, SetAside):
                        if kept is None:
                            raise outcome
                        kept.set_aside(item, outcome)
                    else:
                        yield outcome
            finally:
                await line.stop()


def each(
    items: Iterable[Item], one: Callable[[Item], Awaitable[Result]], *, concurrency: int = CONCURRENCY, label: str = ""
) -> Each[Result]:
    """Return the results of `one(item)`, in the order of `items`, at most `concurrency` at a time.

    Nothing is begun before the result is iterated over or awaited. `items` is read as far as it is needed.
    """
    return Each(items, one, concurrency, label)


def pulled(made: Any) -> Iterator[Any]:
    """Yield one by one what a method has made: a list, an `Each`, or a coroutine that gives one of the two.

    Lists within are unpacked, None is left out. While one is written to a file, the others are waited for in bounded
    memory. In a notebook, whose loop already runs, they are all waited for first.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        yield from _unpacked(_pulled(made) if inspect.isawaitable(made) else made)
    else:
        yield from _unpacked(wait(made))


def _pulled(made: Awaitable[Any]) -> Iterator[Any]:
    async def some(stream: AsyncIterator[Any]) -> list[Any]:
        found = []
        async for one in stream:
            found.append(one)
            if len(found) == AT_A_TIME:
                break
        return found

    async def resolved() -> Any:
        return await made

    async def closed(stream: Any) -> None:
        await stream.aclose()

    with asyncio.Runner() as runner:
        found = made if isinstance(made, Each) else runner.run(resolved())
        if not isinstance(found, Each):
            yield from found
            return
        stream = aiter(found)
        try:
            while chunk := runner.run(some(stream)):
                yield from chunk
        finally:
            runner.run(closed(stream))


def _unpacked(made: Iterable[Any]) -> Iterator[Any]:
    for one in made:
        if isinstance(one, list):
            yield from one
        elif one is not None:
            yield one


async def answered(
    model: Model, messages: Sequence[Message], sampling: Sampling, *, cut: bool = False, empty: bool = False
) -> Answer:
    """Return the one answer of `model`; raise SetAside for one that cannot be used.

    That is one that holds nothing, that was cut off at max_tokens (unless `cut` or `empty` allow it), of which the
    server kept a part back, or that is no text.
    """
    [answer] = await model.ask(messages, sampling)
    if answer.finish_reason == "filter":
        raise SetAside("The server's filter kept a part of the answer back; leave it out or ask otherwise.", "filtered")
    if answer.finish_reason == "length" and not cut:
        raise SetAside(
            f"The answer was cut off at {sampling.max_tokens} tokens; allow more of them with max_tokens.", "cut off"
        )
    if not answer.text.strip() and not empty:
        raise SetAside("The answer is empty; ask otherwise or another model.", "empty")
    try:
        answer.text.encode()
    except UnicodeEncodeError:
        raise SetAside("The answer holds half of a surrogate pair, which is no character.", "broken text") from None
    return answer


@dataclass(eq=False, slots=True)
class _Begun:
    """An item, the task that does it, and how much text the two of them hold."""

    item: Any
    task: asyncio.Future[Any]
    size: int


class _Line(Generic[Result]):
    """The items that are begun and not yet given out, in order."""

    def __init__(self, source: Iterable[Any], one: Callable[[Any], Awaitable[Result]], concurrency: int) -> None:
        self._source, self._one, self._concurrency = iter(source), one, concurrency
        self._line: deque[_Begun] = deque()
        self._running = 0
        self._held = 0
        self._failed: BaseException | None = None
        self._moved = asyncio.Event()
        self._more = True

    async def outcomes(self) -> AsyncIterator[tuple[Any, Result | SetAside]]:
        """Yield every item with its result or with why it is set aside."""
        while True:
            self._begin()
            if self._failed is not None:
                if isinstance(self._failed, Enough):
                    await asyncio.gather(*(begun.task for begun in self._line), return_exceptions=True)
                raise self._failed
            if not self._line:
                return
            first = self._line[0]
            if not first.task.done():
                self._moved.clear()
                await self._moved.wait()
                continue
            self._line.popleft()
            self._held -= first.size
            error = first.task.exception()
            yield first.item, error if isinstance(error, SetAside) else first.task.result()

    async def stop(self) -> None:
        """Give up what is not done; afterwards nothing runs any more."""
        tasks = [begun.task for begun in self._line]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        """Begin items while there is room and nothing has failed."""
        while self._failed is None and self._more and self._running < self._concurrency and len(self._line) < AHEAD:
            if self._held > HELD and self._line:
                return
            try:
                item = next(self._source)
            except StopIteration:
                self._more = False
                return
            begun = _Begun(item, asyncio.ensure_future(self._one(item)), _size(item))
            begun.task.add_done_callback(partial(self._ended, begun))
            self._line.append(begun)
            self._running += 1
            self._held += begun.size

    def _ended(self, begun: _Begun, task: asyncio.Future[Any]) -> None:
        self._running -= 1
        self._moved.set()
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            size = _size(task.result())
            begun.size += size
            self._held += size
        elif not isinstance(error, SetAside) and self._failed is None:
            self._failed = error


def _size(value: Any) -> int:
    """Return about how many characters of text `value` holds, and something for every value."""
    if isinstance(value, str):
        return 64 + len(value)
    if isinstance(value, Prompt | Demonstration):
        return 512 + sum(len(message.content) for message in value.messages)
    if isinstance(value, Group):
        return 512 + sum(len(message.content) for message in value.prompt) + sum(map(len, value.responses))
    if isinstance(value, list | tuple):
        return 64 + sum(map(_size, value))
    if isinstance(value, dict):
        return 64 + sum(map(_size, value.values()))
    return 64


class _Bar:
    """A bar on stderr, where that is a terminal."""

    def __init__(self, label: str, total: int | None) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), _Cost(meter.get()),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._drawn = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._drawn.add_task(label, total=total) if self._drawn else None

    def advance(self) -> None:
        if self._drawn is not None and self._task is not None:
            self._drawn.advance(self._task)

    def __enter__(self) -> _Bar:
        if self._drawn is not None:
            self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn is not None:
            self._drawn.stop()


def _bar(label: str, items: Iterable[Any]) -> _Bar:
    return _Bar(label, len(items) if isinstance(items, Sized) else None)


class _Cost(ProgressColumn):
    """What the run says of its cost."""

    def __init__(self, told: Callable[[], str] | None) -> None:
        super().__init__()
        self._told = told

    def render(self, task: Task) -> Text:
        return Text(self._told() if self._told else "")
