"""One row for each submission, written before the POST and after its answer.

The ledger answers three questions: was this already paid, is somebody sending it now, and which answers are still
open. It never holds the key.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, get_type_hints

from ..gateway.answer import Task
from .database import LedgerFile, damage, passing_over_damage


class State:
    """The states of a row.

    A task may exist in SENDING and UNKNOWN, exists in ACCEPTED, and ended without a video in FAILED.
    """

    UNSENT: Final = "unsent"
    SENDING: Final = "sending"
    UNKNOWN: Final = "unknown"
    ACCEPTED: Final = "accepted"
    REFUSED: Final = "refused"
    FAILED: Final = "failed"


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
"""One script for each schema version, in order. Scripts are added, never changed."""

_TIMES_END = 1e11
"""A Unix time of the year 5138. A later time in a row is damage."""


@dataclass(frozen=True)
class Row:
    """One submission.

    Attributes:
        external_task_id: unique at one gateway.
        fingerprint: the same for two submissions with the same gateway, body and take.
        attempt: counts the submissions of one fingerprint. A new one follows a failed or outdated task.
        state: one of ``State``.
        body: the request body as JSON text.
        owner: the process that sends the request, while ``state`` is ``sending``.
        created_at, sent_at, accepted_at: Unix time in seconds, 0 for not yet.
        task_created_at: the gateway's time in milliseconds.
        error: why the request was refused, its answer lost, or the task failed.
    """

    base_url: str = field(repr=False)
    external_task_id: str
    fingerprint: str
    attempt: int
    take: int
    state: str
    body: str = field(repr=False)
    owner: str = ""
    created_at: float = 0
    sent_at: float = 0
    accepted_at: float = 0
    task_id: str | None = None
    task_created_at: int | None = None
    request_id: str | None = None
    error: str = ""

    def request(self) -> Mapping[str, Any]:
        """The body as it was sent. It is empty where damage made its text unreadable."""
        with suppress(ValueError, RecursionError):
            body = json.loads(self.body)
            return body if isinstance(body, dict) else {}
        return {}

    def task(self) -> Task:
        """What the ledger knows about the task of an accepted row."""
        return Task(str(self.task_id), created_at=self.task_created_at, request_id=self.request_id)

    def accepted(self, task: Task) -> Row:
        """The row with ``task`` in it."""
        return replace(
            self,
            state=State.ACCEPTED,
            accepted_at=time.time(),
            task_id=task.task_id,
            task_created_at=task.created_at,
            request_id=task.request_id,
            error="",
        )


_COLUMNS = [field.name for field in fields(Row)]
_TYPES = tuple(get_type_hints(Row)[column] for column in _COLUMNS)
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM submissions"


class Ledger:
    """The ledger of one state directory.

    Args:
        directory: is made if it does not exist.

    Raises:
        SetupError: it cannot be written, or a newer version of the pack wrote it. Then nothing may be sent.
    """

    def __init__(self, directory: Path) -> None:
        self._file = LedgerFile(directory, _MIGRATIONS, f"{_SELECT} LIMIT 1", _rescue)
        self.owner = self._file.owner
        self.installation_id = self._file.installation_id
        self.failures = 0

    def close(self) -> None:
        """Close the file, and let other processes know that this one is done."""
        self._file.close()

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
        return self._select(f"{where} ORDER BY created_at DESC, attempt DESC", *states)

    def is_under_way(self, row: Row) -> bool:
        """Whether a running process is sending ``row``."""
        return row.state == State.SENDING and self._file.is_alive(row.owner)

    # Changes

    def claim(self, row: Row, seen: Row | None) -> Row | None:
        """Mark ``row`` as being sent by this process, if nobody has changed it since it was read.

        Args:
            seen: the row as the caller read it, None if there was none.

        Returns:
            The row as it is now. None if somebody else was faster; then nothing may be sent.
        """
        now = time.time()
        if seen and seen.sent_at == now:
            now += 1e-6  # each claim needs a time of its own, and some clocks tick slowly
        created_at = seen.created_at if seen else now
        claimed = replace(row, state=State.SENDING, owner=self.owner, created_at=created_at, sent_at=now)
        if seen is None:
            won = self._file.run(lambda connection: _insert_new(connection, claimed))
        else:
            won = self._file.run(
                lambda connection: _update(connection, claimed, "state = ? AND sent_at = ?", seen.state, seen.sent_at)
            )
        return claimed if won else None

    def accept(self, row: Row, task: Task) -> None:
        """Record the task that was made. Only ``fail`` changes the row after that."""
        self._record(row.accepted(task), "state != 'failed'")

    def settle(self, row: Row, state: str, error: str) -> None:
        """Record a POST that brought no task: ``unsent``, ``refused`` or ``unknown``, and why.

        Args:
            row: as ``claim`` returned it. If it was claimed again since then, nothing is changed.
        """
        settled = replace(row, state=state, error=error)
        self._record(settled, "state = 'sending' AND owner = ? AND sent_at = ?", row.owner, row.sent_at)

    def _record(self, row: Row, condition: str, *values: object) -> None:
        """Write the new state of ``row``. If the file was replaced meanwhile, the new one may lack the row."""
        self._file.run(lambda connection: _update(connection, row, condition, *values) or _insert(connection, row))

    def fail(self, base_url: str, task_id: str, reason: str) -> None:
        """Record that a task ended without a video, so that the same graph may be paid again."""
        statement = "UPDATE submissions SET state = 'failed', error = ? WHERE base_url = ? AND task_id = ?"
        self._file.run(lambda connection: connection.execute(statement, (reason, base_url, task_id)))
        self.failures += 1

    def _first(self, where: str, *values: object) -> Row | None:
        return next(iter(self._select(where, *values)), None)

    def _select(self, where: str, *values: object) -> list[Row]:
        query = f"{_SELECT} {where}"
        return self._file.run(lambda connection: [_row(found) for found in connection.execute(query, values)])


def _row(columns: tuple[Any, ...]) -> Row:
    """The row with these columns.

    Raises:
        sqlite3.DatabaseError: they are damaged. A damaged page can hold NULL where the schema allows none.
    """
    if all(map(isinstance, columns, _TYPES)):
        row = Row(*columns)
        # Every row was claimed and therefore has times. With zeros a task would look too old to be reused.
        are_times = all(1 <= moment < _TIMES_END for moment in (row.created_at, row.sent_at))
        task_id = row.task_id or ""
        # Bytes that are not UTF-8 were read as U+FFFD.
        if are_times and "\ufffd" not in task_id and "\0" not in task_id:
            return row
    raise damage("a row")


def _rescue(damaged: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """Copy the rows that can still be read. Returns their number."""
    return sum(_insert(new, row) for row in _readable(damaged))


def _readable(damaged: sqlite3.Connection) -> Iterator[Row]:
    """The rows before the first damage, read from both ends of the table. Indexes are not used; they may be damaged."""
    for order in ("ASC", "DESC"):
        with passing_over_damage():
            for columns in damaged.execute(f"{_SELECT} ORDER BY base_url {order}, external_task_id {order}"):
                with passing_over_damage():
                    yield _row(columns)


def _insert(connection: sqlite3.Connection, row: Row) -> bool:
    marks = ", ".join("?" * len(_COLUMNS))
    statement = f"INSERT OR IGNORE INTO submissions ({', '.join(_COLUMNS)}) VALUES ({marks})"
    return bool(connection.execute(statement, _values(row)).rowcount)


def _insert_new(connection: sqlite3.Connection, row: Row) -> bool:
    """Insert a row that was not found. Returns whether it was inserted; somebody else may have been faster.

    Raises:
        sqlite3.DatabaseError: the row exists, but the index lacks it.
    """
    if _insert(connection, row):
        return True
    # Without this check the caller would wait forever for a row that it cannot find.
    found = connection.execute(
        "SELECT 1 FROM submissions INDEXED BY by_fingerprint WHERE base_url = :base_url AND external_task_id = :id AND"
        " fingerprint = (SELECT fingerprint FROM submissions WHERE base_url = :base_url AND external_task_id = :id)",
        {"base_url": row.base_url, "id": row.external_task_id},
    )
    if not found.fetchone():
        raise damage("an index")
    return False


def _update(connection: sqlite3.Connection, row: Row, condition: str, *values: object) -> bool:
    statement = (
        f"UPDATE submissions SET ({', '.join(_COLUMNS)}) = ({', '.join('?' * len(_COLUMNS))})"
        f" WHERE base_url = ? AND external_task_id = ? AND {condition}"
    )
    identity = (row.base_url, row.external_task_id)
    return bool(connection.execute(statement, (*_values(row), *identity, *values)).rowcount)


def _values(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, column) for column in _COLUMNS)
