"""What one POST came to, and whether the same request may be sent again.

Everything here is a pure function of an answer, so that each row of the design's table can be tested with
literals: no clock, no socket. The one question that money hangs on is ``pause_before_resend``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from ..errors import MAINTENANCE, MAY_HAVE_WORKED, WAIT_FOR, KlingError
from . import answer
from .answer import Refusal, Task, Unreadable


class Outcome(Enum):
    """What is known after one POST."""

    ACCEPTED = "a task was made"
    NOT_SENT = "the request never left this computer"
    BUSY = "no free slot, or too many requests: nothing was made"
    CLOSED = "closed for maintenance: nothing was made"
    REFUSED = "refused: nothing was made"
    LOST = "no readable answer: a task may have been made"
    EXISTS = "the external_task_id is taken: a task was made earlier"


@dataclass(frozen=True)
class Attempt:
    """One POST and its outcome.

    Attributes:
        task: set for ACCEPTED.
        error: what to raise if this is the end of it; set for BUSY, CLOSED, REFUSED and EXISTS.
        reason: what happened, in a few words without host or key; set for NOT_SENT and LOST.
        retry_after: the pause in seconds that the gateway asked for, None if it did not.
    """

    outcome: Outcome
    task: Task | None = None
    error: KlingError | None = None
    reason: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class Reply:
    """An HTTP answer as it came: status, header names in lower case, whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Pace:
    """All waiting times in seconds, in one place so that tests can shrink them together.

    Attributes:
        connect_tries, connect_pause: resends after a failed connection, and the first pause; it doubles.
        slot_pause, slot_pause_most, slot_wait: first and longest pause for a free slot, and how long in all.
        closed_tries: resends during maintenance.
        look_for, look_pause: how long a lost answer is looked up, and the first pause; it doubles.
        settle: how long after the POST an unknown id is taken as proof that no task was made.
        slice: how often a waiting node looks whether the user cancelled.
        poll: pauses between two questions about a task, each with the length of the waiting up to which it holds.
        missing: how long a task may be unknown to the gateway after it was made or last seen.
        url_for, url_pause: how long a task that succeeded may be without a link to its video, and the pause meanwhile.
        download_tries, download_pause, download_pause_most: tries in a row that bring nothing new, and the first and
            the longest pause between them; it doubles.
        download_silence: how long a download may bring nothing before its connection counts as broken.
    """

    connect_tries: int = 3
    connect_pause: float = 1.0
    slot_pause: float = 2.0
    slot_pause_most: float = 60.0
    slot_wait: float = 600.0
    closed_tries: int = 3
    look_for: float = 30.0
    look_pause: float = 1.0
    settle: float = 60.0
    slice: float = 0.5
    poll: tuple[tuple[float, float], ...] = ((1, 1), (3, 2), (6, 3), (60, 5), (180, 10), (math.inf, 15))
    missing: float = 60.0
    url_for: float = 30.0
    url_pause: float = 3.0
    download_tries: int = 5
    download_pause: float = 1.0
    download_pause_most: float = 30.0
    download_silence: float = 30.0


def classify(reply: Reply, now: datetime | None = None) -> Attempt:
    """Read the answer to a POST. The body decides before the status; what is unclear counts as LOST."""
    try:
        body = answer.parse(reply.body)
    except Unreadable as unreadable:
        return _without_a_body(reply, str(unreadable), now)
    refusal = answer.read_refusal(body)
    if answer.names_task(body):
        return _naming_a_task(body, refusal, reply)
    if refusal:
        return _refused(refusal, reply, now)
    if reply.status >= 300:
        return _without_a_body(reply, answer.message_in(body), now)
    return Attempt(Outcome.LOST, reason="the answer names no task_id")


def _naming_a_task(body: Mapping[str, Any], refusal: Refusal | None, reply: Reply) -> Attempt:
    """A task that is named counts as made. Only what contradicts it makes that unclear."""
    task = answer.read_task(body)
    if reply.status < 300 and not (refusal and answer.is_known(refusal)):
        return Attempt(Outcome.ACCEPTED, task=task)
    says = str(answer.as_error(refusal, reply.status)) if refusal else f"the gateway answered HTTP {reply.status}"
    return Attempt(Outcome.LOST, reason=f"{says}, and yet named the task_id {task.task_id}")


def _refused(refusal: Refusal, reply: Reply, now: datetime | None) -> Attempt:
    error = answer.as_error(refusal, reply.status)
    pause = retry_after(reply.headers, now)
    if answer.already_exists(refusal):
        return Attempt(Outcome.EXISTS, error=error)
    if refusal.code in WAIT_FOR:
        return Attempt(Outcome.BUSY, error=error, retry_after=pause)
    if refusal.code == MAINTENANCE:
        return Attempt(Outcome.CLOSED, error=error, retry_after=pause)
    if answer.proves_refusal(refusal, reply.status):
        return Attempt(Outcome.REFUSED, error=error)
    if refusal.code not in MAY_HAVE_WORKED and reply.status == 503 and pause is not None:
        return Attempt(Outcome.CLOSED, error=error, retry_after=pause)
    return Attempt(Outcome.LOST, reason=str(error))


def _without_a_body(reply: Reply, found: str, now: datetime | None) -> Attempt:
    """An answer whose status is all there is to go by."""
    pause = retry_after(reply.headers, now)
    # 303 is the one redirect that is given after the work was done, to where its result can be read.
    if 300 <= reply.status < 400 and reply.status != 303:
        return Attempt(Outcome.REFUSED, error=answer.redirected(reply.status))
    # 408 is the one 4xx that a proxy gives after the request may have gone through.
    if 400 <= reply.status < 500 and reply.status != 408:
        return Attempt(Outcome.REFUSED, error=answer.as_error(Refusal(None, found), reply.status))
    if reply.status == 503 and pause is not None:
        closed = answer.as_error(Refusal(None, found), reply.status)
        return Attempt(Outcome.CLOSED, error=closed, retry_after=pause)
    return Attempt(Outcome.LOST, reason=f"the gateway answered HTTP {reply.status}, and {found}")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The pause in seconds that a Retry-After header asks for, as a number or as a date; None without a usable one."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())
    except (ValueError, OverflowError):  # the latter for a time zone of absurd length
        return None


def pause_before_resend(attempt: Attempt, tries: int, waited: float, pace: Pace) -> float | None:
    """May this request be sent again, and after how many seconds? None: never.

    Args:
        attempt: what the last POST came to.
        tries: how many POSTs ended in this outcome so far, this one included.
        waited: seconds spent so far in waiting because of this outcome.
        pace: the limits.
    """
    if attempt.outcome is Outcome.NOT_SENT:
        return pace.connect_pause * 2 ** (tries - 1) if tries <= pace.connect_tries else None
    if attempt.outcome not in (Outcome.BUSY, Outcome.CLOSED):
        return None
    if attempt.outcome is Outcome.CLOSED and tries > pace.closed_tries:
        return None
    # The exponent is bounded because a float is not: ten minutes never need more than a few doublings.
    pause = min(pace.slot_pause * 2 ** min(tries - 1, 16), pace.slot_pause_most)
    if attempt.retry_after is not None:
        # The gateway's word counts; a pause of nothing would only hammer it.
        pause = max(attempt.retry_after, pace.slot_pause / 2)
    return pause if waited + pause <= pace.slot_wait else None
