"""Which proxy a call goes through: what requests would do, with the environment that the pack was loaded with."""

from __future__ import annotations

import ipaddress
import sys
import urllib.request
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import requests.utils

from .. import environment
from ..settings import is_loopback


def proxies_for(url: str) -> dict[str, str]:
    """The proxy of each scheme for a call of ``url``; none for a server on this computer, which no proxy can reach."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return {}
    named = environment.proxies()
    if not named:
        return _of_system(host)
    return {} if _is_exempt(host, parts.port, named.get("no", "")) else named


def _is_exempt(host: str, port: int | None, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host, a domain above it, or a network that holds its address."""
    for entry in no_proxy.lower().split(","):
        entry = entry.strip().lstrip(".")
        if entry == "*" or (entry and f".{host}".endswith(f".{entry}")) or entry == f"{host}:{port}":
            return True
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                return True
    return False


def _of_system(host: str) -> dict[str, str]:
    """The proxies of Windows' and macOS' own settings. They are read for each call: no workflow can change them."""
    # urllib's public getproxies and proxy_bypass would look at today's environment first.
    system: Any = urllib.request
    if sys.platform == "win32":
        exempt: Any = requests.utils
        return {} if exempt.proxy_bypass_registry(host) else dict(system.getproxies_registry())
    if sys.platform == "darwin":
        return {} if system.proxy_bypass_macosx_sysconf(host) else dict(system.getproxies_macosx_sysconf())
    return {}
