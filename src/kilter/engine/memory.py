"""Two settings of a CPU's memory that cost or save more than anything else there; made as the engine is imported.

And their opposite, for a run that is short of memory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

# Compiled matrix products that oneDNN and torch's layer above it each keep, one for every shape. Batches differ in
# shape, each is about a megabyte in bf16, and torch's 1024 of them filled a gigabyte; 256 were as fast.
KERNELS = 256
LARGEST = 2**27  # bytes of a tensor that is kept when it is freed
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names for its settings


def settle() -> None:
    """Keep freed tensors, keep fewer kernels. Both must come before the first large tensor or matrix product."""
    keep_freed()
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KERNELS))


def keep_freed() -> bool:
    """Let glibc keep freed tensors for the next ones instead of giving them back to the kernel. False: not glibc.

    All but the largest: what a vocabulary of 150,000 makes (0.3 GB and more a tensor) leaves holes that nothing else
    fits into, and a step on it takes so long that fresh pages do not show.

    Fresh pages for every activation took up to half of a step at 3 M parameters (page faults): 6.9 k tokens/s of
    fine-tuning with this, 3.4 k without; 21 pairs/s of DPO against 19 (long prompts), 43 against 25 (short ones).
    """
    glibc = _glibc()
    return bool(glibc and glibc.mallopt(MMAP_THRESHOLD, LARGEST) and glibc.mallopt(TRIM_THRESHOLD, 2**31 - 1))


def give_back_freed() -> bool:
    """Let malloc give freed tensors back from now on, and those that it kept at once. False: not glibc, nor jemalloc.

    For a run that is short of memory rather than of time: where weights come and go, what is kept grows to three times
    what is used.
    """
    if jemalloc := _jemalloc():
        return _purge(jemalloc)
    glibc = _glibc()
    if glibc is None:
        return False
    done = glibc.mallopt(MMAP_THRESHOLD, 2**20) and glibc.mallopt(TRIM_THRESHOLD, 2**17)
    glibc.malloc_trim(0)
    return bool(done)


def _purge(jemalloc: Any) -> bool:
    """Let each of jemalloc's arenas, and those that are still to come, keep nothing that was freed."""
    many, size, none = ctypes.c_uint(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_uint)), ctypes.c_ssize_t(0)
    jemalloc.mallctl(b"arenas.narenas", ctypes.byref(many), ctypes.byref(size), None, ctypes.c_size_t(0))
    done = [
        jemalloc.mallctl(name, None, None, ctypes.byref(none), ctypes.c_size_t(ctypes.sizeof(none)))
        for name in (b"arenas.dirty_decay_ms", *(b"arena.%d.dirty_decay_ms" % i for i in range(many.value)))
    ]
    return done[0] == 0  # of an arena that nobody has used yet it says that there is none


def _jemalloc() -> Any | None:
    """Return the process itself where its malloc is jemalloc's (see allocator.py)."""
    try:
        own = ctypes.CDLL(None)
        return own if own.mallctl else None
    except (OSError, TypeError, AttributeError):
        return None


def _glibc() -> Any | None:
    """Return the C library where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = ctypes.CDLL("libc.so.6")
        return found if found.mallopt and found.malloc_trim else None
    except (OSError, AttributeError):
        return None
