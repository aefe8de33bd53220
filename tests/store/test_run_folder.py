"""A run folder: stages kept, resumed, set aside; the lock; what a refused write says."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kilter import files
from kilter.errors import KilterError
from kilter.store import Run, fingerprint, hash_path, stages


def test_a_finished_stage_is_found_again_with_its_facts(tmp_path: Path) -> None:
    with Run(tmp_path / "run") as run:
        stage = run.stage("sft", "aa")
        assert not stage.done
        (stage.folder / "model.txt").write_text("weights")
        stage.finish({"seconds": 1.5})
    with Run(tmp_path / "run") as run:
        again = run.stage("sft", "aa")
    assert (again.done, again.facts, again.folder) == (True, {"seconds": 1.5}, tmp_path / "run" / "stages" / "sft")
    assert [s.name for s in stages(tmp_path / "run")] == ["sft"]


def test_an_unfinished_stage_is_resumed_with_the_same_fingerprint_and_emptied_with_another(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        (run.stage("sft", "aa").folder / "half").write_text("x")
        assert (run.stage("sft", "aa").folder / "half").exists()
        assert not (run.stage("sft", "bb").folder / "half").exists()
        assert not run.stage("sft", "bb").done
    assert stages(tmp_path) == []


def test_a_finished_stage_with_another_fingerprint_is_set_aside_and_comes_back(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        first = run.stage("sft", "aa")
        (first.folder / "model.txt").write_text("ten hours")
        first.finish()
        second = run.stage("sft", "bb")
        assert not second.done
        assert not (second.folder / "model.txt").exists()
        second.finish({"n": 2})
        back = run.stage("sft", "aa")
        assert back.done
        assert (back.folder / "model.txt").read_text() == "ten hours"
        assert run.stage("sft", "bb").facts == {"n": 2}


def test_run_json_is_merged(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        run.describe(name="快速", seed=0)
        run.describe(seed=1)
        assert run.description == {"name": "快速", "seed": 1}


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    with Run(tmp_path) as run, pytest.raises(KilterError, match="cannot name a stage"):
        run.stage("../elsewhere", "aa")


def test_a_living_owner_keeps_others_out_and_closing_lets_them_in(tmp_path: Path) -> None:
    first = Run(tmp_path)
    with pytest.raises(KilterError, match="in use by this process"):
        Run(tmp_path)
    first.close()
    first.close()
    second = Run(tmp_path)
    del second  # forgotten, not closed
    Run(tmp_path).close()


WORKER = """
import sys
from kilter.store import Run, Metrics
run = Run(sys.argv[1])
stage = run.stage("sft", "aa")
metrics = Metrics(stage.folder / "metrics.jsonl")
print("ready", flush=True)
step = 0
while True:
    step += 1
    metrics.append({"step": step, "loss": "x" * 5000})
    run.describe(step=step, filling="y" * 100_000)
"""


def test_kill_9_leaves_whole_files_and_a_lock_that_is_taken_over(tmp_path: Path) -> None:
    from kilter.store import Metrics, read_metrics

    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    worker.stdout.readline()
    with pytest.raises(KilterError, match=f"in use by process {worker.pid}"):
        Run(tmp_path)
    while not (tmp_path / "run.json").exists():
        pass
    worker.send_signal(signal.SIGKILL)
    # Not reaped on purpose at first: a zombie must not hold the lock.
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    with Run(tmp_path) as run:
        worker.wait()
        assert run.description["filling"] == "y" * 100_000
        stage = run.stage("sft", "aa")
        assert not stage.done
        lines = read_metrics(stage.folder / "metrics.jsonl")
        assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
        assert run.description["step"] in (len(lines), len(lines) - 1)
        Metrics(stage.folder / "metrics.jsonl").append({"step": len(lines) + 1})
        assert len(read_metrics(stage.folder / "metrics.jsonl")) == len(lines) + 1
    assert not list(tmp_path.rglob(".tmp-*"))
    assert not (tmp_path / ".lock").exists()


def test_a_lock_of_another_birth_is_stale_and_one_of_another_machine_is_not(tmp_path: Path) -> None:
    Run(tmp_path).close()
    me = {"pid": os.getpid(), "host": os.uname().nodename, "since": "then", "birth": "another boot/1"}
    (tmp_path / ".lock").write_text(json.dumps(me))
    Run(tmp_path).close()
    (tmp_path / ".lock").write_text(json.dumps({**me, "host": "elsewhere"}))
    with pytest.raises(KilterError, match=r"delete .*\.lock"):
        Run(tmp_path)
    (tmp_path / ".lock").write_text("torn {")
    Run(tmp_path).close()


def test_a_file_where_a_run_folder_is_due(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KilterError, match="is a file and a directory is due"):
        Run(tmp_path / "file")


def test_a_read_only_folder_is_a_sentence() -> None:
    """Run as an ordinary user in a forked child, since root may write anywhere."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            Run(folder)
        except KilterError as error:
            code = 0 if "no permission" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    folder.rmdir()


@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_a_refused_write_is_a_sentence_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    target = tmp_path / "a.json"
    files.write_json(target, {"old": 1})

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(KilterError, match=said):
        files.write_json(target, {"new": 1})
    assert json.loads(target.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_directory_where_a_file_is_due(tmp_path: Path) -> None:
    with pytest.raises(KilterError, match="a file is due"):
        files.write_text(tmp_path, "x")


def test_too_little_space_is_said_before_the_work(tmp_path: Path) -> None:
    files.need_space(tmp_path / "not" / "yet", 1, "A checkpoint")
    with pytest.raises(KilterError, match=r"A checkpoint needs .* MiB"):
        files.need_space(tmp_path, 10**18, "A checkpoint")


def test_fingerprints_follow_content_alone(tmp_path: Path) -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x.txt").write_text("content")
    (tmp_path / "two" / ".lock").write_text("not content")
    assert hash_path(tmp_path / "one") == hash_path(tmp_path / "two")
    before = hash_path(tmp_path / "two" / "sub" / "x.txt")
    (tmp_path / "two" / "sub" / "x.txt").write_text("contenT")
    assert hash_path(tmp_path / "two" / "sub" / "x.txt") != before
    assert hash_path(tmp_path / "one") != hash_path(tmp_path / "two")
    with pytest.raises(KilterError, match="does not exist"):
        hash_path(tmp_path / "three")
