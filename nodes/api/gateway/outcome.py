"""What one POST came to, and whether the same request may be sent again.

This is the table "What a POST came to, and what is done" in docs/architecture.md, as code. Everything here is a pure
function of an answer, without a clock or a socket, so tests can check each row with literals. Money depends on
``pause_before_resend``: it alone decides whether a request is sent twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from ..errors import KlingError
from ..pace import Pace
from . import answer
from .answer import Refusal, Task, Unreadable
from .codes import MAINTENANCE, MAY_HAVE_WORKED, WAIT_FOR

_NOTHING: Mapping[str, Any] = {}

_NO_STORYBOARDS = (
    "This gateway does not pass storyboards on to Kling: it asks for a prompt, which a request with multi_shot does not"
    " have, and with one it would make and charge a single shot. Nothing was made or paid. Remove multi_shot, or use a"
    " gateway that offers it."
)


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
class PostResult:
    """One POST and its outcome.

    Attributes:
        task: set for ACCEPTED.
        error: what to raise if no other POST follows; set for BUSY, CLOSED, REFUSED and EXISTS.
        reason: what happened, in a few words without host or key; set for NOT_SENT and LOST.
        retry_after: the pause in seconds that the gateway asked for, None if it asked for none.
        request_id: the id of this call in a relay's log, if it told one. It helps to find a task whose answer is lost.
    """

    outcome: Outcome
    task: Task | None = None
    error: KlingError | None = None
    reason: str = ""
    retry_after: float | None = None
    request_id: str | None = None


@dataclass(frozen=True)
class RawAnswer:
    """An HTTP answer before it is read: the status, the headers by lower-case name, the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def classify(raw: RawAnswer, sent: Mapping[str, Any] = _NOTHING, now: datetime | None = None) -> PostResult:
    """Read the answer to a POST. The body counts before the status. An unclear answer counts as LOST.

    Args:
        sent: the body of the POST. An answer that names another external_task_id is about another task: a relay or a
            cache has mixed up its answers.
    """
    try:
        body = answer.parse(raw.body)
    except Unreadable as unreadable:
        return _without_a_body(raw, str(unreadable), now)
    refusal = answer.read_refusal(body)
    if answer.names_task(body):
        return _naming_a_task(body, refusal, raw, sent.get("external_task_id"))
    if refusal:
        return _refused(refusal, raw, sent, now)
    if raw.status >= 300:
        return _without_a_body(raw, answer.message_in(body), now)
    return PostResult(Outcome.LOST, reason="the answer contains no task_id")


def _naming_a_task(
    body: Mapping[str, Any], refusal: Refusal | None, raw: RawAnswer, external_task_id: str | None
) -> PostResult:
    """An answer with a task_id counts as ACCEPTED, unless its status, a known code or its external_task_id objects."""
    task = answer.read_task(body)
    if external_task_id and task.external_task_id not in (None, external_task_id):
        return of_another_task(task)
    if raw.status < 300 and not (refusal and answer.is_known(refusal)):
        return PostResult(Outcome.ACCEPTED, task=task)
    says = str(answer.as_error(refusal, raw.status)) if refusal else f"the gateway sent an HTTP {raw.status} answer"
    return PostResult(Outcome.LOST, reason=f"{says}, but also named the task_id {task.task_id}")


def of_another_task(task: Task) -> PostResult:
    """An answer that belongs to the request of somebody else. What became of this one is not known."""
    return PostResult(Outcome.LOST, reason=f"the gateway answered with another task, task_id {task.task_id}")


def _refused(refusal: Refusal, raw: RawAnswer, sent: Mapping[str, Any], now: datetime | None) -> PostResult:
    error = answer.as_error(refusal, raw.status)
    if sent.get("multi_shot") and refusal.message.lower().startswith("prompt is required"):
        error.args = (_NO_STORYBOARDS,)
    pause = retry_after(raw.headers, now)
    if answer.already_exists(refusal):
        return PostResult(Outcome.EXISTS, error=error)
    if refusal.code in WAIT_FOR:
        return PostResult(Outcome.BUSY, error=error, retry_after=pause)
    if refusal.code == MAINTENANCE:
        return PostResult(Outcome.CLOSED, error=error, retry_after=pause)
    if answer.proves_refusal(refusal, raw.status):
        return PostResult(Outcome.REFUSED, error=error)
    if refusal.code not in MAY_HAVE_WORKED and raw.status == 503 and pause is not None:
        return PostResult(Outcome.CLOSED, error=error, retry_after=pause)
    return PostResult(Outcome.LOST, reason=str(error))


def _without_a_body(raw: RawAnswer, found: str, now: datetime | None) -> PostResult:
    """An answer of which only the status is usable."""
    pause = retry_after(raw.headers, now)
    # A 303 is the only redirect that is sent after the work is done; it points to the result.
    if 300 <= raw.status < 400 and raw.status != 303:
        return PostResult(Outcome.REFUSED, error=answer.redirected(raw.status))
    # A 408 is the only 4xx that a proxy may send although the request went through.
    if 400 <= raw.status < 500 and raw.status != 408:
        return PostResult(Outcome.REFUSED, error=answer.as_error(Refusal(None, found), raw.status))
    if raw.status == 503 and pause is not None:
        closed = answer.as_error(Refusal(None, found), raw.status)
        return PostResult(Outcome.CLOSED, error=closed, retry_after=pause)
    return PostResult(Outcome.LOST, reason=f"the gateway sent an HTTP {raw.status} answer, and {found}")


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The pause in seconds that a Retry-After header asks for, as a number or a date; None without a usable header."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, (date - (now or datetime.now(timezone.utc))).total_seconds())
    except (ValueError, OverflowError):  # an absurd time zone overflows
        return None


def pause_before_resend(result: PostResult, tries: int, waited: float, pace: Pace) -> float | None:
    """How many seconds to wait before this request is sent again; None if it must not be sent again.

    Args:
        result: what the last POST came to.
        tries: how many POSTs have ended in this outcome, including this one.
        waited: seconds already spent waiting because of this outcome.
        pace: the limits.
    """
    if result.outcome is Outcome.NOT_SENT:
        return pace.connect_pause * 2 ** (tries - 1) if tries <= pace.connect_tries else None
    if result.outcome not in (Outcome.BUSY, Outcome.CLOSED):
        return None
    if result.outcome is Outcome.CLOSED and tries > pace.closed_tries:
        return None
    # An unbounded exponent would overflow a float. Ten minutes need only a few doublings.
    pause = min(pace.slot_pause * 2 ** min(tries - 1, 16), pace.slot_pause_most)
    if result.retry_after is not None:
        # The gateway decides how long to wait, but a pause of 0 would only flood it with requests.
        pause = max(result.retry_after, pace.slot_pause / 2)
    return pause if waited + pause <= pace.slot_wait else None
