"""Waits for a task: queries it until Kling has made the video, the task has failed, or the time is up.

A task takes minutes, so most errors in a single query do not matter: only a final answer ends the wait. However the
wait ends, the task itself continues, and waiting for it again is free.
"""

from __future__ import annotations

import logging
import math
import random
import time

from ..errors import BusyError, KlingError, SetupError, TaskNotFound, UnavailableError
from ..gateway.answer import Task, TaskStatus, task_failed
from ..ledger.row import Row
from ..pace import RESULT_LIFE, Pace
from ..running.progress import Display, clock, date
from ..running.threads import Watcher, in_thread, sleep
from ..submit.account import Account

_log = logging.getLogger("kling")

_USUAL = 300.0
"""The seconds that a video of 5 s usually takes. Only the bar depends on it."""

DOWNLOAD_SHARE = 0.1
"""The share of the bar that is reserved for the download."""

_ASKING = "asking the gateway"
"""What the node shows before the first answer."""


async def wait_for_video(account: Account, any_id: str, seconds: float, watcher: Watcher) -> Task:
    """Wait until a task has a video.

    Args:
        any_id: a task_id or an external_task_id.
        seconds: how long to wait at most, from now on.

    Returns:
        The task, with the URL of its video.

    Raises:
        TaskFailed: it ended without a video; the ledger has recorded it.
        TaskNotFound: the gateway does not know the id, or no longer knows it.
        UnavailableError: the time is up, or the video has no link. Waiting again is free and may help.
        SetupError, BalanceError, GraphError: the gateway refuses the query.
        and the host's interrupt.
    """
    pace = account.pace
    row = await in_thread(watcher, pace, account.ledger.find, account.settings.base_url, any_id)
    state = _State(any_id, row, pace)
    end = time.monotonic() + seconds
    with Display(watcher, state.line, state.done, state.parting()) as display:
        while True:
            try:
                task = await in_thread(display, pace, _ask, account, row, state.task_id)
            except KlingError as error:
                state.note_trouble(error)
            else:
                if task.status == TaskStatus.FAILED:
                    raise task_failed(task)
                if task.status == TaskStatus.SUCCEED and task.url:
                    return task
                state.note_answer(task)
            now = time.monotonic()
            last = end if state.succeeded_at is None else state.succeeded_at + pace.url_for
            if now >= last:
                raise state.out_of_time(seconds)
            # A hundred nodes need half the processor time if they query at a few common moments, not one by one.
            await sleep(min(state.pause(now), last - now), display, pace, aligned=True)


def _ask(account: Account, row: Row | None, task_id: str) -> Task:
    """Query once and record a failure in the same thread, so a node that is cancelled meanwhile loses nothing.

    Args:
        row: the ledger row of the task, None for an id that the ledger does not know.

    Raises:
        UnavailableError: no readable answer, or one about another task; asking again may help.
        KlingError: another error, as for ``Client.query``.
    """
    task = account.client.query(task_id)
    if row and _is_another(account, row, task):
        raise UnavailableError("The gateway answered with another task.")
    try:
        if task.status == TaskStatus.FAILED:
            account.ledger.fail(account.settings.base_url, task_id, task.reason)
        if row and task.charged is not None:
            account.ledger.charge(account.settings.base_url, str(row.task_id), task.charged)
    except SetupError as error:
        # The user needs the state of the task more than this error. The next query tries to record it again.
        _log.error("Kling: %s", error)
    return task


def _is_another(account: Account, row: Row, task: Task) -> bool:
    """Whether ``task`` is not the task of ``row``: a relay or a cache may mix up its answers.

    A different task_id alone proves nothing, because relays with ids of their own may pass on Kling's.
    """
    if task.external_task_id not in (None, row.external_task_id):
        return True
    owner = None if task.task_id == row.task_id else account.ledger.find(row.base_url, task.task_id)
    return owner is not None and owner.external_task_id != row.external_task_id


def poll_pause(waited: float, pace: Pace) -> float:
    """Seconds until the next query, after ``waited`` seconds of polling."""
    return next((pause for until, pause in pace.poll if waited < until), pace.poll[-1][1])


class _State:
    """What is known about the task, and how the node shows it."""

    def __init__(self, any_id: str, row: Row | None, pace: Pace) -> None:
        self.task_id = (row and row.task_id) or any_id
        self.succeeded_at: float | None = None
        self._row = row if row and row.task_id else None
        self._pace = pace
        self._began = time.monotonic()
        self._made_at = self._seen_at = self._row.accepted_at if self._row else time.time()
        self._word = _ASKING
        self._trouble: KlingError | None = None

    # On the node

    def line(self) -> str:
        trouble = " (no usable answer, asking again)" if self._trouble else ""
        return f"{self._word}, {clock(time.time() - self._made_at)}{trouble}"

    def done(self) -> float:
        """Fast at first, then slower and slower; it never reaches the end."""
        elapsed = max(0.0, time.time() - self._made_at)
        return (1 - DOWNLOAD_SHARE) * (1 - math.exp(-1.6 * elapsed / _USUAL))

    def parting(self) -> str:
        # A small node shows only two short lines, so what to do comes first.
        return f"stopped. Run again to continue for free: the task {self.task_id} is not lost"

    # What the gateway said

    def note_answer(self, task: Task) -> None:
        now = time.time()
        self._trouble = None
        self._seen_at = now
        created = (task.created_at or 0) / 1000
        # The gateway's clock may be wrong or count in other units, so only a plausible time is used.
        if 0 <= now - created <= RESULT_LIFE:
            self._made_at = created
        self._word = task.status
        if task.status == TaskStatus.SUCCEED:
            self._word = "succeed, waiting for the video link"
            self.succeeded_at = self.succeeded_at or time.monotonic()
        else:
            self.succeeded_at = None

    def note_trouble(self, error: KlingError) -> None:
        """Raise ``error`` unless asking again may help."""
        self._trouble = error
        if isinstance(error, (UnavailableError, BusyError)):
            return
        unknown = isinstance(error, TaskNotFound) or error.http_status == 404
        if unknown and time.time() - self._seen_at < self._pace.missing:
            return
        if isinstance(error, TaskNotFound):
            raise self._not_found(error) from None
        error.task_id = self.task_id
        raise error

    # The end

    def pause(self, now: float) -> float:
        if self.succeeded_at is not None:
            return self._pace.url_pause
        # Random, so nodes that began together do not all ask at the same moment.
        return poll_pause(now - self._began, self._pace) * (1 + random.random() / 8)

    def out_of_time(self, seconds: float) -> KlingError:
        if self.succeeded_at is not None:
            text = (
                "The task has succeeded, but the gateway gave no usable link to its video. Run again later; nothing is"
                " paid again. If this keeps happening, contact the gateway's support about the video of this task."
                " Kling deletes results 30 days after they were made."
            )
        else:
            trouble = f" The last query failed: {self._trouble.message}" if self._trouble else ""
            status = "no usable answer from the gateway yet" if self._word == _ASKING else f"last status: {self._word}"
            text = (
                f"No video after {seconds / 60:g} min of waiting; {status}.{trouble} The task continues. Run again to"
                " keep waiting for the same task; nothing is paid again. If this happens often, raise timeout_minutes."
            )
        return UnavailableError(text, task_id=self.task_id)

    def _not_found(self, error: TaskNotFound) -> TaskNotFound:
        text = error.message
        if self._row and time.time() - self._row.accepted_at > RESULT_LIFE:
            text = (
                f"The gateway no longer knows this task. It was made on {date(self._row.accepted_at)}, and Kling"
                " deletes results 30 days after they were made: the video is gone. Run KlingText2Video again to pay for"
                " a new one."
            )
        elif not self._row and not error.proven:
            text += " Some gateways know only their own task_id: if this is an external_task_id, use the task_id."
        return TaskNotFound(
            text,
            proven=error.proven,
            code=error.code,
            http_status=error.http_status,
            task_id=self.task_id,
            request_id=error.request_id,
        )
