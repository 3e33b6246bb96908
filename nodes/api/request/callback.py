"""To whom Kling reports a task: the host in callback_url, and the hosts that the owner of this computer allows.

A report holds the task's status and, at the end, the link to the video. A workflow from a stranger may name the
stranger's host.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .. import environment
from ..errors import SetupError
from .wording import quoted

HOSTS_VARIABLE = "KLING_CALLBACK_HOSTS"

_LABEL = r"[^\s.:/\\@?#%*\[\]]+"
_ENTRY = re.compile(rf"\.?{_LABEL}(\.{_LABEL})*\.?|[0-9a-f.]*:[0-9a-f:.]+")


def host_of(url: str) -> str:
    """The host that Kling will call, in lower case.

    Raises:
        ValueError: it is not an http or https URL, or Kling might read another host in it.
    """
    parts = urlsplit(url)
    _ = parts.port
    # Some programs end the host at a backslash, and some take the first of two @ as the end of the password.
    unclear = re.search(r"[\s\\]", url) or parts.netloc.count("@") > 1
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or unclear:
        raise ValueError
    return parts.hostname.removesuffix(".")


def reported_to(url: str | None) -> str | None:
    """The host in a valid callback_url, to show it; None without one."""
    return spelled(host_of(url)) if url else None


def spelled(host: str) -> str:
    """``host`` in ASCII, so that no letter of another alphabet looks like one of a known name."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host.encode("ascii", "backslashreplace").decode()


def allowed_hosts() -> list[str] | None:
    """The hosts that may be reported to, None if all may.

    A leading dot allows a domain and everything below it.

    Raises:
        SetupError: one of them is not a host.
    """
    named = environment.get(HOSTS_VARIABLE)
    if not named:
        return None
    hosts = [host.strip().lower() for host in named.split(",")]
    wrong = [host for host in hosts if host and not _ENTRY.fullmatch(host)]
    if wrong:
        raise SetupError(
            f"{HOSTS_VARIABLE}: {quoted(wrong[0])} is not a host. Write only hosts, such as hooks.example.com, without"
            " https:// and port, and commas between them. Correct it and restart ComfyUI."
        )
    return [host.removesuffix(".") for host in hosts if host]


def is_allowed(host: str, hosts: list[str]) -> bool:
    """Whether one of ``hosts`` allows ``host``."""
    return any(host == one or (one.startswith(".") and f".{host}".endswith(one)) for one in hosts)
