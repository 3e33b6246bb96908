"""The pack's routes on a server of their own, and how tests ask them.

A test module takes the fixtures with ``pytest_plugins = ["served"]``. PYTEST_DONT_REWRITE: no asserts.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
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


@pytest.fixture
def server(directory: Path) -> Iterator[str]:
    """The routes on a server of their own, as ComfyUI would serve them. Gives its address."""
    from aiohttp import web

    routes = web.RouteTableDef()
    add_routes(routes, lambda: directory, NODE_CLASS_MAPPINGS)
    app = web.Application()
    app.add_routes(routes)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return int(runner.addresses[0][1])

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


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
