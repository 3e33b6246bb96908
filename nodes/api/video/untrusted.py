"""GET from the address that a gateway gives for a result: a server that the user did not choose.

The server gets no key, no cookie and no password from ``.netrc``. The address may be anything, and in a private network
a request may do more than fetch a video. So a private address is refused, unless the gateway is on this computer or
the address is the gateway's own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

from ..errors import SetupError, UnavailableError
from ..gateway.bounds import BoundedAdapter
from ..gateway.client import Session
from ..gateway.log_filter import quiet
from ..pace import CONNECT_TIMEOUT
from ..settings import is_loopback
from ..version import VERSION

_HOPS = 6

_TUNNELS = [ipaddress.ip_network("198.18.0.0/15"), ipaddress.ip_network("fc00::/18")]
"""Not public, but allowed: proxies that catch all traffic (TUN mode) use these in place of every host's address."""


@contextmanager
def opened(url: str, gateway: str, headers: Mapping[str, str], silence: float) -> Iterator[requests.Response]:
    """The answer at the end of all redirects, before its body is read.

    Args:
        gateway: the base URL of the gateway that gave ``url``.
        silence: seconds without a byte after which reading fails.

    Raises:
        SetupError: the address, or one that it redirects to, is not allowed.
        UnavailableError: there are too many redirects.
        requests.RequestException: the network failed.
    """
    for _ in range(_HOPS):
        host = _host(url)
        trusts = is_loopback(urlsplit(gateway).hostname or "") or host == urlsplit(gateway).hostname
        if not trusts and (is_loopback(host) or _is_inside(host)):
            raise _refused("leads to a private address")
        with (
            quiet(),
            _session(trusts) as session,
            session.get(
                url,
                headers=headers,
                # Without an auth, requests would look for a password in .netrc and in the address.
                auth=lambda request: request,
                timeout=(CONNECT_TIMEOUT, silence),
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            if not response.is_redirect:
                yield response
                return
            url = _target(url, response.headers["Location"])
    raise UnavailableError("The link to the video redirects too many times. Run again later; nothing is paid again.")


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        if host and host.isascii():
            host.encode("idna")  # urllib3 would raise an error of its own that contains the host
    except ValueError:
        raise _refused("is not a valid address") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise _refused("is not http or https")
    return host


def _target(url: str, location: str) -> str:
    try:
        # HTTP headers are Latin-1 by the standard, but servers write UTF-8.
        return urljoin(url, location.encode("latin-1").decode("utf-8", "replace"))
    except ValueError:
        raise _refused("is not a valid address") from None


def _refused(what: str) -> SetupError:
    return SetupError(
        f"The gateway returned a video link that {what}, so it was not opened. Nothing is lost or paid again. Ask the"
        " gateway's support for a link that anyone can open."
    )


def _is_inside(address: str) -> bool:
    """Whether ``address`` is an address, not a name, and is not public."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return not ip.is_global and not any(ip in tunnel for tunnel in _TUNNELS if tunnel.version == ip.version)


def _session(trusts: bool) -> requests.Session:
    session = Session()
    if not trusts:
        session.mount("https://", _PublicOnly())
        session.mount("http://", _PublicOnly())
    session.headers.update({"Accept": "video/*, */*;q=0.5", "User-Agent": f"ComfyUI-Kling/{VERSION}"})
    return session


class _PublicOnly(BoundedAdapter):
    """Checks the address that a name resolved to, after connecting and before a byte of HTTP is sent.

    A look-up beforehand could return another address than the one that is used. With a proxy, the proxy resolves the
    name and connects, and it is trusted to choose where.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: Any = self.poolmanager
        manager.pool_classes_by_scheme = {
            scheme: _public_only(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }


@cache
def _public_only(pool: Any) -> Any:
    connection = pool.ConnectionCls

    def connect(self: Any) -> None:
        connection.connect(self)
        if _is_inside(self.sock.getpeername()[0]):
            self.close()
            raise _refused("leads to a private address")

    public = type("PublicConnection", (connection,), {"connect": connect})
    return type("PublicPool", (pool,), {"ConnectionCls": public})
