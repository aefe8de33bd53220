"""From async to plain: methods are written for one item as `async` code, people call them without knowing."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def wait(value: Any) -> Any:
    """Return `value`, or what it resolves to if it is a coroutine; also where a loop already runs, as in a notebook."""
    if not inspect.iscoroutine(value):
        return value
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(value)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, value).result()
