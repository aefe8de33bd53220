"""What was asked and answered, on disk before anybody uses it: a run that is killed has lost nothing that it paid for.

One SQLite file in WAL mode. A thread of its own commits whatever has come since the last commit, so that thousands of
answers a second share some dozens of waits for the disk. What is kept, and what it is kept by, the caller decides
(`models/journalled.py`): here a key is some bytes, and an entry some more.

    entries(key, value, refused)     refused: the value says why there is no answer (see `forgive`)
    account(who, what, amount)       sums that are kept across runs: requests, retries, tokens
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kilter.errors import KilterError, first_line
from kilter.files import explaining, make_folder

VERSION = 1
PAUSE = 0.02  # seconds between two commits: a wait that nobody notices, and enough for many answers to share one
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, refused INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS account (who TEXT, what TEXT, amount REAL NOT NULL, PRIMARY KEY (who, what)) WITHOUT ROWID;
"""

Amounts = Mapping[tuple[str, str], float]


@dataclass(slots=True)
class _Entry:
    key: bytes
    value: bytes
    refused: bool
    amounts: Amounts
    kept: asyncio.Future[None]


class Journal:
    """An open journal; one process at a time. Use it within `with`, or `close` it."""

    def __init__(self, path: str | Path) -> None:
        """Open `path`, or begin it. Raises KilterError where it is in use, is no journal, or cannot be written."""
        self.path = Path(path)
        make_folder(self.path.parent)
        self._lock = _locked(self.path)
        try:
            with self._explained():
                self._reader = self._opened()
                self._writer = self._opened()
        except BaseException:
            os.close(self._lock)
            raise
        self._known = self._keys()
        self._new: set[bytes] = set()
        self._waiting: list[_Entry] = []
        self._loose: Counter[tuple[str, str]] = Counter()
        self._news = threading.Condition()
        self._closing = False
        self._failure: KilterError | None = None
        self._thread = threading.Thread(target=self._write, name=f"journal {self.path.name}", daemon=True)
        self._thread.start()

    def get(self, key: bytes) -> tuple[bytes, bool] | None:
        """Return what is kept under `key` and whether it is a refusal, or None."""
        if key not in self._new and not self._may_have(key):
            return None  # as it mostly is in a first run: a look into the file takes longer than into memory
        with self._explained():
            found = self._reader.execute("SELECT value, refused FROM entries WHERE key = ?", (key,)).fetchone()
        return (found[0], bool(found[1])) if found else None

    def put(
        self, key: bytes, value: bytes, *, refused: bool = False, amounts: Amounts | None = None
    ) -> asyncio.Future[None]:
        """Keep `value` and add `amounts` to the account, in one. The future is done when both are on the disk."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._news:
            if self._failure is not None:
                raise self._failure
            self._waiting.append(_Entry(key, value, refused, amounts or {}, kept))
            self._news.notify()
        return kept

    def add(self, amounts: Amounts) -> None:
        """Add `amounts` to the account; they are on the disk with the next entry, or when the journal is closed."""
        with self._news:
            self._loose.update(amounts)

    def account(self) -> dict[tuple[str, str], float]:
        """Return the sums on the disk, by who and what."""
        with self._explained():
            return {(who, what): amount for who, what, amount in self._reader.execute("SELECT * FROM account")}

    def __len__(self) -> int:
        """Return how many answers there are, refusals not counted."""
        with self._explained():
            return int(self._reader.execute("SELECT count(*) FROM entries WHERE refused = 0").fetchone()[0])

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is still waiting, forget the refusals, close the file. Closing twice does no harm.

        A refusal is kept so that a killed run need not hear it again. Who starts anew after an orderly end may have
        changed what it was refused for (the server's longest context, say), so then it is asked again.
        """
        with self._news:
            if self._closing:
                return
            self._closing = True
            self._news.notify()
        self._thread.join()
        try:
            if self._failure is None:
                with self._explained(), self._writer:
                    self._writer.execute("DELETE FROM entries WHERE refused = 1")
                    self._count(self._loose)
        finally:
            self._reader.close()
            self._writer.close()
            os.close(self._lock)

    def _keys(self) -> npt.NDArray[np.uint64]:
        """Return the first eight bytes of every key in the file, sorted; eight bytes are little, for millions too."""
        with self._explained():
            starts = (row[0] for row in self._reader.execute("SELECT substr(key, 1, 8) FROM entries"))
            return np.sort(np.frombuffer(b"".join(starts), dtype=np.uint64))

    def _may_have(self, key: bytes) -> bool:
        if not len(self._known):
            return False
        start = np.frombuffer(key[:8], dtype=np.uint64)[0]
        at = int(np.searchsorted(self._known, start))
        return at < len(self._known) and bool(self._known[at] == start)

    def _opened(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level="IMMEDIATE", timeout=30)
        try:
            [[mode]] = connection.execute("PRAGMA journal_mode = WAL")
            if mode != "wal":
                raise KilterError(f"The disk of {self.path} cannot hold a journal ({mode}); choose a local disk.")
            connection.execute("PRAGMA synchronous = FULL")  # a commit is on the disk, also after a power cut
            [[version]] = connection.execute("PRAGMA user_version")
            if version not in (0, VERSION):
                raise KilterError(
                    f"{self.path} is the journal of another version of Kilter ({version}); "
                    "move it away, or use that version."
                )
            if version == 0:
                connection.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")
        except BaseException:
            connection.close()
            raise
        return connection

    def _write(self) -> None:
        """Commit what has come since the last commit, until the journal is closed; the thread's work."""
        last = 0.0
        while True:
            with self._news:
                while not self._waiting and not self._closing:
                    self._news.wait()
                if not self._waiting:
                    return
            time.sleep(0.0 if self._closing else max(0.0, last + PAUSE - time.monotonic()))
            last = time.monotonic()
            with self._news:
                batch, self._waiting = self._waiting, []
                loose, self._loose = self._loose, Counter()
            try:
                with self._explained():
                    self._commit(batch, loose)
            except KilterError as error:
                with self._news:
                    self._failure = error
                    batch += self._waiting
                    self._waiting = []
                _settle(batch, error)
                return
            self._new.update(entry.key for entry in batch)
            _settle(batch, None)

    def _commit(self, batch: list[_Entry], loose: Counter[tuple[str, str]]) -> None:
        with self._writer:
            self._writer.executemany(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", [(e.key, e.value, int(e.refused)) for e in batch]
            )
            for entry in batch:
                loose.update(entry.amounts)
            self._count(loose)

    def _count(self, amounts: Counter[tuple[str, str]]) -> None:
        self._writer.executemany(
            "INSERT INTO account VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
            [(who, what, amount) for (who, what), amount in amounts.items() if amount],
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite says into a sentence."""
        try:
            yield
        except sqlite3.Error as error:
            told = first_line(error)
            if "full" in told:
                what = "the disk is full; free some space and give the same command again, what was answered is kept"
            elif "not a database" in told or "malformed" in told:
                what = f"it is no journal, or damaged ({told}); move it away and give the same command again"
            else:
                what = f"{told}; check the path and the disk"
            raise KilterError(f"Cannot use the journal {self.path}: {what}.") from error


def _locked(path: Path) -> int:
    """Return a descriptor that holds the lock of `path`; it goes with the process, however that ends."""
    with explaining(path, "write"):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise KilterError(
            f"{path} is in use by another process; wait until it ends, or give this one another --out."
        ) from None
    except OSError:  # some network file systems have no locks; SQLite's own still keep the file whole
        pass
    return descriptor


def _settle(batch: list[_Entry], error: KilterError | None) -> None:
    """Tell those who wait, each in its own event loop, with one call a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for entry in batch:
        loops.setdefault(entry.kept.get_loop(), []).append(entry.kept)
    for loop, futures in loops.items():
        with contextlib.suppress(RuntimeError):  # that loop has ended, and with it whoever waited
            loop.call_soon_threadsafe(_tell, futures, error)


def _tell(futures: list[asyncio.Future[None]], error: KilterError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(None)
