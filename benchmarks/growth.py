"""A submission costs the same when the ledger has grown old, and when limits are counted in it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from nodes.api import environment

from . import fixtures
from .figures import Figure, clocked, ratio, side_by_side
from .submission import BLOCK, block

ROWS = 100_000


def measure(quick: bool) -> list[Figure]:
    """The same submissions with a nearly empty ledger and with an old one."""
    with fixtures.gateway():
        young = Path(environment.get("KLING_STATE_DIR"))
        old = young / "old"

        def submit(state_dir: Path, most: int = 0) -> None:
            with environment.replaced({"KLING_STATE_DIR": str(state_dir), "KLING_MAX_TASKS_PER_HOUR": str(most)}):
                asyncio.run(block())

        limited = clocked(time.process_time, lambda: submit(old, 1_000), BLOCK)

        def in_a_new_hour() -> float:
            # As with a limit of some dozen an hour: what was sent before does not count any more.
            with closing(sqlite3.connect(old / "ledger.db")) as ledger, ledger:
                ledger.execute("UPDATE submissions SET counted_at = 1 WHERE counted_at > 1")
            return limited()

        submit(young)
        submit(old)
        fill(old)
        calls = {
            "young": clocked(time.process_time, lambda: submit(young), BLOCK),
            "old": clocked(time.process_time, lambda: submit(old), BLOCK),
            "limited": in_a_new_hour,
        }
        seconds = side_by_side(3 if quick else 31, calls)
    name = f"CPU time of a submission with {ROWS:,} rows in the ledger"
    return [
        ratio(name, seconds["old"], seconds["young"], 1.1, "nearly empty ledger"),
        ratio("the same with a limit on tasks", seconds["limited"], seconds["old"], 1.1, "without a limit"),
    ]


def fill(state_dir: Path) -> None:
    """Give a ledger its rows: copies of one that it has, with other ids, too old to count towards a limit."""
    with closing(sqlite3.connect(state_dir / "ledger.db")) as ledger, ledger:
        columns = [column[1] for column in ledger.execute("PRAGMA table_info(submissions)")]
        unique = ("external_task_id", "fingerprint", "task_id")
        values = ["lower(hex(randomblob(16)))" if column in unique else column for column in columns]
        values = [f"{value} - 172800" if value == "counted_at" else value for value in values]
        ledger.execute(
            f"WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {ROWS})"
            f" INSERT INTO submissions SELECT {', '.join(values)} FROM (SELECT * FROM submissions LIMIT 1), number"
        )
