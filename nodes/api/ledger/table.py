"""The table of submissions: its schema, its rows in and out of SQL, and what can be read of it after damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

from .database import damage, passing_over_damage
from .row import Row

MIGRATIONS = [
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
    """
    ALTER TABLE submissions ADD COLUMN charged_quota INTEGER;
    CREATE TABLE relays (base_url TEXT PRIMARY KEY);
    """,
]
"""One script for each schema version, in order. Scripts are added, never changed."""


_LATER_COLUMNS = {"counted_at": "0.0", "charged": "NULL", "charged_quota": "NULL"}
"""Columns that the first schema lacks, with their values for its rows."""

_TIMES_END = 1e11
"""A Unix time of the year 5138. A later time in a row is damage."""

_COLUMNS = [field.name for field in fields(Row)]
_TYPES = tuple(get_type_hints(Row)[column] for column in _COLUMNS)
SELECT = f"SELECT {', '.join(_COLUMNS)} FROM submissions"


def as_row(columns: tuple[Any, ...]) -> Row:
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


def rescue(damaged: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """Copy the rows that can still be read. Returns their number."""
    return sum(insert(new, row) for row in _readable(damaged))


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
                    yield as_row(columns)


def insert(connection: sqlite3.Connection, row: Row) -> bool:
    marks = ", ".join("?" * len(_COLUMNS))
    statement = f"INSERT OR IGNORE INTO submissions ({', '.join(_COLUMNS)}) VALUES ({marks})"
    return bool(connection.execute(statement, _values(row)).rowcount)


def insert_new(connection: sqlite3.Connection, row: Row) -> bool:
    """Insert a row that was not found. Returns whether it was inserted; somebody else may have been faster.

    Raises:
        sqlite3.DatabaseError: the row exists, but the index lacks it.
    """
    if insert(connection, row):
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


def update(connection: sqlite3.Connection, row: Row, condition: str, *values: object) -> bool:
    statement = (
        f"UPDATE submissions SET ({', '.join(_COLUMNS)}) = ({', '.join('?' * len(_COLUMNS))})"
        f" WHERE base_url = ? AND external_task_id = ? AND {condition}"
    )
    return bool(connection.execute(statement, (*_values(row), *row.identity, *values)).rowcount)


def update_or_insert(connection: sqlite3.Connection, row: Row, condition: str, *values: object) -> None:
    """Write the new state of ``row``. If the file was replaced meanwhile, the new one may lack the row."""
    if not update(connection, row, condition, *values):
        insert(connection, row)


def _values(row: Row) -> tuple[object, ...]:
    return tuple(getattr(row, column) for column in _COLUMNS)
