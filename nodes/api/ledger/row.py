"""One submission, as the ledger keeps it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..gateway.answer import Task, TaskStatus
from ..spending.limits import DAY


class State:
    """The states of a row.

    A task may exist in SENDING and UNKNOWN, exists in ACCEPTED, and ended without a video in FAILED.
    """

    UNSENT: Final = "unsent"
    SENDING: Final = "sending"
    UNKNOWN: Final = "unknown"
    ACCEPTED: Final = "accepted"
    REFUSED: Final = "refused"
    FAILED: Final = "failed"


MAY_BE_PAID = (State.SENDING, State.UNKNOWN, State.ACCEPTED, State.FAILED)
"""The states in which a submission counts towards the limits."""


@dataclass(frozen=True)
class Row:
    """One submission.

    Attributes:
        external_task_id: unique at one gateway.
        fingerprint: the same for two submissions with the same gateway, body and take.
        attempt: counts the submissions of one fingerprint. A new one follows a failed or outdated task.
        state: one of ``State``.
        body: the request body as JSON text.
        owner: the process that sends the request, while ``state`` is ``sending``.
        created_at, sent_at, accepted_at: Unix time in seconds, 0 for not yet.
        task_created_at: the gateway's time in milliseconds.
        request_id: the id of the call in the gateway's log, also of one whose answer was lost.
        error: why the request was refused, its answer lost, or the task failed.
        counted_at: Unix time in seconds from which the row counts towards the limits. 0 stands for ``sent_at``: a
            process of release 0.1.0 that still has the file open writes no ``counted_at``.
        charged: the units that Kling charged, None if unknown.
        charged_quota: what a relay charged, in its own quota, None if unknown.
    """

    base_url: str = field(repr=False)
    external_task_id: str
    fingerprint: str
    attempt: int
    take: int
    state: str
    body: str = field(repr=False)
    owner: str = ""
    created_at: float = 0
    sent_at: float = 0
    accepted_at: float = 0
    task_id: str | None = None
    task_created_at: int | None = None
    request_id: str | None = None
    error: str = ""
    counted_at: float = 0
    charged: float | None = None
    charged_quota: int | None = None

    @property
    def identity(self) -> tuple[str, str]:
        """What the row is known by: the gateway and the external_task_id."""
        return self.base_url, self.external_task_id

    def request(self) -> Mapping[str, Any]:
        """The body as it was sent. It is empty where damage made its text unreadable."""
        return request_in(self.body)

    def task(self) -> Task:
        """What the ledger knows about the task of an accepted row."""
        return Task(
            str(self.task_id),
            created_at=self.task_created_at,
            request_id=self.request_id,
            charged=self.charged,
        )

    def accepted(self, task: Task) -> Row:
        """The row with ``task`` in it, which may have failed already."""
        now, by_gateway = time.time(), (task.created_at or 0) / 1000
        return replace(
            self,
            state=State.FAILED if task.status == TaskStatus.FAILED else State.ACCEPTED,
            accepted_at=now,
            # The later of two clocks: this computer's may be behind and be corrected soon.
            counted_at=max(self.counted_at, by_gateway if by_gateway < now + DAY else 0),
            charged=task.charged if task.charged is not None else self.charged,
            task_id=task.task_id,
            task_created_at=task.created_at,
            request_id=task.request_id,
            error=task.reason,
        )


def request_in(body: str) -> Mapping[str, Any]:
    """The request in its JSON text, empty where damage made the text unreadable."""
    with suppress(ValueError, RecursionError):
        parsed = json.loads(body)
        return parsed if isinstance(parsed, dict) else {}
    return {}
