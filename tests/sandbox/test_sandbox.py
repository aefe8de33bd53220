"""The sandbox: what programs may do, and attacks that have to fail. Nothing here is run where no sandbox can be had."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kilter.errors import KilterError
from kilter.sandbox import Limits, box, run, tried, walls
from sandboxed import needs_a_sandbox

SHORT = Limits(seconds=0.5)


@needs_a_sandbox
def test_a_program_runs_with_its_input_its_files_and_a_folder_of_its_own() -> None:
    program = """
import sys, json, os
print(json.load(open("table.json"))["sum"] + int(sys.stdin.read()))
open("written.txt", "w").write("x" * 1000)
print(os.path.getsize("written.txt"), file=sys.stderr)
"""
    found = run(program, stdin="2", files={"table.json": '{"sum": 40}'})
    assert (found.status, found.stdout, found.stderr) == ("ended", "42\n", "1000\n")
    assert run("open('written.txt')").detail.startswith("FileNotFoundError")  # nothing is left of the one before


@needs_a_sandbox
@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("def f(:", "SyntaxError"),
        ("assert 1 == 2, 'sums'", "AssertionError: sums"),
        ("import sys\nsys.exit(0)\nassert False", "SystemExit: 0"),
        ("import os\nos._exit(0)", "left with code 0 before its last line"),
        ("import os\nif os.fork(): os._exit(1)", "left with code 1"),
        ("def f(): f()\nf()", "RecursionError"),
    ],
)
def test_who_does_not_reach_the_last_line_has_failed(program: str, detail: str) -> None:
    found = run(program)
    assert found.status == "failed"
    assert not found.ok
    assert detail in found.detail


@needs_a_sandbox
def test_time_ends_busy_and_sleeping_programs_and_what_they_leave_behind() -> None:
    busy = run("while True: pass", limits=SHORT)
    assert (busy.status, "processor time" in busy.detail) == ("timed out", True)
    asleep = run("import time\nprint('here', flush=True)\ntime.sleep(1e6)", limits=Limits(wall=0.5))
    assert (asleep.status, asleep.stdout) == ("timed out", "here\n")
    assert (
        run(
            "import signal\nsignal.alarm(0)\nsignal.signal(signal.SIGXCPU, lambda *a: 0)\nwhile 1: 0", limits=SHORT
        ).status
        == "timed out"
    )


@needs_a_sandbox
def test_a_fork_bomb_is_counted_and_gone() -> None:
    mark = f"kilter-bomb-{os.getpid()}"
    bomb = (
        f"import os, time, sys\nname = {mark!r}\nwhile True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)"
    )
    assert run(bomb).status in ("too many processes", "timed out")
    daemon = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1e6)
    os._exit(0)
"""
    assert run(daemon).ok  # its last line is reached; the sleeper ends with the sandbox
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert mark not in running
    zombies = "import os\nfor _ in range(100):\n    if os.fork() == 0: os._exit(0)\n    os.wait()\nprint('all')"
    assert run(zombies).stdout == "all\n"


@needs_a_sandbox
def test_orphans_are_reaped() -> None:
    orphans = """
import os, time
for _ in range(60):
    if os.fork() == 0:
        if os.fork() == 0: os._exit(0)
        os._exit(0)
    os.wait()
    while len([n for n in os.listdir("/proc") if n.isdigit()]) > 8: time.sleep(0.001)
print("all")
"""
    assert run(orphans).stdout == "all\n"


@needs_a_sandbox
def test_memory_is_limited_for_one_process_and_for_all_together() -> None:
    assert run("x = bytearray(10**10)").status == "out of memory"
    limits = Limits(memory=2**28)
    together = """
import os, time
for _ in range(6):
    if os.fork() == 0: break
x = bytearray(b"x" * 2**20) * 100
time.sleep(1e6)
"""
    assert run(together, limits=limits).status == "out of memory"


@needs_a_sandbox
def test_output_and_scratch_are_limited() -> None:
    loud = run("while True: print('x' * 1000)", limits=Limits(output=10_000))
    assert (loud.status, len(loud.stdout)) == ("too much output", 10_000)
    full = """
written = 0
try:
    for at in range(1000): written += open(f"f{at}", "wb", 0).write(bytes(2**20))
except OSError as error:
    print(error.errno, written < 5 * 2**20)
"""
    assert run(full, limits=Limits(scratch=2**22)).stdout == "28 True\n"


@needs_a_sandbox
def test_there_is_no_network() -> None:
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        here.listen()
        port = here.getsockname()[1]
        for address in (f"('127.0.0.1', {port})", "('8.8.8.8', 53)"):
            found = run(f"import socket\nsocket.create_connection({address}, timeout=5)")
            assert found.status == "failed"
            assert "Error" in found.detail
    assert run("import socket\nprint(socket.if_nameindex())").stdout == "[(1, 'lo')]\n"


@needs_a_sandbox
def test_no_file_of_this_machine_is_read_or_written(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    secret.chmod(0o644)
    for path in (
        secret,
        Path.home(),
        Path(__file__),
        Path("/etc/passwd"),
        Path("/etc/shadow"),
        Path.home() / ".bashrc",
    ):
        found = run(f"print(open({str(path)!r}).read())")
        assert found.status == "failed", path
        assert "the secret" not in found.stdout
    for place in ("/usr/x", "/etc/x", "/x", "/dev/x", "/bin/x", f"{sys.base_prefix}/x", str(secret)):
        found = run(f"open({place!r}, 'w').write('x')")
        assert found.status == "failed", place
        assert not Path(place).exists() or place == str(secret)
    assert secret.read_text() == "the secret"
    up = run("import os\nfor _ in range(20): os.chdir('..')\nprint(sorted(os.listdir('.')))").stdout
    assert "home" not in up
    assert "boot" not in up


@needs_a_sandbox
def test_neither_environment_nor_other_processes_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILTER_SECRET_KEY", "hunter2")
    spy = """
import os
print(os.environ.get("KILTER_SECRET_KEY"))
for name in sorted(n for n in os.listdir("/proc") if n.isdigit()):
    for what in ("environ", "cmdline"):
        try: print(open(f"/proc/{name}/{what}").read().count("hunter2"))
        except OSError as error: print(type(error).__name__)
print(sorted(n for n in os.listdir("/proc") if n.isdigit()))
"""
    found = run(spy).stdout
    assert "hunter2" not in found
    assert found.endswith("['1', '2']\n")


@needs_a_sandbox
@pytest.mark.parametrize(
    "attack",
    [
        "open('/proc/1/mem', 'rb+')",  # the memory of what reports
        "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/sh')",
        "open('/proc/sysrq-trigger', 'w').write('b')",
        "import ctypes, os\nassert ctypes.CDLL(None, use_errno=True).mount(b'tmpfs', b'/usr', b'tmpfs', 0, None) == 0",
        "import os\nos.setuid(0)",
        "import os\nos.mknod('disk', 0o60666, os.makedev(8, 0))",
        "import os\nos.chroot('.')",
        "import os\nos.kill(1, 9)\nimport time\ntime.sleep(0.2)\nraise OSError('it lives')",
        "import os\nassert os.system('su -c id') == 0",
        "import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSTI, b'x')",  # typing into our terminal
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**50, 2**50))",
    ],
)
def test_it_gains_no_rights(attack: str) -> None:
    found = run(attack)
    assert found.status == "failed"
    assert "Error" in found.detail


@needs_a_sandbox
def test_a_dying_sandbox_takes_its_program_along(tmp_path: Path) -> None:
    """Whoever asked is killed: the program must not go on."""
    script = "from kilter.sandbox import Limits, run\nrun('import time\\ntime.sleep(1e6)', limits=Limits(wall=1e5))"
    asker = subprocess.Popen([sys.executable, "-c", script])
    try:
        children: set[str] = set()
        while len(children) < 3:
            rows = _running()
            children = {str(asker.pid)}
            for _ in range(5):
                children |= {pid for pid, parent in rows if parent in children}
            children.discard(str(asker.pid))
            assert asker.poll() is None
    finally:
        asker.kill()
        asker.wait()
    left = children
    for _ in range(600):
        left = children & {pid for pid, _ in _running()}
        if not left:
            break
        time.sleep(0.05)
    assert not left


def _running() -> list[list[str]]:
    """Process and parent of all that runs."""
    rows = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    return [line.split()[:2] for line in rows.splitlines() if "Z" not in line.split()[2]]


@needs_a_sandbox
def test_many_at_once_and_installed_packages() -> None:
    async def all_of_them() -> list[str]:
        found = await asyncio.gather(*(tried(f"print({i} ** 2)") for i in range(6)))
        return [each.stdout for each in found]

    assert asyncio.run(all_of_them()) == [f"{i**2}\n" for i in range(6)]
    assert run("import numpy").detail.startswith("ModuleNotFoundError")
    assert run("import numpy\nprint(int(numpy.arange(4).sum()))", packages=True).stdout == "6\n"


def test_without_a_wall_nothing_runs_and_the_sentence_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walls, "known", lambda: [walls.Wall("bubblewrap", "it is not installed")])
    box.check.cache_clear()
    try:
        with pytest.raises(KilterError, match="apt install bubblewrap"):
            run("print(1)")
    finally:
        box.check.cache_clear()


def test_limits_and_names_that_make_no_sense() -> None:
    with pytest.raises(KilterError, match="'seconds' is 0"):
        Limits(seconds=0)
    with pytest.raises(KilterError, match="no plain file name"):
        run("", files={"../x": ""})
