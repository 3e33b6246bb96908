"""What the tests of downloads share: films, a server that gives prepared answers, and fixtures.

A test module takes the fixtures with ``pytest_plugins = ["watching", "videos"]``. PYTEST_DONT_REWRITE: no asserts.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from watching import Watcher, finished

from nodes.api.gateway.answer import Task
from nodes.api.submit.account import Account
from nodes.api.video.download import download
from nodes.sandbox import Sandbox

BIG = 300_000
KIND = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
CLIP = KIND + b"\x00\x00\x00\x10mdat\x01\x02\x03\x04\x05\x06\x07\x08"
SIZE, CUT = 40_000, 16_384
"""Of a film and of its first part. What is received is written in pieces as long as CUT."""
FILM = KIND + (SIZE - len(KIND)).to_bytes(4, "big") + b"mdat" + bytes(range(250)) * 160
FILM = FILM[:SIZE]


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    """ComfyUI's temp directory, which is not there yet."""
    return tmp_path / "comfy" / "temp"


def fetched(account: Account, task: Task, temp: Path, watcher: Watcher | None = None) -> Path:
    path, _ = asyncio.run(download(account, task, temp, watcher or Watcher(temp)))
    return path


def files(sandbox: Sandbox) -> list[Any]:
    """All requests for result files so far."""
    return [request for request in sandbox.received if request.path.startswith("/files/")]


def ranges(sandbox: Sandbox) -> list[str]:
    return [request.headers.get("range", "") for request in files(sandbox)]


def whole(sandbox: Sandbox, task: Task) -> bytes:
    return sandbox.file_part(task.task_id, 0, sandbox.file_size(task.task_id))


def big(sandbox: Sandbox, account: Account, take: int = 1, size: int = BIG) -> Task:
    sandbox.big_file(size)
    return finished(account, take)


# -- another server than the sandbox


@dataclass
class Scripted:
    """A server that gives one prepared answer after another, and keeps what it was asked."""

    url: str
    answers: list[bytes] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


def says(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([line for line in head if line != "Content-Length: -1"]).encode() + b"\r\n\r\n" + body


@contextmanager
def scripted(*answers: bytes) -> Iterator[Scripted]:
    script = Scripted("", list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.wfile.write(script.answers.pop(0))
            self.close_connection = True

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()


def elsewhere(account: Account, script: Scripted, url: str = "") -> Task:
    return replace(finished(account), url=url or f"{script.url}/clip")
