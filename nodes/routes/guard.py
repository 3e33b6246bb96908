"""Who may use a route: ComfyUI's own page and programs other than browsers, but no other website.

Everyone who can use this ComfyUI may also set the key. ComfyUI's users are names in a list, without passwords, and each
of them can already spend the key's money with a workflow. So the key belongs to the server and not to a user, even with
``--multi-user``.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..api.errors import SetupError
from ..api.settings import KEY_VARIABLE

_PRIVATE_NAMES = ("localhost", "local", "lan", "home", "internal", "intranet", "home.arpa", "test")
"""Name endings that nobody can register, so that no outside name server can answer for them."""


class Refusal(NamedTuple):
    """Why a request is refused: the HTTP status, and what to tell the user."""

    status: int
    error: str


def refusal(method: str, headers: Mapping[str, str]) -> Refusal | None:
    """Why a request must be refused, None if it comes from ComfyUI's own page or from a program other than a browser.

    Sec-Fetch-Site decides if it is there: browsers send it only over https or to this computer, where DNS rebinding
    does not work. Without it, the Origin must name the requested host (or the host that a proxy reports). Over plain
    http, that host must also be an IP address, or a name that no outsider can point at this server.
    """
    if method != "GET" and headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
        return Refusal(415, "Content-Type must be application/json.")
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
    return Refusal(
        403,
        "Only ComfyUI's own page may do this. Open ComfyUI over https, by its IP address or as localhost,"
        f" or set {KEY_VARIABLE} on the server.",
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


async def read_body(content: Any, most: int, too_long: str) -> bytes:
    """What a request brings. Raises SetupError with the text ``too_long`` above ``most`` bytes."""
    body = b""
    async for piece in content.iter_any():
        body += piece
        if len(body) > most:
            raise SetupError(too_long)
    return body


async def json_body(request: Any, most: int) -> dict[str, Any]:
    """The JSON object that a request brings.

    Raises:
        SetupError: it is longer than ``most`` bytes, or is not a JSON object.
    """
    body = await read_body(request.content, most, "The request is longer than any that ComfyUI's own page sends.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SetupError("The request must be a JSON object.")
    return found


def guarded(work: Callable[[Any], Awaitable[dict[str, Any]]]) -> Callable[[Any], Awaitable[Any]]:
    """An aiohttp handler that answers our own page with the JSON that ``work`` returns for a request.

    If ``work`` raises SetupError, the answer is 400 with the error's message.
    """
    from aiohttp import web  # comes with ComfyUI; the console runs without it

    def answer(status: int, body: dict[str, Any]) -> web.Response:
        return web.json_response(body, status=status, headers={"Cache-Control": "no-store"})

    async def handle(request: web.Request) -> web.Response:
        refused = refusal(request.method, request.headers)
        if refused:
            return answer(refused.status, {"error": refused.error})
        try:
            return answer(200, await work(request))
        except SetupError as error:
            return answer(400, {"error": str(error)})

    return handle
