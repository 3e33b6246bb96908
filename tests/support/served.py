"""The pack's routes on a server of their own, and how tests ask them.

A test module takes the fixtures with ``pytest_plugins = ["served"]``. PYTEST_DONT_REWRITE: no asserts.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import KEY

from nodes import NODE_CLASS_MAPPINGS
from nodes.routes import add_routes
from nodes.sandbox import Sandbox

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


@contextmanager
def serving(add: Callable[[Any], None]) -> Iterator[str]:
    """A server with the routes that ``add`` adds, as ComfyUI would serve them. Gives its address.

    ``/host`` is a route as ComfyUI has them: it needs a thread of the event loop's own.
    """
    from aiohttp import web

    routes = web.RouteTableDef()
    add(routes)
    loop = asyncio.new_event_loop()
    # As many as there are on two cores.
    loop.set_default_executor(ThreadPoolExecutor(6))

    async def of_the_host(request: web.Request) -> web.Response:
        await asyncio.to_thread(int)
        return web.Response(text="free")

    routes.get("/host")(of_the_host)
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def server(directory: Path) -> Iterator[str]:
    """The routes on a server of their own. Gives its address."""
    with serving(lambda routes: add_routes(routes, lambda: directory, NODE_CLASS_MAPPINGS)) as address:
        yield address


def call(server: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
    data = None if method == "GET" else json.dumps({} if body is None else body)
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, server + path, data=data, headers={**JSON, **(headers or {})}, timeout=30)


def save(server: str, key: object) -> Any:
    return call(server, "POST", "/kling/key", {"key": key})


@pytest.fixture
def strict() -> Iterator[Sandbox]:
    with Sandbox(key=KEY) as running:
        yield running
