"""What a ledger that has grown old costs."""

from __future__ import annotations

import asyncio
import io
import os
import sqlite3
import time
import uuid
from pathlib import Path

from nodes import host
from nodes.api import settings
from nodes.api.submit import account as accounts
from nodes.text2video import KlingText2Video

from . import gateway, graphs
from .figures import Figure, compared, side_by_side

ROWS = 100_000
BLOCK = 25


def measure(repetitions: int) -> list[Figure]:
    """The same submissions with a ledger that is nearly empty and with one of 100,000 rows."""
    with gateway.running(), host.use(host.ConsoleHost(out=io.StringIO())):
        node, loop = KlingText2Video(), asyncio.new_event_loop()
        young = Path(os.environ["KLING_STATE_DIR"])
        old = young / "old"

        def submit(directory: Path) -> None:
            os.environ["KLING_STATE_DIR"] = str(directory)
            for _ in range(BLOCK):
                loop.run_until_complete(node.submit(unique_id="1", **graphs.inputs()))

        submit(old)
        _fill(old)
        submit(young)
        calls = {"young": lambda: submit(young), "old": lambda: submit(old)}
        cpu = side_by_side(repetitions, calls, time.process_time, block=BLOCK)
        wall = side_by_side(repetitions, calls, time.perf_counter, block=BLOCK)
        loop.close()
    of = "empty ledger"
    name = f"a submission with {ROWS:,} rows in the ledger"
    return [
        compared(f"{name}, processor time", cpu["old"], cpu["young"], unit="ms", of=of, limit=1.1, strict=True),
        compared(f"{name}, wall time", wall["old"], wall["young"], unit="ms", of=of, limit=1.1, strict=True),
    ]


def _fill(directory: Path) -> None:
    """Give the ledger its rows: copies of a real one under other ids."""
    ledger = accounts.open_account(settings.load(directory)).ledger
    row = ledger.rows()[0]
    columns = list(row.__annotations__)
    unique = ("external_task_id", "fingerprint", "task_id")
    values = [[uuid.uuid4().hex if name in unique else getattr(row, name) for name in columns] for _ in range(ROWS)]
    with sqlite3.connect(directory / "ledger.db") as connection:
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO submissions ({', '.join(columns)}) VALUES ({marks})", values)
    connection.close()
