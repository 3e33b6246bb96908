"""A download in as many tries as it takes: who shares it, links that have run out, and Cancel."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fault_tools import Cancelled
from videos import BIG, CUT, FILM, SIZE, big, elsewhere, fetched, files, ranges, says, scripted, whole
from watching import QUICK, Watcher, asked, finished, open_gateway

from nodes.api.errors import KlingError, UnavailableError
from nodes.api.gateway.answer import Task
from nodes.api.ledger import filelock
from nodes.api.pace import Pace
from nodes.api.submit.account import Account
from nodes.api.video.download import download
from nodes.api.video.transfer import Transfer
from nodes.sandbox import Sandbox

pytest_plugins = ["watching", "videos"]


@pytest.fixture
def account(quick: Sandbox, tmp_path: Path) -> Account:
    return open_gateway(quick, tmp_path)


# -- the bar, and who shares a download


def test_the_bar_moves_from_the_waiting_on_to_its_end(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", "drop:200000")  # before each try the node is brought up to date, however fast it is
    watcher = Watcher(temp)
    fetched(account, task, temp, watcher)
    assert watcher.bar == sorted(set(watcher.bar))
    assert 0.89 <= watcher.bar[0] < watcher.bar[-1] <= 1
    assert any(" of 0.3 MB" in line for line in watcher.lines)


def test_nodes_that_want_the_same_video_at_once_download_it_once(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    quick.misbehave("download", f"slow:{BIG * 4}")

    async def together() -> list[tuple[Path, str]]:
        return await asyncio.gather(*(download(account, task, temp, Watcher(temp)) for _ in range(5)))

    assert len({path for path, _ in asyncio.run(together())}) == 1
    assert len(files(quick)) == 1
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


def test_what_another_process_downloads_is_waited_for(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    lock_path = Transfer(account.settings, task.task_id, temp, QUICK)._lock
    lock_path.parent.mkdir()
    lock = filelock.acquire(lock_path)
    assert lock
    asked_before: list[int] = []

    def other_is_done(watcher: Watcher) -> bool:
        if "downloading, waiting for other downloads" in watcher.lines and not asked_before:
            asked_before.append(len(files(quick)))
            lock.close()
        return False

    assert fetched(account, task, temp, Watcher(temp, other_is_done)).read_bytes() == whole(quick, task)
    assert asked_before == [0]


def test_only_some_download_at_the_same_time(quick: Sandbox, tmp_path: Path, temp: Path) -> None:
    account = open_gateway(quick, tmp_path)
    tasks = [big(quick, account, take) for take in range(1, 13)]
    watchers = [Watcher(temp) for _ in tasks]
    quick.misbehave("download", *["stall:50000"] * len(tasks))

    async def together() -> None:
        downloads = [asyncio.create_task(download(account, t, temp, w)) for t, w in zip(tasks, watchers, strict=True)]
        while sum("waiting for other" in watcher.lines[-1] for watcher in watchers if watcher.lines) < 4:
            await asyncio.sleep(0.01)
        assert len(files(quick)) <= 8
        for one in downloads:
            one.cancel()
        await asyncio.wait(downloads)

    asyncio.run(together())
    quick.stop()  # lets the threads go that hang on a connection


# -- tries


def test_after_some_tries_without_a_byte_it_gives_up_and_running_again_goes_on(
    quick: Sandbox, account: Account, temp: Path
) -> None:
    task = big(quick, account)
    quick.misbehave("download", "drop:100000", *["drop:0"] * QUICK.download_tries)
    with pytest.raises(UnavailableError, match="keeps failing: the connection broke") as caught:
        fetched(account, task, temp)
    assert f"task_id {task.task_id}" in str(caught.value)
    assert len(files(quick)) == 1 + QUICK.download_tries
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert ranges(quick)[-1] not in ("", "bytes=0-")


def test_tries_that_bring_something_are_not_counted(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account, size=2_000_000)
    quick.misbehave("download", *["drop:100000"] * 15)
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)


@pytest.mark.parametrize("fault", ["status:500", "status:502", "status:429", "status:408", "unavailable:retry-after=0"])
def test_a_server_in_trouble_is_asked_again(fault: str, quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    quick.misbehave("download", fault, fault)
    watcher = Watcher(temp)
    assert fetched(account, task, temp, watcher).read_bytes() == whole(quick, task)
    assert any("HTTP " in line and "trying again" in line for line in watcher.lines)


# -- links that do not work


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_link_that_has_run_out_is_replaced_by_a_fresh_one(
    status: int, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = finished(account)
    fresh = str(task.url)
    before = len(asked(quick))
    quick.misbehave("download", f"status:{status}")
    path, url = asyncio.run(download(account, replace(task, url=f"{fresh}?old"), temp, Watcher(temp)))
    assert (path.read_bytes(), url) == (whole(quick, task), fresh)
    assert len(asked(quick)) == before + 1
    assert [request.path for request in files(quick)] == [
        f"/files/{task.task_id}.mp4?old",
        f"/files/{task.task_id}.mp4",
    ]


def test_links_may_run_out_as_long_as_each_brings_something(quick: Sandbox, account: Account, temp: Path) -> None:
    task = big(quick, account)
    before = len(asked(quick))
    quick.misbehave("download", *["drop:90000", "status:403"] * 3)
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert len(asked(quick)) == before + 3
    assert ranges(quick)[0] == ""
    assert all(text.startswith("bytes=") for text in ranges(quick)[1:])


@pytest.mark.parametrize("fault", ["status:403", "drop:0"])
def test_a_fresh_link_that_brings_nothing_more_is_the_last(
    fault: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = big(quick, account)
    before = len(asked(quick))
    quick.misbehave("download", "drop:90000", "status:403", fault, "status:403")
    with pytest.raises(UnavailableError, match="neither does a fresh one"):
        fetched(account, task, temp)
    assert len(asked(quick)) == before + 1


def test_links_that_begin_anew_and_run_out_at_the_same_place_are_not_asked_for_without_end(
    account: Account, temp: Path
) -> None:
    cut_off, gone = says(FILM[:CUT], length=SIZE), says(b"", status="403 Forbidden")
    with scripted() as relay:
        link = f'{{"code": 0, "data": {{"task_id": "1", "task_status": "succeed", "url": "{relay.url}/clip"}}}}'
        relay.answers = [cut_off, gone, says(link.encode()), cut_off, gone]
        asks = open_gateway(relay.url, temp.parent / "relay")
        with pytest.raises(UnavailableError, match="link to the video does not work"):
            fetched(asks, Task("1", url=f"{relay.url}/clip"), temp)
        assert relay.answers == []


@pytest.mark.parametrize("answer", ["the same link", "no answer", "no link"])
def test_a_link_that_stays_dead_is_an_error_that_speaks_of_thirty_days(
    answer: str, quick: Sandbox, account: Account, temp: Path
) -> None:
    task = finished(account)
    quick.misbehave("download", "status:404", "status:404")
    quick.misbehave("query", *{"no answer": ["drop"], "no link": ["shape:no_url"]}.get(answer, []))
    with pytest.raises(UnavailableError, match="deletes results 30 days after they were made") as caught:
        fetched(account, task, temp)
    assert task.created_at
    assert time.strftime("%Y-%m-%d", time.gmtime(task.created_at / 1000)) in str(caught.value)
    assert f"HTTP 404, task_id {task.task_id}" in str(caught.value)
    assert quick.origin not in str(caught.value)
    assert len(files(quick)) == (2 if answer == "the same link" else 1)


def test_a_fresh_link_to_the_video_of_another_task_is_not_followed(account: Account, temp: Path) -> None:
    other = (
        b'{"code": 0, "data": {"task_id": "1", "task_status": "succeed", "task_info": {"external_task_id": "other"},'
    )
    other += b' "task_result": {"videos": [{"url": "http://127.0.0.1:9/other.mp4"}]}}}'
    with scripted(says(b"", status="403 Forbidden"), says(other)) as relay:
        asks = open_gateway(relay.url, temp.parent / "mixed-up")
        with pytest.raises(UnavailableError, match="link to the video does not work"):
            fetched(asks, Task("1", "succeed", "boat-1", url=f"{relay.url}/clip"), temp)
        assert [path for path, _ in relay.asked] == ["/clip", "/v1/videos/text2video/1"]


# -- Cancel


def when(condition: Callable[[Watcher], bool], temp: Path) -> Watcher:
    return Watcher(temp, condition)


def test_cancel_ends_the_node_and_soon_its_thread_and_running_again_goes_on(
    quick: Sandbox, account: Account, temp: Path
) -> None:
    size = 50_000_000
    task = big(quick, account, size=size)
    quick.misbehave("download", "slow:500000")

    def has_begun(watcher: Watcher) -> bool:
        return any(re.match(r"downloading, (?!0\.0 )[\d.]+ of 47\.7 MB", line) for line in watcher.lines)

    watcher = when(has_begun, temp)
    with pytest.raises(Cancelled):
        fetched(account, task, temp, watcher)
    assert watcher.lines[-1] == "stopped. Run again to continue the download for free"
    transfer = Transfer(account.settings, task.task_id, temp, QUICK)
    lock = filelock.acquire(transfer._lock, timeout=60)
    assert lock  # the thread has let it go
    with closing(lock):
        assert 50_000 < transfer._part.stat().st_size < size
    assert fetched(account, task, temp).read_bytes() == whole(quick, task)
    assert ranges(quick)[1].startswith("bytes=")


def test_a_download_that_hangs_does_not_hold_a_cancelled_node(quick: Sandbox, account: Account, temp: Path) -> None:
    task = finished(account)
    quick.misbehave("download", "hang")
    with pytest.raises(Cancelled):
        fetched(account, task, temp, when(lambda watcher: bool(files(quick)), temp))
    quick.stop()  # lets the thread go that hangs on the connection


def test_every_error_of_a_download_names_the_task(account: Account, temp: Path) -> None:
    with scripted(says(b"nothing")) as script, pytest.raises(KlingError) as caught:
        fetched(account, elsewhere(account, script), temp)
    assert caught.value.task_id


def test_the_pauses_double_up_to_a_limit() -> None:
    pace = Pace()
    assert pace.download_tries == 5
    assert pace.download_pause * 2**4 < pace.download_pause_most < 60
