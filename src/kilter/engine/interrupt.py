"""Ctrl-C between two steps instead of in the middle of one, so that there is a whole state to keep.

And of several processes: what is left to say when another one has gone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch

from kilter.errors import KilterError

# What torch's ways of talking between processes say when nobody is there any more.
GONE = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "timed out waiting")


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


class Ended(RuntimeError):
    """torchrun told this process to end, as it does when another one has."""


@contextmanager
def in_company() -> Iterator[None]:
    """Turn the loss of another process of the run into a KilterError; for a run of several processes.

    Whoever is left hears of it in one of two ways: it waits for the other in vain, or is told to end itself. Either way
    SIGTERM does nothing from then on, so that the process comes to say why it ends.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise Ended("SIGTERM")

    main = threading.current_thread() is threading.main_thread()
    after = signal.signal(signal.SIGTERM, handle) if main else None
    try:
        yield
    except RuntimeError as error:
        known = isinstance(error, Ended | torch.distributed.DistBackendError)
        if not known and not any(word in str(error).lower() for word in GONE):
            raise
        after = signal.SIG_IGN
        raise KilterError(
            "Another process of this run has gone; what it said is above, or in its log. Mend that and give the same "
            "command again: it goes on from the last state."
        ) from error
    finally:
        if main:
            signal.signal(signal.SIGTERM, after)
