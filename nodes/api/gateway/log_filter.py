"""Keeps hosts and links out of the log: urllib3 writes them there, some already as a warning.

One odd header is enough for that, and a link may be signed, so that whoever reads the log could fetch the video.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("urllib3.connection", "urllib3.connectionpool")


class _Here(threading.local):
    """Whether this thread is in a call of this pack."""

    is_quiet = False


_here = _Here()


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what urllib3 logs in this thread meanwhile, except errors. What others ask it for is logged as ever."""
    for name in _LOGGERS:
        # Not at import, which changes nothing for others. Adding a filter again does nothing.
        logging.getLogger(name).addFilter(_passes)
    before, _here.is_quiet = _here.is_quiet, True
    try:
        yield
    finally:
        _here.is_quiet = before


def _passes(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or not _here.is_quiet
