"""One row for each submission, written before the POST and after its answer.

The ledger answers three questions: was this already paid, is somebody sending it now, and which answers are still
open. It never holds the key.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ..errors import SetupError
from ..gateway.answer import Task
from ..spending import prices
from ..spending.limits import DAY, NO_LIMITS, Limits, Spent
from .database import LedgerFile, damage, transaction
from .row import MAY_BE_PAID, Row, State, request_in
from .table import MIGRATIONS, SELECT, as_row, insert_new, rescue, update, update_or_insert

_log = logging.getLogger("kling")

_COUNTED = "state IN ('sending', 'unknown', 'accepted', 'failed')"
"""``MAY_BE_PAID`` in SQL, written as in the index ``counted``: SQLite would not use it otherwise."""

_COUNT_UNCOUNTED = f"UPDATE submissions SET counted_at = sent_at WHERE {_COUNTED} AND counted_at = 0"
"""Gives a time to what a process of release 0.1.0 has sent."""

_CLOCK_JUMP = 60.0
"""A clock that differs by more seconds from the time that has passed was set."""


class Ledger:
    """The ledger of one state directory.

    Args:
        directory: is made if it does not exist.

    Raises:
        SetupError: it cannot be written, or a newer version of the pack wrote it. Then nothing may be sent.
    """

    def __init__(self, directory: Path) -> None:
        self._file = LedgerFile(directory, MIGRATIONS, f"{SELECT} LIMIT 1", rescue)
        self.owner = self._file.owner
        self.installation_id = self._file.installation_id
        self.failures = 0
        self._clock = time.time() - _steady_time()
        self._made: set[tuple[str, str]] = set()
        self._sending: set[tuple[str, str]] = set()
        self._unwritten: dict[tuple[str, str], Row] = {}

    def close(self) -> None:
        """Close the file, and let other processes know that this one is done."""
        self._file.close()

    # Questions

    def latest(self, fingerprint: str) -> Row | None:
        """The newest attempt at a submission."""
        unwritten = self._remembered(lambda row: row.fingerprint == fingerprint)
        written = self._first("WHERE fingerprint = ? ORDER BY attempt DESC LIMIT 1", fingerprint)
        return max((row for row in (unwritten, written) if row), key=lambda row: row.attempt, default=None)

    def find(self, base_url: str, any_id: str) -> Row | None:
        """The row with this task_id or external_task_id at one gateway."""
        return (
            self._remembered(lambda row: row.base_url == base_url and any_id in (row.external_task_id, row.task_id))
            or self._first("WHERE base_url = ? AND external_task_id = ?", base_url, any_id)
            or self._first("WHERE base_url = ? AND task_id = ?", base_url, any_id)
        )

    def rows(self, *states: str) -> list[Row]:
        """All rows, or those in certain states, newest first."""
        where = f"WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        return self._select(f"{where} ORDER BY created_at DESC, attempt DESC", *states)

    def is_relay(self, base_url: str) -> bool:
        """Whether this gateway was seen to be a relay that gives tasks ids of its own."""
        query = "SELECT 1 FROM relays WHERE base_url = ?"
        return bool(self._file.run(lambda connection: connection.execute(query, (base_url,)).fetchone()))

    def is_under_way(self, row: Row) -> bool:
        """Whether a running process, this one or another, is sending ``row``."""
        if row.state != State.SENDING:
            return False
        return row.identity in self._sending if row.owner == self.owner else self._file.is_alive(row.owner)

    def is_written(self, row: Row) -> bool:
        """Whether the task of ``row`` is on disk, and not only in memory."""
        return row.identity not in self._unwritten

    # Changes

    def claim(self, row: Row, seen: Row | None, limits: Limits = NO_LIMITS) -> Row | None:
        """Mark ``row`` as being sent by this process, if nobody has changed it since it was read.

        Args:
            seen: the row as the caller read it, None if there was none.
            limits: what may be spent. They are checked in the transaction of the claim.

        Returns:
            The row as it is now; it counts as being sent until ``release``. None if somebody else was faster; then
            nothing may be sent.

        Raises:
            LimitError: the limits do not allow another submission.
        """

        def work(connection: sqlite3.Connection) -> Row | None:
            # The file may have been deleted or replaced since the row was claimed.
            if row.identity in self._sending:
                return None
            if limits.window:
                self._follow_clock(connection)
            with transaction(connection):
                # Taken in the transaction: a claim that had to wait for others must not look older than they do.
                now = time.time()
                claimed = self._claimed(row, seen, now)
                if seen is None:
                    won = insert_new(connection, claimed)
                else:
                    unchanged = "state = ? AND sent_at = ?"
                    won = update(connection, claimed, unchanged, seen.state, seen.sent_at)
                # After the claim, so that a loser is told that somebody was faster. An error takes the claim back.
                if won:
                    limits.check_run(len(self._made - {row.identity}))
                if won and limits.window:
                    self._check(connection, limits, row, now)
            if won:
                # Here, under the lock of the file: another thread must not be allowed before this one is counted.
                self._made.add(row.identity)
                self._sending.add(row.identity)
            return claimed if won else None

        return self._file.write(work)

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

        return self._file.write(work)

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

    def release(self, row: Row) -> None:
        """Let others know that nobody is sending ``row`` any more, whether or not its answer could be recorded."""
        self._sending.discard(row.identity)

    def accept(self, row: Row, task: Task) -> bool:
        """Record the task that was made, even if it has failed. Only ``fail`` changes the row after that.

        If the file cannot be written, the task stays in memory, and is written as soon as that is possible.

        Returns:
            False if the task belongs to another row, so nothing was recorded.
        """
        accepted = row.accepted(task)
        owner = self._remembered(lambda other: (other.base_url, other.task_id) == (row.base_url, task.task_id))
        if owner and owner.identity != row.identity:
            return False
        try:
            if not self._accept(accepted):
                return False
        except SetupError as error:
            self._unwritten[row.identity] = accepted
            _log.error("Kling: task_id %s of %s is not recorded: %s", task.task_id, row.external_task_id, error)
        if accepted.state == State.FAILED:
            self.failures += 1
        return True

    def _accept(self, row: Row) -> bool:
        """Write ``row``, unless another row has its task. Returns whether it is its own."""

        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                same_id = "SELECT 1 FROM submissions WHERE base_url = ? AND task_id = ? AND external_task_id != ?"
                if connection.execute(same_id, (row.base_url, row.task_id, row.external_task_id)).fetchone():
                    return False
                update_or_insert(connection, row, "state != 'failed'")
                return True

        return self._file.write(work)

    def _remembered(self, matches: Callable[[Row], bool]) -> Row | None:
        """The first such task that could not be written. Each one is tried again before that."""
        for identity, row in list(self._unwritten.items()):
            with suppress(SetupError):
                self._accept(row)
                self._unwritten.pop(identity, None)
        return next((row for row in list(self._unwritten.values()) if matches(row)), None)

    def settle(self, row: Row, state: str, error: str, request_id: str | None = None) -> None:
        """Record a POST that brought no task: ``unsent``, ``refused`` or ``unknown``, and why.

        Args:
            row: as ``claim`` returned it. If it was claimed again since then, nothing is changed.
            request_id: the id of the call in the gateway's log, if the answer told it.
        """
        counted_at = row.counted_at
        if state not in MAY_BE_PAID:
            counted_at = 0
            self._made.discard(row.identity)
        settled = replace(row, state=state, error=error, counted_at=counted_at, request_id=request_id)
        still = "state = 'sending' AND owner = ? AND sent_at = ?"
        self._file.write(lambda connection: update_or_insert(connection, settled, still, row.owner, row.sent_at))

    def note_relay(self, base_url: str) -> None:
        """Remember that this gateway gives tasks ids of its own."""
        statement = "INSERT OR IGNORE INTO relays VALUES (?)"
        self._file.write(lambda connection: connection.execute(statement, (base_url,)))

    def charge_quota(self, base_url: str, quotas: Mapping[str, int]) -> None:
        """Record what a relay charged in its own quota, by task_id."""
        statement = "UPDATE submissions SET charged_quota = ? WHERE base_url = ? AND task_id = ?"
        values = [(quota, base_url, task_id) for task_id, quota in quotas.items()]

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany(statement, values)

        self._file.write(work)

    def charge(self, base_url: str, task_id: str, units: float) -> None:
        """Record what Kling charged for a task."""
        statement = "UPDATE submissions SET charged = ? WHERE base_url = ? AND task_id = ? AND charged IS NOT ?"
        self._file.write(lambda connection: connection.execute(statement, (units, base_url, task_id, units)))

    def last_charges(self) -> dict[prices.Tariff, float]:
        """What the newest task of each tariff was charged."""
        newest_last = reversed(self._select("WHERE charged IS NOT NULL ORDER BY accepted_at DESC LIMIT 1000"))
        found = ((prices.tariff(row.request()), row.charged) for row in newest_last if row.state == State.ACCEPTED)
        return {tariff: charged for tariff, charged in found if tariff and charged is not None}

    def fail(self, base_url: str, task_id: str, reason: str) -> None:
        """Record that a task ended without a video, so that the same graph may be paid again."""
        statement = "UPDATE submissions SET state = 'failed', error = ? WHERE base_url = ? AND task_id = ?"
        for identity, row in list(self._unwritten.items()):
            if (row.base_url, row.task_id) == (base_url, task_id):
                self._unwritten[identity] = replace(row, state=State.FAILED, error=reason)
        self._file.write(lambda connection: connection.execute(statement, (reason, base_url, task_id)))
        self.failures += 1

    def _first(self, where: str, *values: object) -> Row | None:
        return next(iter(self._select(where, *values)), None)

    def _select(self, where: str, *values: object) -> list[Row]:
        query = f"{SELECT} {where}"
        return self._file.run(lambda connection: [as_row(found) for found in connection.execute(query, values)])


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
    own = but.identity if but else ("", "")
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
