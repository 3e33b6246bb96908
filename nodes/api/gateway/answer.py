"""Reads the answers of Kling and its relays: the state of a task, or the reason why there is none.

The body of an answer counts before its HTTP status, because gateways report a wrong parameter as 429 and a refusal
as 200. The shapes are Kling's own and those of the New-API, One-API and similar relays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from ..errors import KlingError, SetupError, TaskFailed, TaskNotFound, UnavailableError
from ..spending.prices import charge
from .codes import AFTER_SENDING, CODES, GATEWAY_CODES, HTTP_STATUSES, MAY_HAVE_WORKED
from .foreign_text import ID_MAX, as_text, first_words, in_words, usable_id


class TaskStatus:
    """Kling's names for the states of a task. A gateway may use other words, which are shown as they are."""

    SUBMITTED: Final = "submitted"
    PROCESSING: Final = "processing"
    SUCCEED: Final = "succeed"
    FAILED: Final = "failed"


_STATUS = {
    **dict.fromkeys(("submitted", "not_start", "queued", "pending"), TaskStatus.SUBMITTED),
    **dict.fromkeys(("processing", "in_progress", "running"), TaskStatus.PROCESSING),
    **dict.fromkeys(("succeed", "succeeded", "success", "completed"), TaskStatus.SUCCEED),
    **dict.fromkeys(
        ("failed", "failure", "fail", "error", "canceled", "cancelled", "expired"),
        TaskStatus.FAILED,
    ),
}
"""The words of Kling and its relays. A relay's ``timeout`` and ``unknown`` are not here: the task may still finish."""

_SECONDS_BELOW = 100_000_000_000
"""A time below this is in seconds, any other in milliseconds. As seconds it is the year 5138, as milliseconds 1973."""


@dataclass(frozen=True)
class Task:
    """What an answer says about a task.

    Attributes:
        status: ``submitted``, ``processing``, ``succeed``, ``failed``, or a word of the gateway's own.
        reason: why the task failed, in Kling's words; empty if it has not failed.
        url: the link to the video, only for a task that succeeded.
        created_at: Unix time in milliseconds.
        charged: the units that Kling charged; None as long as the answer does not say.
        model: the model_name, which only relays tell.
    """

    task_id: str
    status: str = TaskStatus.SUBMITTED
    external_task_id: str | None = None
    reason: str = ""
    url: str | None = None
    created_at: int | None = None
    request_id: str | None = None
    charged: float | None = None
    model: str | None = None


class Unreadable(Exception):
    """The answer gives neither the state of a task nor a reason why there is none."""


@dataclass(frozen=True)
class Refusal:
    """An error that the service reports.

    Attributes:
        code: an int from Kling, a str from a gateway, None if the answer has no code.
    """

    code: int | str | None
    message: str
    request_id: str | None = None


def parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object in ``body``.

    Raises:
        Unreadable: it is empty, cut off, not JSON, or not a JSON object.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable(first_words(body)) from None
    if not isinstance(value, dict):
        raise Unreadable(first_words(body))
    return value


# Tasks


def read_task(answer: Mapping[str, Any]) -> Task:
    """The task in ``answer``, whatever its shape.

    Raises:
        Unreadable: it contains no task_id.
    """
    layers = list(_layers(answer))
    task_id = _task_id(layers)
    if not task_id:
        raise Unreadable("it contains no task_id")
    word = _status_word(layers)
    status = _STATUS.get(word.lower(), word)
    return Task(
        task_id=task_id,
        status=status,
        external_task_id=_external_task_id(layers),
        reason=_reason(layers) if status == TaskStatus.FAILED else "",
        url=_video_url(layers) if status == TaskStatus.SUCCEED else None,
        created_at=_milliseconds(_first(layers, "created_at") or _first(layers, "submit_time")),
        request_id=_first_id(layers, "request_id"),
        charged=_charged(layers),
        model=_model(layers),
    )


def _layers(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The object and every ``data`` inside it, outermost first: relays wrap Kling's envelope once or twice."""
    layer: object = answer
    for _ in range(4):
        if not isinstance(layer, dict):
            return
        yield layer
        layer = layer.get("data")


def _task_id(layers: list[Mapping[str, Any]]) -> str | None:
    """A plain ``id`` counts only in an object with a status. Elsewhere it may belong to a request or an error."""
    tasks = [layer for layer in layers if layer.keys() & {"task_status", "status", "object"}]
    return _first_id(layers, "task_id") or _first_id(tasks, "id")


def _model(layers: list[Mapping[str, Any]]) -> str | None:
    wrapped = _first_mapping(layers, "properties")
    return _first(layers, "model") or _first(layers, "model_name") or as_text(wrapped.get("origin_model_name"))


def _external_task_id(layers: list[Mapping[str, Any]]) -> str | None:
    """Only compared and shown, so a text that cannot be an id stays: it means that the task is another one's."""
    places = [info for layer in layers if isinstance(info := layer.get("task_info"), dict)]
    named = _first([*places, *layers], "external_task_id")
    return named and in_words(named, most=ID_MAX)


def names_task(answer: Mapping[str, Any]) -> bool:
    """Whether there is a task_id anywhere in ``answer``."""
    return _task_id(list(_layers(answer))) is not None


def _status_word(layers: list[Mapping[str, Any]]) -> str:
    """The outermost status of the task: a relay that has given up a task keeps Kling's last answer inside.

    A ``status`` without an id beside it is the status of the call, not of the task.
    """
    for layer in layers:
        beside_an_id = as_text(layer.get("status")) if layer.keys() & {"task_id", "id"} else None
        if beside_an_id and beside_an_id.lower() in _STATUS and "task_status" not in layer:
            return beside_an_id
        if word := in_words(layer.get("task_status"), most=40):
            return word
    return in_words(_first(layers, "status"), most=40) or TaskStatus.SUBMITTED


def _first(layers: list[Mapping[str, Any]], name: str) -> str | None:
    return next((text for layer in layers if (text := as_text(layer.get(name)))), None)


def _first_id(layers: list[Mapping[str, Any]], name: str) -> str | None:
    return next((found for layer in layers if (found := usable_id(layer.get(name)))), None)


def _first_mapping(layers: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return next((found for layer in layers if isinstance(found := layer.get(name), dict)), {})


def _milliseconds(text: str | None) -> int | None:
    # 15 digits reach 30,000 years ahead. A longer number cannot be a time, and SQLite could not store it.
    if text is None or not re.fullmatch("[0-9]{1,15}", text):
        return None
    time = int(text)
    return time * 1000 if time < _SECONDS_BELOW else time


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _charged(layers: list[Mapping[str, Any]]) -> float | None:
    found = (charge(layer.get("final_unit_deduction")) for layer in layers)
    return next((units for units in found if units is not None), None)


def _video_url(layers: list[Mapping[str, Any]]) -> str | None:
    """The first usable URL, the official place first. Some versions of new-api put it into ``fail_reason``."""
    videos = _first_mapping(layers, "task_result").get("videos")
    candidates = [video.get("url") for video in videos if isinstance(video, dict)] if isinstance(videos, list) else []
    candidates.append(_first_mapping(layers, "metadata").get("url"))
    for name in ("url", "result_url", "fail_reason"):
        candidates += [layer.get(name) for layer in layers]
    candidates.append(_first_mapping(layers, "task_info").get("video_url"))
    return next((url for url in candidates if _is_url(url)), None)


def _reason(layers: list[Mapping[str, Any]]) -> str:
    for name in ("task_status_msg", "fail_reason"):
        if found := in_words(_first(layers, name), most=2000):
            return found
    error = _first_mapping(layers, "error") or _first_mapping(layers, "task_info")
    return in_words(error.get("message")) or in_words(error.get("error"))


def task_failed(task: Task) -> TaskFailed:
    """The error for a task that Kling ended without a video: the full reason, and what to do about it."""
    says = f'"{task.reason}"' if task.reason else "no reason given"
    advice = "Run KlingText2Video again to make a new task; Kling does not charge for a failed one."
    if "risk control" in task.reason.lower():
        advice = f"The content check rejected it, so change the prompt first. {advice}"
    return TaskFailed(
        f"The task failed: {says}. {advice}",
        task_id=task.task_id,
        external_task_id=task.external_task_id,
        request_id=task.request_id,
    )


# Refusals


def read_refusal(answer: Mapping[str, Any]) -> Refusal | None:
    """The error in ``answer``, or None if it reports success or nothing."""
    code = _code(answer.get("code"))
    message = answer.get("message") or answer.get("msg")
    error = answer.get("error")
    if not _is_fine(code):
        return _refusal(code, message or (error.get("message") if isinstance(error, dict) else error), answer)
    if names_task(answer):
        return None
    if isinstance(error, dict) and error:
        return _refusal(_code(error.get("code")) or _code(error.get("type")), error.get("message"), answer)
    if isinstance(error, str) and error:
        return _refusal(None, f"{error}: {message}" if message else error, answer)
    if answer.get("detail"):
        detail = answer["detail"]
        return _refusal(None, as_text(detail) or json.dumps(detail, ensure_ascii=False), answer)
    if answer.get("success") is False:
        return _refusal(None, message, answer)
    return None


def _refusal(code: int | str | None, message: object, answer: Mapping[str, Any]) -> Refusal:
    """The refusal, or Kling's own one if a relay has put that into its message as JSON text."""
    request_id = usable_id(answer.get("request_id")) or usable_id(answer.get("trace_id"))
    text = as_text(message) or ""
    if text.startswith("{"):
        with suppress(Unreadable):
            inner = read_refusal(parse(text.encode("utf-8")))
            if inner:
                return replace(inner, request_id=inner.request_id or request_id)
    return Refusal(code, in_words(text), request_id)


def message_in(answer: Mapping[str, Any]) -> str:
    """The message of an answer that has no error in any known place."""
    said = in_words(answer.get("message") or answer.get("msg"))
    return f'it says "{said}"' if said else "it gives no reason"


def _code(value: object) -> int | str | None:
    text = in_words(value, most=60)
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text or None


def as_error(refusal: Refusal, http_status: int) -> KlingError:
    """The error to raise for a refusal. Its class says what the user can do, and its text quotes the service."""
    kind, says = _classified(refusal, http_status)
    words = f': "{refusal.message}"' if refusal.message else ""
    return kind(
        f"The gateway refused the request{words}. {says}",
        code=refusal.code,
        http_status=http_status,
        request_id=refusal.request_id,
    )


def as_unreadable(found: str, http_status: int) -> KlingError:
    """The error to raise for an unreadable answer to a query.

    ``UnavailableError`` if asking again may help, the errors of ``as_error`` if the status rules that out.
    """
    if 300 <= http_status < 400:
        return redirected(http_status)
    if 400 <= http_status < 500 and http_status not in (404, 408, 429):
        return as_error(Refusal(None, found), http_status)
    return UnavailableError(f"The gateway's answer is unusable: {found}.", http_status=http_status)


def redirected(http_status: int) -> SetupError:
    """A redirect is not followed, because its target would receive the key."""
    return SetupError(
        "The gateway redirects to another address. The key was not sent there."
        " Set KLING_BASE_URL to the final address.",
        http_status=http_status,
    )


def _classified(refusal: Refusal, http_status: int) -> tuple[type[KlingError], str]:
    code = refusal.code
    if isinstance(code, int) and code in CODES:
        entry = CODES[code]
        return entry.error, f"Meaning: {entry.meaning}. {entry.advice}"
    if isinstance(code, int) and code in HTTP_STATUSES:
        return HTTP_STATUSES[code]
    if isinstance(code, str) and code in GATEWAY_CODES:
        return GATEWAY_CODES[code]
    return HTTP_STATUSES.get(http_status, (UnavailableError, "Run again later."))


def _is_fine(code: int | str | None) -> bool:
    """Whether the code means success: Kling's 0, the 200 and the words that relays use, or no code at all."""
    return code in (0, 200, None) or (isinstance(code, str) and code.lower() in ("success", "succeed", "ok"))


_NOT_FOUND = "task not found"
_NOT_FOUND_BY_KLING = "task not found by id/external id"
_NOT_FOUND_CODES = frozenset({"task_not_exist", "task_not_found", 1203})


def not_found(refusal: Refusal, http_status: int) -> TaskNotFound | None:
    """A refused query as ``TaskNotFound`` if it says that there is no such task, None for any other refusal."""
    message = refusal.message.lower()
    if not message.startswith(_NOT_FOUND) and refusal.code not in _NOT_FOUND_CODES:
        return None
    return TaskNotFound(
        "The gateway knows no task with this id. Check the id. Kling deletes results 30 days after they were made.",
        proven=message.startswith(_NOT_FOUND_BY_KLING),
        code=refusal.code,
        http_status=http_status,
        request_id=refusal.request_id,
    )


def already_exists(refusal: Refusal) -> bool:
    """Whether the task was refused because its external_task_id is already in use."""
    return bool(re.search(r"external[ _]?task[ _]?id.*(already exist|duplicate)", refusal.message, re.I))


def proves_refusal(refusal: Refusal, http_status: int) -> bool:
    """Whether it is certain that no task was made.

    Kling's own codes prove that, except two. So do a relay's codes for errors that happen before it asks Kling. Any
    other code does, unless the code or the status points to a failure on the way.
    """
    code = refusal.code
    if code in MAY_HAVE_WORKED or code in AFTER_SENDING:
        return False
    if is_known(refusal):
        return True
    return not any(_is_failure(number) for number in (code, http_status) if isinstance(number, int))


def is_known(refusal: Refusal) -> bool:
    """Whether the code has a fixed meaning, so nothing else needs to be considered."""
    return refusal.code in CODES or refusal.code in GATEWAY_CODES or refusal.code in HTTP_STATUSES


def _is_failure(code: int) -> bool:
    """408 is the only 4xx that can follow a request that went through. From 5000 on, the failure is Kling's own."""
    return code == 408 or 500 <= code < 600 or 5000 <= code < 6000
