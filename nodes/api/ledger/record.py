"""One row for each submission, written before the POST and after its answer.

The ledger answers three questions: was this already paid, is somebody sending it now, and which answers are still
open. It never holds the key.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints

from ..gateway.answer import Task
from ..spending import prices
from ..spending.limits import DAY, NO_LIMITS, Limits, Spent
from .database import LedgerFile, damage, passing_over_damage, transaction
from .row import MAY_BE_PAID, Row, State, request_in

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
    """
    ALTER TABLE submissions ADD COLUMN counted_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE submissions ADD COLUMN charged REAL;
    UPDATE submissions SET counted_at = sent_at WHERE state IN ('sending', 'unknown', 'accepted', 'failed');
    CREATE TABLE clock (followed REAL NOT NULL);
    CREATE INDEX counted ON submissions (counted_at, state) WHERE state IN ('sending', 'unknown', 'accepted', 'failed');
    CREATE INDEX charges ON submissions (accepted_at) WHERE charged IS NOT NULL;
    """,
]
"""One script for each schema version, in order. Scripts are added, never changed."""


_LATER_COLUMNS = {"counted_at": "0.0", "charged": "NULL"}
"""Columns that the first schema lacks, with their values for its rows."""

_COUNTED = "state IN ('sending', 'unknown', 'accepted', 'failed')"
"""``MAY_BE_PAID`` in SQL, written as in the index ``counted``: SQLite would not use it otherwise."""

_COUNT_UNCOUNTED = f"UPDATE submissions SET counted_at = sent_at WHERE {_COUNTED} AND counted_at = 0"
"""Gives a time to what a process of release 0.1.0 has sent."""

_CLOCK_JUMP = 60.0
"""A clock that differs by more seconds from the time that has passed was set."""

_TIMES_END = 1e11
"""A Unix time of the year 5138. A later time in a row is damage."""

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
        self._clock = time.time() - _steady_time()
        self._made: set[tuple[str, str]] = set()

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

    def claim(self, row: Row, seen: Row | None, limits: Limits = NO_LIMITS) -> Row | None:
        """Mark ``row`` as being sent by this process, if nobody has changed it since it was read.

        Args:
            seen: the row as the caller read it, None if there was none.
            limits: what may be spent. They are checked in the transaction of the claim.

        Returns:
            The row as it is now. None if somebody else was faster; then nothing may be sent.

        Raises:
            LimitError: the limits do not allow another submission.
        """

        def work(connection: sqlite3.Connection) -> Row | None:
            if limits.window:
                self._follow_clock(connection)
            with transaction(connection):
                # Taken in the transaction: a claim that had to wait for others must not look older than they do.
                now = time.time()
                claimed = self._claimed(row, seen, now)
                if seen is None:
                    won = _insert_new(connection, claimed)
                else:
                    unchanged = "state = ? AND sent_at = ?"
                    won = _update(connection, claimed, unchanged, seen.state, seen.sent_at)
                # After the claim, so that a loser is told that somebody was faster. An error takes the claim back.
                if won:
                    limits.check_run(len(self._made - {_identity(row)}))
                if won and limits.window:
                    self._check(connection, limits, row, now)
            if won:
                # Here, under the lock of the file: another thread must not be allowed before this one is counted.
                self._made.add(_identity(row))
            return claimed if won else None

        return self._file.run(work)

    def _check(self, connection: sqlite3.Connection, limits: Limits, row: Row, now: float) -> None:
        """Raise LimitError if the limits do not allow ``row``, which is already claimed."""
        connection.execute(_COUNT_UNCOUNTED)
        if not limits.units_per_day:
            # Counting is cheap also where thousands of tasks are allowed in the window.
            count = f"SELECT COUNT(*) FROM submissions WHERE {_COUNTED} AND counted_at > ?"
            if connection.execute(count, (now - limits.window,)).fetchone()[0] <= limits.tasks_per_hour:
                return
        request = row.request()
        others = _counted(connection, limits, now, but=row)
        limits.check(others, prices.at_most(request), now, is_guess=prices.estimate(request) is None)

    def _claimed(self, row: Row, seen: Row | None, now: float) -> Row:
        if seen and seen.sent_at == now:
            now += 1e-6  # each claim needs a time of its own, and some clocks tick slowly
        created_at = seen.created_at if seen else now
        return replace(row, state=State.SENDING, owner=self.owner, created_at=created_at, sent_at=now, counted_at=now)

    def spent(self, limits: Limits) -> list[Spent]:
        """Everything that counts towards the limits now."""

        def work(connection: sqlite3.Connection) -> list[Spent]:
            self._follow_clock(connection)
            return _counted(connection, limits, time.time())

        return self._file.run(work)

    def _follow_clock(self, connection: sqlite3.Connection) -> None:
        """Move the counted rows along with a clock that was set, so that it frees no place and holds none for longer.

        A clock that was set forward would make them look old. One that was set back would let them count for more than
        their time. This is not part of the transaction of a claim: a claim that the limits refuse must not undo it.
        """
        now = time.time()
        clock = now - _steady_time()
        jump = clock - self._clock
        was_set = abs(jump) > _CLOCK_JUMP
        where = f"WHERE {_COUNTED} AND counted_at"
        ahead = connection.execute(f"SELECT 1 FROM submissions {where} > ? LIMIT 1", (now + _CLOCK_JUMP,)).fetchone()
        uncounted = connection.execute(f"SELECT 1 FROM submissions {where} = 0 LIMIT 1").fetchone()
        if not (was_set or ahead or uncounted):
            return
        with transaction(connection):
            connection.execute(_COUNT_UNCOUNTED)
            if was_set:
                # Every process sees the clock being set, but the rows move once.
                followed = connection.execute("SELECT followed FROM clock").fetchone()
                if jump > 0 and not (followed and abs(clock - followed[0]) < _CLOCK_JUMP):
                    moved = f"UPDATE submissions SET counted_at = counted_at + ? {where} > ?"
                    connection.execute(moved, (jump, now - jump - DAY))
                connection.execute("DELETE FROM clock")
                connection.execute("INSERT INTO clock VALUES (?)", (clock,))
            connection.execute(f"UPDATE submissions SET counted_at = ? {where} > ?", (now, now))
        if was_set:
            self._clock = clock

    def accept(self, row: Row, task: Task) -> None:
        """Record the task that was made. Only ``fail`` changes the row after that."""
        self._record(row.accepted(task), "state != 'failed'")

    def settle(self, row: Row, state: str, error: str) -> None:
        """Record a POST that brought no task: ``unsent``, ``refused`` or ``unknown``, and why.

        Args:
            row: as ``claim`` returned it. If it was claimed again since then, nothing is changed.
        """
        counted_at = row.counted_at
        if state not in MAY_BE_PAID:
            counted_at = 0
            self._made.discard(_identity(row))
        settled = replace(row, state=state, error=error, counted_at=counted_at)
        self._record(settled, "state = 'sending' AND owner = ? AND sent_at = ?", row.owner, row.sent_at)

    def _record(self, row: Row, condition: str, *values: object) -> None:
        """Write the new state of ``row``. If the file was replaced meanwhile, the new one may lack the row."""
        self._file.run(lambda connection: _update(connection, row, condition, *values) or _insert(connection, row))

    def charge(self, base_url: str, task_id: str, units: float) -> None:
        """Record what Kling charged for a task."""
        statement = "UPDATE submissions SET charged = ? WHERE base_url = ? AND task_id = ? AND charged IS NOT ?"
        self._file.run(lambda connection: connection.execute(statement, (units, base_url, task_id, units)))

    def last_charges(self) -> dict[prices.Tariff, float]:
        """What the newest task of each tariff was charged."""
        newest_last = reversed(self._select("WHERE charged IS NOT NULL ORDER BY accepted_at DESC LIMIT 1000"))
        found = ((prices.tariff(row.request()), row.charged) for row in newest_last if row.state == State.ACCEPTED)
        return {tariff: charged for tariff, charged in found if tariff and charged is not None}

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


def _steady_time() -> float:
    """Seconds by a clock that nobody sets and that goes on while the computer sleeps."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):  # Linux, macOS
        if hasattr(time, name):
            return time.clock_gettime(getattr(time, name))
    return time.monotonic()


def _counted(connection: sqlite3.Connection, limits: Limits, now: float, but: Row | None = None) -> list[Spent]:
    """What counts towards the limits.

    Args:
        but: a row that is left out.
    """
    # The index alone answers without a limit on units. Thousands of rows may count, and each claim asks.
    columns = "counted_at, state, charged, body" if limits.units_per_day else "counted_at"
    where = f"{_COUNTED} AND counted_at > ? AND NOT (base_url = ? AND external_task_id = ?)"
    own = _identity(but) if but else ("", "")
    found = connection.execute(f"SELECT {columns} FROM submissions WHERE {where}", (now - limits.window, *own))
    return [_spent(*row) for row in found]


def _spent(counted_at: object, state: object = State.FAILED, charged: object = None, body: object = "") -> Spent:
    """What a row counts towards the limits. Kling does not charge for a failed task."""
    if not isinstance(counted_at, float):
        raise damage("a row")
    if state == State.FAILED:
        return Spent(counted_at, 0)
    return Spent(counted_at, charged if isinstance(charged, float) else _at_most(body))


@lru_cache(maxsize=4096)
def _at_most(body: object) -> float:
    return prices.at_most(request_in(body) if isinstance(body, str) else {})


def _identity(row: Row) -> tuple[str, str]:
    return row.base_url, row.external_task_id


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
    has: set[str] = set()
    with passing_over_damage():
        has = {name for _, name, *_ in damaged.execute("PRAGMA table_info(submissions)")}
    columns_now = ", ".join(name if name in has else _LATER_COLUMNS.get(name, name) for name in _COLUMNS)
    for order in ("ASC", "DESC"):
        with passing_over_damage():
            for columns in damaged.execute(
                f"SELECT {columns_now} FROM submissions ORDER BY base_url {order}, external_task_id {order}"
            ):
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
    return bool(connection.execute(statement, (*_values(row), *_identity(row), *values)).rowcount)


def _values(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, column) for column in _COLUMNS)
