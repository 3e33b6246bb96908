"""The ledger's file: opened, locked, migrated, and replaced when it is damaged. It is never deleted.

Threads share one connection under a lock, and processes share the file. A process that writes to it or replaces it
holds ``files.lock`` beside it: a damaged file cannot always be locked itself. The same directory holds the random id
of the installation and a lock for each process that uses the ledger.
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

from .. import private_files
from ..errors import SetupError
from . import filelock
from .filelock import identity

T = TypeVar("T")
Rescue = Callable[[sqlite3.Connection, sqlite3.Connection], int]

_log = logging.getLogger("kling")

FILE = "ledger.db"
_PROCESSES = "processes"
_INSTALLATION = "installation_id"
_DAMAGE = ("malformed", "not a database", "no such table", "no such column", "already exists", "file format")
_SUFFIXES = ("-wal", "-shm", "-journal", "")

_CLOSED = (0, -2)
"""Stands for the identity of the file while none is open."""


class LedgerFile:
    """One open database in one state directory.

    Args:
        directory: is made if it does not exist.
        migrations: one script for each schema version, in order. ``PRAGMA user_version`` counts those that have run.
        probe: a query that fails if the tables are damaged.
        rescue: copies what can be read of a damaged file, its first argument, into a new one, its second. Returns the
            number of rows.

    Attributes:
        owner: a random name for this use of the file. All processes can ask ``is_alive`` about it.
        installation_id: tells this installation's tasks from those of strangers on the same account.

    Raises:
        SetupError: it cannot be written, or a newer version of the pack wrote it.
    """

    def __init__(self, directory: Path, migrations: Sequence[str], probe: str, rescue: Rescue) -> None:
        self.owner = uuid.uuid4().hex
        self._directory, self._migrations, self._probe, self._rescue = directory, migrations, probe, rescue
        self._path = directory / FILE
        self._lock = threading.Lock()
        self._mutex, self._is_alone = filelock.Mutex(directory / "files.lock"), False
        with _refusing(), ExitStack() as on_error:
            private_files.make_subdirectory(directory, _PROCESSES)
            on_error.callback(self._mutex.close)
            self._owner_lock = on_error.enter_context(closing(self._announce_owner()))
            self._connection = on_error.enter_context(closing(self._open_or_replace()))
            self.installation_id = self._read_installation_id()
            on_error.pop_all()

    def close(self) -> None:
        """Close the file, and release the lock that says that this process is alive."""
        with self._lock:
            # The last one to close the file removes its companions. It must not meet those of a new file.
            with suppress(OSError, sqlite3.Error), self._alone():
                self._connection.close()
            self._connection.close()
            self._owner_lock.close()
            self._mutex.close()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do one piece of work. If the file is damaged, reopen it and try again, then replace it and try again.

        Args:
            work: is called up to three times. It raises ``damage`` for content that must be damaged.

        Raises:
            SetupError: the file system or SQLite refuses.
        """
        with self._lock, _refusing():
            return self._do(work)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """As ``run``, while no other process writes to the file or replaces it.

        Otherwise the work could go into a file that somebody is just replacing, and be missing in the new one.
        """
        with self._lock, _refusing(), self._alone():
            return self._do(work)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        for prepare in (self._follow, self._reopen):
            with passing_over_damage():
                prepare()
                return work(self._connection)
        # The file opens, but the work fails: an index or a later page is damaged.
        self._reopen(damaged=self._identity)
        return work(self._connection)

    def is_alive(self, owner: str) -> bool:
        """Whether the process of this name still has the file open. Raises SetupError like ``run``."""
        with _refusing():
            return owner == self.owner or filelock.is_held(self._owner_path(owner))

    def _follow(self) -> None:
        """Open the new file if somebody has replaced the old one."""
        if identity(self._path) != self._identity:
            self._reopen()

    def _reopen(self, damaged: tuple[int, int] = _CLOSED) -> None:
        with self._alone():
            self._connection.close()
            self._identity = _CLOSED
            self._connection = self._open_or_replace(damaged)

    def _open_or_replace(self, damaged: tuple[int, int] = _CLOSED) -> sqlite3.Connection:
        """Open the file, or replace it if it is damaged.

        Args:
            damaged: the identity of a file that opens, but was found to be damaged.
        """
        # Two processes may find the damage at once. The second must not set aside the new file of the first.
        with self._alone():
            if identity(self._path) == damaged:
                self._replace()
            with passing_over_damage():
                return self._open_and_note()
            self._replace()
            return self._open_and_note()

    def _open_and_note(self) -> sqlite3.Connection:
        connection = self._open(self._path)
        self._identity = identity(self._path)
        return connection

    def _replace(self) -> None:
        """Set the damaged file aside and put a new one in its place, with everything that can still be read.

        REINDEX does not help with a damaged index: it reads the damaged pages to free them, and fails as well.
        """
        draft = self._path.with_name(f"{FILE}.{self.owner}")
        try:
            # The damaged file stays until the new one is complete, so that a full disk loses nothing readable.
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
        # SQLite gives the companions the permissions of the main file.
        private_files.prepare(path)
        for suffix in _SUFFIXES:
            private_files.refuse_link(path.with_name(path.name + suffix))
        connection = _connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            self._migrate(connection)
            # The first page may be intact while the table is not.
            connection.execute(self._probe).fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(self._migrations):
            raise SetupError(
                "A newer version of this pack wrote the ledger of paid tasks. Nothing was sent. Update the pack and run"
                " again."
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
        """Take a lock for the life of this process, and remove those of processes that ended long ago."""
        for leftover in (self._directory / _PROCESSES).glob("*.lock"):
            with suppress(OSError, sqlite3.Error):
                # A day, so that no file is removed between its creation and its locking.
                if time.time() - leftover.stat().st_mtime > 86_400 and not filelock.is_held(leftover):
                    leftover.unlink()
        held = filelock.acquire(self._owner_path(self.owner))
        if held is None:
            raise sqlite3.OperationalError("a new lock is already held")
        return held

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing to the ledger, and from creating or replacing files."""
        if self._is_alone:
            yield
            return
        with self._mutex.held(timeout=10) as obtained:
            if not obtained:
                raise sqlite3.OperationalError("another process holds its lock")
            self._is_alone = True
            try:
                yield
            finally:
                self._is_alone = False

    def _owner_path(self, owner: str) -> Path:
        return self._directory / _PROCESSES / f"{owner}.lock"

    def _read_installation_id(self) -> str:
        """The random id that tells this installation's tasks from those of strangers on the same account.

        It has a file of its own. If it were lost with a damaged ledger, every old graph would be paid again.
        """
        path = self._directory / _INSTALLATION
        with self._alone():
            found = private_files.read(path) if os.path.lexists(path) else b""
            if re.fullmatch(rb"[0-9a-f]{32}\s*", found):
                return found.decode("ascii").strip()
            if found:
                _log.warning("Kling: the file %s was damaged and was created again.", path.name)
            new = uuid.uuid4().hex
            private_files.write(path, new)
            return new


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    # A bad byte in one row must not hide all other rows.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _set_aside(path: Path, rescued: int) -> None:
    aside = path.with_name(f"ledger-damaged-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}.db")
    # The main file goes last. Its companions must not be taken for those of the new file.
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    _log.warning(
        "Kling: the ledger of paid tasks was damaged. It was kept as %s, and a new one was started with the %d tasks"
        " that could still be read. Any other task is found by its external_task_id when its graph runs again.",
        aside.name,
        rescued,
    )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write everything in the block, or nothing if it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def damage(what: str) -> sqlite3.DatabaseError:
    """The error for content that must be damaged although SQLite itself reports nothing."""
    return sqlite3.DatabaseError(f"{what} is malformed")


@contextmanager
def passing_over_damage() -> Iterator[None]:
    """Continue after the block if the file is damaged. A full disk, a lock or a permission still raises."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Python 3.10 has no error codes on the exception.
        if not any(words in str(error) for words in _DAMAGE):
            raise


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn errors of the file system and of SQLite into one that stops the run before money is spent."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise SetupError(
            f"The ledger of paid tasks cannot be used ({_cause(error)}), so nothing may be sent. Free disk space or fix"
            " the permissions of the state directory, then run again. Set KLING_STATE_DIR to another directory only if"
            " no task was paid yet: a new ledger knows no earlier tasks, and their graphs would be paid again."
        ) from None


def _cause(error: Exception) -> str:
    """What went wrong, without the path that an OSError shows."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
