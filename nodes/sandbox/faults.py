"""How the sandbox misbehaves: tables of wrong answers, and of correct answers in unusual shapes.

A fault is a word such as `drop-after`, with arguments after colons (`hang-before:3`,
`code:1302:retry-after=2`). It says whether the request still reaches the service (`-after`: the task is
made, but the answer is lost), and turns the correct answer into the one that is sent.
`Sandbox.misbehave` queues faults, `kinds(on)` lists them.

Bodies and texts are those that Kling and relays of the New-API family are known to send.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import unquote

from .bodies import (
    CREATE_SHAPES,
    END_KEYS,
    GATEWAY,
    MASKED,
    QUERY_SHAPES,
    Body,
    flat,
    gateway_error,
    refusal,
    to_json,
    with_,
    without,
)
from .wire import Answer, Received, html

Turn = Callable[[Answer, Received], Answer]


@dataclass(frozen=True)
class Fault:
    """One queued misbehaviour. `reaches`: whether the service itself still handles the request."""

    kind: str
    reaches: bool
    turn: Turn


@dataclass(frozen=True)
class Kind:
    """`make` reads the text after the first colon ("" without one) and raises ValueError if it is wrong.

    `argument` shows how that text is written: "" for none, in brackets if it is optional.
    """

    argument: str
    make: Callable[[str], Turn]
    reaches: bool = False


def always(answer: Callable[[], Answer]) -> Callable[[str], Turn]:
    return lambda argument: lambda honest, request: answer()


def _with_change(**fields: Any) -> Callable[[str], Turn]:
    return lambda argument: lambda honest, request: replace(honest, **fields)


def read_number(text: str, least: float = 0) -> float:
    value = float(text)
    if not least <= value < float("inf"):
        raise ValueError(f"{text} is not a number of at least {least:g}")
    return value


def _measured(name: str, least: float, **fields: Any) -> Callable[[str], Turn]:
    """The argument is a number. It becomes the field `name` of the answer."""

    def make(argument: str) -> Turn:
        number = int(read_number(argument, least)) if name == "sends" else read_number(argument, least)
        return _with_change(**{name: number}, **fields)("")

    return make


def _silent(ending: str) -> Callable[[str], Turn]:
    def make(argument: str) -> Turn:
        answer = Answer(silent=True, ending=ending, hang=read_number(argument) if argument else None)
        return lambda honest, request: answer

    return make


def _status(build: Callable[[int], Answer]) -> Callable[[str], Turn]:
    def make(argument: str) -> Turn:
        status = int(argument)
        if not 200 <= status <= 599 or status in (204, 304):
            raise ValueError(f"{argument} is not an HTTP status from 200 to 599 that has a body")
        return lambda honest, request: build(status)

    return make


def _option(text: str, *names: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if text and not (equals and name in names and value.isprintable()):
        raise ValueError(f"{text!r} is not one of {', '.join(f'{known}=...' for known in names)}")
    if name == "retry-after":
        _retry_after(value)
    return name, value


def _retry_after(value: str) -> tuple[tuple[str, str], ...]:
    """`date+N` becomes the HTTP date N seconds after the answer; anything else is sent as it is."""
    if value.startswith("date+"):
        moment = datetime.now(timezone.utc) + timedelta(seconds=read_number(value[5:]))
        value = format_datetime(moment, usegmt=True)
    return (("Retry-After", value.encode("ascii").decode("ascii")),)


def _code(argument: str) -> Turn:
    code, _, rest = argument.partition(":")
    option, value = _option(rest, "retry-after", "message", "http")
    number, http = int(code), int(value) if option == "http" else None

    def turn(honest: Answer, request: Received) -> Answer:
        answer = refusal(number, value if option == "message" else "")
        headers = _retry_after(value) if option == "retry-after" else ()
        return replace(answer, status=http or answer.status, headers=headers)

    return turn


def _unavailable(argument: str) -> Turn:
    option, value = _option(argument, "retry-after")
    page = html(503, "Service Temporarily Unavailable")
    return lambda honest, request: replace(page, headers=_retry_after(value) if option else ())


def _gateway(argument: str) -> Turn:
    name, _, code = argument.partition(":")
    if name not in GATEWAY:
        raise ValueError(f"unknown gateway answer {name!r}; known: {', '.join(GATEWAY)}")
    number = int(code or 1201)
    return lambda honest, request: GATEWAY[name](number)


def _redirect(argument: str) -> Turn:
    if not (argument.isascii() and argument.isprintable()):
        raise ValueError("a URL must be plain ASCII")
    return lambda honest, request: Answer(307, headers=(("Location", argument),))


ECHOES: Final[Mapping[str, Callable[[str], Answer]]] = {
    "gateway": lambda text: gateway_error(401, text),
    "kling": lambda text: refusal(1002, text),
    "html": lambda text: html(502, text),
}


def _echo_key(argument: str) -> Turn:
    if argument and argument not in ECHOES:
        raise ValueError(f"{argument!r} is not one of {', '.join(ECHOES)}")
    return lambda honest, request: ECHOES[argument or "gateway"](f"Invalid token: {request.bearer}")


def _native(honest: Answer) -> Body:
    """What Kling said. A relay may say it in another shape."""
    return honest.native if honest.native is not None else json.loads(honest.body)  # type: ignore[no-any-return]


def _reshape(change: Callable[[Body], Body]) -> Turn:
    """Say what Kling said in another shape. A refusal has no other shapes, so it does not change."""

    def turn(honest: Answer, request: Received) -> Answer:
        return to_json(change(_native(honest))) if honest.status == 200 else honest

    return turn


def _retell(change: Callable[[Body], Body]) -> Turn:
    """Change what a successful answer says, but not its shape."""

    def turn(honest: Answer, request: Received) -> Answer:
        if honest.status != 200:
            return honest
        body = change(_native(honest))
        # Half a surrogate pair has no UTF-8, only a JSON escape.
        return replace(honest, body=json.dumps(honest.dress(body) if honest.dress else body).encode("ascii"))

    return turn


def _shape(shapes: Mapping[str, Callable[[Body], Body]]) -> Callable[[str], Turn]:
    def make(argument: str) -> Turn:
        if argument not in shapes:
            raise ValueError(f"unknown shape {argument!r}; known: {', '.join(shapes)}")
        return _reshape(shapes[argument])

    return make


def _truncated(honest: Answer, request: Received) -> Answer:
    return replace(honest, sends=len(honest.body) // 2, ending="drop")


def _not_found(honest: Answer, request: Received) -> Answer:
    return refusal(1201, f"Task not found by id/external id: {unquote(request.path.rpartition('/')[2])}")


def _another_task(argument: str) -> Callable[[Body], Body]:
    info = {} if argument else {"external_task_id": "comfyui-of-somebody-else"}
    return lambda body: with_(body, task_id=argument or "777", task_info=info)


def _of_another_task(argument: str) -> Turn:
    """A mixed-up answer. With an argument it names only a task_id, as relays do that know no external ids.

    It has Kling's shape in every family: a relay's own answer to a create could not say whose task it is.
    """
    return _reshape(_another_task(argument))


ODD_IDS: Final[Mapping[str, object]] = {
    "nul": "88\0",
    "not-utf-8": "88\ufffd",
    "surrogate": "88\ud800",
    "two-lines": "88\n999999",
    "escape": "\x1b[2J88",
    "backwards": "\u202e88",
    "long": "8" * 5000,
    "boolean": True,
    "list": ["88"],
}


def _odd_id(argument: str) -> Turn:
    if argument not in ODD_IDS:
        raise ValueError(f"{argument!r} is not one of {', '.join(ODD_IDS)}")
    return _retell(lambda body: with_(body, task_id=ODD_IDS[argument], task_info={}))


def _once_more(body: Body) -> Body:
    return with_(without(body, *END_KEYS), task_status="processing", task_status_msg="")


# The answer is lost or says nothing. For a create, each exists twice: -before and -after the task is made.
LOST: Final[Mapping[str, Kind]] = {
    "drop": Kind("", _silent("drop")),
    "reset": Kind("", _silent("reset")),
    "hang": Kind("[:SECONDS]", _silent("hang")),
    "status": Kind(":CODE", _status(html)),
    "json-status": Kind(":CODE", _status(lambda status: flat(status, "do_request_failed", MASKED))),
    "truncated": Kind("", lambda argument: _truncated),
    "empty": Kind("", always(Answer)),
    "garbage": Kind("", always(lambda: Answer(200, b"\x00\xffOK, see {the} dashboard"))),
    "object": Kind("", always(lambda: to_json({}))),
    "null": Kind("", always(lambda: to_json(None))),
    "no-task-id": Kind("", lambda argument: _retell(lambda body: without(body, "task_id"))),
    "other-task": Kind("[:TASK_ID]", _of_another_task),
    "odd-id": Kind(":NAME", _odd_id),
    "code": Kind(":CODE[:retry-after=VALUE|:message=TEXT|:http=STATUS]", _code),
}
# The service refuses explicitly, or it answers correctly but late or in ways that must not matter.
SPOKEN: Final[Mapping[str, Kind]] = {
    "code": LOST["code"],
    "gateway": Kind(":NAME[:CODE]", _gateway),
    "unavailable": Kind("[:retry-after=VALUE]", _unavailable),
    "redirect": Kind(":URL", _redirect),
    "echo-key": Kind("[:gateway|:kling|:html]", _echo_key),
    "slow": Kind(":SECONDS", _measured("wait", 0), reaches=True),
    "then-close": Kind("", _with_change(ending="drop"), reaches=True),
}
ANY_GET: Final = {name: replace(kind, reaches=True) for name, kind in {**LOST, **SPOKEN}.items()}
KINDS: Final[Mapping[str, Mapping[str, Kind]]] = {
    "create": {
        **{f"{name}-before": kind for name, kind in LOST.items()},
        **{f"{name}-after": replace(kind, reaches=True) for name, kind in LOST.items()},
        **SPOKEN,
        "shape": Kind(":NAME", _shape(CREATE_SHAPES), reaches=True),
    },
    "query": {
        **ANY_GET,
        "other-task": Kind("[:TASK_ID]", lambda argument: _retell(_another_task(argument)), reaches=True),
        "not-found": Kind("", lambda argument: _not_found),
        "processing": Kind("", lambda argument: _retell(_once_more), reaches=True),
        "shape": Kind(":NAME", _shape(QUERY_SHAPES), reaches=True),
    },
    "list": ANY_GET,
    "download": {
        "drop": Kind(":BYTES", _measured("sends", 0, ending="drop"), reaches=True),
        "reset": Kind(":BYTES", _measured("sends", 0, ending="reset"), reaches=True),
        "stall": Kind(":BYTES", _measured("sends", 0, ending="hang"), reaches=True),
        "hang": LOST["hang"],
        "slow": Kind(":BYTES_PER_SECOND", _measured("rate", 1), reaches=True),
        "status": LOST["status"],
        "unavailable": SPOKEN["unavailable"],
        "redirect": SPOKEN["redirect"],
        "html": Kind("", always(lambda: html(200, "Sign in to watch this video"))),
        "empty": Kind("", always(lambda: Answer(content_type="video/mp4"))),
        "no-length": Kind("", _with_change(has_length=False, ending="drop"), reaches=True),
        # The sandbox handles these three by name, because they decide which file is served.
        "ignore-range": Kind("", _with_change(), reaches=True),
        "changed": Kind("", _with_change(), reaches=True),
        "short": Kind("", _with_change(), reaches=True),
    },
}


def kinds(on: str, known: Mapping[str, Mapping[str, Kind]] = KINDS) -> list[str]:
    """Every fault for `on`, as it is written."""
    return [f"{name}{kind.argument}" for name, kind in known[on].items()]


def read_faults(on: str, texts: Iterable[str], known: Mapping[str, Mapping[str, Kind]] = KINDS) -> list[Fault]:
    """Read faults. Raises ValueError, listing what is known, if one does not exist or is written wrongly."""
    if on not in known:
        raise ValueError(f"there are no faults for {on!r}; known: {', '.join(known)}")
    return [_read(on, text, known) for text in texts]


def _read(on: str, text: str, known: Mapping[str, Mapping[str, Kind]]) -> Fault:
    name, colon, argument = text.partition(":")
    kind = known[on].get(name)
    if kind is None:
        raise ValueError(f"unknown fault {text!r} for {on!r}; known: {', '.join(kinds(on, known))}")
    needed, taken = kind.argument.startswith(":"), kind.argument != ""
    if (needed and not argument) or (colon and not (taken and argument)):
        raise ValueError(f"the fault {text!r} must be written {name}{kind.argument}")
    try:
        return Fault(text, kind.reaches, kind.make(argument))
    except ValueError as problem:
        raise ValueError(f"the fault {text!r} must be written {name}{kind.argument}: {problem}") from problem
