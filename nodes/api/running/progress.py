"""What a node shows while its job waits: one line, and a bar."""

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
    """A watcher that keeps line and bar up to date by itself.

    Whatever waits asks a few times a second whether the user has cancelled. Each time, the node is brought up to
    date: so the clock on it goes on while an answer is awaited, and no timer is needed for it.

    Used as a context, it leaves ``parting`` on the node if the waiting ends by anything but an error of this pack:
    by Cancel, or because ComfyUI ends the whole run.

    Args:
        watcher: the host's own.
        line: gives the line as it should be now.
        done: gives how much of the node's work is done, from 0 to 1.
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
            # New front ends clear the lines of a run as soon as it has ended.
            _log.info("Kling: %s", self._parting)

    def show(self, line: str) -> None:
        """Show another line until the next one is due."""
        self._shown = line
        self._watcher.show(line)

    def progress(self, value: float, total: float) -> None:
        """Move the bar."""
        self._watcher.progress(value, total)

    def raise_if_cancelled(self) -> None:
        """Bring the node up to date, then raise the host's own interrupt if the user has cancelled."""
        line, value = self._line(), int(self._done() * _TOTAL)
        if line != self._shown:
            self.show(line)
        if value != self._value:
            self._value = value
            self.progress(value, _TOTAL)
        self._watcher.raise_if_cancelled()


def clock(seconds: float) -> str:
    """A length of time for a line: ``1:42``, from an hour on ``1:02:03``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def date(moment: float) -> str:
    """The day of a Unix time in seconds."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))
