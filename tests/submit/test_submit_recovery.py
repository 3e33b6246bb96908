"""What is done about answers that were lost: by the next run, by the next process, and by hand."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import OTHER_KEY
from fault_tools import (
    PATIENT,
    Cancelled,
    Process,
    Watch,
    age,
    only_row,
    opened,
    request,
    run,
    settings,
    submit,
    wait_until,
)
from pydantic import SecretStr

from nodes.api.errors import (
    KlingError,
    OutcomeUnknown,
    SetupError,
    TaskFailed,
)
from nodes.api.ledger.row import State
from nodes.api.pace import CONNECT_TIMEOUT, CREATE_TIMEOUT
from nodes.api.spending.limits import NO_LIMITS
from nodes.api.submit.account import Account, open_account
from nodes.api.submit.loop import submit as submit_request
from nodes.sandbox import Sandbox
from nodes.sandbox.faults import ODD_IDS

pytest_plugins = ["fault_fixtures"]


def test_what_is_proven_absent_is_sent_once_more_under_the_same_id(
    sandbox: Sandbox, account: Account, patient: Account
) -> None:
    sandbox.misbehave("create", "drop-before")
    with pytest.raises(OutcomeUnknown):
        submit(account)
    second = submit(patient)
    assert list(sandbox.tasks) == [second.task_id] and not second.reused
    first_body, second_body = sandbox.creates()
    assert first_body == second_body
    assert submit(patient).reused and len(sandbox.creates()) == 2


def lose_the_answer(sandbox: Sandbox, account: Account) -> None:
    """The task is made, and neither the answer to the POST nor one to a look-up comes."""
    sandbox.misbehave("create", "drop-after")
    sandbox.misbehave("query", *["drop"] * 500)
    with pytest.raises(OutcomeUnknown):
        submit(account)
    sandbox.clear_faults()


def test_that_a_task_is_not_found_once_proves_nothing(
    sandbox: Sandbox, account: Account, patient: Account, state: Path
) -> None:
    lose_the_answer(sandbox, account)
    sandbox.misbehave("query", "not-found")
    age(state, 3600)
    assert submit(patient).task_id in sandbox.tasks and len(sandbox.creates()) == 1


def test_a_look_up_that_proves_nothing_makes_the_proofs_start_again(
    sandbox: Sandbox, account: Account, patient: Account, state: Path
) -> None:
    lose_the_answer(sandbox, account)
    # A relay that lost sight of Kling does not know the id either, but says it in its own words.
    sandbox.misbehave("query", "not-found", "gateway:task_not_exist", "not-found")
    age(state, 3600)
    assert submit(patient).task_id in sandbox.tasks and len(sandbox.creates()) == 1


def test_what_was_sent_a_moment_ago_is_not_sent_again_before_it_could_settle(sandbox: Sandbox, state: Path) -> None:
    slow = replace(PATIENT, settle=1.0)
    sandbox.misbehave("create", "drop-before")
    with opened(sandbox.base_url, state) as account, pytest.raises(OutcomeUnknown):
        submit(account)
    with opened(sandbox.base_url, state, slow) as account:
        submit(account)
        row = only_row(account)
    assert row.sent_at - row.created_at >= 0.99


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_clock_that_was_set_since_neither_loses_nor_repeats_anything(
    sandbox: Sandbox, account: Account, patient: Account, state: Path, skew: float
) -> None:
    sandbox.misbehave("create", "status-after:502", "status-before:502")
    sandbox.misbehave("query", *["drop"] * 500)
    for take in (1, 2):
        with pytest.raises(OutcomeUnknown):
            submit(account, take=take)
    age(state, skew)
    sandbox.clear_faults()
    found, sent = submit(patient, take=1), submit(patient, take=2)
    assert list(sandbox.tasks) == [found.task_id, sent.task_id]
    assert len(sandbox.creates()) == 3


def test_a_row_that_somebody_sent_again_meanwhile_is_not_taken_for_the_one_proven_absent(
    sandbox: Sandbox, account: Account, patient: Account
) -> None:
    sandbox.misbehave("create", "drop-before")
    with pytest.raises(OutcomeUnknown):
        submit(account)
    absent = only_row(account)
    sandbox.misbehave("create", "drop-after")
    claimed = account.ledger.claim(absent, absent)
    assert claimed
    account.sender._record(claimed, account.client.create(claimed.request()))
    account.ledger.release(claimed)
    step = account.sender.advance(request(), 1, absent, NO_LIMITS)
    assert step.result is None and step.is_lost
    assert len(sandbox.creates()) == 2
    assert submit(patient).task_id in sandbox.tasks and len(sandbox.tasks) == 1


def test_a_relay_that_cannot_look_up_our_id_never_gets_a_second_post(state: Path) -> None:
    for number, fault in enumerate(["drop-after", "drop-before", "status-after:502", "status-before:502"]):
        with Sandbox(knows_external_ids=False) as relay, opened(relay.base_url, state / fault) as account:
            relay.misbehave("create", fault)
            for _ in range(3):
                with pytest.raises(OutcomeUnknown) as caught:
                    submit(account)
                assert str(caught.value.external_task_id) in str(caught.value) and "KlingVideo" in str(caught.value)
            assert len(relay.creates()) == 1 and len(relay.tasks) == 1 - number % 2
            assert only_row(account).state == State.UNKNOWN
            assert submit(account, take=2).task_id in relay.tasks


def test_what_another_one_finds_meanwhile_ends_the_looking_up(state: Path) -> None:
    with Sandbox(knows_external_ids=False) as relay, opened(relay.base_url, state, PATIENT) as account:
        relay.misbehave("create", "drop-after")

        def late_answer() -> None:
            account.ledger.accept(only_row(account), account.client.query(next(iter(relay.tasks))))

        assert submit(account, watch=Watch("looking the task up", late_answer)).task_id in relay.tasks
        assert len(relay.creates()) == 1


# A ledger that cannot be written any more after the POST


def read_only(account: Account, on: bool) -> None:
    account.ledger._file.run(lambda connection: connection.execute(f"PRAGMA query_only = {int(on)}"))


def test_a_task_that_cannot_be_recorded_is_given_with_a_note_and_recorded_later(state: Path) -> None:
    with Sandbox(log=lambda line: read_only(writer, True)) as sandbox, opened(sandbox.base_url, state) as writer:
        first, again = submit(writer), submit(writer)
        assert only_row(writer).state == State.SENDING
        assert first.task_id == again.task_id and not first.reused and again.reused
        for submission in (first, again):
            (note,) = submission.notes
            assert "is not saved yet" in note and first.task_id in note
        read_only(writer, False)
        assert submit(writer).notes == ()
        assert only_row(writer).task_id == first.task_id and len(sandbox.received) == 1


def test_a_task_that_could_not_be_recorded_is_found_by_the_next_process(state: Path) -> None:
    def log(line: str) -> None:
        if line.startswith("POST"):
            read_only(writer, True)

    with Sandbox(log=log) as sandbox:
        with opened(sandbox.base_url, state) as writer:
            first = submit(writer)
        with opened(sandbox.base_url, state, PATIENT) as later:
            assert submit(later).task_id == first.task_id
    assert len(sandbox.creates()) == 1


def test_a_failed_task_that_cannot_be_recorded_is_never_given(state: Path) -> None:
    def log(line: str) -> None:
        if line.startswith("POST"):
            read_only(writer, True)

    with Sandbox(log=log, queued_for=0, runs_for=0) as sandbox, opened(sandbox.base_url, state, PATIENT) as writer:
        sandbox.misbehave("create", "drop-after")
        sandbox.fail_next()
        with pytest.raises(TaskFailed):
            submit(writer)
        (failed,) = sandbox.tasks
        with pytest.raises(SetupError):
            submit(writer)
        read_only(writer, False)
        assert submit(writer).task_id != failed and len(sandbox.tasks) == 2


@pytest.mark.parametrize("fault", ["drop-after", "drop-before", "code:1301", "code:1303:retry-after=50"])
def test_an_outcome_that_cannot_be_recorded_is_looked_up_by_the_next_run(state: Path, fault: str) -> None:
    once = threading.Event()

    def log(line: str) -> None:
        if not once.is_set():
            read_only(writer, True)
            once.set()

    with Sandbox(log=log) as sandbox, opened(sandbox.base_url, state) as writer:
        sandbox.misbehave("create", fault)
        with suppress(KlingError, Cancelled):
            submit(writer, watch=Watch("free slot"))
        read_only(writer, False)
        with opened(sandbox.base_url, state, PATIENT) as patient:
            writer.ledger.close()
            assert submit(patient).task_id in sandbox.tasks
        assert len(sandbox.tasks) == 1


def test_a_task_that_failed_before_it_could_be_recorded_is_never_offered_again(state: Path) -> None:
    with Sandbox(log=lambda line: read_only(writer, True)) as sandbox, opened(sandbox.base_url, state) as writer:
        first = submit(writer)
        with pytest.raises(SetupError):
            writer.ledger.fail(sandbox.base_url, first.task_id, "risk control")
        read_only(writer, False)
        second = submit(writer)
        assert second.task_id != first.task_id and not second.reused
        assert [(row.attempt, row.state, row.error) for row in writer.ledger.rows(State.FAILED)] == [
            (1, State.FAILED, "risk control")
        ]


# A key that is changed after the disk was full


def test_a_new_key_knows_what_the_old_one_could_not_record(state: Path) -> None:
    with Sandbox(log=lambda line: read_only(old, line.startswith("POST"))) as sandbox:
        old = open_account(settings(sandbox.base_url, state))
        sandbox.misbehave("create", "drop-after")
        sandbox.misbehave("query", "not-found")
        watch = Watch("looking the task up")
        with pytest.raises(Cancelled):
            submit(old, watch=watch)
        assert only_row(old).state == State.SENDING
        new = open_account(replace(settings(sandbox.base_url, state), key=SecretStr(OTHER_KEY)))
        assert new is not old and new.ledger is old.ledger
        found = submit(new)
        assert found.task_id in sandbox.tasks and len(sandbox.creates()) == 1
        old.ledger.close()


def test_many_keys_hold_one_ledger_open(sandbox: Sandbox, state: Path) -> None:
    keys = [f"sk-key-number-{number:04}" for number in range(20)]
    accounts = [open_account(replace(settings(sandbox.base_url, state), key=SecretStr(key))) for key in keys]
    assert len({id(account.ledger) for account in accounts}) == 1
    assert len(list((state / "processes").glob("*.lock"))) == 1
    accounts[0].ledger.close()


# The answer of somebody else


def test_an_answer_about_another_task_is_not_believed(sandbox: Sandbox, patient: Account) -> None:
    sandbox.misbehave("create", "other-task-after", "other-task-after")
    tasks = [submit(patient, take=take).task_id for take in (1, 2)]
    assert tasks == list(sandbox.tasks) and len(sandbox.creates()) == 2


def test_a_task_id_that_another_row_has_is_not_believed(state: Path) -> None:
    with Sandbox(knows_external_ids=False) as relay, opened(relay.base_url, state) as account:
        first = submit(account, take=1)
        relay.misbehave("create", f"other-task-after:{first.task_id}")
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                submit(account, take=2)
        assert len(relay.creates()) == 2
        assert [row.take for row in account.ledger.rows(State.UNKNOWN)] == [2]
        assert submit(account, take=1).task_id == first.task_id


def test_two_answers_at_once_that_name_one_task_give_it_to_one_row(state: Path) -> None:
    with Sandbox(knows_external_ids=False, latency=0.2) as relay, opened(relay.base_url, state) as account:
        relay.misbehave("create", *["other-task-after:777"] * 8)

        async def all_at_once() -> list[object]:
            tries = [submit_request(account, request(), take, Watch()) for take in range(8)]
            return await asyncio.gather(*tries, return_exceptions=True)

        results = run(all_at_once())
        assert sum(isinstance(result, OutcomeUnknown) for result in results) == 7
        assert [row.task_id for row in account.ledger.rows(State.ACCEPTED)] == ["777"]
        assert len(relay.creates()) == 8


@pytest.mark.parametrize("name", ODD_IDS)
def test_an_odd_id_neither_damages_the_ledger_nor_buys_again(state: Path, name: str) -> None:
    with Sandbox(knows_external_ids=False) as relay:
        for number in range(3):
            with opened(relay.base_url, state) as account:
                relay.misbehave("create", *[f"odd-id-after:{name}"] * (number == 0))
                with pytest.raises(OutcomeUnknown):
                    submit(account)
        assert len(relay.creates()) == 1 and not list(state.glob("ledger-damaged*"))


# Somebody else's row


def test_a_row_left_by_a_process_that_died_is_looked_up(sandbox: Sandbox, state: Path) -> None:
    with opened(sandbox.base_url, state) as dead:
        row = dead.sender._plan(request(), 1).row
        claimed = dead.ledger.claim(row, None)
        assert claimed and dead.client.create(claimed.request()).task
    with opened(sandbox.base_url, state, PATIENT) as account:
        assert submit(account).task_id in sandbox.tasks
    assert len(sandbox.creates()) == 1


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_a_row_that_a_living_process_has_sent_long_ago_is_looked_up_but_never_sent_again(
    sandbox: Sandbox, state: Path, seconds: float
) -> None:
    """Negative seconds: the clock was set back since. Nobody waits until it has caught up."""
    with opened(sandbox.base_url, state) as forgetful, opened(sandbox.base_url, state) as account:
        row = forgetful.sender._plan(request(), 1).row
        assert forgetful.ledger.claim(row, None)
        age(state, seconds)
        with pytest.raises(OutcomeUnknown):
            submit(account, watch=Watch("already being sent"))
        assert sandbox.creates() == []
        forgetful.ledger.close()
        with opened(sandbox.base_url, state, PATIENT) as patient:
            assert submit(patient).task_id in sandbox.tasks


def test_as_long_as_a_post_can_take_its_answer_is_waited_for(sandbox: Sandbox, state: Path) -> None:
    with opened(sandbox.base_url, state) as slow, opened(sandbox.base_url, state) as account:
        assert slow.ledger.claim(slow.sender._plan(request(), 1).row, None)
        age(state, CONNECT_TIMEOUT + 2 * CREATE_TIMEOUT - 30)
        with pytest.raises(Cancelled):
            submit(account, watch=Watch("already being sent"))
        assert sandbox.received == []


def test_a_state_that_nobody_knows_counts_as_lost(sandbox: Sandbox, patient: Account, state: Path) -> None:
    first = submit(patient)
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute("UPDATE submissions SET state = 'acc?pted', task_id = NULL")
        connection.commit()
    assert submit(patient).task_id == first.task_id and len(sandbox.creates()) == 1


# recover


def test_recover_looks_up_every_open_row(sandbox: Sandbox, account: Account, state: Path) -> None:
    sandbox.misbehave("create", "drop-after", "drop-before")
    sandbox.misbehave("query", *["drop"] * 500)
    for take in (1, 2):
        with pytest.raises(OutcomeUnknown):
            submit(account, take=take)
    done = submit(account, take=3)
    sandbox.clear_faults()
    found = {row.take: said for row, said in account.finder.recover()}
    (made,) = set(sandbox.tasks) - {done.task_id}
    assert found == {1: f"found: task_id {made}", 2: "no such task"}
    assert [row.take for row, _ in account.finder.recover()] == [2]
    assert len(sandbox.creates()) == 3


def test_recover_leaves_alone_what_is_under_way_or_elsewhere(sandbox: Sandbox, account: Account, state: Path) -> None:
    with opened(sandbox.base_url, state) as living, opened("https://two.example", state) as elsewhere:
        for one in (living, elsewhere):
            assert one.ledger.claim(one.sender._plan(request(), 1).row, None)
        said = {row.base_url: said for row, said in account.finder.recover()}
    assert said[sandbox.base_url] == "is being sent now" and "another gateway" in said["https://two.example"]
    assert sandbox.received == []


def test_recover_says_what_a_relay_cannot_tell_and_what_has_failed(state: Path) -> None:
    with Sandbox(knows_external_ids=False, queued_for=0, runs_for=0) as relay, opened(relay.base_url, state) as account:
        relay.fail_next()
        relay.misbehave("create", "drop-after")
        with pytest.raises(OutcomeUnknown):
            submit(account)
        assert [said for _, said in account.finder.recover()] == ["this gateway cannot look up an external_task_id"]
        relay.knows_external_ids = True
        ((_, said),) = account.finder.recover()
        assert said.endswith("which has failed") and only_row(account).state == State.FAILED


def test_a_killed_process_is_picked_up_by_the_next_one(sandbox: Sandbox, state: Path) -> None:
    sandbox.misbehave("create", "hang-after")
    with Process("submit", base_url=sandbox.base_url, state=str(state), prompts=["A lighthouse at dusk."]) as process:
        process.go()
        wait_until(lambda: sandbox.tasks, "the task is made")
        process.kill()
    with opened(sandbox.base_url, state, PATIENT) as account:
        found = submit(account)
    assert found.reused and list(sandbox.tasks) == [found.task_id] and len(sandbox.creates()) == 1
