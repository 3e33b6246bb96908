"""Says in a few words why an exchange failed. The libraries' own texts contain hosts, paths and signed links."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import requests
from requests import exceptions
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

from ..pace import CONNECT_TIMEOUT

_WORDS: list[tuple[tuple[type[BaseException], ...], str]] = [
    ((exceptions.ProxyError,), "the connection through the proxy failed"),
    ((exceptions.SSLError, ssl.SSLError), "the secure connection failed (TLS certificate or proxy)"),
    ((exceptions.ConnectTimeout,), f"no connection within {CONNECT_TIMEOUT:g} s"),
    ((exceptions.Timeout, ReadTimeoutError, TimeoutError), "no answer in time"),
    ((socket.gaierror,), "the server's name was not found (is this computer online?)"),
    ((ConnectionRefusedError,), "the connection was refused"),
    ((NewConnectionError,), "no connection could be made"),
    ((exceptions.ConnectionError, exceptions.ChunkedEncodingError, ConnectionError), "the connection broke"),
    # requests and urllib3 raise a ValueError for an address that they cannot parse.
    ((ValueError,), "the address of the gateway or of a proxy cannot be used"),
    ((requests.RequestException,), "the connection broke"),
    # requests raises a plain OSError if the CA bundle is missing. All other errors match a row above.
    ((OSError,), "the secure connection failed (TLS certificate or proxy)"),
]
"""What to say about an error that is, or was caused by, one of these types. The first matching row counts."""


def what_broke(error: BaseException) -> str:
    """Why an exchange failed, without the address.

    Args:
        error: from requests or urllib3, or an OSError or ValueError that they let through.
    """
    chain = list(_chain(error))
    return next(words for kinds, words in _WORDS if any(isinstance(link, kinds) for link in chain))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all its causes: requests and urllib3 keep them in several places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [*link.args, getattr(link, "reason", None), link.__cause__, link.__context__]
