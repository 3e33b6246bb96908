"""Says in a few words why an exchange broke. The libraries' own texts hold hosts, paths and signed links."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import requests
from requests import exceptions
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

from ..pace import CONNECT_TIMEOUT

_WORDS: list[tuple[tuple[type[BaseException], ...], str]] = [
    ((exceptions.ProxyError,), "the proxy did not let the request through"),
    ((exceptions.SSLError, ssl.SSLError), "the secure connection failed (TLS certificate or proxy)"),
    ((exceptions.ConnectTimeout,), f"no connection within {CONNECT_TIMEOUT:g} s"),
    ((exceptions.Timeout, ReadTimeoutError, TimeoutError), "no answer in time"),
    ((socket.gaierror,), "the server's name was not found (is this computer online?)"),
    ((ConnectionRefusedError,), "the connection was refused"),
    ((NewConnectionError,), "no connection could be made"),
    ((exceptions.ConnectionError, exceptions.ChunkedEncodingError, ConnectionError), "the connection broke"),
    # requests and urllib3 raise these for addresses that they cannot read.
    ((ValueError,), "the address of the gateway or of a proxy cannot be used"),
    ((requests.RequestException,), "the connection broke"),
    # All that is left: requests raises a bare OSError for a CA bundle that is not there.
    ((OSError,), "the secure connection failed (TLS certificate or proxy)"),
]
"""What to say of an error that is, or was caused by, one of these types. The first row that fits counts."""


def what_broke(error: BaseException) -> str:
    """Why an exchange broke, without the address.

    Args:
        error: of requests or urllib3, or an OSError or ValueError that they let through.
    """
    chain = list(_chain(error))
    return next(words for kinds, words in _WORDS if any(isinstance(link, kinds) for link in chain))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that it was made from: requests and urllib3 keep the cause in several places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]
