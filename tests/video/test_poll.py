"""Waiting for a task: what it survives, what ends it, and what the node shows meanwhile."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from clock import Clock
from fault_tools import Cancelled, age
from watching import QUICK, Watcher, asked, open_gateway, submitted
from wire import http, sends_and_closes, wire

from nodes.api.errors import BalanceError, GraphError, SetupError, TaskFailed, TaskNotFound, UnavailableError
from nodes.api.ledger.row import State
from nodes.api.pace import Pace
from nodes.api.running.progress import clock as shown_time
from nodes.api.running.threads import WORKERS, in_thread
from nodes.api.submit.account import Account
from nodes.api.video.poll import poll_pause, wait_for_video
from nodes.sandbox import Sandbox

pytest_plugins = ["watching"]

LONG = 600.0
FILE_URL = "/files/"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow(clock: Clock) -> Iterator[Sandbox]:
    """A gateway whose tasks get on only when the test's clock does."""
    with Sandbox(clock=clock, queued_for=10, runs_for=100) as running:
        yield running


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    return Watcher(tmp_path)


def waited(account: Account, any_id: str, watcher: Watcher, seconds: float = LONG):
    return asyncio.run(wait_for_video(account, any_id, seconds, watcher))


def watched(account: Account, any_id: str, temp: Path, word: str) -> Watcher:
    """What the node shows until its line begins with ``word``."""
    watcher = Watcher(temp, lambda watcher: any(line.startswith(word) for line in watcher.lines))
    with pytest.raises(Cancelled):
        waited(account, any_id, watcher)
    watcher.lines.pop()  # what it says on Cancel
    return watcher


def set_age(account: Account, seconds: float) -> float:
    """Make every task in the ledger so old; gives the time at which they were made then."""
    made_at = time.time() - seconds
    with closing(sqlite3.connect(account.settings.state_dir / "ledger.db")) as database, database:
        database.execute("UPDATE submissions SET accepted_at = ?", (made_at,))
    return made_at


# -- how it goes well


def test_it_asks_until_the_video_is_there(tmp_path: Path, clock: Clock, watcher: Watcher) -> None:
    def get_on(line: str) -> None:
        clock.now += 6 if line.startswith("GET") else 0

    with Sandbox(clock=clock, queued_for=5, runs_for=5, log=get_on) as sandbox:
        account = open_gateway(sandbox, tmp_path)
        task_id = submitted(account)
        task = waited(account, task_id, watcher)
        assert (task.task_id, task.status) == (task_id, "succeed")
        assert task.url == f"{sandbox.origin}{FILE_URL}{task_id}.mp4"
        assert len(asked(sandbox)) == 3
    words = [line.split(",")[0] for line in watcher.lines]
    assert list(dict.fromkeys(words)) == ["asking the gateway", "submitted", "processing"]


@pytest.mark.parametrize(
    "shape",
    [
        *(
            "wrapper",
            "wrapper_fail_reason",
            "openai",
            "doc",
            "extras",
            "plugin",
            "number_id",
            "seconds",
            "string_times",
        ),
        *("string_code", "no_task_info", "blank_message", "succeeded", "number_duration", "url_in_task_info"),
        "final_balance",
    ],
)
def test_a_video_is_found_in_every_shape_of_answer(
    shape: str, quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    quick.misbehave("query", f"shape:{shape}")
    assert waited(account, task_id, watcher).url == f"{quick.origin}{FILE_URL}{task_id}.mp4"
    assert len(asked(quick)) == 1


def test_an_external_id_that_the_ledger_knows_is_asked_for_by_its_task_id(tmp_path: Path, watcher: Watcher) -> None:
    with Sandbox(queued_for=0, runs_for=0, knows_external_ids=False) as relay:
        account = open_gateway(relay, tmp_path)
        task_id = submitted(account, external_task_id="mine-1")
        assert waited(account, "mine-1", watcher).task_id == task_id
        assert asked(relay)[0].endswith(f"/{task_id}")


def test_an_external_id_that_only_the_gateway_knows_is_found(quick: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    task_id = submitted(open_gateway(quick, tmp_path / "elsewhere"), external_task_id="mine-1")
    assert waited(open_gateway(quick, tmp_path), "mine-1", watcher).task_id == task_id


# -- what it survives


@pytest.mark.parametrize(
    "fault",
    [
        *("drop", "reset", "hang:0.01", "status:500", "status:502", "status:524", "status:429", "status:404"),
        *("json-status:500", "truncated", "empty", "garbage", "object", "null", "no-task-id", "unavailable"),
        *("code:1302", "code:1303", "code:5000", "code:5001", "code:5002"),
        *("gateway:user_rate_limit", "gateway:upstream_saturated", "gateway:fail_to_fetch_task:1303"),
        *("gateway:fail_to_fetch_task:5000", "gateway:do_request_failed", "shape:wrapper_null"),
    ],
)
def test_trouble_with_one_question_is_survived(fault: str, quick: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    set_age(account, 3600)
    quick.misbehave("query", fault, fault)
    assert waited(account, task_id, watcher).url
    assert len(asked(quick)) == 3
    assert any("no usable answer, asking again" in line for line in watcher.lines)


@pytest.mark.parametrize(
    "fault", ["not-found", "gateway:task_not_exist", "gateway:task_not_exist_404", "gateway:invalid_url", "code:1203"]
)
def test_a_young_task_may_be_unknown_for_a_while(fault: str, quick: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    quick.misbehave("query", fault, fault)
    assert waited(account, task_id, watcher).url
    assert len(asked(quick)) == 3


def test_an_old_task_that_was_seen_just_now_may_be_unknown_for_a_while(
    slow: Sandbox, clock: Clock, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(slow, tmp_path)
    task_id = submitted(account)
    set_age(account, 3600)
    slow.misbehave("query", "processing", "not-found", "not-found")
    clock.now += 1000
    assert waited(account, task_id, watcher).url
    assert len(asked(slow)) == 4


def test_an_unknown_status_is_shown_as_it_is_and_asked_about_again(
    quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    quick.misbehave("query", "shape:unknown_status")
    assert waited(account, task_id, watcher).url
    assert any(line.startswith("UNKNOWN, ") for line in watcher.lines)


@pytest.mark.parametrize("shape", ["videos_null", "videos_empty", "no_result", "no_url", "blank_url", "odd_url"])
def test_a_link_may_come_a_little_later_than_the_success(
    shape: str, quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    quick.misbehave("query", f"shape:{shape}", f"shape:{shape}")
    assert waited(account, task_id, watcher).url
    assert len(asked(quick)) == 3


# -- answers about another task


def told(task_id: str, status: str, own_id: str | None = None) -> bytes:
    """An answer about a task; without ``own_id`` as relays give it that know no external_task_id."""
    data: dict[str, object] = {"task_id": task_id, "task_status": status, "task_status_msg": "no"}
    data |= {"task_info": {"external_task_id": own_id}} if own_id else {}
    if status == "succeed":
        data["task_result"] = {"videos": [{"url": f"http://files.example/{own_id or task_id}.mp4"}]}
    return json.dumps({"code": 0, "data": data}).encode()


@contextmanager
def mixed_up(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A relay that makes the tasks 1, 2, ..., and gives the ``answers`` to what it is asked, the last one on and on."""
    left = list(answers)

    def answer(talk: socket.socket) -> None:
        if received[-1].startswith(b"POST"):
            body = told(str(len(received)), "submitted")
        else:
            body = left.pop(0) if len(left) > 1 else left[0]
        sends_and_closes(http(body, "Connection: close"))(talk)

    with wire(answer) as (url, received):
        yield url, received


STRANGER = "somebody-elses"


@pytest.mark.parametrize("any_id", ["1", "mine-1"])
@pytest.mark.parametrize("status", ["failed", "succeed"])
def test_somebody_elses_task_is_neither_recorded_nor_delivered(
    status: str, any_id: str, tmp_path: Path, watcher: Watcher
) -> None:
    with mixed_up(told("111", status, STRANGER), told("1", "succeed", "mine-1")) as (url, received):
        account = open_gateway(url, tmp_path)
        assert submitted(account, external_task_id="mine-1") == "1"
        assert waited(account, any_id, watcher).url == "http://files.example/mine-1.mp4"
        assert len(received) == 3
    assert [row.state for row in account.ledger.rows()] == [State.ACCEPTED]
    assert account.ledger.failures == 0
    assert any("no usable answer, asking again" in line for line in watcher.lines)


def test_another_task_of_our_own_is_not_taken_for_it_even_without_its_external_id(
    tmp_path: Path, watcher: Watcher
) -> None:
    with mixed_up(told("2", "failed"), told("1", "succeed")) as (url, _):
        account = open_gateway(url, tmp_path)
        assert [submitted(account, take) for take in (1, 2)] == ["1", "2"]
        assert waited(account, "1", watcher).url == "http://files.example/1.mp4"
    assert [row.state for row in account.ledger.rows()] == [State.ACCEPTED, State.ACCEPTED]


def test_a_relay_that_only_speaks_of_another_task_costs_nothing_but_time(tmp_path: Path, watcher: Watcher) -> None:
    with mixed_up(told("111", "failed", STRANGER)) as (url, received):
        account = open_gateway(url, tmp_path)
        task_id = submitted(account)
        with pytest.raises(UnavailableError, match="last query failed: The gateway answered with another task"):
            waited(account, task_id, watcher, seconds=0.05)
        assert submitted(account) == task_id
        assert sum(request.startswith(b"POST") for request in received) == 1


def test_nor_does_it_when_the_task_is_so_old_that_it_might_be_made_anew(tmp_path: Path) -> None:
    with mixed_up(told("111", "failed", STRANGER)) as (url, received):
        account = open_gateway(url, tmp_path)
        submitted(account)
        age(tmp_path / "state", 31 * 86_400)
        with pytest.raises(UnavailableError, match="answered with another task"):
            submitted(account)
        assert [row.state for row in account.ledger.rows()] == [State.ACCEPTED]
        assert sum(request.startswith(b"POST") for request in received) == 1


@pytest.mark.parametrize("own_id", [None, "mine-1"])
def test_a_relay_may_pass_on_the_id_that_kling_has_for_the_task(
    own_id: str | None, tmp_path: Path, watcher: Watcher
) -> None:
    with mixed_up(told("866889456698785798", "failed", own_id)) as (url, _):
        account = open_gateway(url, tmp_path)
        task_id = submitted(account, external_task_id="mine-1")
        with pytest.raises(TaskFailed):
            waited(account, task_id, watcher)
    assert [(row.task_id, row.state) for row in account.ledger.rows()] == [("1", State.FAILED)]


@pytest.mark.parametrize("any_id", ["task_7", "866889456698785798", "made-elsewhere"])
def test_an_id_that_the_ledger_does_not_know_may_be_any_of_the_task(
    any_id: str, tmp_path: Path, watcher: Watcher
) -> None:
    with mixed_up(told("866889456698785798", "succeed", "made-elsewhere")) as (url, received):
        assert waited(open_gateway(url, tmp_path), any_id, watcher).url
        assert len(received) == 1


# -- what ends it


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("gateway:invalid_token", SetupError),
        ("gateway:forbidden", SetupError),
        ("code:1000", SetupError),
        ("code:1004", SetupError),
        ("code:1103", SetupError),
        ("status:401", SetupError),
        ("status:403", SetupError),
        ("redirect:http://127.0.0.1:9/", SetupError),
        ("code:1102", BalanceError),
        ("gateway:insufficient_user_quota", BalanceError),
        ("code:1200", GraphError),
        ("status:400", GraphError),
    ],
)
def test_what_asking_again_cannot_change_ends_it_at_once(
    fault: str, kind: type[Exception], quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    quick.misbehave("query", fault)
    with pytest.raises(kind) as caught:
        waited(account, task_id, watcher)
    assert f"task_id {task_id}" in str(caught.value)
    assert len(asked(quick)) == 1


def test_a_failed_task_raises_with_its_whole_reason_and_is_recorded(
    quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    reason = "Failure to pass the risk control system: " + "the prompt, at length. " * 20
    quick.fail_next(reason.strip())
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    with pytest.raises(TaskFailed) as caught:
        waited(account, task_id, watcher)
    assert reason.strip() in str(caught.value)
    assert "change the prompt" in str(caught.value)
    assert caught.value.task_id == task_id
    assert [row.state for row in account.ledger.rows()] == [State.FAILED]
    assert account.ledger.failures == 1
    assert not any(line.startswith("stopped") for line in watcher.lines)


def test_a_task_that_failed_under_its_external_id_is_recorded_too(
    quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    quick.fail_next("no")
    account = open_gateway(quick, tmp_path)
    submitted(account, external_task_id="mine-1")
    with pytest.raises(TaskFailed):
        waited(account, "mine-1", watcher)
    assert [(row.state, row.error) for row in account.ledger.rows()] == [(State.FAILED, "no")]


def test_a_failure_is_told_even_if_it_cannot_be_recorded(
    quick: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quick.fail_next("no")
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)

    def close_the_ledger(watcher: Watcher) -> bool:
        if watcher.lines:  # it has been read by then
            account.ledger.close()
        return False

    with pytest.raises(TaskFailed, match='"no"'):
        waited(account, task_id, Watcher(tmp_path, close_the_ledger))
    assert "ledger of paid tasks" in caplog.text


def test_an_id_that_nobody_knows_ends_it_when_it_is_no_longer_young(
    quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(quick, tmp_path, replace(QUICK, missing=0))
    with pytest.raises(TaskNotFound, match=r"Check the id\. Kling deletes results 30 days") as caught:
        waited(account, "827996385395363846", watcher)
    assert "task_id 827996385395363846" in str(caught.value)


def test_a_relay_that_knows_no_external_ids_gets_a_hint(tmp_path: Path, watcher: Watcher) -> None:
    with Sandbox(knows_external_ids=False) as relay:
        account = open_gateway(relay, tmp_path, replace(QUICK, missing=0))
        with pytest.raises(TaskNotFound, match="if this is an external_task_id, use the task_id"):
            waited(account, "mine-1", watcher)


def test_a_task_that_the_ledger_knows_by_its_id_gets_no_such_hint(tmp_path: Path, watcher: Watcher) -> None:
    with Sandbox(knows_external_ids=False) as relay:
        account = open_gateway(relay, tmp_path, replace(QUICK, missing=0))
        task_id = submitted(account)
        relay.misbehave("query", "gateway:task_not_exist")
        with pytest.raises(TaskNotFound) as caught:
            waited(account, task_id, watcher)
    assert "external_task_id" not in str(caught.value)


def test_a_task_that_was_deleted_after_thirty_days_is_called_so(
    quick: Sandbox, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    made_at = set_age(account, 31 * 86_400)
    quick.misbehave("query", "not-found")
    with pytest.raises(TaskNotFound, match="deletes results 30 days after they were made: the video is gone") as caught:
        waited(account, task_id, watcher)
    assert time.strftime("%Y-%m-%d", time.gmtime(made_at)) in str(caught.value)
    assert caught.value.task_id == task_id


def test_an_old_task_that_is_still_there_is_fetched(quick: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    set_age(account, 31 * 86_400)
    assert waited(account, task_id, watcher).url


def test_a_success_that_never_gets_a_link_is_an_error(quick: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    account = open_gateway(quick, tmp_path, replace(QUICK, url_for=0))
    task_id = submitted(account)
    quick.misbehave("query", "shape:odd_url")
    with pytest.raises(UnavailableError, match="no usable link to its video") as caught:
        waited(account, task_id, watcher)
    assert f"task_id {task_id}" in str(caught.value)


def test_at_the_deadline_running_again_goes_on_without_paying(
    slow: Sandbox, clock: Clock, tmp_path: Path, watcher: Watcher
) -> None:
    account = open_gateway(slow, tmp_path)
    task_id = submitted(account)
    clock.now += 20
    with pytest.raises(UnavailableError, match="keep waiting for the same task; nothing is paid") as caught:
        waited(account, task_id, watcher, seconds=0.05)
    assert f"task_id {task_id}" in str(caught.value)
    assert "processing" in str(caught.value)
    clock.now += 1000
    assert submitted(account) == task_id
    assert waited(account, task_id, watcher).url
    assert len(slow.creates()) == 1


def test_the_deadline_also_ends_trouble_and_says_what_it_was(quick: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    account = open_gateway(quick, tmp_path)
    task_id = submitted(account)
    quick.misbehave("query", *["empty"] * 500)
    with pytest.raises(UnavailableError, match=r"last query failed: .*it is empty"):
        waited(account, task_id, watcher, seconds=0.05)


def test_there_is_always_one_question(quick: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    account = open_gateway(quick, tmp_path)
    assert waited(account, submitted(account), watcher, seconds=0).url


# -- Cancel


@pytest.mark.parametrize("fault", ["processing", "hang"], ids=["between two questions", "during a question"])
def test_cancel_ends_it_and_says_how_to_pick_the_task_up(fault: str, quick: Sandbox, tmp_path: Path) -> None:
    account = open_gateway(quick, tmp_path, replace(QUICK, poll=((1e9, 1e6),)))
    task_id = submitted(account)
    quick.misbehave("query", fault)
    reached = "processing" if fault == "processing" else "asking"
    watcher = Watcher(
        tmp_path, lambda watcher: bool(asked(quick)) and any(line.startswith(reached) for line in watcher.lines)
    )
    with pytest.raises(Cancelled):
        waited(account, task_id, watcher)
    assert watcher.lines[-1] == f"stopped. Run again to continue for free: the task {task_id} is not lost"
    assert waited(account, task_id, Watcher(tmp_path)).url
    assert len(quick.creates()) == 1


def test_the_end_of_the_whole_run_leaves_the_same_line(slow: Sandbox, tmp_path: Path, watcher: Watcher) -> None:
    account = open_gateway(slow, tmp_path)
    task_id = submitted(account)

    async def cut_short() -> None:
        waiting = asyncio.create_task(wait_for_video(account, task_id, LONG, watcher))
        while not any(line.startswith("submitted") for line in watcher.lines):
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()

    asyncio.run(cut_short())
    assert watcher.lines[-1].startswith("stopped. Run again")


# -- what it shows


@pytest.mark.parametrize("shape", ["shape:no_task_info", "shape:seconds", "shape:string_times", "shape:wrapper"])
def test_the_time_counts_from_when_the_task_was_made(shape: str, slow: Sandbox, clock: Clock, tmp_path: Path) -> None:
    clock.now -= 302
    account = open_gateway(slow, tmp_path)
    task_id = submitted(account)
    slow.misbehave("query", shape)
    assert watched(account, task_id, tmp_path, "submitted").lines[-1].startswith("submitted, 5:")


@pytest.mark.parametrize("hours", [1, -24 * 31], ids=["in the future", "impossibly long ago"])
def test_a_wrong_clock_of_the_gateway_is_not_believed(hours: int, slow: Sandbox, clock: Clock, tmp_path: Path) -> None:
    clock.now += hours * 3600
    account = open_gateway(slow, tmp_path)
    task_id = submitted(account)
    assert watched(account, task_id, tmp_path, "submitted").lines[-1].startswith("submitted, 0:")


def test_the_bar_moves_and_leaves_room_for_the_download(slow: Sandbox, clock: Clock, tmp_path: Path) -> None:
    account = open_gateway(slow, tmp_path)
    ends = []
    for take, seconds in enumerate((10, 300, 29 * 86_400), 1):
        clock.now = 1000 - seconds
        task_id = submitted(account, take)
        ends.append(watched(account, task_id, tmp_path, "submitted").bar[-1])
    assert 0 < ends[0] < 0.1 < 0.6 < ends[1] < ends[2] <= 0.9


def test_the_node_forgets_trouble_that_is_over(slow: Sandbox, tmp_path: Path) -> None:
    account = open_gateway(slow, tmp_path)
    task_id = submitted(account)
    slow.misbehave("query", "empty")
    lines = watched(account, task_id, tmp_path, "submitted").lines
    assert any(line.endswith("(no usable answer, asking again)") for line in lines)
    assert not lines[-1].endswith(")")


def test_a_length_of_time_reads_like_a_clock() -> None:
    assert [shown_time(s) for s in (-5, 0, 9.9, 102, 3599, 3723)] == [
        "0:00",
        "0:00",
        "0:09",
        "1:42",
        "59:59",
        "1:02:03",
    ]


# -- what it costs


def test_it_asks_quickly_at_first_and_seldom_later() -> None:
    waited_for, pauses = 0.0, []
    while waited_for < 400:
        pauses.append(poll_pause(waited_for, Pace()))
        waited_for += pauses[-1]
    assert pauses[:4] == [1, 2, 3, 5]
    assert pauses == sorted(pauses)
    assert set(pauses[3:]) == {5, 10, 15}
    assert poll_pause(86_400, Pace()) == 15


def test_a_hundred_waiting_nodes_hold_no_thread(slow: Sandbox, tmp_path: Path) -> None:
    pace = replace(QUICK, poll=((1e9, 1e6),))
    account = open_gateway(slow, tmp_path, pace)
    ids = [submitted(account, take) for take in range(1, 101)]
    watchers = [Watcher(tmp_path) for _ in ids]
    together = threading.Barrier(WORKERS)
    # The pack that other tests have loaded under another name has a pool of its own.
    others = set(threading.enumerate())

    async def sleep_all() -> None:
        waits = [asyncio.create_task(wait_for_video(account, i, LONG, w)) for i, w in zip(ids, watchers, strict=True)]
        while not all(any(line.startswith("submitted") for line in watcher.lines) for watcher in watchers):
            await asyncio.sleep(0.01)
        # They sleep now, each in its one coroutine ...
        assert len(asyncio.all_tasks()) == len(waits) + 1
        # ... and every thread of the pool is free: as many pieces of work as it has threads meet at once.
        meetings = [in_thread(Watcher(tmp_path), pace, together.wait, 60) for _ in range(WORKERS)]
        assert sorted(await asyncio.gather(*meetings)) == list(range(WORKERS))
        for waiting in waits:
            waiting.cancel()
        await asyncio.wait(waits)

    asyncio.run(sleep_all())
    assert len(asked(slow)) == 100
    assert sum(thread.name.startswith("kling_") for thread in set(threading.enumerate()) - others) <= WORKERS
