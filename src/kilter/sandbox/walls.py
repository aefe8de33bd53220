"""What can separate a program from this machine: bubblewrap, or Linux namespaces that we enter ourselves."""

from __future__ import annotations

import json
import os
import shutil
import site
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BOX = "/box"  # the only place that can be written to, in memory
WORK, TEMPORARY = f"{BOX}/work", f"{BOX}/tmp"
NODES = ("null", "zero", "full", "random", "urandom")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime")

# All that a program finds in its environment.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK,
    "TMPDIR": TEMPORARY,
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": TEMPORARY,
}


@dataclass(frozen=True, slots=True)
class Wall:
    """A way of running programs apart. `obstacle` says why it cannot be had, where that is known beforehand."""

    name: str
    obstacle: str = ""

    def command(self, scratch: int, packages: bool) -> list[str]:
        """Return the words that start `inside.py` behind this wall, with `scratch` bytes to write to."""
        return (_bubblewrap if self.name == "bubblewrap" else _namespaces)(scratch, packages)


def known() -> list[Wall]:
    """Return the walls, the best first.

    Started by root, bubblewrap leaves a program root's rights to the kernel's own files in /proc, such as sysctl and
    sysrq; our own namespaces give the program a user id of its own there.
    """
    if sys.platform != "linux":
        return [Wall("bubblewrap", "it is for Linux only")]
    installed = "" if shutil.which("bwrap") else "it is not installed"
    root = "for root it is no wall, run as an ordinary user" if os.geteuid() == 0 else ""
    return [Wall("bubblewrap", installed or root), Wall("namespaces")]


def visible(packages: bool) -> list[tuple[str, str]]:
    """Return (path, where it leads) of all that is seen, read-only; a link that is one here stays one there."""
    shown = [path for path in SYSTEM if os.path.lexists(path)]
    shown += [f"/etc/{name}" for name in SETTINGS if os.path.exists(f"/etc/{name}")]
    python = [sys.base_prefix, sys.base_exec_prefix]
    if packages:
        python += [sys.prefix, *site.getsitepackages()]
    for path in dict.fromkeys(os.path.realpath(each) for each in python):
        if os.path.isdir(path) and not any(Path(path).is_relative_to(other) for other in shown):
            shown.append(path)
    return [(path, os.readlink(path) if os.path.islink(path) else path) for path in shown]


def python(packages: bool) -> list[str]:
    """Return the words that start a Python which takes nothing from the user's settings or the current folder."""
    base = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    return [sys.executable, "-s", "-P", "-B"] if packages else [base, "-S", "-s", "-P", "-B"]


@cache
def _inside() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


def _bubblewrap(scratch: int, packages: bool) -> list[str]:
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1"]
    words += ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL", "--hostname", "box"]
    for path, target in visible(packages):
        words += ["--symlink", target, path] if target != path else ["--ro-bind", path, path]
    words += ["--proc", "/proc", "--dir", "/dev"]
    for node in NODES:
        words += ["--dev-bind", f"/dev/{node}", f"/dev/{node}"]
    words += ["--size", str(scratch), "--tmpfs", BOX, "--dir", WORK, "--dir", TEMPORARY]
    words += ["--symlink", TEMPORARY, "/tmp", "--symlink", TEMPORARY, "/dev/shm", "--remount-ro", "/"]
    return [*words, "--chdir", WORK, "--", *python(packages), "-c", _inside()]


def _namespaces(scratch: int, packages: bool) -> list[str]:
    told = {
        "visible": visible(packages),
        "scratch": scratch,
        "box": BOX,
        "work": WORK,
        "temporary": TEMPORARY,
        "nodes": NODES,
        "command": [*python(packages), "-c", _inside()],
        "environment": ENVIRONMENT,
    }
    return [*python(False), str(Path(__file__).with_name("namespaces.py")), json.dumps(told)]
