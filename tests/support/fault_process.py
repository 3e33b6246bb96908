"""A process of its own, for what a single one cannot show: python fault_process.py JOB JSON-ARGUMENTS."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from conftest import KEY
from fault_tools import PATIENT, Watch, opened, request

from nodes.api import settings
from nodes.api.errors import KlingError
from nodes.api.gateway.answer import Task
from nodes.api.ledger.record import Ledger
from nodes.api.ledger.row import Row, State
from nodes.api.spending import limits
from nodes.api.submit.account import Account
from nodes.api.submit.loop import submit as submit_request


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def wait_for(word: str) -> None:
    say("ready")
    assert sys.stdin.readline().strip() == word


def submit(base_url: str, state: str, prompts: list[str]) -> list[dict[str, Any]]:
    """Submits all prompts side by side."""
    with opened(base_url, Path(state), PATIENT) as account:
        wait_for("go")
        return asyncio.run(submitted(account, prompts))


async def submitted(account: Account, prompts: list[str]) -> list[dict[str, Any]]:
    allowed = limits.load(account.settings.state_dir)
    tries = [submit_request(account, request(prompt), 1, Watch(), allowed) for prompt in prompts]
    return [told(result) for result in await asyncio.gather(*tries, return_exceptions=True)]


def told(result: Any) -> dict[str, Any]:
    if isinstance(result, BaseException):
        return {"error": type(result).__name__, "message": str(result)}
    return {"task_id": result.task_id, "reused": result.reused, "notes": result.notes}


def open_ledger(state: str) -> list[dict[str, Any]]:
    """Opens the ledger, at the same moment as others do."""
    wait_for("go")
    try:
        ledger = Ledger(Path(state))
    except KlingError as error:
        return [told(error)]
    ledger.close()
    return [{"installation_id": ledger.installation_id}]


def use_ledger(state: str) -> list[dict[str, Any]]:
    """Has the ledger open, then looks into it, at the same moment as others do."""
    ledger = Ledger(Path(state))
    wait_for("go")
    try:
        return [{"found": ledger.latest("nothing like it") is not None}]
    except KlingError as error:
        return [told(error)]
    finally:
        ledger.close()


def write_rows(state: str) -> list[dict[str, Any]]:
    """Records one task after another until ``stop`` is told. Returns the external_task_ids that were recorded."""
    stopped = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        stopped.set()

    with closing(Ledger(Path(state))) as ledger:
        wait_for("go")
        threading.Thread(target=listen, daemon=True).start()
        written: list[dict[str, Any]] = []
        while not stopped.is_set():
            name = f"written {len(written)}"
            claimed = ledger.claim(Row("https://gateway.example", name, name, 1, 1, State.UNSENT, "{}"), None)
            assert claimed
            ledger.accept(claimed, Task(f"task of {name}"))
            written.append({"external_task_id": name})
            if len(written) == 1:
                say("writing")
    return written


def write_slowly(state: str) -> list[dict[str, Any]]:
    """Has begun to write when it says ``writing``, and is done with it after ``done``."""
    with closing(Ledger(Path(state))) as ledger:
        wait_for("go")

        def work(connection: sqlite3.Connection) -> None:
            say("writing")
            assert sys.stdin.readline().strip() == "done"

        ledger._file.write(work)
    return []


def use_all(base_url: str, state: str, umask: int, user: int = 0) -> list[dict[str, Any]]:
    """Uses the files of the state directory with a umask of its own, and as another user. POSIX only.

    Returns what came of a submission, and the modes of all files in the middle of it and at its end.
    """
    if sys.platform == "win32":
        raise NotImplementedError
    wait_for("go")
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    os.umask(umask)
    directory = Path(state)
    try:
        settings.write_private(directory / settings.KEY_FILE, KEY, "The key")
        limits.save(directory, 20, 0)
        with opened(base_url, directory, PATIENT) as account:
            results = asyncio.run(submitted(account, ["A lighthouse at dusk."]))
            during = modes(directory)
    except KlingError as error:
        return [told(error)]
    return [*results, during, modes(directory)]


def modes(directory: Path) -> dict[str, str]:
    """The permissions of a directory and of everything in it."""
    found = {path: path.lstat().st_mode for path in (directory, *directory.rglob("*"))}
    return {str(path.relative_to(directory)): oct(mode & 0o7777) for path, mode in found.items()}


def small_files(base_url: str, states: list[str], step: int) -> list[dict[str, Any]]:
    """As on a disk that is full from some byte on: no file may grow beyond 0, 1, 2 ... ``step`` bytes. POSIX only."""
    if sys.platform == "win32":
        raise NotImplementedError
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    wait_for("go")
    results = []
    for index, state in enumerate(states):
        resource.setrlimit(resource.RLIMIT_FSIZE, (index * step, hard))
        try:
            with opened(base_url, Path(state), PATIENT) as account:
                results += asyncio.run(submitted(account, [f"Limit {index * step}."]))
        except KlingError as error:
            results.append(told(error))
    return results


def fill_disk(base_url: str, state: str) -> list[dict[str, Any]]:
    """The disk is full once ``full`` is told, and has room again for a second run of the same. POSIX only."""
    if sys.platform == "win32":
        raise NotImplementedError
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with opened(base_url, Path(state), PATIENT) as account:
        wait_for("go")
        results = []

        async def both() -> None:
            first = asyncio.ensure_future(submitted(account, ["A lighthouse at dusk."]))
            assert (await asyncio.to_thread(sys.stdin.readline)).strip() == "full"
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            say("filled")
            results.extend(await first)
            results.extend(await submitted(account, ["A lighthouse at dusk."]))
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            results.extend(await submitted(account, ["A lighthouse at dusk."]))

        asyncio.run(both())
        return results


_JOBS = (submit, open_ledger, use_ledger, write_rows, write_slowly, use_all, small_files, fill_disk)
JOBS: dict[str, Callable[..., list[dict[str, Any]]]] = {job.__name__: job for job in _JOBS}

if __name__ == "__main__":
    for answer in JOBS[sys.argv[1]](**json.loads(sys.argv[2])):
        say(json.dumps(answer))
