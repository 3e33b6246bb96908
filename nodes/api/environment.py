"""The environment as it was when the pack was loaded.

A node in a shared workflow may write ``os.environ``. It must not choose where the key goes, read along through a proxy,
or raise a limit. So the variables that matter are copied once, before any workflow can run, and a change takes a
restart. A wrong value is reported when it is used, never at import.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

STATE_DIR = "KLING_STATE_DIR"

_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def _read() -> dict[str, str]:
    values = {
        name: text.strip()
        for name, text in os.environ.items()
        if name.startswith("KLING_") or name in _CERTIFICATES or name.lower().endswith("_proxy")
    }
    if STATE_DIR in values:
        # A node that sets HOME later must not move the ledger, in which the limits are counted.
        values[STATE_DIR] = os.path.expanduser(values[STATE_DIR].strip("\"'").strip())  # noqa: PTH111
    return values


_values = _read()


def get(name: str) -> str:
    """The text of a ``KLING_`` variable without spaces around it, "" if it is not set.

    ``~`` in ``KLING_STATE_DIR`` is already replaced by the home directory.
    """
    return _values.get(name, "")


def certificates() -> str | None:
    """The file or directory with the certificates that requests is told to trust, None for its own."""
    return next(filter(None, map(get, _CERTIFICATES)), None)


def proxies() -> dict[str, str]:
    """The proxy of each scheme, and under ``no`` the hosts without one. Read as urllib does: lower case wins."""
    named = {name: text for name, text in sorted(_values.items()) if name.lower().endswith("_proxy")}
    found = {name[:-6].lower(): text for name, text in named.items()}
    return {scheme: text for scheme, text in found.items() if text}


@contextmanager
def replaced(values: Mapping[str, str]) -> Iterator[None]:
    """Use other values inside the ``with`` block, for a run against a gateway of this program's own."""
    global _values
    before = _values
    _values = {**before, **values}
    try:
        yield
    finally:
        _values = before


def reread() -> None:
    """Read the environment again. Only tests do this: they change it after the pack is loaded."""
    global _values
    _values = _read()
