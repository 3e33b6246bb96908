"""Exit codes, messages and JSON of the console.

Results go to standard output and everything else to standard error, so that a script can read the results alone.
"""

from __future__ import annotations

import json
import sys
from enum import IntEnum
from typing import Any

from ..api.printable import printable


class ExitCode(IntEnum):
    """What a command tells the shell."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    STOPPED = 130


def say(text: str) -> None:
    """Print a message for the user. A program without a console prints nothing."""
    if sys.stderr is not None:
        print(printable(text, keep="\n"), file=sys.stderr, flush=True)  # noqa: T201


def put(text: str) -> None:
    """Print a result to standard output."""
    print(printable(text, keep="\n"), flush=True)  # noqa: T201


def json_text(body: object, stream: Any) -> str:
    """Indented JSON for a stream, with JSON escapes if the stream's encoding lacks a character."""
    return printable(json.dumps(body, ensure_ascii=not can_show(body, stream), indent=2), keep="\n")


def can_show(body: object, stream: Any) -> bool:
    """Whether the stream's encoding has every character of ``body``."""
    try:
        json.dumps(body, ensure_ascii=False).encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
