"""jemalloc in the place of the C library's malloc, where it is installed (Debian: apt install libjemalloc2).

Batches of their own lengths leave freed tensors of hundreds of sizes behind. glibc keeps them in a list by size that it
walks at every allocation: 7 to 10 % of a core in rows of the league. jemalloc rounds sizes up to four a doubling and
finds the next tensor's place at once.

Which malloc a process has is settled before its first line runs, so the command begins again with jemalloc loaded
first. KILTER_ALLOCATOR names another library, such as libtcmalloc.so.4, or says `system`: stay with the C library's.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

JEMALLOC, SYSTEM = "libjemalloc.so.2", "system"
OTHERS = ("malloc", "hoard")  # in the name of any library that has a malloc: the user has chosen
# Freed tensors are kept for the next ones, not given back by the clock, not even after a day: fresh pages cost up to
# half of a step. But for the largest, which leave holes that nothing else fits into (see engine/memory.py).
SETTINGS = f"dirty_decay_ms:-1,muzzy_decay_ms:0,oversize_threshold:{2**27}"
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return what a process has to find in its environment beside `given` to begin with the better allocator.

    Nothing where it is not installed or unwanted, where `given` has one already, where there is an accelerator (tensors
    are there then, and it has its own), or on a system other than Linux.
    """
    library = given.get("KILTER_ALLOCATOR") or JEMALLOC
    settled = library == SYSTEM or in_use(given) != SYSTEM
    if settled or not sys.platform.startswith("linux") or any(Path(file).exists() for file in ACCELERATORS):
        return {}
    if not _installed(library):
        return {}
    found = {"LD_PRELOAD": f"{library} {given.get('LD_PRELOAD', '')}".strip()}
    return found if "MALLOC_CONF" in given or library != JEMALLOC else found | {"MALLOC_CONF": SETTINGS}


def begin_again() -> None:
    """Replace this process by the same command with the better allocator; return where it is there, or cannot be."""
    if more := environment(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | more)


def in_use(given: Mapping[str, str]) -> str:
    """Return the library whose malloc a process with the environment `given` has, as far as that tells."""
    names = {given.get("KILTER_ALLOCATOR") or JEMALLOC, *OTHERS} - {SYSTEM}
    preloaded = given.get("LD_PRELOAD", "").replace(":", " ").split()
    return next((Path(file).name for file in preloaded if any(name in file for name in names)), SYSTEM)


def _installed(library: str) -> bool:
    if "/" in library:
        return Path(library).is_file()
    try:
        ctypes.CDLL(library)
    except OSError as error:
        # jemalloc may refuse to come later than at the beginning; what is said then names the file that was found.
        return str(error).startswith("/")
    return True
