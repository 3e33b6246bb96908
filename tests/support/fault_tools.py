"""What the tests of submissions share: a request, a watcher that can cancel, account with short pauses, processes."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from bodies import GIVEN
from conftest import KEY, PYTHONPATH, unmeasured
from pydantic import SecretStr

from nodes.api.gateway.client import Client
from nodes.api.ledger.row import Row
from nodes.api.pace import Pace
from nodes.api.request.body import Text2VideoRequest
from nodes.api.settings import Settings
from nodes.api.submit.account import Account
from nodes.api.submit.loop import Submission
from nodes.api.submit.loop import submit as submit_request
from nodes.sandbox import Sandbox

T = TypeVar("T")

LIMIT = 120.0
"""Seconds until a test gives up on something that has to happen. Nothing is decided by how long it takes."""

FAST = Pace(
    connect_pause=0.01,
    slot_pause=0.01,
    slot_pause_most=0.04,
    slot_wait=LIMIT,
    look_for=0.1,
    look_pause=0.01,
    log_looks=(0.0, 0.03, 0.06),
    settle=0.05,
    slice=0.02,
)
PATIENT = replace(FAST, look_for=LIMIT)
"""Looks a task up until it is found or proven absent, however slow the machine is."""


class Cancelled(Exception):
    """Stands for the host's own interrupt, which the pack knows nothing of."""


class Watch:
    """A watcher that keeps what it was shown, and cancels when told to.

    Args:
        words: in a line, they are the sign to act.
        do: what is done then; left out, the user presses Cancel.
    """

    def __init__(self, words: str | None = None, do: Callable[[], object] | None = None) -> None:
        self.lines: list[str] = []
        self.cancelled = False
        self._words, self._do = words, do

    def show(self, line: str) -> None:
        self.lines.append(line)
        if self._words is None or self._words not in line:
            return
        if self._do:
            self._do()
        else:
            self.cancelled = True

    def progress(self, value: float, total: float) -> None:
        pass

    def raise_if_cancelled(self) -> None:
        if self.cancelled:
            raise Cancelled


class Gate:
    """A log for a sandbox that holds back its answers: shut it, and no answer leaves until it is opened.

    The task is made all the same: the sandbox logs a request when it has decided on the answer.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.open()

    def __call__(self, line: str) -> None:
        self._event.wait(LIMIT)

    def shut(self) -> None:
        self._event.clear()

    def open(self) -> None:
        self._event.set()


def request(prompt: str = "A lighthouse at dusk.", **changes: Any) -> Text2VideoRequest:
    return Text2VideoRequest.model_validate({**GIVEN, "prompt": prompt, **changes})


def settings(base_url: str, state: Path) -> Settings:
    return Settings(base_url, state, SecretStr(KEY))


@contextmanager
def opened(base_url: str, state: Path, pace: Pace = FAST, create_timeout: float = LIMIT) -> Iterator[Account]:
    """Account as one process has them; at the end the ledger is closed as if the process had ended."""
    setup = settings(base_url, state)
    account = Account(setup, pace=pace, client=Client(setup, connections=64, create_timeout=create_timeout))
    try:
        yield account
    finally:
        account.ledger.close()


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Wait for something that another thread or process does."""
    end = time.monotonic() + LIMIT
    while not happened():
        if time.monotonic() > end:
            raise AssertionError(f"waited {LIMIT:g} s in vain until {what}")
        time.sleep(0.005)


def external_ids(sandbox: Sandbox) -> list[str]:
    """The external_task_id of each task that was made and would have been paid."""
    return [task.external_task_id for task in sandbox.tasks.values()]


class Process:
    """A process of its own that submits: see ``fault_process.py``.

    It says ``ready`` once everything is loaded and waits for ``go``; afterwards it prints one JSON object for
    each of its submissions.
    """

    def __init__(self, job: str, **arguments: Any) -> None:
        script = str(Path(__file__).with_name("fault_process.py"))
        environment = {**unmeasured(), "PYTHONPATH": PYTHONPATH}
        self._process = subprocess.Popen(
            [sys.executable, script, job, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
        )
        assert self._process.stdout and self._process.stdin
        self._out, self._in = self._process.stdout, self._process.stdin

    def __enter__(self) -> Process:
        try:
            self.expect("ready")
        except AssertionError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def expect(self, word: str) -> None:
        assert self._out.readline().strip() == word

    def tell(self, word: str) -> None:
        self._in.write(f"{word}\n")
        self._in.flush()

    def go(self) -> None:
        self.tell("go")

    def results(self) -> list[dict[str, Any]]:
        """What it returned or raised, one entry for each submission; waits for its end."""
        out, _ = self._process.communicate(timeout=LIMIT)
        assert self._process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]

    def kill(self) -> None:
        """SIGKILL, and TerminateProcess on Windows: nothing of it runs any more."""
        self._process.kill()
        self._process.wait(LIMIT)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Like ComfyUI: an event loop for this prompt alone."""
    return asyncio.run(work)


def submit(account: Account, *, take: int = 1, watch: Watch | None = None, **changes: Any) -> Submission:
    return run(submit_request(account, request(**changes), take, watch or Watch()))


def only_row(account: Account) -> Row:
    (row,) = account.ledger.rows()
    return row


def age(state: Path, seconds: float) -> None:
    """Let all rows be so much older, as if the time had passed."""
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute(
            "UPDATE submissions SET created_at = created_at - :s, sent_at = sent_at - :s,"
            " accepted_at = accepted_at - :s, task_created_at = task_created_at - 1000 * :s",
            {"s": seconds},
        )
        connection.commit()
