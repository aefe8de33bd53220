"""Runs behind the wall as its first process: holds one program to its limits and reports what came of it.

The request comes on stdin, the report goes to stdout, both as JSON. It is passed as text to `python -c`, so it imports
the standard library only. When it ends, everything else behind the wall ends with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from typing import Any

LOOK = 0.01  # seconds between two looks at what the program uses
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
SET_DUMPABLE = 4
libc = ctypes.CDLL(None)


def main() -> None:
    told = json.loads(sys.stdin.buffer.read())
    limits = told["limits"]
    # Its memory and its way to report are not the program's to touch.
    libc.prctl(SET_DUMPABLE, 0, 0, 0, 0)
    for name, text in (told["files"] | {"main.py": told["program"]}).items():
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
    streams = [_unnamed(told["stdin"]), _unnamed(), _unnamed()]
    heard, say = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    program = os.fork()
    if program == 0:
        _program(told["program"], limits, streams, say)
    os.close(say)
    status, detail, seconds = watch(program, limits, streams)
    os.set_blocking(heard, False)
    with contextlib.suppress(OSError, ValueError):
        if not status:
            status, detail = json.loads(os.read(heard, 65536))
    report = {"status": status or "failed", "detail": detail, "seconds": seconds}
    for name, stream in (("stdout", streams[1]), ("stderr", streams[2])):
        report[name] = os.pread(stream, int(limits["output"]), 0).decode("utf-8", "replace")
    sys.stdout.write(json.dumps(report))
    sys.stdout.flush()
    os._exit(0)


def watch(program: int, limits: dict[str, Any], streams: list[int]) -> tuple[str, str, float]:
    """Wait for the program to end; return what ended it otherwise ("" where nothing did), and its processor time."""
    began, used = time.monotonic(), 0.0
    while True:
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return "failed", "it vanished", used
            if ended == 0:
                break
            if ended == program:
                whole = resource.getrusage(resource.RUSAGE_CHILDREN)
                return (*_ended(status), max(used, whole.ru_utime + whole.ru_stime))
        count, memory, running = _uses()
        gone = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = max(used, running + gone.ru_utime + gone.ru_stime)
        written = max(os.fstat(stream).st_size for stream in streams[1:])
        for reason, over, detail in (
            ("too many processes", count > limits["processes"], f"more than {limits['processes']} processes"),
            ("out of memory", memory > limits["memory"], f"more than {limits['memory']:,} bytes"),
            ("too much output", written > limits["output"], f"more than {limits['output']:,} bytes"),
            ("timed out", used > limits["seconds"], f"more than {limits['seconds']:g} s of processor time"),
            ("timed out", time.monotonic() - began > limits["wall"], f"more than {limits['wall']:g} s by the clock"),
        ):
            if over:
                return reason, detail, used
        signal.sigtimedwait([signal.SIGCHLD], LOOK)


def _ended(status: int) -> tuple[str, str]:
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return "timed out", "its processor time was used up"
    return ("killed", f"by signal {-code}") if code < 0 else ("", f"left with code {code} before its last line")


def _uses() -> tuple[int, int, float]:
    """Return the number of processes and threads, bytes and seconds that all but this process use now."""
    count, memory, seconds = 0, 0, 0.0
    for name in os.listdir("/proc"):
        if not name.isdigit() or name == "1":
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                # The name of a program may hold spaces and brackets; what follows the last bracket does not.
                told = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        seconds += (int(told[11]) + int(told[12])) / TICK
        count += int(told[17])
        memory += int(told[21]) * PAGE
    return count, memory, seconds


def _program(text: str, limits: dict[str, Any], streams: list[int], say: int) -> None:
    """Be the program. Never returns."""
    said, me = ["failed", "it left before its last line"], os.getpid()
    try:
        for at, held in enumerate(streams):
            os.dup2(held, at)
        os.dup2(say, 3)
        os.closerange(4, 4096)
        os.setsid()
        libc.prctl(SET_DUMPABLE, 1, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        _hold(limits)
        opened: list[Any] = [os.fdopen(at, mode, encoding="utf-8") for at, mode in enumerate("rww")]
        for name, stream in zip(("stdin", "stdout", "stderr"), opened, strict=True):
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        sys.argv, sys.path = ["main.py"], [os.getcwd(), *sys.path]
        space = {"__name__": "__main__", "__file__": "main.py", "__builtins__": __builtins__}
        sys.modules["__main__"].__dict__.update({"__file__": "main.py"})
        try:
            exec(compile(text, "main.py", "exec"), space)
            said = ["ended", ""]
        except MemoryError:
            said = ["out of memory", "MemoryError"]
        except SystemExit as left:
            said = ["failed", f"SystemExit: {left.code}, before its last line"]
        except BaseException as error:
            said = ["failed", "".join(traceback.format_exception_only(error)).strip().splitlines()[-1][:500]]
            traceback.print_exc()
        for stream in opened[1:]:
            with contextlib.suppress(Exception):
                stream.flush()
    finally:
        with contextlib.suppress(Exception):
            if os.getpid() == me:  # what it forked has nothing to report
                os.write(3, json.dumps(said).encode())
        os._exit(0)


def _hold(limits: dict[str, Any]) -> None:
    """Set the kernel's own limits: they hold each process at once, what `watch` sees holds them all together."""
    seconds, memory = int(limits["seconds"]) + 1, int(limits["memory"])
    # Numerical libraries reserve much that they never touch.
    space = memory if not limits["packages"] else 4 * memory + 2**34
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_FSIZE, int(limits["scratch"])),
        (resource.RLIMIT_NPROC, int(limits["processes"]) + 2),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 2**16),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(kind, (value, value))


def _unnamed(text: str = "") -> int:
    """Return an open file in memory, outside of the scratch folder, so that a full one silences nobody."""
    at = os.memfd_create("stream")
    os.write(at, text.encode("utf-8", "replace"))
    os.lseek(at, 0, os.SEEK_SET)
    return at


if __name__ == "__main__":
    main()
