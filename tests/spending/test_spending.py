"""Nobody spends more than the owner said: threads, processes, restarts, clocks, and what a task was charged."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from environment import Environment
from fault_tools import FAST, PATIENT, Gate, Process, Watch, only_row, opened, request, run
from graph import Graph

from nodes.api.errors import GraphError, KlingError, LimitError, OutcomeUnknown
from nodes.api.gateway.answer import read_task
from nodes.api.ledger.row import Row, State
from nodes.api.spending.limits import HOUR, NO_LIMITS, Limits
from nodes.api.spending.prices import Tariff
from nodes.api.submit.account import Account
from nodes.api.submit.loop import Submission, submit
from nodes.api.video.poll import wait_for_video
from nodes.host import ConsoleHost
from nodes.sandbox import Sandbox

OLD = Path(__file__).with_name("ledger-0.1.0")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def account(sandbox: Sandbox, state: Path) -> Any:
    with opened(sandbox.base_url, state, PATIENT) as account:
        yield account


def buy(account: Account, prompt: str = "A boat.", limits: Limits = NO_LIMITS, **changes: Any) -> Submission:
    return run(submit(account, request(prompt, **changes), 1, Watch(), limits))


def many(account: Account, prompts: list[str], limits: Limits) -> list[Submission | BaseException]:
    async def all_of_them() -> list[Submission | BaseException]:
        tries = (submit(account, request(prompt), 1, Watch(), limits) for prompt in prompts)
        return await asyncio.gather(*tries, return_exceptions=True)

    return run(all_of_them())


def shift(state: Path, column: str, seconds: float) -> None:
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute(f"UPDATE submissions SET {column} = {column} + ?", (seconds,))
        connection.commit()


# Never more, not by one


def test_many_nodes_at_once_make_exactly_as_many_tasks_as_the_limit_allows(sandbox: Sandbox, account: Account) -> None:
    results = many(account, [f"Scene {n}." for n in range(60)], Limits(20))
    assert len(sandbox.creates()) == len(sandbox.tasks) == 20
    assert Counter(type(result).__name__ for result in results) == {"Submission": 20, "LimitError": 40}


def test_two_processes_together_make_exactly_twenty_by_default(
    sandbox: Sandbox, state: Path, environment: Environment
) -> None:
    prompts = [[f"{name} {n}." for n in range(30)] for name in ("One", "Two")]

    def both() -> list[dict[str, Any]]:
        with ExitStack() as stack:
            processes = [
                stack.enter_context(Process("submit", base_url=sandbox.base_url, state=str(state), prompts=mine))
                for mine in prompts
            ]
            for process in processes:
                process.go()
            return [result for process in processes for result in process.results()]

    environment.unset("KLING_MAX_TASKS_PER_HOUR")
    results = both()
    assert len(sandbox.creates()) == len(sandbox.tasks) == 20
    assert sum(result.get("error") == "LimitError" for result in results) == 40
    first = {result["task_id"] for result in results if "task_id" in result}
    # Raised, the rest goes through, and the first twenty are not paid again.
    environment.set("KLING_MAX_TASKS_PER_HOUR", "60")
    again = both()
    assert len(sandbox.creates()) == len(sandbox.tasks) == 60
    assert {result["task_id"] for result in again if result["reused"]} == first


def test_the_others_keep_what_they_have_before_the_limit_is_said(
    sandbox_with_gate: tuple[Sandbox, Gate], state: Path
) -> None:
    """ComfyUI ends all nodes with the first error, so that error has to come last."""
    sandbox, gate = sandbox_with_gate
    with opened(sandbox.base_url, state, PATIENT) as account:
        gate.shut()
        refused = Watch("spending limit is reached", gate.open)

        async def both() -> list[object]:
            first = asyncio.ensure_future(submit(account, request("One."), 1, Watch(), Limits(1)))
            while not account.ledger.rows(State.SENDING):
                await asyncio.sleep(0.01)
            second = asyncio.ensure_future(submit(account, request("Two."), 1, refused, Limits(1)))
            done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
            assert done == {first}
            return list(await asyncio.gather(first, second, return_exceptions=True))

        one, two = run(both())
    assert isinstance(one, Submission) and isinstance(two, LimitError)


def test_a_refused_node_does_not_wait_for_a_run_that_was_abandoned(
    sandbox_with_gate: tuple[Sandbox, Gate], state: Path
) -> None:
    """A loop that is stopped and not closed leaves its nodes as they are."""
    sandbox, gate = sandbox_with_gate
    gate.shut()
    with opened(sandbox.base_url, state, PATIENT) as account, closing(asyncio.new_event_loop()) as abandoned:
        first = abandoned.create_task(submit(account, request("One."), 1, Watch(), Limits(1)))

        async def sent() -> None:
            while not account.ledger.rows(State.SENDING):
                await asyncio.sleep(0.01)

        abandoned.run_until_complete(sent())
        watch = Watch("spending limit is reached")  # cancels, if it waits
        with pytest.raises(LimitError):
            run(submit(account, request("Two."), 1, watch, Limits(1)))
        gate.open()
        abandoned.run_until_complete(first)


@pytest.fixture
def sandbox_with_gate() -> Any:
    gate = Gate()
    with Sandbox(log=gate) as sandbox:
        yield sandbox, gate


# What counts


def test_reuse_is_free_and_never_counted(sandbox: Sandbox, account: Account) -> None:
    first = buy(account, limits=Limits(1))
    for _ in range(3):
        assert buy(account, limits=Limits(1)).task_id == first.task_id
    with pytest.raises(LimitError):
        buy(account, "Another.", Limits(1))
    assert len(sandbox.tasks) == 1


def test_what_was_refused_or_never_sent_gives_its_place_back(sandbox: Sandbox, state: Path) -> None:
    with opened(sandbox.base_url, state, replace(FAST, slot_wait=0)) as account:
        sandbox.misbehave("create", "code:1301")
        with pytest.raises(GraphError):
            buy(account, "Refused.", Limits(1))
        sandbox.misbehave("create", "code:1303")
        with pytest.raises(KlingError):
            buy(account, "No slot.", Limits(1))
        assert not buy(account, "Bought.", Limits(1)).reused
        with pytest.raises(LimitError):
            buy(account, "Refused.", Limits(1))


def test_what_may_have_been_paid_counts(sandbox: Sandbox, state: Path) -> None:
    with opened(sandbox.base_url, state, FAST) as account:
        sandbox.misbehave("create", "drop-before")
        sandbox.misbehave("query", *["drop"] * 500)
        with pytest.raises(OutcomeUnknown):
            buy(account, "Lost.", Limits(1))
        sandbox.clear_faults()
        with pytest.raises(LimitError):
            buy(account, "Another.", Limits(1))
    # It holds its place already, so it may be sent once more when it is proven absent.
    with opened(sandbox.base_url, state, PATIENT) as account:
        assert buy(account, "Lost.", Limits(1)).task_id in sandbox.tasks
        assert len(sandbox.tasks) == 1


def test_a_failed_task_gives_its_units_back_but_not_its_place(sandbox: Sandbox, account: Account) -> None:
    task_id = buy(account, "It fails.", Limits(0, 3)).task_id  # 5 s of kling-v3 take 3 units
    with pytest.raises(LimitError, match="24 hours"):
        buy(account, "Another.", Limits(0, 3))
    account.ledger.fail(sandbox.base_url, task_id, "no luck")
    with pytest.raises(LimitError, match="60 minutes"):
        buy(account, "Another.", Limits(1, 3))
    assert buy(account, "Another.", Limits(0, 3)).task_id in sandbox.tasks


def test_what_was_really_charged_counts_in_place_of_the_estimate(sandbox: Sandbox, account: Account) -> None:
    task_id = buy(account, "One.").task_id
    account.ledger.charge(sandbox.base_url, task_id, 9.5)
    with pytest.raises(LimitError, match=r"9\.5 units were spent, and it takes about 3 more"):
        buy(account, "Two.", Limits(0, 12))
    account.ledger.charge(sandbox.base_url, task_id, 0.5)
    buy(account, "Two.", Limits(0, 12))


def test_all_gateways_of_one_state_directory_count_together(sandbox: Sandbox, account: Account, state: Path) -> None:
    buy(account, limits=Limits(1))
    with Sandbox() as other, opened(other.base_url, state, PATIENT) as second:
        with pytest.raises(LimitError):
            buy(second, limits=Limits(1))
        assert other.received == []


def test_a_place_is_free_after_an_hour_and_not_before(sandbox: Sandbox, account: Account, state: Path) -> None:
    buy(account, "One.", Limits(1))
    shift(state, "counted_at", -HOUR + 60)
    with pytest.raises(LimitError, match="in 1 min"):
        buy(account, "Two.", Limits(1))
    shift(state, "counted_at", -120)
    buy(account, "Two.", Limits(1))


# Clocks


def test_a_clock_that_was_set_back_locks_nobody_out_for_longer_than_the_window(
    sandbox: Sandbox, account: Account, state: Path
) -> None:
    buy(account, "One.", Limits(1))
    shift(state, "counted_at", 10 * HOUR)  # as if it had been sent by a clock ten hours ahead
    with pytest.raises(LimitError, match="in 60 min"):
        buy(account, "Two.", Limits(1))
    # Moved once for all, although the limit refused: refusals in between do not begin the hour anew.
    shift(state, "counted_at", -HOUR)
    buy(account, "Two.", Limits(1))


def test_what_is_only_looked_at_is_not_locked_either(sandbox: Sandbox, account: Account, state: Path) -> None:
    """The console asks for what was spent, and stops before anything is claimed."""
    buy(account, "One.")
    shift(state, "counted_at", 10 * HOUR)
    (one,) = account.ledger.spent(Limits(1))
    assert one.at <= time.time()


def test_a_clock_that_is_set_forward_frees_no_place(sandbox: Sandbox, account: Account) -> None:
    buy(account, "One.", Limits(1))
    # The process began, as far as its steady clock tells, five hours ago by the clock on the wall.
    account.ledger._clock -= 5 * HOUR
    before = only_row(account).counted_at
    for _ in range(2):  # a claim that is refused does not undo the move
        with pytest.raises(LimitError):
            buy(account, "Two.", Limits(1))
    buy(account, "Two.", Limits(2))
    moved = max(row.counted_at for row in account.ledger.rows() if '"One."' in row.body)
    assert before < moved <= time.time()


def test_two_processes_that_see_the_clock_set_forward_move_the_rows_once(
    sandbox: Sandbox, account: Account, state: Path
) -> None:
    with opened(sandbox.base_url, state, PATIENT) as other:
        buy(account, "One.")
        for ledger in (account.ledger, other.ledger):
            ledger._clock -= 5 * HOUR
        shift(state, "counted_at", -5.5 * HOUR)  # it was sent half an hour before
        buy(account, "Two.", Limits(2))
        with pytest.raises(LimitError, match="in 30 min"):
            buy(other, "Three.", Limits(2))


def test_a_claim_that_had_to_wait_is_not_older_than_those_before_it(
    sandbox: Sandbox, account: Account, state: Path
) -> None:
    with closing(sqlite3.connect(state / "ledger.db", check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        free = threading.Timer(0.5, other.rollback)
        began = time.time()
        free.start()
        row = Row(sandbox.base_url, "id", "print", 1, 1, State.UNSENT, "{}")
        claimed = account.ledger.claim(row, None, Limits(1))
        free.join()
    assert claimed and claimed.counted_at >= began + 0.4


def test_what_a_process_of_0_1_0_sends_into_the_open_ledger_counts(
    sandbox: Sandbox, account: Account, state: Path
) -> None:
    """It opened the file before this release gave it new columns, and knows only its own."""
    with closing(sqlite3.connect(state / "ledger.db")) as old:
        old.execute(
            "INSERT INTO submissions (base_url, external_task_id, fingerprint, attempt, take, state, body, created_at,"
            " sent_at) VALUES ('https://a.example', 'id', 'print', 1, 1, 'accepted', '{}', :now, :now)",
            {"now": time.time() - HOUR / 2},
        )
        old.commit()
    for _ in range(2):
        with pytest.raises(LimitError, match="in 30 min"):
            buy(account, "Another.", Limits(1))
    assert account.ledger.spent(Limits(1))[0].at == pytest.approx(time.time() - HOUR / 2, abs=60)


def test_the_later_of_two_clocks_counts(sandbox: Sandbox, account: Account) -> None:
    claimed = account.ledger.claim(Row(sandbox.base_url, "id", "print", 1, 1, State.UNSENT, "{}"), None)
    assert claimed
    behind = replace(claimed, counted_at=claimed.counted_at - 5 * HOUR)
    made = account.client.create({**request("One.").body(), "external_task_id": "id"}).task
    assert made and made.created_at
    task = replace(made, task_id="1")
    assert behind.accepted(task).counted_at == pytest.approx(made.created_at / 1000)
    far = replace(task, created_at=int((time.time() + 40 * 86_400) * 1000))
    assert behind.accepted(far).counted_at == behind.counted_at


def test_limits_read_no_row_that_does_not_count_any_more(sandbox: Sandbox, account: Account, state: Path) -> None:
    """A claim must not take longer because there are a hundred thousand old rows."""
    steps: list[str] = []

    def claim(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(steps.append)

    account.ledger._file.run(claim)
    buy(account, limits=Limits(20, 1000))
    account.ledger._file.run(lambda connection: connection.set_trace_callback(None))
    asked = [
        step for step in steps if "counted_at" in step.partition(" WHERE ")[2] and step.startswith(("SELECT", "UP"))
    ]
    assert len(asked) >= 4
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        for step in asked:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {step}").fetchall()
            assert all("SEARCH" in row[3] for row in plan), (step, plan)


# Kept in the ledger


def test_what_a_finished_task_was_charged_is_kept_shown_and_known_as_the_last_price(
    sandbox: Sandbox, account: Account
) -> None:
    submission = buy(account)
    assert submission.charged is None
    task = run(wait_for_video(account, submission.task_id, 60, ConsoleHost()))
    assert task.charged == only_row(account).charged == 3
    assert buy(account).charged == 3
    assert account.ledger.last_charges() == {Tariff("kling-v3", "std", "off", 5): 3}


@pytest.mark.parametrize("said", ["-5", "NaN", "much", "9" * 30, None])
def test_a_charge_that_cannot_be_one_is_not_read(said: object) -> None:
    assert read_task({"data": {"task_id": "1", "final_unit_deduction": said}}).charged is None


def test_a_ledger_that_the_release_0_1_0_wrote_is_taken_over(state: Path) -> None:
    shutil.copytree(OLD, state)
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        (newest,) = connection.execute("SELECT MAX(sent_at) FROM submissions").fetchone()
        age = time.time() - newest - 60
        connection.execute(
            "UPDATE submissions SET created_at = created_at + :s, sent_at = sent_at + :s,"
            " accepted_at = accepted_at + :s",
            {"s": age},
        )
        connection.commit()
    # Nothing listens there: a graph that was paid before is answered from the ledger alone.
    with opened("http://127.0.0.1:18500/kling", state, FAST) as account:
        states = Counter(row.state for row in account.ledger.rows())
        assert states == {State.ACCEPTED: 2, State.UNKNOWN: 1, State.REFUSED: 1, State.FAILED: 1}
        old = request(multi_shot=False, sound="off", aspect_ratio="16:9", cfg_scale=0.5)
        reused = run(submit(account, old, 1, Watch(), Limits(1)))
        assert (reused.task_id, reused.reused, reused.charged) == ("834359560501956589", True, None)
        # Accepted, failed and unknown ones count, the refused one does not.
        assert len(account.ledger.spent(Limits(20))) == 4
        with pytest.raises(LimitError):
            buy(account, "A new one.", Limits(4))
    assert not list(state.glob("ledger-damaged-*"))


def test_a_damaged_ledger_of_the_release_0_1_0_is_rescued(state: Path) -> None:
    """Its rows lack the columns that came later. At a relay without external ids they would be paid again."""
    shutil.copytree(OLD, state)
    file = state / "ledger.db"
    with closing(sqlite3.connect(file)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'by_task'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    content = file.read_bytes()
    file.write_bytes(content[: (page - 1) * size] + b"\xff" * size + content[page * size :])
    with opened("http://127.0.0.1:18500/kling", state, FAST) as account:
        assert Counter(row.state for row in account.ledger.rows())[State.ACCEPTED] == 2
        assert len(account.ledger.rows()) == 5


# In a graph


def test_the_node_says_the_limit_and_sends_nothing(graph: Graph, gateway: Sandbox, environment: Environment) -> None:
    environment.set("KLING_MAX_TASKS_PER_HOUR", "1")
    graph.submit()
    with pytest.raises(Exception, match="The limit of 1 new task in 60 minutes is reached") as caught:
        graph.submit(take=2)
    assert type(caught.value).__name__ == "LimitError"
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("wrong", ["none", "-3", "2.5"])
def test_a_limit_that_cannot_be_read_stops_the_run(
    graph: Graph, gateway: Sandbox, environment: Environment, wrong: str
) -> None:
    environment.set("KLING_MAX_TASKS_PER_HOUR", wrong)
    with pytest.raises(Exception, match="KLING_MAX_TASKS_PER_HOUR must be a whole number"):
        graph.submit()
    assert gateway.received == []


def test_the_receipt_has_the_estimate_and_once_known_the_charge(graph: Graph, gateway: Sandbox) -> None:
    task_id, receipt = graph.submit(duration=12, sound="on")
    assert receipt["estimate"] == {"units": 10.8, "list_price_usd": 1.512, "price_list_of": "2026-09"}
    assert receipt["charged"] is None
    graph.run("KlingVideo", task_id=task_id, timeout_minutes=1)
    assert graph.submit(duration=12, sound="on")[1]["charged"] == 10.8


@pytest.fixture
def graph(pack: Any) -> Graph:
    return Graph(pack)
