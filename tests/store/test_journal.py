"""Answers that are on the disk before anybody uses them."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from kilter.errors import KilterError
from kilter.store.journal import Journal


def key(number):
    return number.to_bytes(16, "big")


def kept(journal, pairs, **options):
    """Put `pairs` and wait for them."""

    async def main():
        await asyncio.gather(*(journal.put(key(k), value, **options) for k, value in pairs))

    asyncio.run(main())


def test_what_is_put_is_there_now_and_later(tmp_path):
    with Journal(tmp_path / "j") as journal:
        assert journal.get(key(1)) is None
        kept(journal, [(1, b"one"), (2, b"\x00\xff")])
        assert journal.get(key(1)) == (b"one", False)
        kept(journal, [(1, b"other")])
        assert journal.get(key(1)) == (b"other", False)
    with Journal(tmp_path / "j") as journal:
        assert (journal.get(key(1)), journal.get(key(2)), journal.get(key(3))) == (
            (b"other", False), (b"\x00\xff", False), None
        )  # fmt: skip
        assert len(journal) == 2
    assert not (tmp_path / "j-wal").exists()


def test_keys_that_begin_alike_are_told_apart(tmp_path):
    first, second = bytes(16), bytes(8) + b"\x01" * 8
    with Journal(tmp_path / "j") as journal:
        kept(journal, [(0, b"zero")])
    with Journal(tmp_path / "j") as journal:
        assert journal.get(first) == (b"zero", False)
        assert journal.get(second) is None


def test_many_answers_share_a_commit(tmp_path):
    with Journal(tmp_path / "j") as journal:
        commits = []
        commit = journal._commit
        journal._commit = lambda *arguments: (commits.append(len(arguments[0])), commit(*arguments))
        kept(journal, [(i, b"x" * 100) for i in range(2000)])
        assert sum(commits) == 2000
        assert len(commits) < 200


def test_refusals_are_known_to_a_killed_run_and_forgiven_at_the_end(tmp_path):
    code = f"""
import asyncio, os, signal, sys
from kilter.store.journal import Journal
journal = Journal({str(tmp_path / "j")!r})
async def main():
    await journal.put(bytes(16), b"no", refused=True, amounts={{("m", "requests"): 1}})
    await journal.put(b"1" * 16, b"yes", amounts={{("m", "requests"): 2}})
asyncio.run(main())
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    with Journal(tmp_path / "j") as journal:
        assert journal.get(bytes(16)) == (b"no", True)
        assert journal.get(b"1" * 16) == (b"yes", False)
        assert len(journal) == 1
        assert journal.account() == {("m", "requests"): 3.0}
    with Journal(tmp_path / "j") as journal:
        assert journal.get(bytes(16)) is None
        assert journal.get(b"1" * 16) == (b"yes", False)


def test_the_account_adds_up_over_runs(tmp_path):
    for run in range(3):
        with Journal(tmp_path / "j") as journal:
            kept(journal, [(run, b"x")], amounts={("m", "tokens"): 10, ("n", "tokens"): 1})
            journal.add({("m", "tokens"): 5})
    with Journal(tmp_path / "j") as journal:
        assert journal.account() == {("m", "tokens"): 45.0, ("n", "tokens"): 3.0}


def test_one_process_at_a_time(tmp_path):
    with Journal(tmp_path / "j"):
        code = f"from kilter.store.journal import Journal; Journal({str(tmp_path / 'j')!r})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "KilterError" in other.stderr
        assert "is in use by another process; wait until it ends" in other.stderr
    Journal(tmp_path / "j").close()


def test_what_is_no_journal_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "text").write_text("this is a text and no journal" * 100, encoding="utf-8")
    with pytest.raises(KilterError, match=r"it is no journal, or damaged .* move it away"):
        Journal(tmp_path / "text")
    with contextlib.closing(sqlite3.connect(tmp_path / "newer")) as newer:
        newer.execute("PRAGMA user_version = 9")
    with pytest.raises(KilterError, match=r"another version of Kilter \(9\)"):
        Journal(tmp_path / "newer")
    (tmp_path / "folder").mkdir()
    with pytest.raises(KilterError, match="it is a directory"):
        Journal(tmp_path / "folder")
    Journal(tmp_path / "good").close()
    assert (tmp_path / "text").read_text(encoding="utf-8").startswith("this is a text")


def test_a_disk_that_fails_fails_whoever_waits_and_all_who_come(tmp_path):
    with Journal(tmp_path / "j") as journal:

        def full(*_):
            raise sqlite3.OperationalError("database or disk is full")

        journal._commit = full
        for _ in range(2):
            with pytest.raises(KilterError, match="the disk is full; free some space"):
                kept(journal, [(1, b"x"), (2, b"y")])


def test_closing_writes_what_nobody_waits_for(tmp_path):
    async def main(journal):
        journal.put(key(1), b"x")

    with Journal(tmp_path / "j") as journal:
        asyncio.run(main(journal))
    journal.close()
    with Journal(tmp_path / "j") as journal:
        assert journal.get(key(1)) == (b"x", False)


def test_a_commit_survives_the_machine_not_only_the_process(tmp_path):
    """What the file system promises of a power cut cannot be tried here; that SQLite is told to wait for it can."""
    with Journal(tmp_path / "j") as journal:
        assert journal._writer.execute("PRAGMA synchronous").fetchone() == (2,)
        assert journal._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert os.path.getsize(tmp_path / "j") > 0
