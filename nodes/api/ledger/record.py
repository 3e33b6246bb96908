"""The record of every submission: one SQLite row each, written before the POST and after its answer.

It answers three questions: was this paid already, is somebody sending it right now, and which answers are still
open. It never holds the key. Threads share one connection under a lock; processes share the file.
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
"""One script for each schema version, in order: only ever added to."""

_TIMES_END = 1e11
"""No row was made after this Unix time, of the year 5138. A calendar cannot hold much more."""


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
        """The body as it was sent, without anything in it where a damaged page has garbled its text."""
        with suppress(ValueError, RecursionError):
            body = json.loads(self.body)
            return body if isinstance(body, dict) else {}
        return {}

    def task(self) -> Task:
        """What the ledger knows of the task of an accepted row."""
        return Task(str(self.task_id), created_at=self.task_created_at, request_id=self.request_id)

    def accepted(self, task: Task) -> Row:
        """The row as it is once ``task`` is known to exist."""
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
    """The record in one state directory.

    Args:
        directory: made if it is not there.

    Raises:
        SetupError: it cannot be written, or was written by a newer version of the pack. Nothing may be sent then.
    """

    def __init__(self, directory: Path) -> None:
        self._file = LedgerFile(directory, _MIGRATIONS, f"{_SELECT} LIMIT 1", _rescue)
        self.owner = self._file.owner
        self.installation_id = self._file.installation_id
        self.failures = 0

    def close(self) -> None:
        """Give back the file and the mark that this process is alive."""
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
        """Whether a process that still lives is sending ``row``."""
        return row.state == State.SENDING and self._file.is_alive(row.owner)

    # Changes

    def claim(self, row: Row, seen: Row | None) -> Row | None:
        """Mark ``row`` as being sent by this process, if nobody has touched it since it was seen.

        Args:
            seen: the row as the caller last read it, None for one that was not there.

        Returns:
            The row as it stands now. None when somebody else was faster; nothing may be sent then.
        """
        now = time.time()
        if seen and seen.sent_at == now:
            now += 1e-6  # a clock may tick slowly, and each sending must be told from the one before
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
        """Record the task that was made. Never undone by anything but ``fail``."""
        self._record(row.accepted(task), "state != 'failed'")

    def settle(self, row: Row, state: str, error: str) -> None:
        """Record an attempt that brought no task: ``unsent``, ``refused`` or ``unknown``, and why.

        Args:
            row: as ``claim`` gave it. Whoever claimed it since then knows more, and is left alone.
        """
        settled = replace(row, state=state, error=error)
        self._record(settled, "state = 'sending' AND owner = ? AND sent_at = ?", row.owner, row.sent_at)

    def _record(self, row: Row, condition: str, *values: object) -> None:
        """Write what became of ``row``, also where the file was replaced by a new one while it was on its way."""
        self._file.run(lambda connection: _update(connection, row, condition, *values) or _insert(connection, row))

    def fail(self, base_url: str, task_id: str, reason: str) -> None:
        """Record that a task ended without a video, so that the same graph may be paid anew."""
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
        sqlite3.DatabaseError: they cannot be. A damaged page can give NULL where the schema allows none.
    """
    if all(map(isinstance, columns, _TYPES)):
        row = Row(*columns)
        # Every row was claimed, and so has times. With zeros in their place a task would look too old to be reused.
        are_times = all(1 <= moment < _TIMES_END for moment in (row.created_at, row.sent_at))
        task_id = row.task_id or ""
        # Bytes that are no text were read as U+FFFD.
        if are_times and "\ufffd" not in task_id and "\0" not in task_id:
            return row
    raise damage("a row")


def _rescue(damaged: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """Copy the rows that can still be read, and say how many these are."""
    return sum(_insert(new, row) for row in _readable(damaged))


def _readable(damaged: sqlite3.Connection) -> Iterator[Row]:
    """All rows up to the first damage from either end of the table. No index is used: it may be what is damaged."""
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
    """Insert a row that was not found, unless another one has taken its place meanwhile.

    Raises:
        sqlite3.DatabaseError: one is in its place, but the index does not know it.
    """
    if _insert(connection, row):
        return True
    # Else the caller would wait for ever: told that somebody was faster, and never finding who.
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
