"""A record that opens and is damaged all the same: in an index, in a later page, in one row."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from fault_tools import PATIENT, Process, opened, submit

from nodes.api.errors import SetupError
from nodes.api.gateway.answer import Task
from nodes.api.ledger.record import Ledger
from nodes.api.ledger.row import Row, State
from nodes.sandbox import Sandbox

pytest_plugins = ["fault_fixtures"]

GATEWAY = "https://gateway.example/kling"
NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody replace a file that is open")
INDEXES = ["by_fingerprint", "by_task", "unsettled"]
TAKES = range(1, 13)
LONG = "A lighthouse at dusk. " * 90
"""A prompt that does not fit on one page with the other columns."""


def row(name: str, length: int = 10) -> Row:
    return Row(GATEWAY, f"{name}-1", name, 1, 1, State.UNSENT, f'{{"prompt": "{"x" * length}"}}')


@pytest.fixture
def rows(state: Path) -> list[Row]:
    """What a ledger holds that is filled with ten tasks and closed."""
    with closing(Ledger(state)) as ledger:
        for number in range(10):
            claimed = ledger.claim(row(f"row {number}", 9000), None)
            assert claimed
            ledger.accept(claimed, Task(f"task-{number}", created_at=1, request_id=f"request-{number}"))
        return ledger.rows()


def pages(state: Path) -> Iterator[slice]:
    """Where each page lies in the file."""
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    for start in range(0, (state / "ledger.db").stat().st_size, size):
        yield slice(start, start + size)


def first_page_of(state: Path, name: str) -> slice:
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        number = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
    return list(pages(state))[number - 1]


def overwrite(state: Path, page: slice, content: bytes = b"") -> None:
    with (state / "ledger.db").open("r+b") as file:
        file.seek(page.start)
        file.write(content or b"\xff" * (page.stop - page.start))


def copies(state: Path) -> list[Path]:
    return list(state.glob("ledger-damaged-*.db"))


def leftovers(state: Path) -> list[Path]:
    return list(state.glob("ledger.db.*"))


@pytest.mark.parametrize("fill", [b"\xff", b"\0", b"\xa5"])
def test_whichever_page_is_damaged_no_task_is_paid_again_and_every_run_succeeds(tmp_path: Path, fill: bytes) -> None:
    whole = tmp_path / "whole"
    with Sandbox() as sandbox:
        with opened(sandbox.base_url, whole, PATIENT) as jobs:
            for take in TAKES:
                submit(jobs, take=take, prompt=LONG)
        paid = list(sandbox.tasks)
        damaged = list(pages(whole))
        for number, page in enumerate(damaged):
            state = shutil.copytree(whole, tmp_path / str(number))
            overwrite(state, page, fill * (page.stop - page.start))
            for _ in range(2):
                with opened(sandbox.base_url, state, PATIENT) as jobs:
                    assert [submit(jobs, take=take, prompt=LONG).task_id for take in TAKES] == paid
            assert len(copies(state)) <= 1 and not leftovers(state)
        assert list(sandbox.tasks) == paid and len(damaged) > len(TAKES)


@pytest.mark.parametrize("index", INDEXES)
def test_a_damaged_index_costs_no_row(
    state: Path, rows: list[Row], index: str, caplog: pytest.LogCaptureFixture
) -> None:
    overwrite(state, first_page_of(state, index))
    content = (state / "ledger.db").read_bytes()
    with closing(Ledger(state)) as ledger:
        assert [ledger.latest(known.fingerprint) for known in rows] == rows
        assert [ledger.find(GATEWAY, known.task_id or "") for known in rows] == rows
        assert ledger.rows(State.SENDING, State.UNKNOWN) == [] and ledger.rows() == rows
        assert ledger.claim(row("new"), None)
    (copy,) = copies(state)
    assert copy.read_bytes() == content and not leftovers(state)
    assert f"{copy.name}, and a new one was started with the 10 tasks" in caplog.text


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_that_is_damaged_in_mid_use_costs_no_row(state: Path, rows: list[Row], index: str) -> None:
    with closing(Ledger(state)) as ledger:
        assert ledger.rows() == rows
        overwrite(state, first_page_of(state, index))
        claimed = ledger.claim(row("new"), None)
        assert claimed
        ledger.accept(claimed, Task("task-new"))
        ledger.fail(GATEWAY, "task-new", "risk control")
        assert ledger.rows()[1:] == rows
    assert len(copies(state)) == 1


def test_a_row_with_columns_that_cannot_be_is_left_out_and_its_neighbours_stay(state: Path, rows: list[Row]) -> None:
    content = (state / "ledger.db").read_bytes()
    spoilt = rows[4]
    # The end of a long row lies on a page of its own; numbers on it turn to NULL.
    (page,) = (page for page in pages(state) if str(spoilt.request_id).encode() in content[page])
    overwrite(state, page)
    with closing(Ledger(state)) as ledger:
        assert ledger.latest(spoilt.fingerprint) is None
        assert ledger.rows() == [known for known in rows if known is not spoilt]
    assert len(copies(state)) == 1


def test_a_row_that_an_index_has_forgotten_is_found_when_it_is_claimed(state: Path) -> None:
    Ledger(state).close()
    page = first_page_of(state, "by_fingerprint")
    empty = (state / "ledger.db").read_bytes()[page]
    with closing(Ledger(state)) as ledger:
        claimed = ledger.claim(row("one"), None)
        assert claimed
        ledger.accept(claimed, Task("task-1"))
    assert first_page_of(state, "by_fingerprint") == page
    overwrite(state, page, empty)
    with closing(Ledger(state)) as ledger:
        assert ledger.claim(row("one"), ledger.latest("one")) is None
        found = ledger.latest("one")
        assert found and (found.state, found.task_id) == (State.ACCEPTED, "task-1")


def test_threads_that_meet_the_damage_at_once_set_the_file_aside_once(state: Path, rows: list[Row]) -> None:
    start = threading.Barrier(8)
    with closing(Ledger(state)) as ledger, ThreadPoolExecutor(8) as pool:
        overwrite(state, first_page_of(state, "by_fingerprint"))

        def look(_: int) -> Row | None:
            start.wait()
            return ledger.latest(rows[0].fingerprint)

        assert list(pool.map(look, range(8))) == [rows[0]] * 8
    assert len(copies(state)) == 1


def test_processes_that_meet_the_damage_at_once_set_the_file_aside_once(state: Path, rows: list[Row]) -> None:
    with Process("use_ledger", state=str(state)) as one, Process("use_ledger", state=str(state)) as other:
        overwrite(state, first_page_of(state, "by_fingerprint"))
        one.go()
        other.go()
        results = one.results() + other.results()
    # Windows moves no file that another process has open: there the run stops with an error before it pays.
    stopped = [result for result in results if result.get("error") == "SetupError"] if sys.platform == "win32" else []
    assert [result for result in results if result not in stopped] == [{"found": False}] * (2 - len(stopped))
    with closing(Ledger(state)) as ledger:
        assert ledger.latest(rows[0].fingerprint) == rows[0] and ledger.rows() == rows
    assert len(copies(state)) == 1


@NOT_ON_WINDOWS
@pytest.mark.parametrize("name", ["submissions", "by_fingerprint"])
def test_two_processes_that_submit_to_a_record_damaged_under_them_pay_for_nothing_again(state: Path, name: str) -> None:
    prompts = [f"{LONG} {number}" for number in range(8)]
    with Sandbox() as sandbox:
        with opened(sandbox.base_url, state, PATIENT) as jobs:
            paid = [submit(jobs, prompt=prompt).task_id for prompt in prompts]
        arguments = {"base_url": sandbox.base_url, "state": str(state), "prompts": prompts}
        with Process("submit", **arguments) as one, Process("submit", **arguments) as other:
            overwrite(state, first_page_of(state, name))
            one.go()
            other.go()
            results = one.results(), other.results()
        assert [[result.get("task_id", result) for result in found] for found in results] == [paid, paid]
        assert list(sandbox.tasks) == paid
    assert len(copies(state)) == 1 and not leftovers(state)


@NOT_ON_WINDOWS
def test_no_row_is_lost_that_another_process_writes_while_the_damaged_file_is_replaced(state: Path) -> None:
    with closing(Ledger(state)) as ledger:
        claimed = ledger.claim(row("first", 300), None)
        assert claimed
        ledger.accept(claimed, Task("first"))
    columns = {"external_task_id": "'old ' || i", "fingerprint": "'old ' || i", "task_id": "'task ' || i"}
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        names = [name for _, name, *_ in connection.execute("PRAGMA table_info(submissions)")]
        # Copying so many rows takes a while.
        connection.execute(
            f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) INSERT INTO submissions"
            f" SELECT {', '.join(columns.get(name, name) for name in names)} FROM submissions, n"
        )
        connection.commit()
    with Process("write_rows", state=str(state)) as writer:
        writer.go()
        writer.expect("writing")
        for replaced in range(1, 4):
            content = (state / "ledger.db").read_bytes()
            # A page of by_fingerprint that no new row changes: only the reader meets the damage.
            candidates = [slice(start, start + 4096) for start in range(0, len(content), 4096)]
            elsewhere = (b"prompt", b"accepted", b"task ")
            (page,) = (
                page
                for page in candidates
                if b"old 2000" in content[page] and not any(word in content[page] for word in elsewhere)
            )
            overwrite(state, page)
            with closing(Ledger(state)) as ledger:
                found = ledger.latest("old 2000")
            assert found and found.task_id == "task 2000" and len(copies(state)) == replaced
        writer.tell("stop")
        written = {result["external_task_id"] for result in writer.results()}
    with closing(Ledger(state)) as ledger:
        kept = {known.external_task_id for known in ledger.rows(State.ACCEPTED)}
    assert len(kept) > 4000 and written - kept == set()


@NOT_ON_WINDOWS
def test_a_file_that_sqlite_cannot_lock_is_not_replaced_while_another_process_writes_to_it(state: Path) -> None:
    Ledger(state).close()
    with Process("write_slowly", state=str(state)) as writer, Process("open_ledger", state=str(state)) as other:
        writer.go()
        writer.expect("writing")
        overwrite(state, slice(0, 100), b"no database" * 9)
        other.go()
        # Old code needs milliseconds to replace the file. A slow machine only makes this check less strict.
        time.sleep(1)
        assert not copies(state)
        writer.tell("done")
        assert writer.results() == []
        assert "installation_id" in other.results()[0]
    assert len(copies(state)) == 1


@NOT_ON_WINDOWS
def test_a_file_that_was_replaced_meanwhile_is_not_set_aside_by_the_next_who_saw_the_damage(
    state: Path, rows: list[Row]
) -> None:
    with closing(Ledger(state)) as one, closing(Ledger(state)) as other:
        overwrite(state, first_page_of(state, "by_fingerprint"))
        seen = other._file._identity
        assert one.latest(rows[0].fingerprint) == rows[0]
        with other._file._lock:
            other._file._reopen(damaged=seen)
        assert other.latest(rows[0].fingerprint) == rows[0]
    assert len(copies(state)) == 1


def test_while_no_new_file_can_be_written_the_damaged_one_stays_and_nothing_is_lost(
    state: Path, rows: list[Row]
) -> None:
    with closing(Ledger(state)) as ledger:
        overwrite(state, first_page_of(state, "by_fingerprint"))
        in_the_way = state / f"ledger.db.{ledger.owner}"
        in_the_way.mkdir()
        for _ in range(2):
            with pytest.raises(SetupError, match="so nothing may be sent"):
                ledger.latest(rows[0].fingerprint)
        assert not copies(state)
        in_the_way.rmdir()
        assert ledger.latest(rows[0].fingerprint) == rows[0] and ledger.rows() == rows
    assert len(copies(state)) == 1


def test_a_garbled_request_does_not_cost_the_task_that_was_paid_with_it(state: Path, rows: list[Row]) -> None:
    content = (state / "ledger.db").read_bytes()
    page = next(page for page in pages(state) if content[page][4:] == b"x" * (page.stop - page.start - 4))
    overwrite(state, slice(page.start + 4, page.stop), b"\0" * (page.stop - page.start - 4))
    with closing(Ledger(state)) as ledger:
        found = ledger.rows()
    assert [known.task_id for known in found] == [known.task_id for known in rows]
    assert sorted(len(known.request()) for known in found) == [0] + [1] * 9
    assert not copies(state)


def test_a_version_that_was_lost_costs_no_row(state: Path, rows: list[Row]) -> None:
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute("PRAGMA user_version = 0")
    with closing(Ledger(state)) as ledger:
        assert ledger.rows() == rows
    assert len(copies(state)) == 1


def test_a_format_that_cannot_be_read_is_damage(state: Path, rows: list[Row]) -> None:
    overwrite(state, slice(44, 48), b"\0\0\0\x09")
    with closing(Ledger(state)) as ledger:
        assert ledger.rows() == [] and ledger.claim(row("new"), None)
    assert len(copies(state)) == 1
