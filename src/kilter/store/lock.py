"""One process a run folder: a lock file that names its owner, and is taken over once that owner is dead."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kilter.errors import KilterError
from kilter.files import explaining, write_json

NAME = ".lock"


def acquire(folder: Path) -> None:
    """Make this process the owner of `folder`; raise KilterError where a living process owns it."""
    path = folder / NAME
    with _alone(folder):
        owner = _read(path)
        if owner is not None and _alive(owner):
            whose = "this process" if owner.get("pid") == os.getpid() else f"process {owner.get('pid')}"
            raise KilterError(
                f"The run folder {folder} is in use by {whose} on {owner.get('host')} since {owner.get('since')}; "
                f"wait until it ends, choose another folder, or delete {path} if you know that it is gone."
            )
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        write_json(path, {**me, "birth": _birth(os.getpid())})


def release(folder: Path, pid: int) -> None:
    """Give `folder` up if `pid` owns it; a forked child that inherits the object must not free its parent's lock."""
    path = folder / NAME
    if os.getpid() != pid:
        return
    owner = _read(path)
    if owner is not None and owner.get("pid") == pid and owner.get("host") == socket.gethostname():
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder itself for the moment in which a lock is looked at and taken, so that two cannot both take it."""
    with explaining(folder, "lock"):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no flock; the pid check still holds there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _alive(owner: dict[str, Any]) -> bool:
    """Whether the owner still runs. Of another machine's process nothing is known, so it counts as alive."""
    if owner.get("host") != socket.gethostname():
        return True
    pid = owner.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    birth = _birth(pid)
    # A pid is used again after a reboot or a wrap-around: another birth is another process.
    return birth is None or (birth != _DEAD and owner.get("birth") in (None, birth))


_DEAD = "dead"


def _birth(pid: int) -> str | None:
    """Boot id and start time of a process, `_DEAD` for one that only waits to be reaped, None without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return _DEAD if state in "ZX" else f"{boot}/{fields[18]}"
