"""The CPU time of one submission, from the call of the node to its task_id."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from nodes.api import environment

from . import fixtures
from .figures import Figure, apart, clocked, ratio, side_by_side

BLOCK = 25
"""Submissions in one sample: the clock of CPU time is too coarse for one."""

PROCESSES = 7
"""One process can be a tenth off for as long as it lives, depending on the cores that its threads settled on."""


def measure(quick: bool) -> list[Figure]:
    """Several processes, one after another."""
    runs = [apart(_in_one_process, 3 if quick else 25) for _ in range(1 if quick else PROCESSES)]
    ours, plain = ([seconds for run in runs for seconds in run[side]] for side in ("ours", "plain"))
    return [ratio("CPU time of one submission", ours, plain, 1.5, "requests.post and two commits")]


async def block() -> None:
    """One submission after another."""
    for _ in range(BLOCK):
        await fixtures.submit()


def _in_one_process(repetitions: int) -> dict[str, list[float]]:
    """Blocks of submissions to a gateway that answers at once."""
    with fixtures.gateway() as base_url:
        record = _Record()
        # Made beforehand: the baseline is sending and recording, not making a body.
        bodies = [fixtures.body() for _ in range(BLOCK * (repetitions + 1))]

        def ours() -> None:
            asyncio.run(block())

        def plain() -> None:
            for _ in range(BLOCK):
                record.post(base_url, bodies.pop())

        ours()  # opens the ledger and the connection
        plain()
        calls = {"ours": ours, "plain": plain}
        return side_by_side(repetitions, {name: clocked(time.process_time, calls[name], BLOCK) for name in calls})


class _Record:
    """A table with one row for each POST, written before and after it, each time down to the disk."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(Path(environment.get("KLING_STATE_DIR")) / "plain.db", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        columns = "base_url, fingerprint, state, body, owner, created_at, sent_at, task_id, task_created_at, request_id"
        self._db.execute(f"CREATE TABLE row (id PRIMARY KEY, {columns})")

    def post(self, base_url: str, sent: dict[str, Any]) -> None:
        now, name = time.time(), sent["external_task_id"]
        values = (name, base_url, name + name, json.dumps(sent), name, now, now)
        self._db.execute("INSERT INTO row VALUES (?, ?, ?, 'sending', ?, ?, ?, ?, NULL, NULL, NULL)", values)
        answer = fixtures.plain_post(base_url, sent)
        found = (answer["data"]["task_id"], answer["data"]["created_at"], answer["request_id"], name)
        update = "UPDATE row SET state = 'accepted', task_id = ?, task_created_at = ?, request_id = ? WHERE id = ?"
        self._db.execute(update, found)
