"""Two settings of a CPU's memory that cost or save more than anything else there; made as the engine is imported."""

from __future__ import annotations

import ctypes
import os
import sys

# Compiled matrix products that oneDNN and torch's layer above it each keep, one for every shape. Batches differ in
# shape, each is about a megabyte in bf16, and torch's 1024 of them filled a gigabyte; 256 were as fast.
KERNELS = 256
LARGEST = 2**27  # bytes of a tensor that is kept when it is freed


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
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    trim_threshold, mmap_threshold = -1, -3
    return bool(mallopt(mmap_threshold, LARGEST) and mallopt(trim_threshold, 2**31 - 1))
