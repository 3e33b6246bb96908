"""Waiting on the event loop: countdown, Cancel, and work in threads that outlives the loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fault_tools import FAST, LIMIT, Cancelled, Watch, wait_until

from nodes.api.running import threads
from nodes.api.running.threads import in_thread, sleep

NEVER_LOOKS = replace(FAST, slice=LIMIT)
"""So long a slice that only a wake-up ends the waiting in time."""


def test_the_countdown_shows_each_second_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that goes on whenever it is read, and only then: on a slow machine the real one could skip a second.
    moments = itertools.count(1000.0, 0.05)
    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    watch = Watch()
    asyncio.run(sleep(1.2, watch, FAST, "waiting for a free slot, try 2"))
    assert watch.lines == ["waiting for a free slot, try 2 in 2 s", "waiting for a free slot, try 2 in 1 s"]


def test_waiting_without_a_line_shows_nothing() -> None:
    watch = Watch()
    asyncio.run(sleep(0.05, watch, FAST))
    assert watch.lines == []


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.25])
def test_waiting_for_a_common_moment_ends_at_one(seconds: float) -> None:
    slice = 0.2
    least = time.monotonic() + seconds
    asyncio.run(sleep(seconds, Watch(), replace(FAST, slice=slice), aligned=True))
    assert time.monotonic() >= math.ceil(least / slice) * slice - 1e-6


def test_cancel_ends_the_waiting_with_the_hosts_exception() -> None:
    watch = Watch("waiting")

    async def in_time() -> None:
        await asyncio.wait_for(sleep(LIMIT, watch, FAST, "waiting"), LIMIT / 2)

    with pytest.raises(Cancelled):
        asyncio.run(in_time())
    (line,) = watch.lines
    assert line.startswith("waiting in ")


def test_work_runs_in_a_thread_of_our_own_and_its_end_wakes_the_node() -> None:
    async def in_time() -> str:
        return await asyncio.wait_for(in_thread(Watch(), NEVER_LOOKS, name_of_thread, "here"), LIMIT / 2)

    assert asyncio.run(in_time()).startswith("here kling")


def name_of_thread(prefix: str) -> str:
    return f"{prefix} {threading.current_thread().name}"


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        asyncio.run(in_thread(Watch(), FAST, int, "x"))


def test_work_is_not_even_begun_for_a_node_that_is_cancelled_already() -> None:
    watch = Watch()
    begun: list[int] = []
    watch.cancelled = True
    with pytest.raises(Cancelled):
        asyncio.run(in_thread(watch, FAST, begun.append, 1))
    asyncio.run(in_thread(Watch(), FAST, int))
    assert begun == []


def test_work_goes_on_after_its_loop_is_closed_and_nobody_complains(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(LIMIT)
        ended.set()

    async def sibling() -> None:
        await asyncio.to_thread(begun.wait, LIMIT)
        raise ValueError("a sibling's error")

    async def prompt() -> None:
        await asyncio.gather(in_thread(Watch(), FAST, work), sibling())

    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match="sibling"):
        asyncio.run(prompt())
    assert not ended.is_set()
    go_on.set()
    wait_until(ended.is_set, "the work ends")
    asyncio.run(in_thread(Watch(), FAST, int))
    assert "exception" not in caplog.text.lower()


@pytest.mark.parametrize("turns", range(8))
def test_the_cancellation_of_a_closing_loop_is_never_swallowed(turns: int) -> None:
    """Also when it comes just when the work has ended; before Python 3.12, wait_for lost it then."""

    async def cancelled_in_turn() -> bool:
        ended = threading.Event()
        node = asyncio.ensure_future(in_thread(Watch(), NEVER_LOOKS, ended.set))
        await asyncio.sleep(0)
        ended.wait(LIMIT)  # blocks the loop on purpose: the wake-up is under way, and comes so many turns later
        for _ in range(turns):
            await asyncio.sleep(0)
        was_done = node.done()
        node.cancel()
        await asyncio.wait({node})
        return was_done or node.cancelled()

    assert asyncio.run(cancelled_in_turn())
