"""The record of submissions: who may send, what survives a kill, and files that are damaged, full or not ours."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import KEY
from fault_tools import FAST, PATIENT, Process, Watch, opened, request, wait_until

from nodes.api.errors import SetupError
from nodes.api.gateway.answer import Task
from nodes.api.ledger.filelock import acquire, is_held
from nodes.api.ledger.record import Ledger
from nodes.api.ledger.row import Row, State
from nodes.api.submit.loop import submit as submit_request
from nodes.sandbox import Sandbox

pytest_plugins = ["fault_fixtures"]

GATEWAY = "https://gateway.example/kling"
NOT_ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody replace a file that is open")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no RLIMIT_FSIZE; max_page_count stands for it")


@pytest.fixture
def ledger(state: Path) -> Iterator[Ledger]:
    with closing(Ledger(state)) as opened_ledger:
        yield opened_ledger


def row(name: str = "one", attempt: int = 1) -> Row:
    return Row(GATEWAY, f"{name}-{attempt}", name, attempt, 1, State.UNSENT, '{"prompt": "A lighthouse."}')


def task(name: str = "task-1") -> Task:
    return Task(name, created_at=1_766_374_262_370, request_id="request-1")


def on_disk(state: Path) -> list[tuple[str, str | None]]:
    """State and task_id of every row, read by a connection of our own, as another program would."""
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        return connection.execute("SELECT state, task_id FROM submissions ORDER BY external_task_id").fetchall()


def submit_once(base_url: str, state: Path) -> str:
    with opened(base_url, state, PATIENT) as account:
        return asyncio.run(submit_request(account, request(), 1, Watch())).task_id


def damaged_copies(state: Path) -> list[bytes]:
    return [path.read_bytes() for path in state.glob("ledger-damaged-*.db")]


# Rows


def test_a_row_stands_in_the_file_while_its_task_is_being_made_and_holds_the_task_id_afterwards(state: Path) -> None:
    seen_by_the_gateway: list[list[tuple[str, str | None]]] = []
    with Sandbox(log=lambda line: seen_by_the_gateway.append(on_disk(state))) as sandbox:
        task_id = submit_once(sandbox.base_url, state)
    assert seen_by_the_gateway == [[(State.SENDING, None)]]
    assert on_disk(state) == [(State.ACCEPTED, task_id)]


def test_of_fifty_threads_that_claim_a_new_row_one_wins(ledger: Ledger) -> None:
    with ThreadPoolExecutor(50) as pool:
        start = threading.Barrier(50)

        def claim(_: int) -> bool:
            start.wait()
            return ledger.claim(row(), None) is not None

        assert sum(pool.map(claim, range(50))) == 1


@pytest.mark.parametrize("state_before", [State.UNSENT, State.REFUSED, State.UNKNOWN])
def test_of_fifty_threads_that_claim_a_row_again_one_wins(ledger: Ledger, state_before: str) -> None:
    claimed = ledger.claim(row(), None)
    assert claimed
    ledger.settle(claimed, state_before, "")
    ledger.release(claimed)
    seen = ledger.latest("one")
    with ThreadPoolExecutor(50) as pool:
        start = threading.Barrier(50)

        def claim(_: int) -> bool:
            start.wait()
            return ledger.claim(row(), seen) is not None

        assert sum(pool.map(claim, range(50))) == 1


def test_a_row_that_was_sent_again_since_it_was_seen_cannot_be_claimed(ledger: Ledger) -> None:
    first = ledger.claim(row(), None)
    assert first
    ledger.settle(first, State.UNKNOWN, "")
    ledger.release(first)
    seen = ledger.latest("one")
    second = ledger.claim(row(), seen)
    assert second
    ledger.settle(second, State.UNKNOWN, "")
    ledger.release(second)
    assert ledger.claim(row(), seen) is None


def test_an_accepted_task_is_not_undone_by_a_later_answer(ledger: Ledger) -> None:
    claimed = ledger.claim(row(), None)
    assert claimed
    ledger.accept(claimed, task())
    ledger.settle(claimed, State.REFUSED, "too late")
    found = ledger.find(GATEWAY, "task-1")
    assert found and (found.state, found.task_id, found.error) == (State.ACCEPTED, "task-1", "")


def test_a_late_answer_does_not_settle_what_was_sent_again_since(ledger: Ledger) -> None:
    first = ledger.claim(row(), None)
    assert first
    ledger.release(first)
    assert ledger.claim(row(), ledger.latest("one"))
    ledger.settle(first, State.UNSENT, "too late")
    found = ledger.latest("one")
    assert found and found.state == State.SENDING


def test_a_task_belongs_to_one_row_also_while_it_cannot_be_written(ledger: Ledger) -> None:
    rows = [ledger.claim(row(name), None) for name in ("one", "two", "three")]
    one, two, three = (claimed for claimed in rows if claimed)

    def read_only(on: bool) -> None:
        ledger._file.run(lambda connection: connection.execute(f"PRAGMA query_only = {int(on)}"))

    read_only(True)
    assert ledger.accept(one, task("777")) and not ledger.accept(two, task("777"))
    assert not ledger.is_written(one) and ledger.is_written(two)
    read_only(False)
    assert not ledger.accept(three, task("777")) and ledger.accept(one, task("777"))
    assert ledger.is_written(one)
    assert [found.external_task_id for found in ledger.rows(State.ACCEPTED)] == ["one-1"]


def test_what_is_being_sent_cannot_be_claimed_again_by_a_file_that_forgot_it(ledger: Ledger, state: Path) -> None:
    claimed = ledger.claim(row(), None)
    assert claimed
    with closing(sqlite3.connect(state / "ledger.db")) as connection, connection:
        connection.execute("DELETE FROM submissions")
    assert ledger.claim(row(), None) is None
    ledger.release(claimed)
    assert ledger.claim(row(), None)


def test_a_failed_task_is_not_accepted_again(ledger: Ledger) -> None:
    claimed = ledger.claim(row(), None)
    assert claimed
    ledger.accept(claimed, task())
    ledger.fail(GATEWAY, "task-1", "risk control")
    ledger.accept(claimed, task())
    found = ledger.latest("one")
    assert found and (found.state, found.error) == (State.FAILED, "risk control")
    assert ledger.failures == 1


def test_the_newest_attempt_counts_and_every_id_finds_its_row(ledger: Ledger) -> None:
    for attempt in (1, 2, 10):
        claimed = ledger.claim(row(attempt=attempt), None)
        assert claimed
        ledger.accept(claimed, task(f"task-{attempt}"))
    newest = ledger.latest("one")
    assert newest and newest.attempt == 10
    assert newest == ledger.find(GATEWAY, "one-10") == ledger.find(GATEWAY, "task-10")
    assert ledger.find("https://elsewhere.example", "task-10") is None
    assert (
        len(ledger.rows()) == len(ledger.rows(State.ACCEPTED)) == 3 and ledger.rows(State.UNKNOWN, State.SENDING) == []
    )


def test_claiming_again_keeps_the_time_of_the_first_claim(ledger: Ledger) -> None:
    first = ledger.claim(row(), None)
    assert first
    ledger.settle(first, State.UNSENT, "")
    ledger.release(first)
    again = ledger.claim(row(), ledger.latest("one"))
    assert again and again.created_at == first.created_at
    assert again.sent_at >= first.sent_at


def test_two_claims_in_one_tick_of_a_slow_clock_have_two_times(ledger: Ledger) -> None:
    first = ledger.claim(row(), None)
    assert first
    # Two claims with one time would be taken for one: a late answer to the first would settle the second.
    second = ledger._claimed(row(), first, first.sent_at)
    assert second.sent_at > first.sent_at


# Processes


def test_a_process_counts_as_alive_until_it_closes_the_ledger(state: Path, ledger: Ledger) -> None:
    other = Ledger(state)
    claimed = other.claim(row(), None)
    assert claimed and ledger.is_under_way(claimed)
    other.close()
    assert not ledger.is_under_way(claimed)


def test_a_killed_process_leaves_its_row_behind_and_does_not_count_as_alive(state: Path, ledger: Ledger) -> None:
    with Sandbox() as sandbox:
        sandbox.misbehave("create", "hang-after")
        with Process("submit", base_url=sandbox.base_url, state=str(state), prompts=["A lighthouse."]) as process:
            process.go()
            wait_until(lambda: sandbox.tasks, "the task is made")
            (left,) = ledger.rows()
            assert left.state == State.SENDING and ledger.is_under_way(left)
            process.kill()
            assert ledger.rows() == [left]
            assert not ledger.is_under_way(left)


def test_of_two_processes_that_submit_the_same_one_pays(state: Path) -> None:
    with Sandbox() as sandbox:
        arguments = {"base_url": sandbox.base_url, "state": str(state), "prompts": ["The same."] * 4}
        with Process("submit", **arguments) as one, Process("submit", **arguments) as other:
            one.go()
            other.go()
            results = one.results() + other.results()
        (made,) = sandbox.tasks
        assert [result.get("task_id", result) for result in results] == [made] * 8
        assert [result["reused"] for result in results].count(False) == 1
        assert len(sandbox.creates()) == 1


def test_two_processes_that_open_a_new_directory_at_once_agree(state: Path) -> None:
    with Process("open_ledger", state=str(state)) as one, Process("open_ledger", state=str(state)) as other:
        one.go()
        other.go()
        (first,), (second,) = one.results(), other.results()
    assert first == second and len(first["installation_id"]) == 32


def test_locks_of_processes_that_ended_long_ago_are_swept_and_those_of_living_ones_stay(state: Path) -> None:
    with closing(Ledger(state)) as living:
        locks = state / "processes"
        (mine,) = locks.glob("*.lock")
        fresh, stale, garbage = (locks / f"{name}.lock" for name in ("fresh", "stale", "garbage"))
        for path in (fresh, stale, garbage):
            path.write_bytes(b"what is this" * 100 if path is garbage else b"")
        for path in (mine, stale, garbage):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        with closing(Ledger(state)) as another:
            left = set(locks.iterdir())
            assert {mine, fresh} < left and not {stale, garbage} & left
            assert another.is_under_way(Row("", "", "", 1, 1, State.SENDING, "", owner=living.owner))


def test_a_lock_file_full_of_garbage_can_still_be_locked(tmp_path: Path) -> None:
    path = tmp_path / "files.lock"
    path.write_bytes(os.urandom(4096))
    assert not is_held(path)
    path.write_bytes(os.urandom(4096))
    lock = acquire(path)
    assert lock and is_held(path) and acquire(path) is None
    lock.close()
    assert not is_held(path)


# The file


def test_a_database_without_a_version_is_filled(state: Path) -> None:
    state.mkdir()
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute("CREATE TABLE of_somebody_else (x)")
    with closing(Ledger(state)) as ledger:
        assert ledger.claim(row(), None)
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert on_disk(state) == [(State.SENDING, None)] and not damaged_copies(state)


def test_rows_are_still_there_when_the_ledger_is_opened_again(state: Path) -> None:
    with closing(Ledger(state)) as before:
        claimed = before.claim(row(), None)
        assert claimed
        before.accept(claimed, task())
        rows = before.rows()
    with closing(Ledger(state)) as after:
        assert after.rows() == rows
        assert after.installation_id == before.installation_id and after.owner != before.owner


def test_a_ledger_of_a_newer_version_stops_the_run_and_is_left_alone(state: Path) -> None:
    Ledger(state).close()
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute("PRAGMA user_version = 4")
    with Sandbox() as sandbox:
        with pytest.raises(SetupError, match="newer version of this pack"):
            submit_once(sandbox.base_url, state)
        assert sandbox.received == []
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (4,)
    assert not damaged_copies(state)


@pytest.mark.parametrize("content", [b"this is no database" * 300, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside_whole_and_said(
    state: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    state.mkdir()
    (state / "ledger.db").write_bytes(content)
    with caplog.at_level(logging.WARNING, "kling"), closing(Ledger(state)) as ledger:
        assert ledger.rows() == [] and ledger.claim(row(), None)
    assert damaged_copies(state) == [content]
    (copy,) = state.glob("ledger-damaged-*.db")
    assert copy.name in caplog.text and str(state) not in caplog.text


def spoil(path: Path) -> None:
    """Overwrite every page behind the first: the file still opens."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with path.open("r+b") as file:
        file.seek(size)
        file.write(b"\xa5" * (path.stat().st_size - size))


def filled(state: Path) -> str:
    """A ledger with one paid task in it. Gives what finds its row."""
    with closing(Ledger(state)) as ledger:
        claimed = ledger.claim(row(), None)
        assert claimed
        ledger.accept(claimed, task())
    return "one"


def test_damage_behind_the_first_page_is_found_when_opening(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(state)
    spoil(state / "ledger.db")
    with closing(Ledger(state)) as ledger:
        assert ledger.rows() == []
    assert len(damaged_copies(state)) == 1 and "was damaged" in caplog.text


def test_damage_in_mid_use_is_found_set_aside_and_survived(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = filled(state)
    with closing(Ledger(state)) as ledger:
        spoil(state / "ledger.db")
        assert ledger.latest(name) is None
        assert ledger.claim(row(), None)
        assert on_disk(state) == [(State.SENDING, None)]
    assert len(damaged_copies(state)) == 1 and "was damaged" in caplog.text


@NOT_ON_WINDOWS
def test_what_another_process_still_writes_to_the_damaged_file_does_not_reach_the_new_one(state: Path) -> None:
    name = filled(state)
    with closing(Ledger(state)) as ledger, closing(sqlite3.connect(state / "ledger.db")) as another:
        spoil(state / "ledger.db")
        another.execute("PRAGMA application_id = 5")  # a page in the write-ahead log
        assert ledger.latest(name) is None
        another.execute("PRAGMA application_id = 6")
        assert ledger.claim(row(), None)
        assert on_disk(state) == [(State.SENDING, None)]
    assert len(list(state.glob("ledger-damaged-*.db-wal"))) == 1


def test_a_damaged_file_that_cannot_be_replaced_stops_the_run_until_it_can(state: Path) -> None:
    name = filled(state)
    with closing(Ledger(state)) as ledger:
        spoil(state / "ledger.db")
        (state / "files.lock").unlink()
        (state / "files.lock").mkdir()
        for _ in range(2):
            with pytest.raises(SetupError, match="so nothing may be sent"):
                ledger.latest(name)
        (state / "files.lock").rmdir()
        assert ledger.latest(name) is None and ledger.claim(row(), None)
    assert len(damaged_copies(state)) == 1


@NOT_ON_WINDOWS
def test_a_task_whose_row_was_lost_with_a_damaged_file_is_recorded_in_the_new_one(state: Path) -> None:
    with closing(Ledger(state)) as ledger:
        claimed, lost = ledger.claim(row("one"), None), ledger.claim(row("two"), None)
        assert claimed and lost
        for path in state.glob("ledger.db*"):
            path.unlink()
        ledger.accept(claimed, task())
        ledger.settle(lost, State.UNKNOWN, "no answer in time")
        assert on_disk(state) == [(State.ACCEPTED, "task-1"), (State.UNKNOWN, None)]


@NOT_ON_WINDOWS
def test_a_ledger_that_somebody_replaced_is_noticed(state: Path, tmp_path: Path) -> None:
    filled(state)
    with closing(Ledger(tmp_path / "another")) as another:
        assert another.latest("one") is None
        for path in (tmp_path / "another").glob("ledger.db*"):
            path.unlink()
        (state / "ledger.db").replace(tmp_path / "another" / "ledger.db")
        assert another.latest("one") is not None


def test_two_processes_that_find_the_damage_at_once_keep_it_once_and_share_the_new_file(state: Path) -> None:
    state.mkdir()
    (state / "ledger.db").write_bytes(b"no database" * 1000)
    with Process("open_ledger", state=str(state)) as one, Process("open_ledger", state=str(state)) as other:
        one.go()
        other.go()
        (first,), (second,) = one.results(), other.results()
    assert first == second
    assert damaged_copies(state) == [b"no database" * 1000]


def test_two_processes_that_find_the_damage_in_mid_use_keep_it_once(state: Path) -> None:
    filled(state)
    with Process("use_ledger", state=str(state)) as one, Process("use_ledger", state=str(state)) as other:
        spoil(state / "ledger.db")
        one.go()
        other.go()
        results = one.results() + other.results()
    # Windows moves no file that another process has open: there the run stops with an error before it pays.
    stopped = [result for result in results if result.get("error") == "SetupError"] if sys.platform == "win32" else []
    assert [result for result in results if result not in stopped] == [{"found": False}] * (2 - len(stopped))
    assert len(damaged_copies(state)) <= 1
    with closing(Ledger(state)) as ledger:
        assert ledger.rows() == []
    assert len(damaged_copies(state)) == 1


def test_a_bad_byte_in_one_row_does_not_hide_it(state: Path) -> None:
    filled(state)
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute("UPDATE submissions SET error = CAST(x'61ff62' AS TEXT)")
        connection.commit()
    with closing(Ledger(state)) as ledger:
        found = ledger.latest("one")
        assert found and found.error == "a\ufffdb"
    assert not damaged_copies(state)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"not what it was", b"0123"])
def test_a_damaged_installation_id_is_made_anew(state: Path, content: bytes) -> None:
    state.mkdir()
    (state / "installation_id").write_bytes(content)
    with closing(Ledger(state)) as ledger:
        assert len(ledger.installation_id) == 32
        assert (state / "installation_id").read_text(encoding="ascii") == ledger.installation_id


def test_a_garbled_lock_between_processes_does_not_stop_the_run(state: Path) -> None:
    state.mkdir()
    (state / "files.lock").write_bytes(os.urandom(3000))
    with Sandbox() as sandbox:
        assert submit_once(sandbox.base_url, state) in sandbox.tasks


# What cannot be written stops the run before money is spent


def assert_nothing_is_sent(state: Path, *, match: str = "so nothing may be sent") -> None:
    with Sandbox() as sandbox:
        with pytest.raises(SetupError, match=match) as caught:
            submit_once(sandbox.base_url, state)
        assert sandbox.received == []
    assert str(state) not in str(caught.value) and "only if no task was paid yet" in str(caught.value)


def test_a_file_in_place_of_the_directory_stops_the_run(state: Path) -> None:
    state.write_text("not a directory", encoding="utf-8")
    assert_nothing_is_sent(state)
    assert state.read_text(encoding="utf-8") == "not a directory"


@pytest.mark.parametrize("name", ["ledger.db", "installation_id", "files.lock"])
def test_a_directory_in_place_of_a_file_stops_the_run(state: Path, name: str) -> None:
    (state / name).mkdir(parents=True)
    assert_nothing_is_sent(state)


def test_a_file_in_place_of_the_directory_of_processes_stops_the_run(state: Path) -> None:
    state.mkdir()
    (state / "processes").write_bytes(b"")
    assert_nothing_is_sent(state)


@pytest.mark.skipif(
    sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="the permissions of a directory bind neither Windows nor root; a file in its place stands for them",
)
@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_directory_that_may_not_be_written_stops_the_run(state: Path, mode: int) -> None:
    Ledger(state).close()
    state.chmod(mode)
    try:
        assert_nothing_is_sent(state)
    finally:
        state.chmod(0o700)


def test_a_ledger_that_turns_read_only_stops_the_run_and_works_again_later(state: Path) -> None:
    with Sandbox() as sandbox, opened(sandbox.base_url, state, PATIENT) as account:
        account.ledger._file.run(lambda connection: connection.execute("PRAGMA query_only = 1"))
        with pytest.raises(SetupError, match="readonly"):
            asyncio.run(submit_request(account, request(), 1, Watch()))
        assert sandbox.received == []
        account.ledger._file.run(lambda connection: connection.execute("PRAGMA query_only = 0"))
        assert asyncio.run(submit_request(account, request(), 1, Watch())).task_id in sandbox.tasks


def test_a_full_disk_stops_the_run(state: Path) -> None:
    with Sandbox() as sandbox, opened(sandbox.base_url, state, PATIENT) as account:
        account.ledger._file.run(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(SetupError, match="full"):
            asyncio.run(submit_request(account, request("海" * 2500), 1, Watch()))
        assert sandbox.received == []


@POSIX
def test_wherever_the_disk_is_full_either_nothing_is_sent_or_the_task_is_known(tmp_path: Path) -> None:
    states = [str(tmp_path / f"state-{index}") for index in range(60)]
    with Sandbox() as sandbox:
        with Process("small_files", base_url=sandbox.base_url, states=states, step=2048) as process:
            process.go()
            results = process.results()
        made = {task.body["prompt"]: task_id for task_id, task in sandbox.tasks.items()}
        for index, result in enumerate(results):
            task_id = made.get(f"Limit {index * 2048}.")
            if task_id is None:
                assert result["error"] == "SetupError"
            else:
                assert result["task_id"] == task_id
        assert 0 < len(made) < len(states)


@POSIX
def test_a_disk_that_fills_up_while_the_task_is_made_loses_nothing(state: Path) -> None:
    gate = threading.Event()
    made = threading.Event()

    def hold(line: str) -> None:
        made.set()
        gate.wait(60)

    with Sandbox(log=hold) as sandbox, Process("fill_disk", base_url=sandbox.base_url, state=str(state)) as process:
        process.go()
        made.wait(60)
        process.tell("full")
        process.expect("filled")
        gate.set()
        first, again, with_room = process.results()
        (task_id,) = sandbox.tasks
        assert first["task_id"] == again["task_id"] == with_room["task_id"] == task_id
        assert task_id in first["notes"][0] and task_id in again["notes"][0]
        assert with_room["notes"] == []
        assert on_disk(state) == [(State.ACCEPTED, task_id)]
        assert len(sandbox.received) == 1


def test_the_key_is_in_no_file(state: Path) -> None:
    with Sandbox() as sandbox:
        sandbox.misbehave("create", "echo-key:kling", "echo-key:html", "drop-after")
        for pace in (FAST, FAST, FAST, PATIENT):
            with opened(sandbox.base_url, state, pace) as account:
                asyncio.run(quietly(submit_request(account, request(), 1, Watch())))
        assert len(sandbox.tasks) == 1 and len(sandbox.creates()) >= 2
    for path in state.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path.name


async def quietly(submission: Coroutine[Any, Any, object]) -> None:
    await asyncio.gather(submission, return_exceptions=True)
