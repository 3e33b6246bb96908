"""Keeps hosts and links out of the log. urllib3 logs them, sometimes even as a warning.

One unusual header is enough for that. A link may be signed, so anyone who reads the log could download the video.
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
    """Drop what urllib3 logs in this thread meanwhile, except errors. Calls by other code are logged as usual."""
    for name in _LOGGERS:
        # Importing this module must change nothing, so the filter is added here. Adding it again has no effect.
        logging.getLogger(name).addFilter(_passes)
    before, _here.is_quiet = _here.is_quiet, True
    try:
        yield
    finally:
        _here.is_quiet = before


def _passes(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or not _here.is_quiet
