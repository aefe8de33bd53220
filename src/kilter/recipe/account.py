"""What a stage cost: wall-clock seconds, tokens computed, peak memory; and the machine that paid it."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any


class Account:
    """Started when a stage starts; `close` gives what it cost, with the seconds `spent` on it before an interruption.

    Peak memory is the process's resident set (bytes), plus what torch allocated at most on an accelerator. Linux lets a
    process set its high-water mark back, so it is the stage's own; elsewhere it is the highest since the process began.
    """

    def __init__(self, spent: float = 0.0) -> None:
        self._start = time.perf_counter() - spent
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        torch = sys.modules.get("torch")
        if torch and torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def close(self, tokens: int | None = None) -> dict[str, Any]:
        return {
            "seconds": round(time.perf_counter() - self._start, 3),
            "tokens": tokens,
            "peak_memory_bytes": _peak_resident() + _peak_accelerator(),
        }


def _peak_resident() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peak_accelerator() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch and torch.cuda.is_available() else 0


def machine() -> dict[str, Any]:
    """Return what the computation runs on, as plain data: system, processor, cores, memory_bytes, accelerators."""
    return {
        "system": platform.platform(terse=True) + " " + platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": memory(),
        "accelerators": accelerators(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("kilter", "torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def memory() -> int | None:
    """Return the bytes of memory that this process may use: the machine's, or the container's limit if that is less."""
    found = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(ValueError, OSError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found, default=None)


def accelerators() -> list[str]:
    """Return the name of each accelerator that torch can use."""
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        return ["Apple MPS"]
    return []


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
