"""What ends an exchange early, however its server behaves: every byte of an answer is read through here.

The libraries limit the wait for the next byte. So a server that sends one byte now and then, in a header, in one
``100 Continue`` after another or behind the body, could keep a call open as long as it likes. Here one reader below
http.client asks the ``Bounds`` of the exchange before each read.

Resolving a name cannot be interrupted. Connecting to one address, a TLS handshake and sending have time-outs of their
own; after each of them the bounds are asked again.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPResponse, LineTooLong
from typing import Any

from requests.adapters import HTTPAdapter

from .answer import Unreadable

_LINE_MAX = 1 << 16
"""The longest line of an answer, in bytes. http.client has the same limit, urllib3 has none for the size of a chunk."""


class Bounds:
    """The limits of one exchange, from connecting to the last byte.

    Args:
        seconds: how long the exchange may take.
        most: how many bytes may come, headers included.

    Attributes:
        received: bytes so far, headers included.
    """

    def __init__(self, seconds: float = math.inf, most: float = math.inf) -> None:
        self.received = 0
        self._end = time.monotonic() + seconds
        self._most = most

    def check(self) -> float:
        """The seconds after which to ask again.

        Raises:
            TimeoutError: the time is over.
            Unreadable: more has come than is allowed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self.received > self._most:
            raise Unreadable(f"the answer is longer than {self._most / (1 << 20):.0f} MB")
        return left


class _Here(threading.local):
    """The bounds of the exchange that this thread is in. An exchange stays in one thread from beginning to end."""

    bounds = Bounds()


_here = _Here()


@contextmanager
def bounded(bounds: Bounds) -> Iterator[None]:
    """Apply ``bounds`` to what this thread meanwhile sends through a ``BoundedAdapter``."""
    before, _here.bounds = _here.bounds, bounds
    try:
        yield
    finally:
        _here.bounds = before


class BoundedAdapter(HTTPAdapter):
    """Applies the bounds of the calling thread to each exchange, also to a proxy's part in it."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _bind(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        return _bind(super().proxy_manager_for(*args, **kwargs))


def _bind(manager: Any) -> Any:
    manager.pool_classes_by_scheme = {scheme: _bounded(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}
    return manager


@cache
def _bounded(pool: Any) -> Any:
    """The pool, with connections that keep the bounds."""
    connection = pool.ConnectionCls
    if connection.response_class is _Response:
        return pool

    def connect(self: Any) -> None:
        self.socket_options = _Options(self.socket_options or ())
        connection.connect(self)
        _here.bounds.check()

    bounded = type("BoundedConnection", (connection,), {"connect": connect, "response_class": _Response})
    return type("BoundedPool", (pool,), {"ConnectionCls": bounded})


class _Options(tuple[Any, ...]):
    """Options that urllib3 sets on each new socket. A host may have many addresses, and each try takes its time."""

    def __iter__(self) -> Iterator[Any]:
        try:
            _here.bounds.check()
        except Exception as over:
            # urllib3 expects an OSError here.
            raise TimeoutError from over
        return super().__iter__()


class _Response(HTTPResponse):
    """An answer of http.client that is read through a ``_Reader``."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = _Lines(_Reader(sock, self.fp.detach()))


class _Lines(io.BufferedReader):
    """Gives no line without end to a library that asks for one."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(_LINE_MAX + 1 if size is None or size < 0 else size)
        if len(line) > max(_LINE_MAX, size or 0):
            raise LineTooLong("line")
        return line


class _Reader(io.RawIOBase):
    """Reads from the socket and asks the bounds before each wait.

    Args:
        sock: the connection. Its time-out is the longest wait for the next byte.
        file: the connection's file. It is only closed: the connection stays open until then.
    """

    def __init__(self, sock: Any, file: io.RawIOBase) -> None:
        self._sock, self._file = sock, file
        self._bounds = _here.bounds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        patience = self._sock.gettimeout()
        end = math.inf if patience is None else time.monotonic() + patience
        try:
            while True:
                wait = min(self._bounds.check(), end - time.monotonic())
                self._sock.settimeout(None if wait == math.inf else max(wait, 0.001))
                try:
                    count = int(self._sock.recv_into(buffer))
                except TimeoutError:
                    if time.monotonic() >= end:
                        raise
                else:
                    self._bounds.received += count
                    return count
        finally:
            self._sock.settimeout(patience)

    def close(self) -> None:
        super().close()
        self._file.close()
