"""Started as a program of its own: enters new Linux namespaces, builds a root of read-only pieces, and runs there.

This is what bubblewrap does, for machines that do not have it: new mount, process, network, IPC, host-name (and, for
ordinary users, user) namespaces; a root in memory with the system's own folders bound read-only; one writable folder of
a given size; an unused user id, no capabilities, no new privileges. Whatever of it fails ends the program: nothing is
run behind half a wall. It imports the standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
RDONLY, NOSUID, NODEV, NOEXEC, BIND, REC, PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
DETACH = 2
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000  # the same number on all architectures
SET_PDEATHSIG, SET_NO_NEW_PRIVS = 1, 38
NOBODY = 65534
libc = ctypes.CDLL(None, use_errno=True)


def main() -> int:
    told = json.loads(sys.argv[1])
    root = os.geteuid() == 0
    parent = os.getppid()
    outside = os.geteuid(), os.getegid()
    user = 20_000 + os.getpid() % 40_000  # one that nobody else is, so that its processes are counted alone
    done("unshare", libc.unshare(NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS | NEWCGROUP | (0 if root else NEWUSER)))
    if not root:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {outside[0]} 1"),
            ("gid_map", f"{NOBODY} {outside[1]} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    child = os.fork()
    if child == 0:
        try:
            build(told)
            become(user if root else None)
            os.execve(told["command"][0], told["command"], told["environment"])
        except BaseException as error:
            print(f"no sandbox by namespaces: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) and 1
        if os.getppid() != parent:  # who wanted this is gone
            os.kill(child, signal.SIGKILL)
        signal.sigtimedwait([signal.SIGCHLD], 0.25)


def build(told: dict[str, Any]) -> None:
    """Make the new root and go there. The old one hangs below it for as long as pieces are bound from it."""
    mount(None, "/", None, REC | PRIVATE)
    mount("tmpfs", "/tmp", "tmpfs", NOSUID | NODEV, "size=16m,mode=755")
    for name in ("new", "old"):
        os.mkdir(f"/tmp/{name}")
    pivot("/tmp", "/tmp/old")
    mount("/new", "/new", None, BIND | REC)
    os.umask(0)
    for path, target in told["visible"]:
        place = "/new" + path
        os.makedirs(os.path.dirname(place), 0o755, exist_ok=True)
        if target != path:
            os.symlink(target, place)
            continue
        bind("/old" + path, place)
        read_only(place)
    os.mkdir("/new/dev", 0o755)
    for node in told["nodes"]:
        bind(f"/old/dev/{node}", f"/new/dev/{node}")
    os.mkdir("/new/proc", 0o755)
    mount("proc", "/new/proc", "proc", NOSUID | NODEV | NOEXEC)
    if os.geteuid() != 0:  # in a user namespace of its own; no further ones, in which it would have capabilities
        with open("/new/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    bind("/new/proc/sys", "/new/proc/sys")
    read_only("/new/proc/sys")
    os.mkdir("/new" + told["box"], 0o755)
    size = f"size={told['scratch']},nr_inodes=16384,mode=755"
    mount("tmpfs", "/new" + told["box"], "tmpfs", NOSUID | NODEV, size)
    for place in (told["work"], told["temporary"]):
        os.mkdir("/new" + place, 0o1777)
    os.symlink(told["temporary"], "/new/tmp")
    os.symlink(told["temporary"], "/new/dev/shm")
    done("umount", libc.umount2(b"/old", DETACH))
    os.chdir("/new")
    pivot(".", ".")
    done("umount", libc.umount2(b".", DETACH))
    os.chdir("/")
    mount(None, "/", None, 32 | BIND | RDONLY | NOSUID | NODEV)  # 32: as it is mounted already
    os.chdir(told["work"])


def become(user: int | None) -> None:
    """Be `user` (None: nobody already), without capabilities, and end with the process that waits for this one."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    done("no new privileges", libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    done("end with the parent", libc.prctl(SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def bind(source: str, place: str) -> None:
    if os.path.isdir(source):
        os.makedirs(place, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), 0o755, exist_ok=True)
        if not os.path.exists(place):
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, place, None, BIND | REC)


def read_only(place: str) -> None:
    """Make a mount and all below it read-only, without devices and set-user-id programs."""
    wanted = (ctypes.c_uint64 * 4)(RDONLY | NOSUID | NODEV, 0, 0, 0)
    call = libc.syscall
    done(
        f"read-only {place}",
        call(MOUNT_SETATTR, AT_FDCWD, place.encode(), AT_RECURSIVE, ctypes.byref(wanted), ctypes.sizeof(wanted)),
    )


def mount(source: str | None, place: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, place, kind)]
    found = libc.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode())
    done(f"mount {place}", found)


def pivot(new: str, old: str) -> None:
    done("pivot_root", libc.pivot_root(new.encode(), old.encode()))
    if old != new:
        os.chdir("/")


def done(what: str, found: int) -> None:
    if found != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        print(f"no sandbox by namespaces: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)
