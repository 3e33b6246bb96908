"""What the tests of waiting and downloading share: a host that keeps what it is told, and a pace that costs no time.

A test module takes the fixtures with ``pytest_plugins = ["watching"]``. PYTEST_DONT_REWRITE: no asserts.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bodies import GIVEN
from conftest import KEY
from fault_tools import Cancelled
from pydantic import SecretStr

from nodes.api.gateway.answer import Task
from nodes.api.pace import Pace
from nodes.api.request.body import Text2VideoRequest
from nodes.api.settings import Settings
from nodes.api.submit.account import Account
from nodes.api.submit.loop import submit as submit_request
from nodes.host import ConsoleHost
from nodes.sandbox import Sandbox

QUICK = Pace(
    poll=((math.inf, 0.01),),
    url_pause=0.01,
    slice=0.01,
    download_pause=0.01,
    download_pause_most=0.02,
    download_silence=20,
)
"""All pauses short, all limits so long that none is reached by chance."""


class Watcher(ConsoleHost):
    """A host without a screen. ``cancels`` is asked whether the user has pressed Cancel."""

    def __init__(self, temp: Path, cancels: Callable[[Watcher], bool] = lambda watcher: False) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.bar: list[float] = []
        self._temp = temp
        self._cancels = cancels

    def show(self, line: str) -> None:
        self.lines.append(line)

    def progress(self, value: float, total: float) -> None:
        self.bar.append(value / total)

    def raise_if_cancelled(self) -> None:
        if self._cancels(self):
            raise Cancelled

    def temp_dir(self) -> Path:
        return self._temp


_opened: list[Account] = []


def open_gateway(gateway: Sandbox | str, directory: Path, pace: Pace = QUICK) -> Account:
    """A gateway with a ledger of its own, to be closed by ``close_all``."""
    base_url = gateway if isinstance(gateway, str) else gateway.base_url
    account = Account(Settings(base_url, directory / "state", SecretStr(KEY)), pace=pace)
    _opened.append(account)
    return account


def close_all() -> None:
    while _opened:
        _opened.pop().ledger.close()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Every ledger that a test has opened is closed after it."""
    yield
    close_all()


@pytest.fixture
def quick() -> Iterator[Sandbox]:
    """A gateway whose tasks are done at once."""
    with Sandbox(queued_for=0, runs_for=0) as running:
        yield running


def submitted(account: Account, take: int = 1, **fields: object) -> str:
    """The id of a task that the ledger knows."""
    request = Text2VideoRequest.model_validate({**GIVEN, "model_name": "kling-v1", **fields})
    return asyncio.run(submit_request(account, request, take, ConsoleHost())).task_id


def finished(account: Account, take: int = 1) -> Task:
    """A task that has succeeded, as the gateway tells of it."""
    task = account.client.query(submitted(account, take))
    assert task.url
    return task


def asked(sandbox: Sandbox) -> list[str]:
    """The paths of all questions about a task so far."""
    return [request.path for request in sandbox.received if request.method == "GET" and "/videos/" in request.path]
