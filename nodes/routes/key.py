"""Settings > Kling > API key: saves the key and reports whether there is one. No route ever returns the key.

Reading returns where the key comes from and its last four characters. No route reads or sets the gateway's address. A
key in the environment takes precedence over a saved one, and none can be saved while it is set.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..api import environment, settings
from ..api.errors import BalanceError, BusyError, KlingError, SetupError, TaskNotFound
from ..api.gateway.client import Client
from ..api.pace import KEY_TEST
from ..api.running.threads import call
from ..api.settings import Settings
from .guard import guarded, read_body

BODY_MAX = 4096
"""The largest request body in bytes. A key has about fifty."""

_SHOWN = 4
"""How many characters of a key are shown."""

_LONG_ENOUGH = 12
"""The shortest key that shows them. In a shorter key they would give too much away."""


def add_routes(routes: Any, directory: Callable[[], Path], patience: float = KEY_TEST) -> None:
    """Add the routes under ``/kling/key`` to an aiohttp ``RouteTableDef``.

    Args:
        directory: returns the state directory; called for each request.
        patience: how many seconds a test of the key may take.
    """
    tests = KeyTests(patience)

    async def read(request: Any) -> dict[str, Any]:
        return await call(describe_key, directory())

    async def save(request: Any) -> dict[str, Any]:
        await call(save_key, directory(), await _key_in(request.content))
        return await call(describe_key, directory())

    async def remove(request: Any) -> dict[str, Any]:
        await call(remove_key, directory())
        return await call(describe_key, directory())

    async def test(request: Any) -> dict[str, Any]:
        return await tests.run(directory())

    routes.get("/kling/key")(guarded(read))
    routes.post("/kling/key")(guarded(save))
    routes.delete("/kling/key")(guarded(remove))
    routes.post("/kling/key/test")(guarded(test))


def describe_key(directory: Path) -> dict[str, Any]:
    """What the panel may know about the key in use.

    Returns:
        ``set`` (bool), ``source`` (``environment``, ``file`` or None), ``last4`` (text or None), and ``problem``:
        why the key cannot be used, or None.
    """
    source = "environment" if _from_environment() else "file" if _is_there(directory / settings.KEY_FILE) else None
    shown: dict[str, Any] = {"set": False, "source": source, "last4": None, "problem": None}
    if source is None:
        return shown
    try:
        key = settings.find_key(directory).get_secret_value()
    except SetupError as error:
        return {**shown, "problem": str(error)}
    return {**shown, "set": True, "last4": key[-_SHOWN:] if len(key) >= _LONG_ENOUGH else None}


def save_key(directory: Path, text: object) -> None:
    """Save a key in the state directory. It replaces the saved key, if there is one.

    Raises:
        SetupError: the environment has a key, the text cannot be a key, or the file cannot be written.
    """
    if _from_environment():
        raise SetupError(
            f"{settings.KEY_VARIABLE} is set and takes precedence over a saved key, so the key was not saved."
            " Change the variable, or unset it, and restart ComfyUI."
        )
    key = settings.clean_key(text if isinstance(text, str) else "", "The key").get_secret_value()
    settings.write_private(directory / settings.KEY_FILE, key, "The key")


def _from_environment() -> bool:
    return bool(environment.get(settings.KEY_VARIABLE))


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it exists but cannot be read; find_key reports that
    return True


def remove_key(directory: Path) -> None:
    """Delete the saved key, if there is one.

    Raises:
        SetupError: the key could not be deleted.
    """
    try:
        (directory / settings.KEY_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"The key could not be removed: {error.strerror}. Check the state directory.") from None


class KeyTests:
    """Tests the key, one test at a time. For one event loop.

    Args:
        patience: how many seconds to wait for a finding.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._running: tuple[Settings, asyncio.Future[dict[str, Any]]] | None = None

    async def run(self, directory: Path) -> dict[str, Any]:
        """The finding about the key in use. A test of the same key that is running already is waited for.

        Returns:
            ``ok``; ``kind`` (``accepted``, ``refused``, ``balance``, ``busy`` or ``unavailable``), which selects the
            panel's text; ``message``, the finding without the gateway's host.
        """
        try:
            setup = await call(settings.load, directory)
        except SetupError as error:
            return _not_ok("refused", str(error))
        if self._running is None or self._running[1].done():
            self._running = setup, asyncio.ensure_future(call(_try, setup))
        tested, finding = self._running
        if tested != setup:
            return _not_ok("unavailable", "Another key is still being tested. Test this one in a minute.")
        # A request that the browser gives up must not end a test that others wait for, so wait_for does not fit.
        await asyncio.wait({finding}, timeout=self._patience)
        if not finding.done():
            return _not_ok("unavailable", f"The gateway has not answered for {self._patience:g} seconds.")
        return finding.result()


def _try(setup: Settings) -> dict[str, Any]:
    """Look up an id that cannot exist, which costs nothing: with a valid key, the gateway finds no such task."""
    try:
        Client(setup).query(f"key-check-{uuid.uuid4().hex}")
    except TaskNotFound:
        pass
    except KlingError as error:
        kind = next((word for kind, word in _FINDINGS.items() if isinstance(error, kind)), "unavailable")
        return _not_ok(kind, str(error))
    return {"ok": True, "kind": "accepted", "message": "The gateway accepts the key."}


def _not_ok(kind: str, message: str) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "message": message}


_FINDINGS: dict[type[KlingError], str] = {SetupError: "refused", BalanceError: "balance", BusyError: "busy"}


async def _key_in(content: Any) -> object:
    """The member ``key`` of a JSON body.

    Raises:
        SetupError: the body is too long for a key, or is not a JSON object with that member.
    """
    too_long = "The text is too long to be a key. Copy the key again, with nothing before or after it."
    body = await read_body(content, BODY_MAX, too_long)
    try:
        return json.loads(body)["key"]
    except (ValueError, TypeError, KeyError):
        raise SetupError('The request must be a JSON object with the member "key".') from None
