"""Ctrl-C between two steps instead of in the middle of one, so that there is a whole state to keep."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Wish:
    """Whether Ctrl-C was pressed."""

    stop: bool = False


@contextmanager
def held_back() -> Iterator[Wish]:
    """Hold the first Ctrl-C back: it is a wish for the block to heed. The second one interrupts at once.

    Outside the main thread, or where the program has its own way with Ctrl-C, nothing is held back.
    """
    wish = Wish()
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual is not signal.default_int_handler:
        yield wish
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if wish.stop:
            raise KeyboardInterrupt
        wish.stop = True

    signal.signal(signal.SIGINT, handle)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, usual)
