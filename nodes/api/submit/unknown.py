"""What is said about a submission whose outcome is unknown: what is known, and what can be done, without a guess.

Nobody is told to pay again here. Whether a task exists can be found out, and these words say where.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..errors import OutcomeUnknown
from ..gateway.answer import Task
from ..gateway.books import Entry
from ..ledger.row import Row


@dataclass(frozen=True)
class Trace:
    """What a relay's log tells about a submission.

    Attributes:
        task: the task, if it is certain.
        paid: the charges that may be for it, if it is not.
        problem: why the log could not be read, "" if it could.
    """

    task: Task | None = None
    paid: tuple[Entry, ...] = ()
    problem: str = ""


def unknown(row: Row, reason: str, *, is_relay: bool, trace: Trace | None) -> OutcomeUnknown:
    """The error for a submission that may have made a task.

    Args:
        reason: why the answer was lost.
        is_relay: whether the gateway is known to give tasks ids of its own.
        trace: what its log tells, None if it was not asked.
    """
    what = told(trace) if is_relay else "the task could not be looked up"
    advice = _on_a_relay(row, trace or Trace()) if is_relay else _BY_EXTERNAL_ID
    return OutcomeUnknown(
        f"The request was sent and a task may exist, but its answer was lost ({reason.rstrip('.')}), and {what}."
        f" Nothing is paid again. {advice}",
        external_task_id=row.external_task_id,
    )


_WITH_AN_ID = " With its task_id, KlingVideo fetches the video for free."

_BY_EXTERNAL_ID = (
    "Run the same graph again in a minute: it looks the task up first. If this keeps happening, look for the"
    f" external_task_id in the gateway's own list of tasks, or ask its support.{_WITH_AN_ID}"
)


def _on_a_relay(row: Row, trace: Trace) -> str:
    if any(entry.task_id for entry in trace.paid):
        return f"Look at these tasks on the gateway's website and find yours by its prompt.{_WITH_AN_ID}"
    if trace.paid:
        return f"Ask the gateway's support for the task_id of this call.{_WITH_AN_ID}"
    model = row.request().get("model_name", "video")
    return (
        "Run the same graph again in a minute: it looks into the log first. If this keeps happening, look for a"
        f" {model} task of {_time(row.sent_at)} in the log on the gateway's website. The external_task_id may not"
        f" be listed there, because relays give tasks ids of their own.{_WITH_AN_ID}"
    )


def told(trace: Trace | None) -> str:
    """What a relay's log tells, in words that continue a sentence."""
    if trace is None:
        return "this gateway cannot look up an external_task_id"
    if trace.problem:
        return f"its log could not be read: {trace.problem.rstrip('.')}"
    if not trace.paid:
        return "its log shows no payment for it yet, which proves nothing"
    listed = "; ".join(_charge(entry) for entry in trace.paid[:10])
    if not any(entry.task_id for entry in trace.paid):
        return f"its log shows that it was paid, but not the task_id: {listed}"
    return f"its log shows {len(trace.paid)} payment{'s' * (len(trace.paid) > 1)} that may be for it: {listed}"


def _charge(entry: Entry) -> str:
    """One charge. The quota is in the relay's own unit, as its log shows it."""
    named = f"task_id {entry.task_id}" if entry.task_id else "no task_id"
    return f"{named}, {_time(entry.at)}, {entry.model}, quota {entry.quota}"


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M:%S")
