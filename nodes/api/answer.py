"""Reads any answer of a gateway of this family: what became of a task, or why there is none.

An answer is judged by its body before its HTTP status: gateways send a wrong parameter as 429 and a refusal as
200. Shapes and codes: CONTRACT.md 1.2 and 1.3 (answers), 2.1 to 2.4 (errors).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import (
    CODES,
    BalanceError,
    GraphError,
    KlingError,
    SetupError,
    TaskNotFound,
    UnavailableError,
)

SUBMITTED, PROCESSING, SUCCEED, FAILED = "submitted", "processing", "succeed", "failed"

_STATUS = {
    **dict.fromkeys(("submitted", "not_start", "queued", "pending"), SUBMITTED),
    **dict.fromkeys(("processing", "in_progress", "running"), PROCESSING),
    **dict.fromkeys(("succeed", "succeeded", "success", "completed"), SUCCEED),
    **dict.fromkeys(("failed", "failure", "error"), FAILED),
}

_SECONDS_BELOW = 100_000_000_000
"""A time below this is in seconds, else in milliseconds (the border lies in 1973 and 5138)."""


@dataclass(frozen=True)
class Task:
    """What an answer says of a task.

    Attributes:
        status: ``submitted``, ``processing``, ``succeed``, ``failed``, or else the gateway's own word.
        reason: why it failed, in Kling's words; else empty.
        url: where the video lies, only for a task that succeeded.
        created_at: Unix time in milliseconds.
    """

    task_id: str
    status: str = SUBMITTED
    external_task_id: str | None = None
    reason: str = ""
    url: str | None = None
    created_at: int | None = None
    request_id: str | None = None


class Unreadable(Exception):
    """The answer says neither what became of a task nor why there is none."""


@dataclass(frozen=True)
class Refusal:
    """An error that the service put into words.

    Attributes:
        code: an int from Kling, a str from a gateway, None if there was none.
    """

    code: int | str | None
    message: str
    request_id: str | None = None


def parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object in ``body``.

    Raises:
        Unreadable: it is empty, cut off, no JSON, or JSON of another kind.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable(_first_words(body)) from None
    if not isinstance(value, dict):
        raise Unreadable(_first_words(body))
    return value


def _first_words(body: bytes) -> str:
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", body[:4000].decode("utf-8", "replace"), flags=re.S | re.I)
    words = " ".join(text.split())
    return f'it begins with "{words[:80]}"' if words else "it is empty"


# Tasks


def read_task(answer: Mapping[str, Any]) -> Task:
    """The task in ``answer``, whichever shape it has.

    Raises:
        Unreadable: there is no task_id in it.
    """
    layers = list(_layers(answer))
    task_id = _first(layers, "task_id") or _first(layers, "id")
    if not task_id:
        raise Unreadable("it names no task_id")
    word = _first(layers, "task_status") or _first(layers, "status") or SUBMITTED
    status = _STATUS.get(word.lower(), word)
    info = _first_mapping(layers, "task_info")
    return Task(
        task_id=task_id,
        status=status,
        external_task_id=_text(info.get("external_task_id")),
        reason=_reason(layers) if status == FAILED else "",
        url=_video_url(layers) if status == SUCCEED else None,
        created_at=_milliseconds(_first(layers, "created_at") or _first(layers, "submit_time")),
        request_id=_first(layers, "request_id"),
    )


def _layers(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The object and whatever its ``data`` wraps, outermost first: relays wrap Kling's envelope once or twice."""
    layer: object = answer
    for _ in range(4):
        if not isinstance(layer, dict):
            return
        yield layer
        layer = layer.get("data")


def _text(value: object) -> str | None:
    """An id or a word as text. Ids may come as JSON numbers; ``bool`` is an ``int`` only to Python."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _first(layers: list[Mapping[str, Any]], name: str) -> str | None:
    return next((text for layer in layers if (text := _text(layer.get(name)))), None)


def _first_mapping(layers: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((found for layer in layers if isinstance(found := layer.get(name), dict)), {})


def _milliseconds(text: str | None) -> int | None:
    if text is None or not text.isdecimal():
        return None
    time = int(text)
    return time * 1000 if time < _SECONDS_BELOW else time


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _video_url(layers: list[Mapping[str, Any]]) -> str | None:
    """The first usable URL, from the official place to the rarest: new-api once put it into ``fail_reason``."""
    videos = _first_mapping(layers, "task_result").get("videos")
    candidates = [video.get("url") for video in videos if isinstance(video, dict)] if isinstance(videos, list) else []
    candidates.append(_first_mapping(layers, "metadata").get("url"))
    for name in ("url", "result_url", "fail_reason"):
        candidates += [layer.get(name) for layer in layers]
    candidates.append(_first_mapping(layers, "task_info").get("video_url"))
    return next((url for url in candidates if _is_url(url)), None)


def _reason(layers: list[Mapping[str, Any]]) -> str:
    for name in ("task_status_msg", "fail_reason"):
        if found := _first(layers, name):
            return found
    error = _first_mapping(layers, "error") or _first_mapping(layers, "task_info")
    return _text(error.get("message")) or _text(error.get("error")) or ""


# Refusals


def read_refusal(answer: Mapping[str, Any]) -> Refusal | None:
    """The error in ``answer``, or None when it reports success."""
    request_id = _text(answer.get("request_id")) or _text(answer.get("trace_id"))
    error = answer.get("error")
    if isinstance(error, dict) and not {"task_id", "status"} & answer.keys():
        code = _code(error.get("code")) or _text(error.get("type"))
        return Refusal(code, _text(error.get("message")) or "", request_id)
    if "detail" in answer and "code" not in answer:
        detail = answer["detail"]
        return Refusal(None, _text(detail) or json.dumps(detail, ensure_ascii=False), request_id)
    code = _code(answer.get("code"))
    if code in _FINE:
        return None
    message = _text(answer.get("message")) or ""
    inner = _unwrapped(message)
    if inner:
        return Refusal(inner.code, inner.message, inner.request_id or request_id)
    return Refusal(code, message, request_id)


def _unwrapped(message: str) -> Refusal | None:
    """Kling's own refusal, where a relay put it as a string into its ``message``."""
    if not message.startswith("{"):
        return None
    try:
        return read_refusal(parse(message.encode("utf-8", "replace")))
    except Unreadable:
        return None


def _code(value: object) -> int | str | None:
    text = _text(value)
    return int(text) if text and re.fullmatch(r"-?\d{1,9}", text) else text


_GATEWAY_ERRORS: dict[str, tuple[type[KlingError], str]] = {
    "insufficient_user_quota": (BalanceError, "Top up the gateway account, then run again."),
    "pre_consume_token_quota_failed": (BalanceError, "Raise the quota of the key or top up, then run again."),
    "model_not_found": (GraphError, "The gateway does not offer this model to your key. Choose another model_name."),
    "provider_not_found": (GraphError, "The gateway does not offer this combination. Choose another model or mode."),
    "access_denied": (SetupError, "Ask the gateway's support, or use another key."),
    "invalid_request": (GraphError, "Change what the message names, then run again."),
    "task_failed": (GraphError, "Change what the message names, then run again."),
    "get_channel_failed": (UnavailableError, "Run again later."),
    "build_request_failed": (GraphError, "Change the request, then run again."),
}
"""Codes that a relay gives before it asks Kling, with the way out: no task was made."""

_STATUS_ERRORS: dict[int, tuple[type[KlingError], str]] = {
    400: (GraphError, "Change what the message names, then run again."),
    401: (SetupError, "Check KLING_API_KEY, or the key in Settings > Kling: it may be mistyped, expired or used up."),
    402: (BalanceError, "Top up the gateway account, then run again."),
    403: (SetupError, "The key may not do this: ask the gateway's support, or use another key."),
    404: (SetupError, "Check KLING_BASE_URL."),
    413: (GraphError, "Make the request shorter."),
    422: (GraphError, "Change what the message names, then run again."),
    429: (UnavailableError, "The gateway is busy, or the account is out of quota. Run again in a few minutes."),
}


def as_error(refusal: Refusal, http_status: int) -> KlingError:
    """The error to raise for a refusal: its class by what the user can do, its text with the service's words."""
    kind, says = _classified(refusal, http_status)
    words = f': "{refusal.message}"' if refusal.message else ""
    return kind(
        f"The gateway refused the request{words}. {says}",
        code=refusal.code,
        http_status=http_status,
        request_id=refusal.request_id,
    )


def as_unreadable(found: str, http_status: int) -> KlingError:
    """The error to raise for an answer to a query in which nothing can be read.

    ``UnavailableError`` where asking again may help; the errors of ``as_error`` where the status rules it out.
    """
    if 300 <= http_status < 400:
        return redirected(http_status)
    if 400 <= http_status < 500 and http_status not in (404, 408, 429):
        return as_error(Refusal(None, found), http_status)
    return UnavailableError(f"The gateway's answer cannot be used: {found}.", http_status=http_status)


def redirected(http_status: int) -> SetupError:
    """A redirect is not followed: its target would receive the key."""
    return SetupError(
        "The gateway redirects to another address. The key is not sent there; set KLING_BASE_URL to the final address.",
        http_status=http_status,
    )


def _classified(refusal: Refusal, http_status: int) -> tuple[type[KlingError], str]:
    code = refusal.code
    if isinstance(code, int) and code in CODES:
        entry = CODES[code]
        return entry.error, f"That means: {entry.meaning}. {entry.advice}"
    if isinstance(code, int) and code in _STATUS_ERRORS:
        return _STATUS_ERRORS[code]
    if isinstance(code, str) and code in _GATEWAY_ERRORS:
        return _GATEWAY_ERRORS[code]
    return _STATUS_ERRORS.get(http_status, (UnavailableError, "Run again later."))


_FINE = (0, 200, "success", None)
"""Codes of success: Kling's, two that relays use, and the shapes without any."""

_NOT_FOUND = "task not found"
_RELAY_NOT_FOUND = frozenset({"task_not_exist", "task_not_found"})


def not_found(refusal: Refusal, http_status: int) -> TaskNotFound | None:
    """The refusal as ``TaskNotFound`` if it says that there is no such task, else None."""
    by_kling = refusal.message.lower().startswith(_NOT_FOUND)
    if not by_kling and refusal.code not in _RELAY_NOT_FOUND:
        return None
    return TaskNotFound(
        "The gateway knows no task under this id. Check the id; results are deleted 30 days after they were made.",
        proven=by_kling and "external" in refusal.message.lower(),
        code=refusal.code,
        http_status=http_status,
        request_id=refusal.request_id,
    )


def already_exists(refusal: Refusal) -> bool:
    """Whether the task was refused because its external_task_id is taken."""
    message = refusal.message.lower()
    return message.startswith("external_task_id") and "already exist" in message


def refused_before_kling(refusal: Refusal) -> bool:
    """Whether a relay's code proves that the request never reached Kling."""
    return isinstance(refusal.code, str) and refusal.code in _GATEWAY_ERRORS
