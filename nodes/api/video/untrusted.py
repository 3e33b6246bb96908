"""GET from the address that a gateway gives for a result: a server that the user did not choose.

The server gets no key, no cookie and no password from ``.netrc``. The address may be anything, and in a private network
a request may do more than fetch a video. So only public addresses are asked, and those that the user has chosen by
choosing the gateway: its origin (scheme, host and port) and, if it is given as an IP address, any port of that address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urljoin, urlsplit

import requests
from requests.utils import default_headers
from urllib3.util import parse_url

from ..errors import SetupError, UnavailableError
from ..gateway.bounds import BoundedAdapter
from ..gateway.client import Session
from ..gateway.log_filter import quiet
from ..pace import CONNECT_TIMEOUT
from ..version import VERSION

_HOPS = 6

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Origin: TypeAlias = tuple[str, str, int | None]

_PORTS = {"http": 80, "https": 443}

_TUNNELS = [ipaddress.ip_network("198.18.0.0/15"), ipaddress.ip_network("fc00::/18")]
"""Not public, but allowed: proxies that catch all traffic (TUN mode) use these in place of every host's address."""

_UNICAST = ipaddress.ip_network("2000::/3")
"""All IPv6 addresses that IANA has allocated to the Internet. What is outside may be translated to an IPv4 address."""

_6TO4 = ipaddress.ip_network("2002::/16")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")

_THIS_COMPUTER = frozenset((ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")))


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
    own = _origin(gateway)
    exempt = _addresses(own)
    for _ in range(_HOPS):
        request = _prepared(url, headers)
        trusts = _is_own(str(request.url), own, exempt)
        with (
            quiet(),
            _session(None if trusts else exempt) as session,
            session.send(
                request,
                timeout=(CONNECT_TIMEOUT, silence),
                allow_redirects=False,
                **session.merge_environment_settings(request.url, {}, stream=True, verify=None, cert=None),
            ) as response,
        ):
            if not response.is_redirect:
                yield response
                return
            url = _target(str(request.url), response.headers["Location"])
    raise UnavailableError("The link to the video redirects too many times. Run again later; nothing is paid again.")


def _prepared(url: str, headers: Mapping[str, str]) -> requests.PreparedRequest:
    """The request, without a password. Its URL is written by the parser that connects."""
    own = {"Accept": "video/*, */*;q=0.5", "User-Agent": f"ComfyUI-Kling/{VERSION}"}
    _check_text(url)
    try:
        # Without an auth, requests would send a password that it finds in the address.
        return requests.Request("GET", url, {**default_headers(), **own, **headers}, auth=lambda given: given).prepare()
    except (ValueError, requests.RequestException):
        raise _refused("is not a valid address") from None


def _target(url: str, location: str) -> str:
    try:
        # HTTP headers are Latin-1 by the standard, but servers write UTF-8.
        target = location.encode("latin-1").decode("utf-8", "replace")
        _check_text(target)
        return urljoin(url, target)
    except ValueError:
        raise _refused("is not a valid address") from None


def _check_text(url: str) -> None:
    """Refuse what parsers remove, or take for a slash: each of them would see another host."""
    if not url.isprintable() or " " in url or "\\" in url:
        raise _refused("is not a valid address")


def _is_own(url: str, own: _Origin, exempt: frozenset[_Address]) -> bool:
    """Whether a prepared URL leads to the gateway itself. Refuse it if it leads inside, as far as its text shows."""
    try:
        origin = _origin(url)
        read = parse_url(url)
    except ValueError:
        raise _refused("is not a valid address") from None
    scheme, host, port = origin
    if scheme not in _PORTS or not host:
        raise _refused("is not http or https")
    if (scheme, host, port) != (read.scheme, (read.host or "").strip("[]"), read.port or _PORTS[scheme]):
        # Which of the two counts depends on the version of requests and on the proxy.
        raise _refused("is not a valid address")
    if origin == own:
        return True
    address = _address(host)
    if address is None:
        # "0x7f.1" and "2130706433" are 127.0.0.1 for some systems and proxies, and something else for others.
        if re.search(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$", host) or not re.fullmatch(r"[a-z0-9._-]+", host):
            raise _refused("is not a valid address")
        if re.search(r"(^|\.)localhost\.?$", host) and not exempt.issuperset(_THIS_COMPUTER):
            raise _refused("leads to a private address")
    elif not _is_public(address) and address not in exempt:
        raise _refused("leads to a private address")
    return False


def _origin(url: str) -> _Origin:
    """Scheme, host and port of a URL.

    Raises:
        ValueError: it has none that could be connected to.
    """
    parts = urlsplit(url)
    # urllib3 encodes the host, too, and would raise an error of its own that contains it.
    host = (parts.hostname or "").encode("idna").decode("ascii")
    return parts.scheme, host, parts.port or _PORTS.get(parts.scheme)


def _addresses(origin: _Origin) -> frozenset[_Address]:
    """The addresses, not names, at which the gateway may serve from any port. Nobody else can choose them."""
    _, host, _ = origin
    address = _address(host)
    if host == "localhost" or address in _THIS_COMPUTER:
        return _THIS_COMPUTER
    return frozenset([address] if address else [])


def _address(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_public(address: _Address) -> bool:
    """Whether ``address`` is on the Internet, or stands for an address there."""
    if any(address in tunnel for tunnel in _TUNNELS):
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global
    if address in _NAT64:
        return _is_public(ipaddress.IPv4Address(address.packed[12:]))
    if address in _LOCAL_NAT64:
        # The network chooses where in these addresses the IPv4 address is (RFC 6052, 2.2): at four places, around
        # byte 8. What is not there is zero.
        around = address.packed[:8] + address.packed[9:]
        places = [ipaddress.IPv4Address(around[start : start + 4]) for start in (6, 7, 8, 11)]
        used = [place for place in places if place.packed[0]]
        return bool(used) and all(_is_public(place) for place in used)
    return address.is_global and address in _UNICAST and address not in _6TO4


def _session(exempt: frozenset[_Address] | None) -> requests.Session:
    """A session that asks public addresses and ``exempt`` ones only; any address if that is None."""
    session = Session()
    if exempt is not None:
        session.mount("https://", _PublicOnly(exempt))
        session.mount("http://", _PublicOnly(exempt))
    return session


class _PublicOnly(BoundedAdapter):
    """Checks the address that a name resolved to, after connecting and before a byte is sent, TLS included.

    A look-up beforehand could return another address than the one that is used. With a proxy, the proxy resolves the
    name and connects, and it is trusted to choose where.
    """

    def __init__(self, exempt: frozenset[_Address]) -> None:
        self._exempt = exempt
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        manager: Any = self.poolmanager
        manager.pool_classes_by_scheme = {
            scheme: _public_only(pool, self._exempt) for scheme, pool in manager.pool_classes_by_scheme.items()
        }


@cache
def _public_only(pool: Any, exempt: frozenset[_Address]) -> Any:
    connection = pool.ConnectionCls

    def new_conn(self: Any) -> Any:
        sock = connection._new_conn(self)
        try:
            address = _address(sock.getpeername()[0])
            if address is None or not (_is_public(address) or address in exempt):
                raise _refused("leads to a private address")
        except BaseException:
            sock.close()
            raise
        return sock

    public = type("PublicConnection", (connection,), {"_new_conn": new_conn})
    return type("PublicPool", (pool,), {"ConnectionCls": public})


def _refused(what: str) -> SetupError:
    return SetupError(
        f"The gateway returned a video link that {what}, so it was not opened. Nothing is lost or paid again. Ask the"
        " gateway's support for a link that anyone can open."
    )
