"""Submits a request once: the same graph with the same take is at most one paid task, whatever fails.

The ledger decides who may send. Each POST runs in a worker thread together with the two writes around it, so that
its answer is recorded even when the coroutine that asked for it is cancelled or its event loop is closed. All
waiting (for a free slot, for a connection, between look-ups) happens on the event loop and costs no thread.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BusyError, KlingError, OutcomeUnknown, TaskFailed, TaskNotFound, UnavailableError
from ..gateway.answer import FAILED as TASK_FAILED
from ..gateway.answer import Task
from ..gateway.client import Client
from ..gateway.outcome import Attempt, Outcome, Pace, pause_before_resend
from ..ledger.record import ACCEPTED, Ledger, Row
from ..request.body import Text2VideoRequest
from ..running.threads import WORKERS, Watcher, in_thread, sleep
from ..settings import Settings
from .step import Sender


@dataclass(frozen=True)
class Submission:
    """A task that exists.

    Attributes:
        reused: True when it was known already and nothing was paid now.
        created_at: Unix time in milliseconds, by the gateway's clock, None if it did not say.
        body: the request as it was sent.
        notes: what the user should know about this submission.
    """

    task_id: str
    external_task_id: str
    request_id: str | None
    created_at: int | None
    reused: bool
    body: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass
class _Tally:
    """What this run has done so far: POSTs by outcome, and seconds waited because of each."""

    tries: dict[Outcome, int] = field(default_factory=lambda: defaultdict(int))
    waited: dict[Outcome, float] = field(default_factory=lambda: defaultdict(float))

    def paid(self) -> bool:
        return Outcome.ACCEPTED in self.tries or Outcome.LOST in self.tries


class Jobs:
    """Everything that one gateway, one key and one state directory have in common.

    Args:
        settings: where to send and where to remember.
        pace: all waiting times.
        client: in place of the one that the settings give.

    Raises:
        SetupError: the ledger cannot be used.
    """

    def __init__(self, settings: Settings, *, pace: Pace | None = None, client: Client | None = None) -> None:
        self.settings = settings
        self.pace = pace or Pace()
        self.client = client or Client(settings, connections=WORKERS)
        self.ledger = Ledger(settings.state_dir)
        self._sender = Sender(settings.base_url, self.client, self.ledger)

    async def submit(self, request: Text2VideoRequest, take: int, watcher: Watcher) -> Submission:
        """Make sure that there is exactly one task for ``request`` and ``take``, and give it.

        Raises:
            GraphError: refused, or the user's external_task_id belongs to another request.
            SetupError, BalanceError, BusyError, UnavailableError: refused or not reached; nothing was made.
            OutcomeUnknown: a task may exist; running again looks it up first.
            TaskFailed: the task that was found has failed.
        """
        tally = _Tally()
        watcher.show("sending")
        absent = None
        while True:
            step = await in_thread(watcher, self.pace, self._sender.advance, request, take, absent)
            if step.attempt:
                tally.tries[step.attempt.outcome] += 1
                if step.attempt.task:
                    return self._submission(step.row, step.attempt.task, tally)
                if step.attempt.outcome in (Outcome.LOST, Outcome.EXISTS):
                    task = await self._look_up(step.row, watcher, step.attempt.reason or _TAKEN)
                    if task:
                        return self._submission(step.row, task, tally)
                else:
                    await self._pause(step.row, step.attempt, tally, watcher)
            elif step.seen and step.seen.state == ACCEPTED:
                return self._submission(step.row, step.seen.task(), tally)
            elif step.seen and step.is_lost:
                task = await self._look_up(step.seen, watcher, may_resend=not step.is_sending)
                if task:
                    return self._submission(step.row, task, tally)
                absent = step.seen
            else:
                watcher.show("the same request is being sent already; waiting for its answer")
                await sleep(self.pace.slice, watcher, self.pace)

    def preview(self, request: Text2VideoRequest, take: int) -> dict[str, Any]:
        """The body that ``submit`` would send now.

        Raises:
            GraphError: the user's external_task_id belongs to another request, or its task is over.
            SetupError: the ledger cannot be used.
        """
        return self._sender.preview(request, take)

    def recover(self) -> Iterator[tuple[Row, str]]:
        """Look up every submission whose answer is still open, newest first; gives each with what was found."""
        return self._sender.recover()

    async def _look_up(self, row: Row, watcher: Watcher, reason: str = "", *, may_resend: bool = False) -> Task | None:
        """Ask for a task whose answer was lost, and adopt it.

        Args:
            reason: why the answer was lost.
            may_resend: whether to give up, with None, once the task is proven not to exist.

        Raises:
            OutcomeUnknown: it can be shown neither that there is a task nor that there is none.
            TaskFailed: it exists and has failed.
        """
        pace, now, absent = self.pace, time.monotonic(), 0
        # The wall clock may have been set since; it never makes anyone wait longer than a fresh row does.
        settled_at = now + pace.settle - min(max(time.time() - row.sent_at, 0), pace.settle)
        end = max(now + pace.look_for, settled_at + pace.look_pause if may_resend else 0)
        pause = pace.look_pause
        while True:
            try:
                task = await in_thread(watcher, pace, self._sender.adopt, row)
                if task.status == TASK_FAILED:
                    raise task_failed(task)
                return task
            except TaskNotFound as error:
                absent = absent + 1 if error.proven else 0
                reason = reason or "the gateway does not know its external_task_id"
            except (UnavailableError, BusyError) as error:
                reason = reason or error.message
            except TaskFailed:
                raise
            except KlingError as error:
                raise _unknown(row, reason or str(error)) from None
            now = time.monotonic()
            # Twice, because a task may take a moment before it can be found.
            if may_resend and now >= settled_at and absent >= 2:
                return None
            if now >= end:
                raise _unknown(row, reason)
            await sleep(min(pause, end - now), watcher, pace, "the answer was lost; looking the task up again")
            pause = min(pause * 2, pace.look_for / 4)

    async def _pause(self, row: Row, attempt: Attempt, tally: _Tally, watcher: Watcher) -> None:
        """Wait before the next try, or raise if there is none."""
        tries, waited = tally.tries[attempt.outcome], tally.waited[attempt.outcome]
        pause = pause_before_resend(attempt, tries, waited, self.pace)
        if pause is None:
            raise _final_error(attempt, row, waited)
        # Only ever longer than asked for, and never the same for two nodes that were refused together.
        pause *= 1 + random.random() / 4
        tally.waited[attempt.outcome] += pause
        await sleep(pause, watcher, self.pace, f"{_WAITING_FOR[attempt.outcome]}, try {tries + 1}")

    def _submission(self, row: Row, task: Task, tally: _Tally) -> Submission:
        notes = (
            *([_RENEWED] if row.attempt > 1 and tally.paid() else []),
            *([] if self._sender.is_recorded(row) else [_UNRECORDED.format(task.task_id)]),
        )
        return Submission(
            task.task_id,
            row.external_task_id,
            task.request_id,
            task.created_at,
            reused=not tally.paid(),
            body=row.request(),
            notes=notes,
        )


_WAITING_FOR = {
    Outcome.NOT_SENT: "no connection",
    Outcome.BUSY: "waiting for a free slot",
    Outcome.CLOSED: "Kling is closed for the moment",
}

_TAKEN = "the gateway says that its external_task_id is taken"
_RENEWED = (
    "An earlier task of the same graph has failed, or is older than the 30 days after which Kling deletes results: this"
    " is a new one."
)
_UNRECORDED = (
    "The state directory cannot be written now, so this task stands in no record yet. Keep the task_id {};"
    " free space or mend the permissions and run again before you restart."
)


def _final_error(attempt: Attempt, row: Row, waited: float) -> KlingError:
    """The error that ends a submission of which it is certain that nothing was made."""
    error = attempt.error or UnavailableError(
        f"The gateway could not be reached: {attempt.reason}. Nothing was sent and nothing was paid."
        " Check the network, a proxy and KLING_BASE_URL, then run again."
    )
    if attempt.outcome is Outcome.BUSY:
        asked = f" It asks to wait {attempt.retry_after:g} s." if attempt.retry_after else ""
        error.args = (f"{error.message} Waited {waited:.0f} s for a free slot.{asked} Nothing was paid.",)
    error.external_task_id = row.external_task_id
    return error


def _unknown(row: Row, reason: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The request was sent and a task may have been made, but no answer names it ({reason.rstrip('.')}), and it"
        " could not be looked up. Run the same graph again in a minute: it looks the task up before anything is paid."
        " If this stays so, look for the external_task_id in the gateway's own list of tasks; only if it is not there,"
        " raise take to pay for a new one.",
        external_task_id=row.external_task_id,
    )


def task_failed(task: Task) -> TaskFailed:
    """The error for a task that Kling ended without a video, with its reason in full and what to do about it."""
    says = f'"{task.reason}"' if task.reason else "no reason given"
    advice = "Running KlingText2Video again makes a new task; Kling does not charge for a failed one."
    if "risk control" in task.reason.lower():
        advice = f"The content check stopped it, so change the prompt first. {advice}"
    return TaskFailed(
        f"The task has failed: {says}. {advice}",
        task_id=task.task_id,
        external_task_id=task.external_task_id,
        request_id=task.request_id,
    )


_open_jobs: dict[Settings, Jobs] = {}
_open_lock = threading.Lock()


def open_jobs(settings: Settings) -> Jobs:
    """The ``Jobs`` for these settings, shared by all nodes of this process.

    Raises:
        SetupError: the ledger cannot be used.
    """
    with _open_lock:
        if settings not in _open_jobs:
            _open_jobs[settings] = Jobs(settings)
        return _open_jobs[settings]


def failures_so_far() -> int:
    """How many tasks this process has seen to fail: it grows whenever some graph has to be run anew."""
    return sum(jobs.ledger.failures for jobs in list(_open_jobs.values()))
