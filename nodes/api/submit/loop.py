"""Submits a request: repeats single steps until there is a task, and waits between them.

All waiting happens here, on the event loop, and costs no thread: for a free slot, for a connection, between two
look-ups of a lost answer. What may be sent is decided in ``step.py``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BusyError, KlingError, LimitError, TaskNotFound, UnavailableError
from ..gateway.answer import Task, TaskStatus, task_failed
from ..gateway.outcome import Outcome, PostResult, pause_before_resend
from ..ledger.row import Row, State
from ..request.body import Text2VideoRequest
from ..running.threads import Watcher, in_thread, sleep
from ..spending.limits import NO_LIMITS, Limits
from .account import Account
from .unknown import unknown


@dataclass(frozen=True)
class Submission:
    """A task that exists.

    Attributes:
        reused: whether the task existed before, so that nothing was paid now.
        created_at: Unix time in milliseconds by the gateway's clock, None if it did not say.
        body: the request as it was sent.
        charged: the units that Kling charged, None as long as that is unknown.
        notes: remarks for the user about this submission.
    """

    task_id: str
    external_task_id: str
    request_id: str | None
    created_at: int | None
    reused: bool
    body: Mapping[str, Any]
    charged: float | None = None
    notes: tuple[str, ...] = ()


@dataclass
class _Tally:
    """What this run has done so far: POSTs by outcome, and the seconds waited because of each."""

    tries: dict[Outcome, int] = field(default_factory=lambda: defaultdict(int))
    waited: dict[Outcome, float] = field(default_factory=lambda: defaultdict(float))

    def paid(self) -> bool:
        return Outcome.ACCEPTED in self.tries or Outcome.LOST in self.tries


async def submit(
    account: Account, request: Text2VideoRequest, take: int, watcher: Watcher, limits: Limits = NO_LIMITS
) -> Submission:
    """Make sure that there is exactly one task for ``request`` and ``take``.

    Args:
        limits: what may be spent. A task that exists is reused whatever they say.

    Raises:
        GraphError: refused, or the user's external_task_id belongs to another request.
        LimitError: the limits do not allow another task.
        SetupError, BalanceError, BusyError, UnavailableError: refused or not reached; no task was made.
        OutcomeUnknown: a task may exist; running again looks it up first.
        TaskFailed: the task was found and has failed.
    """
    loop = asyncio.get_running_loop()
    token = loop, object()
    account.under_way.add(token)
    try:
        return await _submit(account, request, take, watcher, limits)
    except LimitError as error:
        reached = error
    finally:
        account.under_way.discard(token)
    # ComfyUI ends the whole run with the first error. The nodes whose requests were sent keep their results this way.
    # Another loop is another run, and one that was stopped never ends its submissions.
    while any(of_loop is loop for of_loop, _ in account.under_way.copy()):
        watcher.show("the spending limit is reached; waiting for the other submissions of this run")
        await sleep(account.pace.slice, watcher, account.pace)
    raise reached


async def _submit(
    account: Account, request: Text2VideoRequest, take: int, watcher: Watcher, limits: Limits
) -> Submission:
    sender, pace = account.sender, account.pace
    tally = _Tally()
    watcher.show("sending")
    absent = None
    while True:
        step = await in_thread(watcher, pace, sender.advance, request, take, absent, limits)
        if step.result:
            tally.tries[step.result.outcome] += 1
            if step.result.task:
                return _submission(account, step.row, step.result.task, tally)
            if step.result.outcome in (Outcome.LOST, Outcome.EXISTS):
                task = await _look_up(account, step.row, watcher, step.result.reason or _TAKEN)
                if task:
                    return _submission(account, step.row, task, tally)
            else:
                await _pause(account, step.row, step.result, tally, watcher)
        elif step.seen and step.seen.state == State.ACCEPTED:
            return _submission(account, step.row, step.seen.task(), tally)
        elif step.seen and step.is_lost:
            task = await _look_up(account, step.seen, watcher, may_resend=not step.is_sending)
            if task:
                return _submission(account, step.row, task, tally)
            absent = step.seen
        else:
            watcher.show("the same request is already being sent; waiting for its answer")
            await sleep(pace.slice, watcher, pace)


async def _look_up(
    account: Account, row: Row, watcher: Watcher, reason: str = "", *, may_resend: bool = False
) -> Task | None:
    """Ask for a task whose answer was lost, and adopt it.

    Args:
        reason: why the answer was lost.
        may_resend: whether to give up, with None, once the task is proven not to exist.

    Raises:
        OutcomeUnknown: it cannot be shown whether there is a task.
        TaskFailed: it exists and has failed.
    """
    pace, finder, now, absent = account.pace, account.finder, time.monotonic(), 0
    # The wall clock may have been set since the POST. Nobody waits longer for that than for a fresh row.
    age = max(time.time() - row.sent_at, 0)
    settled_at = now + pace.settle - min(age, pace.settle)
    end = max(now + pace.look_for, settled_at + pace.look_pause if may_resend else 0)
    # Entries come late. After a while they are all there, and one look is enough.
    looks = [now + look for look in pace.log_looks] if age < pace.settle else [now]
    trace, is_relay = None, finder.is_relay
    pause = pace.look_pause
    while True:
        task = None
        try:
            task = await in_thread(watcher, pace, finder.adopt, row)
        except TaskNotFound as error:
            absent = absent + 1 if error.proven else 0
            is_relay = not error.proven
            reason = reason or "the gateway does not know its external_task_id"
        except (UnavailableError, BusyError) as error:
            reason = reason or error.message
        except KlingError as error:
            raise unknown(row, reason or str(error), is_relay=is_relay, trace=trace) from None
        now = time.monotonic()
        if task is None and looks and now >= looks[0] and not absent and finder.is_relay:
            looks.pop(0)
            trace = await in_thread(watcher, pace, finder.trace, row, pace.look_pause)
            task = trace.task
        if task:
            if task.status == TaskStatus.FAILED:
                raise task_failed(task)
            return task
        # Two proofs are needed, because it may take a moment before a task can be found.
        if may_resend and now >= settled_at and absent >= 2:
            return None
        if now >= end:
            raise unknown(row, reason, is_relay=is_relay, trace=trace)
        await sleep(min(pause, end - now), watcher, pace, "the answer was lost; looking the task up again")
        pause = min(pause * 2, pace.look_for / 4)


async def _pause(account: Account, row: Row, result: PostResult, tally: _Tally, watcher: Watcher) -> None:
    """Wait before the next POST, or raise if there is none."""
    tries, waited = tally.tries[result.outcome], tally.waited[result.outcome]
    pause = pause_before_resend(result, tries, waited, account.pace)
    if pause is None:
        raise _final_error(result, row, waited)
    # Nodes that were refused together must not come back together. Never shorter than the gateway asked for.
    pause *= 1 + random.random() / 4
    tally.waited[result.outcome] += pause
    await sleep(pause, watcher, account.pace, f"{_WAITING_FOR[result.outcome]}, try {tries + 1}")


def _submission(account: Account, row: Row, task: Task, tally: _Tally) -> Submission:
    notes = (
        *([_RENEWED] if row.attempt > 1 and tally.paid() else []),
        *([] if account.ledger.is_written(row) else [_UNRECORDED.format(task.task_id)]),
    )
    return Submission(
        task.task_id,
        row.external_task_id,
        task.request_id,
        task.created_at,
        reused=not tally.paid(),
        body=row.request(),
        charged=task.charged,
        notes=notes,
    )


_WAITING_FOR = {
    Outcome.NOT_SENT: "no connection",
    Outcome.BUSY: "waiting for a free slot",
    Outcome.CLOSED: "Kling is closed for maintenance",
}

_TAKEN = "the gateway says that this external_task_id already exists"
_RENEWED = (
    "An earlier task of the same graph failed, or is older than the 30 days after which Kling deletes results. This is"
    " a new task."
)
_UNRECORDED = (
    "The state directory cannot be written, so this task is not saved yet. Keep the task_id {}. Free disk space or fix"
    " the permissions, and run again before you restart."
)


def _final_error(result: PostResult, row: Row, waited: float) -> KlingError:
    """The error that ends a submission when it is certain that no task was made."""
    error = result.error or UnavailableError(
        f"The gateway could not be reached: {result.reason}. Nothing was sent and nothing was paid."
        " Check the network, the proxy and KLING_BASE_URL, then run again."
    )
    if result.outcome is Outcome.BUSY:
        asked = f" It asks to wait {result.retry_after:g} s." if result.retry_after else ""
        error.args = (f"{error.message} Waited {waited:.0f} s for a free slot.{asked} Nothing was paid.",)
    error.external_task_id = row.external_task_id
    return error
