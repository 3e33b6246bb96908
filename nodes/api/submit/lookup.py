"""Finds the task of a submission whose answer was lost. Nothing here can pay: it only asks.

Kling knows a task by its external_task_id. A New-API relay does not, but its log may name the task. What is found is
asked for before it is believed. What is not found proves nothing, unless Kling itself says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from ..errors import KlingError, SetupError, TaskNotFound, UnavailableError
from ..gateway.answer import Task, TaskStatus
from ..gateway.books import Books, Entry
from ..gateway.client import Client, own_request_id
from ..ledger.record import Ledger
from ..ledger.row import Row, State
from ..pace import LONGEST_POST
from .step import is_lost
from .unknown import Trace, told

_EARLY, _LATE = 5.0, 60.0
"""How many seconds before a POST, and after the longest one, its entry in a relay's log may be dated."""

_ASKED = 5
"""How many fitting tasks are asked for, at most."""


class Finder:
    """Looks for lost tasks at one gateway.

    Args:
        base_url: the gateway's address, the same as in ``client``.
    """

    def __init__(self, base_url: str, client: Client, ledger: Ledger) -> None:
        self._base_url, self._client, self._ledger = base_url, client, ledger
        self._books = Books(client)
        self._was_relay = ledger.is_relay(base_url)

    @property
    def is_relay(self) -> bool:
        """Whether the gateway is known to be a relay of the New-API family."""
        return self._client.is_relay or self._was_relay

    def adopt(self, row: Row) -> Task:
        """Ask the gateway for the task of ``row`` by its external_task_id and record it, even if it has failed.

        Raises:
            TaskNotFound, UnavailableError, KlingError: as in ``Client.query``.
        """
        if known := self._known(row):
            return known
        task = self._client.query(row.external_task_id)
        if task.external_task_id not in (None, row.external_task_id) or not self._ledger.accept(row, task):
            raise UnavailableError("the gateway answered with another task")
        return task

    def trace(self, row: Row, max_age: float) -> Trace:
        """Look into the relay's log for the task of ``row``, and record it if it is found for certain.

        Args:
            max_age: seconds; a log that was read earlier is read again.
        """
        try:
            if known := self._known(row):
                return Trace(known)
            charges = [entry for entry in self._books.entries(max_age) if not entry.is_refund]
            return self._matched(row, charges)
        except KlingError as error:
            return Trace(problem=error.message)

    def _matched(self, row: Row, charges: list[Entry]) -> Trace:
        """The task of ``row`` if exactly one charge can be for it and for nothing else, otherwise all that can be."""
        ids = {own_request_id(row.external_task_id), row.request_id} - {None}
        found = [entry for entry in charges if entry.request_id in ids]
        is_exact = bool(found)
        if not found:
            # Where both ids are known and differ, the charge is for another call.
            unnamed = [entry for entry in charges if not (row.request_id and entry.request_id)]
            found = [entry for entry in unnamed if _fits(row, entry) and self._is_free(entry)]
        possible: list[tuple[Entry, Task | None]] = []
        for entry in found:
            task = self._confirmed(row, entry) if entry.task_id and len(possible) < _ASKED else None
            if task and task.external_task_id == row.external_task_id:
                return self._taken(row, entry, task)
            if task is None or not _is_of_another(row, task):
                possible.append((entry, task))
        # Time and model alone do not prove it: another program with the same key may have made the task.
        if is_exact and len(possible) == 1:
            entry, task = possible[0]
            if task:
                return self._taken(row, entry, task)
        return Trace(paid=tuple(entry for entry, _ in possible))

    def _confirmed(self, row: Row, entry: Entry) -> Task | None:
        """The task of an entry as the gateway knows it, None if it does not say."""
        try:
            return replace(self._client.query(str(entry.task_id)), task_id=str(entry.task_id))
        except KlingError:
            return None

    def _taken(self, row: Row, entry: Entry, task: Task) -> Trace:
        if not self._ledger.accept(row, task):
            return Trace()  # another row was faster, so it was that one's
        with suppress(SetupError):
            self._ledger.charge_quota(row.base_url, {task.task_id: entry.quota})
        return Trace(task)

    def _is_free(self, entry: Entry) -> bool:
        return entry.task_id is None or self._ledger.find(self._base_url, entry.task_id) is None

    def _known(self, row: Row) -> Task | None:
        """The task if another thread or process has found it meanwhile."""
        known = self._ledger.find(row.base_url, row.external_task_id)
        is_found = known and known.state == State.ACCEPTED and known.external_task_id == row.external_task_id
        return known.task() if known and is_found else None

    def recover(self) -> Iterator[tuple[Row, str]]:
        """Look up every submission whose answer is still open, newest first. Yields each row with the result."""
        for row in self._ledger.rows(State.SENDING, State.UNKNOWN):
            if row.base_url != self._base_url:
                yield row, "was sent to another gateway; set KLING_BASE_URL to it"
            elif not is_lost(row, self._ledger.is_under_way(row)):
                yield row, "is being sent now"
            else:
                yield row, self._recovered(row)

    def _recovered(self, row: Row) -> str:
        try:
            task = self.adopt(row)
        except TaskNotFound as error:
            if error.proven:
                return "no such task"
            trace = self.trace(row, max_age=60) if self.is_relay else None
            if trace is None or trace.task is None:
                return told(trace)
            task = trace.task
        except KlingError as error:
            return str(error)
        return f"found: task_id {task.task_id}" + (", which has failed" if task.status == TaskStatus.FAILED else "")


def _fits(row: Row, entry: Entry) -> bool:
    """Whether a charge can be for the POST of ``row``, by its time and model."""
    in_time = row.sent_at - _EARLY <= entry.at <= row.sent_at + LONGEST_POST + _LATE
    return in_time and entry.model == row.request().get("model_name")


def _is_of_another(row: Row, task: Task) -> bool:
    another_id = task.external_task_id not in (None, row.external_task_id)
    return another_id or task.model not in (None, row.request().get("model_name"))
