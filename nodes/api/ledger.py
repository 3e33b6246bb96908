"""The record of every submission: one SQLite row each, written before the POST and after its answer.

It answers three questions: was this paid already, is somebody sending it right now, and which answers are still
open. It never holds the key. Threads share one connection under a lock; processes share the file.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from . import filelock
from .answer import Task
from .errors import SetupError

T = TypeVar("T")

_log = logging.getLogger("kling")

FILE = "ledger.db"
_PROCESSES = "processes"
_INSTALLATION = "installation_id"

UNSENT, SENDING, UNKNOWN, ACCEPTED, REFUSED, FAILED = "unsent", "sending", "unknown", "accepted", "refused", "failed"
"""The states of a row. A task may exist in SENDING and UNKNOWN, exists in ACCEPTED, and has ended badly in FAILED."""

_MIGRATIONS = [
    """
    CREATE TABLE submissions (
        base_url TEXT NOT NULL,
        external_task_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        take INTEGER NOT NULL,
        state TEXT NOT NULL,
        body TEXT NOT NULL,
        owner TEXT NOT NULL DEFAULT '',
        created_at REAL NOT NULL,
        sent_at REAL NOT NULL DEFAULT 0,
        accepted_at REAL NOT NULL DEFAULT 0,
        task_id TEXT,
        task_created_at INTEGER,
        request_id TEXT,
        error TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (base_url, external_task_id)
    ) WITHOUT ROWID;
    CREATE INDEX by_fingerprint ON submissions (fingerprint, attempt);
    CREATE INDEX by_task ON submissions (base_url, task_id);
    CREATE INDEX unsettled ON submissions (state) WHERE state IN ('sending', 'unknown');
    """,
]
"""One script for each schema version, in order; ``PRAGMA user_version`` counts those that have run."""


@dataclass(frozen=True)
class Row:
    """One submission.

    Attributes:
        fingerprint: what makes two submissions the same: gateway, body and take.
        attempt: 1, and one more after each failed or outdated task of the same fingerprint.
        body: the request body as JSON text.
        owner: the process that sends it, while ``state`` is ``sending``.
        created_at, sent_at, accepted_at: Unix time in seconds; 0 for not yet.
        task_created_at: the gateway's time in milliseconds.
        error: why it was refused, lost or failed.
    """

    base_url: str
    external_task_id: str
    fingerprint: str
    attempt: int
    take: int
    state: str
    body: str
    owner: str = ""
    created_at: float = 0
    sent_at: float = 0
    accepted_at: float = 0
    task_id: str | None = None
    task_created_at: int | None = None
    request_id: str | None = None
    error: str = ""

    def request(self) -> Mapping[str, Any]:
        """The body as it was sent."""
        return dict(json.loads(self.body))


_COLUMNS = [field.name for field in fields(Row)]


class Ledger:
    """The record in one state directory.

    Args:
        directory: made if it is not there.

    Raises:
        SetupError: it cannot be written, or was written by a newer version of the pack. Nothing may be sent then.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.owner = uuid.uuid4().hex
        self.failures = 0
        self._lock = threading.Lock()
        with _refusing():
            (directory / _PROCESSES).mkdir(parents=True, exist_ok=True)
            self._owner_lock = self._announce_owner()
            self._connection = self._open_or_replace()
            self.installation_id = self._read_installation_id()

    def close(self) -> None:
        """Give back the file and the mark that this process is alive."""
        with self._lock:
            self._connection.close()
            self._owner_lock.close()

    # Questions

    def latest(self, fingerprint: str) -> Row | None:
        """The newest attempt at a submission."""
        return self._first("WHERE fingerprint = ? ORDER BY attempt DESC LIMIT 1", fingerprint)

    def find(self, base_url: str, any_id: str) -> Row | None:
        """The row with this task_id or external_task_id at one gateway."""
        return self._first("WHERE base_url = ? AND external_task_id = ?", base_url, any_id) or self._first(
            "WHERE base_url = ? AND task_id = ?", base_url, any_id
        )

    def rows(self, *states: str) -> list[Row]:
        """All rows, or those in certain states, newest first."""
        where = f"WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        return self._select(f"{where} ORDER BY created_at DESC", *states)

    def is_under_way(self, row: Row) -> bool:
        """Whether a process that still lives is sending ``row``."""
        return row.state == SENDING and (row.owner == self.owner or filelock.is_held(self._owner_path(row.owner)))

    # Changes

    def claim(self, row: Row, seen: Row | None) -> bool:
        """Mark ``row`` as being sent by this process, if nobody has touched it since it was seen.

        Args:
            seen: the row as the caller last read it, None for one that was not there.

        Returns:
            False when somebody else was faster; nothing may be sent then.
        """
        now = time.time()
        if seen is None:
            new = replace(row, state=SENDING, owner=self.owner, created_at=now, sent_at=now)
            marks = ", ".join("?" * len(_COLUMNS))
            return self._change(
                f"INSERT OR IGNORE INTO submissions ({', '.join(_COLUMNS)}) VALUES ({marks})",
                *(getattr(new, column) for column in _COLUMNS),
            )
        return self._change(
            "UPDATE submissions SET state = 'sending', owner = ?, sent_at = ?"
            " WHERE base_url = ? AND external_task_id = ? AND state = ? AND sent_at = ?",
            *(self.owner, now, row.base_url, row.external_task_id, seen.state, seen.sent_at),
        )

    def accept(self, row: Row, task: Task) -> None:
        """Record the task that was made. Never undone by anything but ``fail``."""
        self._change(
            "UPDATE submissions SET state = 'accepted', accepted_at = ?, task_id = ?, task_created_at = ?,"
            " request_id = ?, error = '' WHERE base_url = ? AND external_task_id = ? AND state != 'failed'",
            *(time.time(), task.task_id, task.created_at, task.request_id, row.base_url, row.external_task_id),
        )

    def settle(self, row: Row, state: str, error: str) -> None:
        """Record an attempt that brought no task: ``unsent``, ``refused`` or ``unknown``, and why."""
        self._change(
            "UPDATE submissions SET state = ?, error = ? WHERE base_url = ? AND external_task_id = ?"
            " AND state NOT IN ('accepted', 'failed')",
            *(state, error, row.base_url, row.external_task_id),
        )

    def fail(self, base_url: str, task_id: str, reason: str) -> None:
        """Record that a task ended without a video, so that the same graph may be paid anew."""
        self._change(
            "UPDATE submissions SET state = 'failed', error = ? WHERE base_url = ? AND task_id = ?",
            *(reason, base_url, task_id),
        )
        self.failures += 1

    # The file

    def _first(self, where: str, *values: object) -> Row | None:
        return next(iter(self._select(where, *values)), None)

    def _select(self, where: str, *values: object) -> list[Row]:
        query = f"SELECT {', '.join(_COLUMNS)} FROM submissions {where}"
        return [Row(*found) for found in self._run(lambda connection: connection.execute(query, values).fetchall())]

    def _change(self, statement: str, *values: object) -> bool:
        return bool(self._run(lambda connection: connection.execute(statement, values).rowcount))

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do one piece of work, once more on a new file if the old one turns out to be damaged."""
        with self._lock, _refusing():
            try:
                return work(self._connection)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                self._connection.close()
                self._connection = self._open_or_replace()
                return work(self._connection)

    def _open_or_replace(self) -> sqlite3.Connection:
        path = self.directory / FILE
        try:
            return _open(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        # Two processes may find the damage at once; the second must not set aside the first one's new file.
        with self._alone():
            try:
                return _open(path)
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
            aside = path.with_name(f"ledger-damaged-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}.db")
            for suffix in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
            _log.warning(
                "Kling: the record of paid tasks was damaged. It was kept as %s and a new one was started."
                " Tasks are still found by their external_task_id when their graph runs again.",
                aside.name,
            )
            return _open(path)

    def _announce_owner(self) -> sqlite3.Connection:
        """Hold a lock for as long as this process lives, and sweep up after processes that ended long ago."""
        for leftover in (self.directory / _PROCESSES).glob("*.lock"):
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
        with filelock.held(self.directory / "files.lock", timeout=10) as obtained:
            if not obtained:
                raise sqlite3.OperationalError("another process holds its lock")
            yield

    def _owner_path(self, owner: str) -> Path:
        return self.directory / _PROCESSES / f"{owner}.lock"

    def _read_installation_id(self) -> str:
        """The random id that tells this installation's tasks from those of strangers on the same account.

        It lies in a file of its own: losing it with a damaged ledger would make every old graph pay again.
        """
        path = self.directory / _INSTALLATION
        if not path.exists():
            with self._alone():
                if not path.exists():
                    draft = path.with_name(f"{path.name}.{self.owner}")
                    draft.write_text(uuid.uuid4().hex, encoding="utf-8")
                    draft.replace(path)
        return path.read_text(encoding="utf-8").strip()


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection)
        # The first page may be whole while the table is not.
        connection.execute("SELECT * FROM submissions LIMIT 1").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(_MIGRATIONS):
        return
    connection.execute("BEGIN EXCLUSIVE")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_MIGRATIONS):
        connection.execute("ROLLBACK")
        raise SetupError(
            "The record of paid tasks was written by a newer version of this pack. Update the pack; nothing was sent."
        )
    for script in _MIGRATIONS[version:]:
        for statement in script.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
    connection.execute("COMMIT")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # Python 3.10 has no error codes on the exception.
    return any(words in str(error) for words in ("malformed", "not a database", "no such table", "no such column"))


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what the file system or SQLite refuses into an error that stops the run before money is spent."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise SetupError(
            f"The record of paid tasks cannot be used ({_cause(error)}), so nothing may be sent. Free space or mend the"
            " permissions of the state directory, or set KLING_STATE_DIR to a directory that can be written."
        ) from None


def _cause(error: Exception) -> str:
    """What went wrong, without the path that the text of an OSError holds."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
