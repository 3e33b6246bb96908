"""How the books of a relay misbehave: what a look into them can bring instead of rows, and rows gone wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from .bodies import to_json
from .faults import ANY_GET, KINDS, Kind, Turn, always, read_number
from .wire import CHUNK, Answer, Received, html

HUGE: Final = 50_000_000
UNKNOWN_KEY: Final = {"success": False, "message": "无效的令牌"}


def _value(text: str) -> Any:
    """JSON if it can be read as such, otherwise the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _with_data(change: Callable[[Any], Any]) -> Turn:
    """Change what an answer has in `data`. A refusal has none, so it does not change."""

    def turn(honest: Answer, request: Received) -> Answer:
        body = json.loads(honest.body) if honest.status == 200 else {}
        return to_json({**body, "data": change(body["data"])}) if "data" in body else honest

    return turn


def _in_each_row(argument: str) -> Turn:
    name, value = _assignment(argument)
    return _with_data(lambda rows: [{**row, name: value} for row in rows])


def _in_each_other(argument: str) -> Turn:
    name, value = _assignment(argument)

    def changed(other: Any) -> Any:
        fields = _value(other)
        return json.dumps({**fields, name: value}) if isinstance(fields, dict) else other

    return _with_data(lambda rows: [{**row, "other": changed(row["other"])} for row in rows])


def _assignment(argument: str) -> tuple[str, Any]:
    name, equals, value = argument.partition("=")
    if not (name and equals):
        raise ValueError(f"{argument!r} is not NAME=VALUE")
    return name, _value(value)


def _ahead(argument: str) -> Turn:
    seconds = int(read_number(argument))
    return _with_data(lambda rows: [{**row, "created_at": row["created_at"] + seconds} for row in rows])


def _huge(argument: str) -> Turn:
    """The correct answer and so many spaces after it, which is still JSON."""
    size = int(read_number(argument)) if argument else HUGE

    def turn(honest: Answer, request: Received) -> Answer:
        def pieces(start: int, stop: int) -> Iterator[bytes]:
            yield honest.body
            for at in range(len(honest.body), stop, CHUNK):
                yield b" " * min(CHUNK, stop - at)

        return replace(honest, source=pieces, size=len(honest.body) + size)

    return turn


_OF_TASKS: Final = ("no-task-id", "other-task", "odd-id")
ANYTHING: Final[Mapping[str, Kind]] = {
    **{name: kind for name, kind in ANY_GET.items() if name not in _OF_TASKS},
    "html": Kind("", always(lambda: html(200, "Sign in"))),
    "unauthorized": Kind("", always(lambda: to_json(UNKNOWN_KEY, 401))),
    "unknown-key": Kind("", always(lambda: to_json(UNKNOWN_KEY))),
    "limited": Kind("", always(lambda: Answer(429))),
    "huge": Kind("[:BYTES]", _huge, reaches=True),
    "data": Kind(":JSON", lambda argument: _with_data(lambda data: _value(argument)), reaches=True),
}
RELAY_KINDS: Final[Mapping[str, Mapping[str, Kind]]] = {
    **KINDS,
    "books": {
        **ANYTHING,
        "row": Kind(":NAME=VALUE", _in_each_row, reaches=True),
        "other": Kind(":NAME=VALUE", _in_each_other, reaches=True),
        "ahead": Kind(":SECONDS", _ahead, reaches=True),
    },
    "usage": ANYTHING,
    "status": ANYTHING,
    "models": ANYTHING,
}
