"""What a node shows while it waits: one line and a bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType

from ..errors import KlingError
from .threads import Watcher

_log = logging.getLogger("kling")

_TOTAL = 100


class Display:
    """A watcher that keeps the line and the bar up to date by itself.

    Waiting code checks a few times a second whether the user has cancelled. Each check also updates the node, so its
    clock keeps running without a timer.

    As a context manager it leaves ``parting`` on the node if the wait ends with anything but an error of this pack:
    Cancel, or ComfyUI ending the whole run.

    Args:
        watcher: the host's own watcher.
        line: returns the line to show now.
        done: returns how much of the node's work is done, from 0 to 1.
        parting: what to tell a user who stops waiting.
    """

    def __init__(self, watcher: Watcher, line: Callable[[], str], done: Callable[[], float], parting: str) -> None:
        self._watcher = watcher
        self._line = line
        self._done = done
        self._parting = parting
        self._shown = ""
        self._value = -1

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, KlingError):
            self.show(self._parting)
            # New front ends clear the lines of a run when it ends, so the log keeps this one.
            _log.info("Kling: %s", self._parting)

    def show(self, line: str) -> None:
        """Show this line until the next one replaces it."""
        self._shown = line
        self._watcher.show(line)

    def progress(self, value: float, total: float) -> None:
        """Move the bar."""
        self._watcher.progress(value, total)

    def raise_if_cancelled(self) -> None:
        """Update the node, then raise the host's own interrupt if the user has cancelled."""
        line, value = self._line(), int(self._done() * _TOTAL)
        if line != self._shown:
            self.show(line)
        if value != self._value:
            self._value = value
            self.progress(value, _TOTAL)
        self._watcher.raise_if_cancelled()


def clock(seconds: float) -> str:
    """A length of time for a line: ``1:42``, or ``1:02:03`` from one hour on."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def date(moment: float) -> str:
    """The date (UTC) of a Unix time in seconds."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
