"""Submits a request once: the same graph with the same take is at most one paid task, whatever fails.

The ledger decides who may send. Each POST runs in a worker thread together with the two writes around it, so that
its answer is recorded even when the coroutine that asked for it is cancelled or its event loop is closed. All
waiting (for a free slot, for a connection, between look-ups) happens on the event loop and costs no thread.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .answer import FAILED as TASK_FAILED
from .answer import Task
from .attempt import Attempt, Outcome, Pace, pause_before_resend
from .client import CONNECT_TIMEOUT, CREATE_TIMEOUT, Client
from .errors import GraphError, KlingError, OutcomeUnknown, SetupError, TaskFailed, TaskNotFound, UnavailableError
from .ledger import ACCEPTED, FAILED, REFUSED, SENDING, UNKNOWN, UNSENT, Ledger, Row
from .request import Text2VideoRequest
from .settings import Settings
from .waiting import WORKERS, Watcher, in_thread, sleep

_log = logging.getLogger("kling")

RESULT_LIFE = 30 * 86_400
"""Seconds after which Kling deletes results: an older task is not worth reusing."""

_RECIPE = "1"
"""The version of the recipe for external_task_id. Changing it makes every old graph pay again."""


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


@dataclass(frozen=True)
class _Step:
    """Where a submission stands: the row to send, the row as the ledger has it, and the POST that was just made."""

    row: Row
    seen: Row | None
    attempt: Attempt | None = None
    notes: tuple[str, ...] = ()


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
        self._active: set[str] = set()
        self._active_lock = threading.Lock()

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
        may_resend = False
        while True:
            step = await in_thread(watcher, self.pace, self._advance, request, take, may_resend)
            may_resend = False
            if step.attempt:
                tally.tries[step.attempt.outcome] += 1
                if step.attempt.task:
                    return _submission(step, step.attempt.task, tally)
                if step.attempt.outcome in (Outcome.LOST, Outcome.EXISTS):
                    task = await self._look_up(step.row, watcher, step.attempt.reason)
                    if task:
                        return _submission(step, task, tally)
                else:
                    await self._pause(step.row, step.attempt, tally, watcher)
            elif step.seen and step.seen.state == ACCEPTED:
                return _submission(step, _task(step.seen), tally)
            elif step.seen and self._is_open(step.seen):
                task = await self._look_up(step.seen, watcher, may_resend=True)
                if task:
                    return _submission(step, task, tally)
                may_resend = True
            else:
                watcher.show("the same request is being sent already; waiting for its answer")
                await sleep(self.pace.slice, watcher, self.pace)

    def preview(self, request: Text2VideoRequest, take: int) -> dict[str, Any]:
        """The body that ``submit`` would send now."""
        return dict(self._plan(request, take).row.request())

    # In a worker thread

    def _advance(self, request: Text2VideoRequest, take: int, may_resend: bool) -> _Step:
        """Find out where the submission stands and, if it may be sent, send it once."""
        step = self._plan(request, take)
        if step.seen and step.seen.state not in (UNSENT, REFUSED) and not (may_resend and self._is_open(step.seen)):
            return step
        return self._post(step)

    def _plan(self, request: Text2VideoRequest, take: int) -> _Step:
        body = request.body()
        own_id = body.get("external_task_id")
        base_url = self.settings.base_url
        identity = [base_url, json.dumps(body, sort_keys=True, ensure_ascii=False), str(take)]
        fingerprint = _digest(*identity)
        seen = self.ledger.find(base_url, own_id) if own_id else self.ledger.latest(fingerprint)
        if own_id and seen and seen.fingerprint != fingerprint:
            raise GraphError(
                f"The external_task_id {own_id} was used before, for another request or another take."
                " Change it in KlingText2Video, or clear it to have one made."
            )
        if seen and not (seen.state == FAILED or _is_outdated(seen)):
            return _Step(seen, seen)
        attempt = seen.attempt + 1 if seen else 1
        if own_id and seen:
            raise GraphError(
                f"The task with the external_task_id {own_id} has failed or its video is gone, and an id can be used"
                " only once. Change it in KlingText2Video, or clear it to have one made."
            )
        body["external_task_id"] = own_id or _mint(self.ledger.installation_id, *identity, str(attempt))
        text = json.dumps(body, ensure_ascii=False)
        return _Step(Row(base_url, body["external_task_id"], fingerprint, attempt, take, UNSENT, text), None)

    def _post(self, step: _Step) -> _Step:
        """Claim, send, record. Whatever becomes of the caller, the answer stands in the ledger afterwards."""
        row = step.row
        with self._active_lock:
            if row.external_task_id in self._active:
                return step
            self._active.add(row.external_task_id)
        try:
            if not self.ledger.claim(row, step.seen):
                return step
            attempt = self.client.create(row.request())
            notes = self._recorded(lambda: self._record(row, attempt), attempt.task)
            return replace(step, attempt=attempt, notes=notes)
        finally:
            with self._active_lock:
                self._active.discard(row.external_task_id)

    def _record(self, row: Row, attempt: Attempt) -> None:
        if attempt.task:
            self.ledger.accept(row, attempt.task)
            return
        states = {Outcome.LOST: UNKNOWN, Outcome.EXISTS: UNKNOWN, Outcome.REFUSED: REFUSED}
        why = str(attempt.error) if attempt.error else attempt.reason
        self.ledger.settle(row, states.get(attempt.outcome, UNSENT), why)

    def _recorded(self, record: Callable[[], None], task: Task | None) -> tuple[str, ...]:
        """Record what is known. If that fails now, the task in hand counts for more than the error."""
        try:
            record()
        except SetupError as error:
            _log.error("Kling: %s", error)
            if task:
                return (f"The task could not be recorded: {error.message} Keep the task_id {task.task_id}.",)
        return ()

    def _adopt(self, row: Row) -> Task:
        """Ask the gateway for the task of ``row`` and record it.

        Raises:
            TaskFailed: it exists and has failed; the next run makes a new one.
            TaskNotFound, UnavailableError, KlingError: as ``Client.query``.
        """
        task = self.client.query(row.external_task_id)
        # Some relays answer a query for any id with a stub that carries that id and never ends.
        if task.external_task_id not in (None, row.external_task_id) or task.task_id == row.external_task_id:
            raise UnavailableError("the gateway answered with another task")
        self._recorded(lambda: self.ledger.accept(row, task), task)
        if task.status == TASK_FAILED:
            self._recorded(lambda: self.ledger.fail(row.base_url, task.task_id, task.reason), task)
            raise task_failed(task)
        return task

    def recover(self) -> Iterator[tuple[Row, str]]:
        """Look up every submission whose answer is still open, newest first; gives each with what was found."""
        for row in self.ledger.rows(SENDING, UNKNOWN):
            if not self._is_open(row):
                yield row, "is being sent at this moment"
                continue
            try:
                yield row, f"found: task_id {self._adopt(row).task_id}"
            except TaskNotFound as error:
                yield row, "no such task" if error.proven else "the gateway cannot look up an external_task_id"
            except KlingError as error:
                yield row, str(error)

    # On the event loop

    def _is_open(self, row: Row) -> bool:
        """Whether the answer to ``row`` was lost: nobody who could still record it is at work."""
        if row.state == UNKNOWN:
            return True
        if row.state != SENDING:
            return False
        if row.owner == self.ledger.owner:
            with self._active_lock:
                return row.external_task_id not in self._active
        return time.time() - row.sent_at > _LONGEST_POST or not self.ledger.is_under_way(row)

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
        settled_at = now + row.sent_at + pace.settle - time.time()
        end = max(now + pace.look_for, settled_at + pace.look_pause if may_resend else 0)
        pause = pace.look_pause
        while True:
            try:
                return await in_thread(watcher, pace, self._adopt, row)
            except TaskNotFound as error:
                absent = absent + 1 if error.proven else 0
                reason = reason or "the gateway does not know its external_task_id"
            except UnavailableError as error:
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


_WAITING_FOR = {
    Outcome.NOT_SENT: "no connection",
    Outcome.BUSY: "waiting for a free slot",
    Outcome.CLOSED: "Kling is closed for the moment",
}

_LONGEST_POST = CONNECT_TIMEOUT + 2 * CREATE_TIMEOUT
"""Seconds after which a row that is still ``sending`` was forgotten, even if its process lives."""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()


def _mint(*parts: str) -> str:
    return f"comfyui-{_digest(_RECIPE, *parts)[:32]}"


def _is_outdated(row: Row) -> bool:
    return row.state == ACCEPTED and time.time() - row.accepted_at > RESULT_LIFE


def _task(row: Row) -> Task:
    return Task(str(row.task_id), created_at=row.task_created_at, request_id=row.request_id)


def _submission(step: _Step, task: Task, tally: _Tally) -> Submission:
    return Submission(
        task.task_id,
        step.row.external_task_id,
        task.request_id,
        task.created_at,
        reused=not tally.paid(),
        body=step.row.request(),
        notes=step.notes,
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
        f"The request was sent, but its answer did not arrive ({reason.rstrip('.')}), and the gateway could not say"
        " whether a task was made. Run the same graph again in a minute: it looks the task up before anything is paid."
        " If this stays so, look for the external_task_id in the gateway's own list of tasks; only if it is not there,"
        " raise take to pay for a new one.",
        external_task_id=row.external_task_id,
    )


def task_failed(task: Task) -> TaskFailed:
    """The error for a task that Kling ended without a video, with its reason in full and what to do about it."""
    says = f'"{task.reason}"' if task.reason else "no reason given"
    advice = "Running again makes a new task; Kling does not charge for a failed one."
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
