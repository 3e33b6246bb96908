"""The file behind the ledger: opened, locked, migrated, replaced when it is damaged, and never deleted.

Threads share one connection under a lock; processes share the file. Beside it lie the random id of the
installation and, for each process that uses it, a lock that ends with the process.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..errors import SetupError
from . import filelock

T = TypeVar("T")
Rescue = Callable[[sqlite3.Connection, sqlite3.Connection], int]

_log = logging.getLogger("kling")

FILE = "ledger.db"
_PROCESSES = "processes"
_INSTALLATION = "installation_id"
_DAMAGE = ("malformed", "not a database", "no such table", "no such column", "already exists", "file format")
_SUFFIXES = ("-wal", "-shm", "-journal", "")
_ABSENT, _CLOSED = (0, -1), (0, -2)


class LedgerFile:
    """One database in one state directory, opened.

    Args:
        directory: made if it is not there.
        migrations: one script for each schema version, in order; ``PRAGMA user_version`` counts those that have run.
        probe: a query that fails if the tables are not as they should be.
        rescue: copies what can still be read of a damaged file, its first argument, into a new one, its second, and
            says how many rows these are.

    Attributes:
        owner: a random name for this use of the file. While it is open, ``is_alive`` says so to all processes.
        installation_id: tells this installation's tasks from those of strangers on the same account.

    Raises:
        SetupError: it cannot be written, or was written by a newer version of the pack.
    """

    def __init__(self, directory: Path, migrations: Sequence[str], probe: str, rescue: Rescue) -> None:
        self.owner = uuid.uuid4().hex
        self._directory, self._migrations, self._probe, self._rescue = directory, migrations, probe, rescue
        self._path = directory / FILE
        self._lock = threading.Lock()
        with _refusing(), ExitStack() as on_error:
            (directory / _PROCESSES).mkdir(parents=True, exist_ok=True)
            self._owner_lock = on_error.enter_context(closing(self._announce_owner()))
            self._connection = on_error.enter_context(closing(self._open_or_replace()))
            self.installation_id = self._read_installation_id()
            on_error.pop_all()

    def close(self) -> None:
        """Give back the file and the mark that this process is alive."""
        with self._lock:
            self._connection.close()
            self._owner_lock.close()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do one piece of work. If the file is damaged, do it again on the file opened anew, then on a new file.

        Args:
            work: may be done up to three times. It raises ``damage`` for content that cannot be.

        Raises:
            SetupError: the file system or SQLite refuses.
        """
        with self._lock, _refusing():
            for prepare in (self._follow, self._reopen):
                with passing_over_damage():
                    prepare()
                    return work(self._connection)
            # The file opens, and yet the work fails: the damage lies in an index or in a later page.
            self._reopen(damaged=self._identity)
            return work(self._connection)

    def is_alive(self, owner: str) -> bool:
        """Whether the process of this name still has the file open. Raises SetupError as ``run``."""
        with _refusing():
            return owner == self.owner or filelock.is_held(self._owner_path(owner))

    def _follow(self) -> None:
        """Go over to the new file if somebody has replaced the old one."""
        if _identity(self._path) != self._identity:
            self._reopen()

    def _reopen(self, damaged: tuple[int, int] = _CLOSED) -> None:
        self._connection.close()
        self._identity = _CLOSED
        self._connection = self._open_or_replace(damaged)

    def _open_or_replace(self, damaged: tuple[int, int] = _CLOSED) -> sqlite3.Connection:
        """Open the file, or replace it if it is damaged. Notes which file it was: another process may replace it.

        Args:
            damaged: the identity of a file that opens, but was found to be damaged.
        """
        # Two processes may find the damage at once; the second must not set aside the first one's new file.
        with self._alone():
            if _identity(self._path) == damaged:
                self._replace()
            with passing_over_damage():
                return self._open_and_note()
            self._replace()
            return self._open_and_note()

    def _open_and_note(self) -> sqlite3.Connection:
        connection = self._open(self._path)
        self._identity = _identity(self._path)
        return connection

    def _replace(self) -> None:
        """Set the damaged file aside and put a new one in its place, with all that can still be read.

        REINDEX would not do for a damaged index: it walks the damaged pages to give them back, and fails as well.
        """
        draft = self._path.with_name(f"{FILE}.{self.owner}")
        try:
            # Until the new file is complete the damaged one stays: a full disk must not cost what can be read of it.
            with closing(self._open(draft)) as new, closing(_connect(self._path)) as damaged:
                new.execute("BEGIN")
                rescued = self._rescue(damaged, new)
                new.execute("COMMIT")
            _set_aside(self._path, rescued)
            draft.replace(self._path)
        finally:
            for suffix in _SUFFIXES:
                draft.with_name(draft.name + suffix).unlink(missing_ok=True)

    def _open(self, path: Path) -> sqlite3.Connection:
        connection = _connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._migrate(connection)
            # The first page may be whole while the table is not.
            connection.execute(self._probe).fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(self._migrations):
            raise SetupError(
                "The record of paid tasks was written by a newer version of this pack. Update the pack;"
                " nothing was sent."
            )
        if version == len(self._migrations):
            return
        connection.execute("BEGIN EXCLUSIVE")
        for script in self._migrations[version:]:
            for statement in script.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(self._migrations)}")
        connection.execute("COMMIT")

    def _announce_owner(self) -> sqlite3.Connection:
        """Hold a lock for as long as this process lives, and sweep up after processes that ended long ago."""
        for leftover in (self._directory / _PROCESSES).glob("*.lock"):
            with suppress(OSError, sqlite3.Error):
                # A day, so that no file is taken away between its making and its locking.
                if time.time() - leftover.stat().st_mtime > 86_400 and not filelock.is_held(leftover):
                    leftover.unlink()
        held = filelock.acquire(self._owner_path(self.owner))
        if held is None:
            raise sqlite3.OperationalError("a new lock is taken already")
        return held

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from making or replacing files at the same time."""
        with filelock.held(self._directory / "files.lock", timeout=10) as obtained:
            if not obtained:
                raise sqlite3.OperationalError("another process holds its lock")
            yield

    def _owner_path(self, owner: str) -> Path:
        return self._directory / _PROCESSES / f"{owner}.lock"

    def _read_installation_id(self) -> str:
        """The random id that tells this installation's tasks from those of strangers on the same account.

        It lies in a file of its own: losing it with a damaged ledger would make every old graph pay again.
        """
        path = self._directory / _INSTALLATION
        with self._alone():
            found = path.read_bytes() if path.exists() else b""
            if re.fullmatch(rb"[0-9a-f]{32}\s*", found):
                return found.decode("ascii").strip()
            if found:
                _log.warning("Kling: the file %s was damaged and has been made anew.", path.name)
            new = uuid.uuid4().hex
            draft = path.with_name(f"{path.name}.{self.owner}")
            with draft.open("w", encoding="ascii") as file:
                file.write(new)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            return new


def _identity(path: Path) -> tuple[int, int]:
    """Tells a file from another one that was put in its place."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return _ABSENT
    return found.st_dev, found.st_ino


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    # A byte that went bad in one row must not hide all others.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _set_aside(path: Path, rescued: int) -> None:
    aside = path.with_name(f"ledger-damaged-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}.db")
    # The main file last: what belongs to it must not be taken for the new file's.
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    _log.warning(
        "Kling: the record of paid tasks was damaged. It was kept as %s and a new one was started,"
        " with the %d tasks that could still be read. All others are found by their external_task_id when their graph"
        " runs again.",
        aside.name,
        rescued,
    )


def damage(what: str) -> sqlite3.DatabaseError:
    """The error for content that cannot be, where SQLite itself sees nothing wrong."""
    return sqlite3.DatabaseError(f"{what} is malformed")


@contextmanager
def passing_over_damage() -> Iterator[None]:
    """Go on after the block if the file turns out to be damaged. A full disk, a lock or a permission still raises."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Python 3.10 has no error codes on the exception.
        if not any(words in str(error) for words in _DAMAGE):
            raise


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what the file system or SQLite refuses into an error that stops the run before money is spent."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise SetupError(
            f"The record of paid tasks cannot be used ({_cause(error)}), so nothing may be sent. Free space or mend the"
            " permissions of the state directory, then run again. Set KLING_STATE_DIR to another directory only if no"
            " task was paid yet: a new record knows nothing of earlier tasks, and their graphs would be paid again."
        ) from None


def _cause(error: Exception) -> str:
    """What went wrong, without the path that the text of an OSError holds."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
