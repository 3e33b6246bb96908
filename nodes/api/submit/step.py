"""One step of a submission: read the ledger, claim the row, POST, record the answer.

A step runs in a worker thread from beginning to end. Cancel, a closed event loop or an error in another node cannot
come between a POST and the record of its answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..errors import GraphError, SetupError, TaskNotFound, UnavailableError
from ..gateway.answer import Task, TaskStatus
from ..gateway.client import Client
from ..gateway.outcome import Outcome, PostResult, of_another_task
from ..ledger.record import Ledger
from ..ledger.row import Row, State
from ..pace import LONGEST_POST, RESULT_LIFE
from ..request.body import Text2VideoRequest
from ..spending.limits import Limits

_log = logging.getLogger("kling")

_RECIPE = "1"
"""The version of the recipe for external_task_id. Changing it makes every old graph pay again."""

_RELAYS_OWN_ID = "task_"
"""How the ids begin that New-API relays give. Those of Kling are digits or Base64."""


@dataclass(frozen=True)
class Step:
    """Where a submission stands.

    Attributes:
        row: what to send.
        seen: the row as the ledger has it, None if it has none.
        result: what the POST of this step came to, None if there was none.
        is_sending: whether some thread or process is sending ``seen`` now.
        is_lost: whether nobody is left who could still record the answer to ``seen``.
    """

    row: Row
    seen: Row | None
    result: PostResult | None = None
    is_sending: bool = False
    is_lost: bool = False


class Preview(NamedTuple):
    """A submission that nobody has sent yet.

    Attributes:
        body: the request.
        buys: whether sending it makes a new task. Otherwise one exists or may exist, and is reused.
    """

    body: dict[str, Any]
    buys: bool


class Sender:
    """Decides which submissions to one gateway may be sent, and sends them.

    Args:
        base_url: the gateway's address, the same as in ``client``.
    """

    def __init__(self, base_url: str, client: Client, ledger: Ledger) -> None:
        self._base_url, self._client, self._ledger = base_url, client, ledger

    def preview(self, request: Text2VideoRequest, take: int) -> Preview:
        """What ``advance`` would send now.

        Raises:
            GraphError: the user's external_task_id belongs to another request, or its task is over.
            SetupError: the ledger cannot be used.
        """
        step = self._plan(request, take)
        if step.seen and _is_outdated(step.seen):
            step = self._plan(request, take, gone=step.seen)
        buys = step.seen is None or step.seen.state in (State.UNSENT, State.REFUSED)
        return Preview(dict(step.row.request()), buys)

    def advance(self, request: Text2VideoRequest, take: int, absent: Row | None, limits: Limits) -> Step:
        """Find out where the submission stands and, if it may be sent, send it once.

        Args:
            absent: a row whose task is proven not to exist. It is sent again only if the ledger still has it unchanged.
            limits: what may be spent.

        Raises:
            GraphError: the user's external_task_id belongs to another request, or its task is over.
            LimitError: the limits do not allow another submission.
            SetupError: the ledger cannot be used.
            UnavailableError, KlingError: a task of this submission is old, and the gateway does not say whether it is
                still there.
        """
        step = self._plan(request, take)
        if step.seen and _is_outdated(step.seen):
            if self._is_still_there(step.seen):
                return step
            step = self._plan(request, take, gone=step.seen)
        if step.seen is None or step.seen.state in (State.UNSENT, State.REFUSED) or step.seen == absent:
            return self._post(step, limits)
        is_sending = self._ledger.is_under_way(step.seen)
        return replace(step, is_sending=is_sending, is_lost=is_lost(step.seen, is_sending))

    def _is_still_there(self, row: Row) -> bool:
        """Ask for a task that is old by this computer's clock. The clock may be wrong, and asking is free."""
        try:
            task = self._client.query(str(row.task_id))
        except TaskNotFound:
            return False
        if task.external_task_id not in (None, row.external_task_id):
            raise UnavailableError("The gateway answered with another task.")
        if task.status == TaskStatus.FAILED:
            self._ledger.fail(row.base_url, str(row.task_id), task.reason)
        return task.status != TaskStatus.FAILED

    def _plan(self, request: Text2VideoRequest, take: int, gone: Row | None = None) -> Step:
        """What to send, and what is known about it.

        Args:
            gone: a row whose task no longer exists.
        """
        body = request.body()
        own_id = body.get("external_task_id")
        identity = [self._base_url, json.dumps(body, sort_keys=True, ensure_ascii=False), str(take)]
        fingerprint = _digest(*identity)
        seen = self._ledger.find(self._base_url, own_id) if own_id else self._ledger.latest(fingerprint)
        is_over = seen is not None and (seen.state == State.FAILED or seen == gone)
        if own_id and seen and seen.fingerprint != fingerprint and seen.state not in (State.UNSENT, State.REFUSED):
            raise GraphError(
                f"The external_task_id {own_id} was used before, for another request or another take."
                " Change it in KlingText2Video, or clear it to have one made."
            )
        if own_id and is_over:
            raise GraphError(
                f"The task with the external_task_id {own_id} has failed or its video is gone, and an id can be used"
                " only once. Change it in KlingText2Video, or clear it to have one made."
            )
        attempt = seen.attempt + (1 if is_over else 0) if seen else 1
        if seen and not is_over:
            body["external_task_id"] = seen.external_task_id
        else:
            body["external_task_id"] = own_id or _mint(self._ledger.installation_id, *identity, str(attempt))
        text = json.dumps(body, ensure_ascii=False)
        row = Row(self._base_url, body["external_task_id"], fingerprint, attempt, take, State.UNSENT, text)
        return Step(row, None if is_over else seen)

    def _post(self, step: Step, limits: Limits) -> Step:
        """Claim, send, record. The answer is recorded even if the caller is gone by then."""
        row = self._ledger.claim(step.row, step.seen, limits)
        if row is None:
            return step
        try:
            result = self._record(row, self._client.create(row.request()))
            return replace(step, row=replace(row, request_id=result.request_id), result=result)
        finally:
            self._ledger.release(row)

    def _record(self, row: Row, result: PostResult) -> PostResult:
        """Record the answer. The task of another row is none."""
        if result.task:
            if self._ledger.accept(row, result.task):
                self._note_relay(result.task)
                return result
            result = of_another_task(result.task)
        states = {Outcome.LOST: State.UNKNOWN, Outcome.EXISTS: State.UNKNOWN, Outcome.REFUSED: State.REFUSED}
        why = str(result.error) if result.error else result.reason
        try:
            self._ledger.settle(row, states.get(result.outcome, State.UNSENT), why, result.request_id)
        except SetupError as error:  # the row still says that it is being sent, so it will be looked up
            _log.error("Kling: %s", error)
        return result

    def _note_relay(self, task: Task) -> None:
        """Remember a relay by the answer to a healthy POST, so that a later error is right from the start."""
        if self._client.is_relay and task.task_id.startswith(_RELAYS_OWN_ID):
            with suppress(SetupError):
                self._ledger.note_relay(self._base_url)


def is_lost(row: Row, is_sending: bool) -> bool:
    """Whether a task may exist and nobody is left to record it."""
    if row.state in (State.UNSENT, State.ACCEPTED, State.REFUSED, State.FAILED):
        return False
    # The clock may also have been set back.
    return not is_sending or abs(time.time() - row.sent_at) > LONGEST_POST


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()


def _mint(*parts: str) -> str:
    return f"comfyui-{_digest(_RECIPE, *parts)[:32]}"


def _is_outdated(row: Row) -> bool:
    """Whether Kling has deleted the video. The later of two clocks counts, so that a wrong one buys nothing again."""
    now, by_gateway = time.time(), (row.task_created_at or 0) / 1000
    made_at = max(row.sent_at, by_gateway if by_gateway < now + 86_400 else 0)
    return row.state == State.ACCEPTED and now - made_at > RESULT_LIFE
