"""Many submissions at once: threads, ledgers and processes that want the same, and Cancel in the middle."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fault_tools import (
    LIMIT,
    Cancelled,
    Gate,
    Watch,
    only_row,
    opened,
    request,
    run,
    submit,
    wait_until,
)

from nodes.api.ledger.row import State
from nodes.api.running import threads as waiting
from nodes.api.submit.account import Account
from nodes.api.submit.loop import Submission
from nodes.api.submit.loop import submit as submit_request
from nodes.sandbox import Sandbox

pytest_plugins = ["fault_fixtures"]


def test_a_hundred_submissions_are_a_hundred_tasks(sandbox: Sandbox, account: Account) -> None:
    async def all_of_them() -> list[Submission]:
        return await asyncio.gather(*(submit_request(account, request(f"Scene {n}."), 1, Watch()) for n in range(100)))

    submissions = run(all_of_them())
    assert {one.task_id for one in submissions} == set(sandbox.tasks) and len(sandbox.tasks) == 100
    assert {row.task_id for row in account.ledger.rows(State.ACCEPTED)} == set(sandbox.tasks)


def test_sixty_four_are_under_way_at_the_same_moment(sandbox: Sandbox, account: Account) -> None:
    sandbox.misbehave("create", *["hang-before"] * 64)
    watch = Watch()

    async def all_of_them() -> list[Any]:
        nodes = [asyncio.ensure_future(submit_request(account, request(f"Scene {n}."), 1, watch)) for n in range(70)]
        await asyncio.to_thread(wait_until, lambda: len(sandbox.received) == 64, "64 POSTs are there")
        watch.cancelled = True
        return await asyncio.gather(*nodes, return_exceptions=True)

    assert [type(result) for result in run(all_of_them())] == [Cancelled] * 70
    sandbox.stop()
    wait_until(lambda: not account.ledger.rows(State.SENDING), "all answers are recorded")
    assert len(sandbox.received) == len(account.ledger.rows(State.UNKNOWN)) == 64


def test_the_same_submission_many_times_over_is_one_task(sandbox: Sandbox, account: Account, patient: Account) -> None:
    async def all_of_them() -> list[Submission]:
        return await asyncio.gather(
            *(submit_request(one, request(), 1, Watch()) for one in (account, patient) for _ in range(20))
        )

    submissions = run(all_of_them())
    assert {one.task_id for one in submissions} == set(sandbox.tasks)
    assert len(sandbox.creates()) == 1
    assert [one.reused for one in submissions].count(False) == 1


def test_a_second_one_waits_for_the_answer_to_the_first(gated: Sandbox, gate: Gate, state: Path) -> None:
    gate.shut()

    async def both(account: Account) -> list[Submission]:
        first = asyncio.ensure_future(submit_request(account, request(), 1, Watch()))
        await asyncio.to_thread(wait_until, lambda: gated.tasks, "the task is made")
        return [await submit_request(account, request(), 1, Watch("already being sent", gate.open)), await first]

    with opened(gated.base_url, state) as running:
        second, first = run(both(running))
    assert first.task_id == second.task_id and second.reused
    assert len(gated.creates()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets nobody delete a file that is open")
def test_a_ledger_that_is_lost_while_a_post_is_in_flight_does_not_let_a_second_one_through(
    gated: Sandbox, gate: Gate, state: Path
) -> None:
    gated.knows_external_ids = False
    gate.shut()

    async def both(account: Account) -> list[Submission]:
        first = asyncio.ensure_future(submit_request(account, request(), 1, Watch()))
        await asyncio.to_thread(wait_until, lambda: gated.tasks, "the task is made")
        for path in state.glob("ledger.db*"):
            path.unlink()
        return [await submit_request(account, request(), 1, Watch("already being sent", gate.open)), await first]

    with opened(gated.base_url, state) as running:
        second, first = run(both(running))
        assert only_row(running).task_id == first.task_id == second.task_id
    assert len(gated.creates()) == 1


# Cancel


async def cancelled_in_mid_post(account: Account, gated: Sandbox) -> None:
    watch = Watch()
    node = asyncio.ensure_future(submit_request(account, request(), 1, watch))
    await asyncio.to_thread(wait_until, lambda: gated.tasks, "the task is made")
    watch.cancelled = True
    with pytest.raises(Cancelled):
        await node


def test_cancel_in_the_middle_of_a_post_ends_the_node_at_once_and_loses_nothing(
    gated: Sandbox, gate: Gate, state: Path
) -> None:
    gate.shut()
    with opened(gated.base_url, state) as account:
        run(cancelled_in_mid_post(account, gated))
        assert only_row(account).state == State.SENDING
        gate.open()
        wait_until(lambda: only_row(account).state == State.ACCEPTED, "the answer is recorded")
        assert submit(account).reused and len(gated.tasks) == 1


def test_a_second_queue_during_a_cancelled_post_gets_its_task(gated: Sandbox, gate: Gate, state: Path) -> None:
    gate.shut()
    with opened(gated.base_url, state) as account:
        run(cancelled_in_mid_post(account, gated))
        again = submit(account, watch=Watch("already being sent", gate.open))
    assert list(gated.tasks) == [again.task_id] and len(gated.creates()) == 1


def test_nothing_is_sent_after_cancel(sandbox: Sandbox, account: Account) -> None:
    watch = Watch()
    watch.cancelled = True
    with pytest.raises(Cancelled):
        submit(account, watch=watch)
    assert drained() and sandbox.received == [] and account.ledger.rows() == []


def test_work_that_waits_for_a_thread_is_not_begun_after_cancel(sandbox: Sandbox, account: Account) -> None:
    release, watch = threading.Event(), Watch()
    busy = [waiting._pool().submit(release.wait, LIMIT) for _ in range(waiting.WORKERS)]

    async def cancelled_in_the_queue() -> None:
        nodes = [asyncio.ensure_future(submit_request(account, request(f"Scene {n}."), 1, watch)) for n in range(8)]
        closing_loop = asyncio.ensure_future(submit_request(account, request("Its loop is closed."), 1, Watch()))
        await asyncio.sleep(0)
        closing_loop.cancel()
        watch.cancelled = True
        assert [type(result) for result in await asyncio.gather(*nodes, return_exceptions=True)] == [Cancelled] * 8
        with suppress(asyncio.CancelledError):
            await closing_loop

    run(cancelled_in_the_queue())
    release.set()
    assert all(one.result() for one in busy) and drained()
    assert sandbox.received == [] and account.ledger.rows() == []


def drained() -> bool:
    """Whatever was handed to the worker threads before this has been taken up."""
    everyone = threading.Barrier(waiting.WORKERS)
    marks = [waiting._pool().submit(everyone.wait, LIMIT) for _ in range(waiting.WORKERS)]
    return all(mark.result(LIMIT) >= 0 for mark in marks)
