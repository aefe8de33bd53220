"""Running one program in the sandbox, and what came of it.

The program sees this Python's standard library (where asked for, the installed packages too) and a folder of its own,
and nothing else: no network, no other process, none of the user's files, none of the environment. What it writes is in
memory and gone afterwards. Where no such place can be had, nothing is run: `check` raises.

It runs in one process with what reports that its last line was reached. A program that wants to claim so without having
done it can; a test that must withstand that has to look at the program's output instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

from kilter.errors import KilterError
from kilter.sandbox import walls

GRACE = 20.0  # seconds beyond its limit after which a sandbox that does not answer is ended from outside
ADVICE = (
    "Code that a model wrote runs only in a sandbox, and none can be had here ({why}); install bubblewrap "
    "(Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap), or allow unprivileged user namespaces."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use, all its processes together.

    `seconds` of processor time, so that a busy machine fails nobody; `wall` by the clock, for one that waits. `memory`,
    `scratch` (what it writes) and `output` (each of stdout and stderr) in bytes.
    """

    seconds: float = 3.0
    wall: float = 60.0
    memory: int = 2**30
    processes: int = 16
    scratch: int = 2**26
    output: int = 2**20

    def __post_init__(self) -> None:
        for each in fields(self):
            if not 0 < getattr(self, each.name) < float("inf"):
                raise KilterError(f"The sandbox's limit '{each.name}' is {getattr(self, each.name)}; it is above 0.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a program.

    `status`: "ended" (its last line was reached), "failed" (it raised, or left before its last line), "timed out", "out
    of memory", "too many processes", "too much output" or "killed" (by a signal). `detail` is the last line of the
    traceback, or what the limit was. stdout and stderr are cut at the limit. `seconds` of processor time.
    """

    status: str
    detail: str
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the last line was reached."""
        return self.status == "ended"


def run(
    program: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    packages: bool = False,
) -> Outcome:
    """Run a Python program and return what came of it.

    `files` are laid in its working directory, by plain names; `packages` lets it import what is installed here. Raises
    KilterError where there is no sandbox, and for a file's name that leads out of the directory.
    """
    limits = limits or Limits()
    for name in files or {}:
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise KilterError(f"'{name}' is no plain file name; give the sandbox's files names without folders.")
    wall = check()
    told = asdict(limits) | {"packages": packages}
    request = {"program": program, "stdin": stdin, "files": dict(files or {}), "limits": told}
    return _run(wall, request, limits, packages)


async def tried(
    program: str,
    *,
    stdin: str = "",
    files: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    packages: bool = False,
) -> Outcome:
    """`run` for many at a time: as many run at once as there are processors."""
    async with _places():
        return await asyncio.to_thread(run, program, stdin=stdin, files=files, limits=limits, packages=packages)


@cache
def check() -> walls.Wall:
    """Return what separates programs from this machine; raise KilterError, saying how to get it, where nothing does."""
    reasons = []
    for wall in walls.known():
        try:
            if wall.obstacle:
                raise KilterError(wall.obstacle)
            found = _run(wall, {"program": "", "stdin": "", "files": {}, "limits": _PROBE}, Limits(), False)
            if found.ok:
                return wall
            reasons.append(f"{wall.name}: {found.detail or found.status}")
        except KilterError as error:
            reasons.append(f"{wall.name}: {error}")
    raise KilterError(ADVICE.format(why="; ".join(reasons)))


_PROBE = asdict(Limits()) | {"packages": False}


def _run(wall: walls.Wall, request: Mapping[str, Any], limits: Limits, packages: bool) -> Outcome:
    try:
        done = subprocess.run(
            wall.command(limits.scratch, packages),
            input=json.dumps(request).encode("utf-8", "backslashreplace"),
            capture_output=True,
            timeout=limits.wall + GRACE,
            env=walls.ENVIRONMENT,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return Outcome("timed out", f"no answer within {limits.wall + GRACE:g} s", "", "", limits.wall)
    except OSError as error:
        raise KilterError(f"{wall.name} cannot be started ({error.strerror})") from None
    try:
        return Outcome(**json.loads(done.stdout))
    except (ValueError, TypeError):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise KilterError(said[-1] if said else f"{wall.name} ended without an answer") from None


_gates: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}


def _places() -> asyncio.Semaphore:
    """One place a processor, in each event loop."""
    loop = asyncio.get_running_loop()
    for old in [each for each in _gates if each.is_closed()]:
        del _gates[old]
    return _gates.setdefault(loop, asyncio.Semaphore(os.cpu_count() or 1))
