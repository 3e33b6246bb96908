"""The settings panel's side of the server: Settings > Kling > API key, and facts that the canvas shows.

The panel is write-only. It stores a key in the state directory, and reading gives whether there is one, where it
comes from and its last four characters. No route here gives the key, or reads or sets the gateway's address.

Who may set the key: whoever can use this ComfyUI. Its users are names in a list, without passwords, and each of
them can spend the key's money with a workflow already; so the key belongs to the server, not to a user, also with
``--multi-user``. Whoever runs the server can set KLING_API_KEY instead: that key wins, and the panel saves none.

Other websites may not: ``refusal`` tells a request of theirs, also one through DNS rebinding, from our own page's.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from . import host
from .api import settings
from .api.errors import BalanceError, BusyError, KlingError, SetupError, TaskNotFound
from .api.request.body import SHOT_PROMPT_MAX, SHOTS_MAX
from .api.request.capabilities import CAMERA_DURATION, CAMERA_MODE, MODELS

BODY_MAX = 4096
"""The most bytes that a request may bring; a key has about fifty."""

_SHOWN = 4
_LONG_ENOUGH = 12
"""How many characters of a key are shown, and how long it must be for that to give nothing away."""


class Reply(NamedTuple):
    """HTTP status and JSON body."""

    status: int
    body: dict[str, Any]


# -- the key


def describe_key(directory: Path) -> dict[str, Any]:
    """What the panel may know of the key in use.

    Returns:
        ``set`` (bool), ``source`` (``environment``, ``file`` or None), ``last4`` (text or None), and ``problem``:
        why the key that is there cannot be used, or None.
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
    """Put a key into the state directory, in place of the one that may be there.

    The file is its owner's alone (0600) from the moment it exists, and is there whole or not at all. Windows has no
    such mode: there the file inherits the access list of the user's profile, which other users cannot read either.

    Raises:
        SetupError: the environment has a key, the text cannot be a key, or the file cannot be written.
    """
    if _from_environment():
        raise SetupError(
            f"{settings.KEY_VARIABLE} is set and wins over a saved key, so none was saved."
            " Change it there, or unset it and restart ComfyUI."
        )
    key = settings.clean_key(text if isinstance(text, str) else "", "The key").get_secret_value()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=f".{settings.KEY_FILE}-", dir=directory)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(key)
                file.flush()
                os.fsync(number)
            Path(name).replace(directory / settings.KEY_FILE)
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise SetupError(f"The key could not be saved: {error.strerror}. Check the state directory.") from None


def _from_environment() -> bool:
    return bool(os.environ.get(settings.KEY_VARIABLE, "").strip())


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True  # something is there that cannot be read; find_key says so
    return True


def remove_key(directory: Path) -> None:
    """Delete the saved key, if there is one.

    Raises:
        SetupError: it is still there.
    """
    try:
        (directory / settings.KEY_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"The key could not be removed: {error.strerror}. Check the state directory.") from None


def try_key(directory: Path) -> dict[str, Any]:
    """Ask the gateway, for nothing, whether it takes the key: an id that cannot exist is unknown to a good key.

    Returns:
        ``ok``; ``kind`` (``accepted``, ``refused``, ``balance``, ``busy`` or ``unavailable``), by which the panel
        chooses its words; ``message``, what was found, without the gateway's host.
    """
    from .api.gateway.client import Client  # here, as in KlingText2Video

    try:
        Client(settings.load(directory)).query(f"key-check-{uuid.uuid4().hex}")
    except TaskNotFound:
        pass
    except KlingError as error:
        kind = next((word for kind, word in _FINDINGS.items() if isinstance(error, kind)), "unavailable")
        return {"ok": False, "kind": kind, "message": str(error)}
    return {"ok": True, "kind": "accepted", "message": "The gateway accepts the key."}


_FINDINGS: dict[type[KlingError], str] = {SetupError: "refused", BalanceError: "balance", BusyError: "busy"}


# -- facts for the canvas


def facts() -> dict[str, Any]:
    """What the canvas shows of models and limits; the front end has no copy of its own."""
    storyboards = [seconds for model in MODELS.values() if model.multi_shot for seconds in model.durations]
    return {
        "models": {name: model._asdict() for name, model in MODELS.items()},
        "camera": {"mode": CAMERA_MODE, "duration": CAMERA_DURATION},
        "shots": {
            "max": SHOTS_MAX,
            "prompt_max": SHOT_PROMPT_MAX,
            "shortest": min(storyboards),
            "longest": max(storyboards),
        },
    }


# -- who may ask


_PRIVATE_NAMES = ("localhost", "local", "lan", "home", "internal", "intranet", "home.arpa", "test")
"""Endings of names that nobody can register, so that no stranger's name server answers for them."""


def refusal(method: str, headers: Mapping[str, str]) -> Reply | None:
    """Why a request must not be answered, None if it comes from ComfyUI's own page or from no browser at all.

    A browser that sends Sec-Fetch-Site has judged by itself, and only over https or to this computer, where DNS
    rebinding does not work. Else the Origin must be the host that was asked for (or the one that a proxy says was),
    and over plain http that host must be an address, or a name that no stranger can make point here.
    """
    if method != "GET" and headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
        return Reply(415, {"error": "Content-Type must be application/json."})
    site = headers.get("Sec-Fetch-Site", "")
    if site:
        own = site == "same-origin" or (site == "none" and method == "GET")
    elif "Origin" in headers:
        scheme, _, netloc = headers["Origin"].lower().partition("://")
        asked = {headers.get(name, "").lower() for name in ("Host", "X-Forwarded-Host")} - {""}
        own = netloc in asked and (scheme == "https" or _is_private(netloc))
    else:
        own = _is_private(headers.get("Host", ""))
    if own:
        return None
    return Reply(
        403,
        {
            "error": "Only ComfyUI's own page may do this. Open ComfyUI by https, by its IP address or as localhost,"
            f" or set {settings.KEY_VARIABLE} on the server."
        },
    )


def _is_private(netloc: str) -> bool:
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        name = name.rstrip(".")
        return bool(name) and ("." not in name or name.endswith(tuple(f".{ending}" for ending in _PRIVATE_NAMES)))
    return True


# -- routes


def register() -> None:
    """Add the routes to ComfyUI's server; outside ComfyUI do nothing."""
    routes = host.routes()
    if routes is not None:
        add_routes(routes, lambda: settings.state_dir(host.current().state_dir()))


def add_routes(routes: Any, directory: Callable[[], Path]) -> None:
    """Add the panel's routes to an aiohttp ``RouteTableDef``.

    Args:
        directory: gives the state directory; asked for with each request.
    """
    from aiohttp import web

    def answer(reply: Reply) -> web.Response:
        return web.json_response(reply.body, status=reply.status, headers={"Cache-Control": "no-store"})

    def guarded(work: Callable[[web.Request], Awaitable[dict[str, Any]]]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            refused = refusal(request.method, request.headers)
            if refused:
                return answer(refused)
            try:
                return answer(Reply(200, await work(request)))
            except SetupError as error:
                return answer(Reply(400, {"error": str(error)}))

        return handle

    async def read(request: web.Request) -> dict[str, Any]:
        return describe_key(directory())

    async def save(request: web.Request) -> dict[str, Any]:
        save_key(directory(), await _key_in(request.content))
        return describe_key(directory())

    async def remove(request: web.Request) -> dict[str, Any]:
        remove_key(directory())
        return describe_key(directory())

    async def test(request: web.Request) -> dict[str, Any]:
        import asyncio

        return await asyncio.to_thread(try_key, directory())

    async def models(request: web.Request) -> web.Response:
        return web.json_response(facts())

    routes.get("/kling/key")(guarded(read))
    routes.post("/kling/key")(guarded(save))
    routes.delete("/kling/key")(guarded(remove))
    routes.post("/kling/key/test")(guarded(test))
    routes.get("/kling/models")(models)


async def _key_in(content: Any) -> object:
    """The member ``key`` of a JSON body.

    Raises:
        SetupError: the body is longer than any key, or is no JSON object.
    """
    body = b""
    async for piece in content.iter_any():
        body += piece
        if len(body) > BODY_MAX:
            raise SetupError("The key is longer than any that the gateway gives. Copy the key again, whole and alone.")
    try:
        return json.loads(body)["key"]
    except (ValueError, TypeError, KeyError):
        raise SetupError('The request must be a JSON object with the member "key".') from None
