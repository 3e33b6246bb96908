"""The books of a New-API relay: what its log says was charged for a key, readable with that key.

Such a relay knows tasks only by ids of its own. After a lost answer its log is the only place that can tell the id.
Reading it never proves that no task was made: entries come late, and a relay may keep no log.

Source: the source code of New-API and its forks (``/api/log/token``). Other people's words in it are not kept.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from ..errors import UnavailableError
from ..settings import ENDPOINT
from . import answer
from .client import Client
from .foreign_text import in_words, usable_id
from .outcome import RawAnswer

_LOG = "/api/log/token"
_LOG_MAX = 8 << 20
_CONSUME, _REFUND = 2, 6

_READS, _WINDOW = 12, 20 * 60.0
"""How many times the log is read in how many seconds. A relay allows 20 and counts its own web pages, too."""


class Entry(NamedTuple):
    """One charge or refund of a text-to-video task.

    Attributes:
        at: Unix time in seconds by this computer's clock.
        is_refund: whether it gave money back.
        model: the model_name of the request.
        quota: the amount, in the relay's own unit.
        task_id, request_id: None where this build of the relay does not log them.
    """

    at: float
    is_refund: bool
    model: str
    quota: int
    task_id: str | None
    request_id: str | None


class Books:
    """The log of one gateway for one key. Safe to use from many threads, which share what was read."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._read_at = float("-inf")
        self._reads: deque[float] = deque()

    def entries(self, max_age: float) -> list[Entry]:
        """What the log says about text-to-video tasks, newest first.

        Args:
            max_age: seconds; what was read earlier is read again.

        Raises:
            UnavailableError: the log cannot be read now.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._read_at > max_age:
                while self._reads and now - self._reads[0] > _WINDOW:
                    self._reads.popleft()
                if len(self._reads) >= _READS:
                    raise UnavailableError("the gateway's log was read too often in the last 20 minutes")
                self._reads.append(now)
                self._entries = read_log(self._client.get(_LOG, most=_LOG_MAX), time.time())
                self._read_at = time.monotonic()
            return self._entries


def read_log(raw: RawAnswer, now: float) -> list[Entry]:
    """The entries in an answer that can be used as evidence. All others are left out.

    Args:
        now: Unix time in seconds at which the answer came.

    Raises:
        UnavailableError: the answer is no log.
    """
    try:
        body = answer.parse(raw.body)
    except answer.Unreadable as unreadable:
        raise UnavailableError(f"the gateway's log is unreadable: {unreadable}", http_status=raw.status) from None
    rows = body.get("data")
    if raw.status >= 300 or body.get("success") is not True or not isinstance(rows, list):
        said = answer.message_in(body)
        raise UnavailableError(f"the gateway does not show its log: {said}", http_status=raw.status)
    ahead = _clock_difference(raw, now)
    return [entry for row in rows if isinstance(row, dict) and (entry := _entry(row, ahead))]


def _clock_difference(raw: RawAnswer, now: float) -> float:
    """How many seconds the gateway's clock is ahead of this computer's, by the Date of an answer; 0 without one."""
    try:
        date = parsedate_to_datetime(raw.headers.get("date", ""))
        return (date.replace(tzinfo=date.tzinfo or timezone.utc)).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0


def _entry(row: Mapping[str, Any], ahead: float) -> Entry | None:
    """A row as evidence, or None for what is no task of text2video or cannot be right."""
    kind, at, quota = (_number(row.get(name)) for name in ("type", "created_at", "quota"))
    if kind not in (_CONSUME, _REFUND) or at is None or quota is None:
        return None
    try:
        other = json.loads(row.get("other") or "{}")
    except (TypeError, ValueError, RecursionError):
        return None
    if not isinstance(other, dict):
        return None
    task_id = usable_id(other.get("task_id"))
    is_task = other.get("is_task") is True and str(other.get("request_path", "")).endswith(ENDPOINT)
    if not is_task and not (kind == _REFUND and task_id):
        return None
    return Entry(
        at=at - ahead,
        is_refund=kind == _REFUND,
        model=in_words(row.get("model_name"), most=80),
        quota=quota,
        task_id=task_id,
        request_id=usable_id(row.get("request_id")),
    )


def _number(value: object) -> int | None:
    """A whole number that SQLite and JSON can hold. Negative ones and texts are no amounts."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53:
        return value
    return None
