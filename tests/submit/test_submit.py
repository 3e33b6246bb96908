"""One submission: each row of the table of failures over real HTTP, reuse, recovery, waiting and Cancel."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from fault_tools import (
    FAST,
    PATIENT,
    Cancelled,
    Watch,
    age,
    external_ids,
    only_row,
    opened,
    request,
    run,
    settings,
    submit,
)

from nodes.api.errors import (
    BalanceError,
    BusyError,
    GraphError,
    KlingError,
    OutcomeUnknown,
    SetupError,
    TaskFailed,
    UnavailableError,
)
from nodes.api.ledger.row import State
from nodes.api.submit.account import Account, failures_so_far, open_account
from nodes.api.submit.loop import submit as submit_request
from nodes.sandbox import Sandbox
from nodes.sandbox.faults import ODD_IDS

pytest_plugins = ["fault_fixtures"]

MONTH = 30 * 86_400


# The id and reuse


INSTALLATION = "00112233445566778899aabbccddeeff"
PLAIN_BODY = (
    '{"aspect_ratio": "16:9", "cfg_scale": 0.5, "duration": "5", "mode": "std", "model_name": "kling-v3",'
    ' "multi_shot": false, "prompt": "A lighthouse at dusk.", "sound": "off", "watermark_info": {"enabled": false}}'
)


def test_the_recipe_of_the_external_task_id_is_what_it_always_was(state: Path) -> None:
    """A change here makes every graph that was ever paid pay again."""
    state.mkdir()
    (state / "installation_id").write_text(INSTALLATION, encoding="ascii")
    camera = {"type": "simple", "config": {"zoom": -2.5}}
    rich = {"model_name": "kling-v1", "camera_control": camera, "negative_prompt": "rain", "cfg_scale": 1}
    with opened("https://gateway.example/kling", state) as account:
        plain = account.sender.preview(request("A lighthouse at dusk."), 1).body
        assert plain.pop("external_task_id") == "comfyui-b607cc6b229706c90a3540ec2302b4b0"
        assert json.dumps(plain, sort_keys=True) == PLAIN_BODY
        assert (
            account.sender.preview(request("A lighthouse at dusk."), 2).body["external_task_id"]
            == "comfyui-e00984bbdf540d10eb0d23b4b3c1fec8"
        )
        assert (
            account.sender.preview(request("海边的灯塔 🌊", **rich), 1).body["external_task_id"]
            == "comfyui-2940d7a92d34f1c1a498c8fb2009f81f"
        )
    parts = ("1", INSTALLATION, "https://gateway.example/kling", PLAIN_BODY, "1", "1")
    assert sha256("\0".join(parts).encode()).hexdigest()[:32] == "b607cc6b229706c90a3540ec2302b4b0"


def test_another_installation_gateway_take_or_value_is_another_external_task_id(tmp_path: Path) -> None:
    found = set()
    for name, base_url in (("a", "https://one.example"), ("b", "https://one.example"), ("b", "https://two.example")):
        with opened(base_url, tmp_path / name) as account:
            for take in (1, 2):
                for changes in ({}, {"cfg_scale": 0.55}, {"prompt": "A lighthouse at dusk"}):
                    found.add(account.sender.preview(request(**changes), take).body["external_task_id"])
    assert len(found) == 3 * 2 * 3


def test_a_preview_is_what_is_sent_afterwards(sandbox: Sandbox, account: Account) -> None:
    shown = account.sender.preview(request(), 1)
    assert shown.buys and submit(account).body == shown.body
    assert sandbox.creates() == [shown.body]
    assert account.sender.preview(request(), 1) == (shown.body, False)


def test_the_same_again_is_answered_without_any_network_also_after_a_restart(
    sandbox: Sandbox, account: Account, state: Path
) -> None:
    first = submit(account)
    sandbox.stop()
    again = submit(account)
    with opened(sandbox.base_url, state) as restarted:
        later = submit(restarted)
    assert not first.reused and again.reused
    assert again == later == replace(first, reused=True)
    assert first.task_id in sandbox.tasks and first.request_id and first.created_at


def test_another_take_is_another_task(sandbox: Sandbox, account: Account) -> None:
    one, two = submit(account), submit(account, take=2)
    assert [one.task_id, two.task_id] == list(sandbox.tasks)
    assert submit(account, take=1).task_id == one.task_id and submit(account, take=2).task_id == two.task_id


def test_a_task_is_reused_for_thirty_days_and_then_until_the_gateway_forgets_it(
    sandbox: Sandbox, account: Account, state: Path
) -> None:
    first = submit(account)
    age(state, MONTH - 3600)
    assert submit(account).task_id == first.task_id
    assert [received.method for received in sandbox.received] == ["POST"]
    age(state, 7200)  # or the clock was set ahead
    again = submit(account)
    assert (again.task_id, again.reused) == (first.task_id, True)
    assert [received.method for received in sandbox.received] == ["POST", "GET"]
    sandbox.misbehave("query", "not-found")
    second = submit(account)
    assert not second.reused and len(sandbox.creates()) == 2
    assert second.external_task_id != first.external_task_id
    (note,) = second.notes
    assert "older than the 30 days" in note
    again = submit(account)
    assert (again.task_id, again.notes) == (second.task_id, ())


def test_a_computer_whose_clock_was_wrong_does_not_pay_again(sandbox: Sandbox, account: Account, state: Path) -> None:
    first = submit(account)
    with closing(sqlite3.connect(state / "ledger.db")) as connection:
        connection.execute("UPDATE submissions SET created_at = 60, sent_at = 60, accepted_at = 60")
        connection.commit()
    assert submit(account).task_id == first.task_id


def test_a_gateway_whose_clock_is_wrong_does_not_make_a_task_old_or_young(
    sandbox: Sandbox, account: Account, state: Path
) -> None:
    first = submit(account)
    for created_at in (0, 1, None, 10**17):
        with closing(sqlite3.connect(state / "ledger.db")) as connection:
            connection.execute("UPDATE submissions SET task_created_at = ?", (created_at,))
            connection.commit()
        assert submit(account).task_id == first.task_id
    age(state, MONTH + 60)
    sandbox.misbehave("query", "not-found")
    assert submit(account).task_id != first.task_id


@pytest.mark.parametrize("fault", ["status:502", "gateway:forbidden", "code:1302"])
def test_nothing_is_made_anew_while_the_gateway_does_not_say_whether_the_old_task_is_there(
    sandbox: Sandbox, account: Account, state: Path, fault: str
) -> None:
    first = submit(account)
    age(state, MONTH + 60)
    sandbox.misbehave("query", fault)
    with pytest.raises(KlingError):
        submit(account)
    assert submit(account).task_id == first.task_id
    assert len(sandbox.creates()) == 1


def test_an_old_task_that_has_failed_is_made_anew(sandbox: Sandbox, account: Account, state: Path) -> None:
    sandbox.fail_next()
    first = submit(account)
    sandbox.queued_for = sandbox.runs_for = 0
    age(state, MONTH + 60)
    assert submit(account).task_id != first.task_id


def test_a_failed_task_is_not_reused(sandbox: Sandbox, account: Account) -> None:
    first = submit(account)
    account.ledger.fail(sandbox.base_url, first.task_id, "risk control")
    second = submit(account)
    assert not second.reused and second.task_id != first.task_id
    assert [row.attempt for row in account.ledger.rows()] == [2, 1]
    assert submit(account).task_id == second.task_id


def test_a_failure_changes_what_comfyui_compares(sandbox: Sandbox, state: Path) -> None:
    account = open_account(settings(sandbox.base_url, state))
    assert open_account(settings(sandbox.base_url, state)) is account
    before = failures_so_far()
    account.ledger.fail(sandbox.base_url, "some task", "risk control")
    assert failures_so_far() == before + 1
    account.ledger.close()


# The user's own external_task_id


def test_the_users_own_id_is_sent_and_reused(sandbox: Sandbox, account: Account) -> None:
    first = submit(account, external_task_id="mine")
    assert external_ids(sandbox) == ["mine"] and first.external_task_id == "mine"
    assert submit(account, external_task_id="mine").reused


@pytest.mark.parametrize(("take", "prompt"), [(2, "A lighthouse at dusk."), (1, "Another prompt.")])
def test_the_users_own_id_for_something_else_is_an_error_that_sends_nothing(
    sandbox: Sandbox, account: Account, take: int, prompt: str
) -> None:
    submit(account, external_task_id="mine")
    with pytest.raises(GraphError, match="external_task_id mine was used before"):
        submit(account, take=take, prompt=prompt, external_task_id="mine")
    assert len(sandbox.received) == 1


def test_the_users_own_id_of_a_lost_answer_is_not_free_for_something_else(sandbox: Sandbox, account: Account) -> None:
    sandbox.misbehave("create", "drop-before")
    with pytest.raises(OutcomeUnknown):
        submit(account, external_task_id="mine")
    with pytest.raises(GraphError, match="was used before"):
        submit(account, prompt="Another prompt.", external_task_id="mine")
    assert len(sandbox.creates()) == 1


def test_the_users_own_id_is_still_free_after_a_refusal(sandbox: Sandbox, account: Account) -> None:
    sandbox.misbehave("create", "code:1301")
    with pytest.raises(GraphError, match="content"):
        submit(account, external_task_id="mine")
    better = submit(account, prompt="A harmless lighthouse.", external_task_id="mine")
    assert better.task_id in sandbox.tasks and better.body["prompt"] == "A harmless lighthouse."
    assert only_row(account).request()["prompt"] == "A harmless lighthouse."


def test_the_users_own_id_of_a_failed_task_cannot_be_used_again(sandbox: Sandbox, account: Account) -> None:
    first = submit(account, external_task_id="mine")
    account.ledger.fail(sandbox.base_url, first.task_id, "")
    with pytest.raises(GraphError, match="used only once"):
        submit(account, external_task_id="mine")
    assert len(sandbox.received) == 1


# The table: never connected


def test_a_gateway_that_is_not_there_is_tried_again_and_then_an_error(sandbox: Sandbox, account: Account) -> None:
    sandbox.stop()
    watch = Watch()
    with pytest.raises(UnavailableError, match="Nothing was sent and nothing was paid") as caught:
        submit(account, watch=watch)
    assert [line for line in watch.lines if "no connection" in line] == [
        f"no connection, try {number} in 1 s" for number in (2, 3, 4)
    ]
    row = only_row(account)
    assert row.state == State.UNSENT and caught.value.external_task_id == row.external_task_id
    sandbox.start()
    assert submit(account).external_task_id == row.external_task_id
    assert len(sandbox.creates()) == 1


def test_a_gateway_that_comes_back_meanwhile_gets_the_request_once(sandbox: Sandbox, account: Account) -> None:
    sandbox.stop()
    watch = Watch("try 3", sandbox.start)
    assert submit(account, watch=watch).task_id in sandbox.tasks
    assert len(sandbox.creates()) == 1


# The table: busy


@pytest.mark.parametrize("code", [1302, 1303])
def test_a_busy_gateway_is_asked_again_until_there_is_a_slot(sandbox: Sandbox, account: Account, code: int) -> None:
    sandbox.misbehave("create", *[f"code:{code}"] * 5)
    watch = Watch()
    submission = submit(account, watch=watch)
    assert [line for line in watch.lines if "slot" in line] == [
        f"waiting for a free slot, try {number} in 1 s" for number in range(2, 7)
    ]
    assert list(sandbox.tasks) == [submission.task_id] and len(sandbox.creates()) == 6
    assert len({body["external_task_id"] for body in sandbox.creates()}) == 1


def test_the_waiting_for_a_slot_ends_with_an_error_and_may_go_on_later(sandbox: Sandbox, state: Path) -> None:
    pace = replace(FAST, slot_pause=0.02, slot_pause_most=0.02, slot_wait=0.1)
    sandbox.slots = 0
    with opened(sandbox.base_url, state, pace) as account:
        with pytest.raises(BusyError, match=r"for a free slot\. Nothing was paid") as caught:
            submit(account)
        assert caught.value.code == 1303 and caught.value.external_task_id == only_row(account).external_task_id
        # Pauses of 0.02 s to 0.025 s fit four or five times into 0.1 s.
        assert 5 <= len(sandbox.creates()) <= 6
        assert only_row(account).state == State.UNSENT
        sandbox.slots = None
        assert submit(account).task_id in sandbox.tasks


@pytest.mark.parametrize(("retry_after", "seconds"), [("7", range(7, 10)), ("date+50", range(20, 64))])
def test_the_gateways_own_pause_is_kept(sandbox: Sandbox, account: Account, retry_after: str, seconds: range) -> None:
    sandbox.misbehave("create", f"code:1303:retry-after={retry_after}")
    watch = Watch("free slot")
    with pytest.raises(Cancelled):
        submit(account, watch=watch)
    # Up to a quarter is added so that not all come back at once. A slow machine gets on with a date meanwhile.
    assert watch.lines[-1] in [f"waiting for a free slot, try 2 in {left} s" for left in seconds]


def test_nodes_that_were_refused_together_do_not_come_back_together(sandbox: Sandbox, state: Path) -> None:
    pace, asked = replace(FAST, slot_wait=1e9), 1_000_000
    pauses = []
    with opened(sandbox.base_url, state, pace) as account:
        for take in range(1, 9):
            sandbox.misbehave("create", f"code:1303:retry-after={asked}")
            watch = Watch("free slot")
            with pytest.raises(Cancelled):
                submit(account, take=take, watch=watch)
            pauses.append(int(watch.lines[-1].split()[-2]))
    assert all(asked <= pause <= asked * 1.25 for pause in pauses) and max(pauses) - min(pauses) > 1000


def test_a_pause_longer_than_all_waiting_ends_it_at_once(sandbox: Sandbox, account: Account) -> None:
    sandbox.misbehave("create", "code:1303:retry-after=3600")
    with pytest.raises(BusyError, match="asks to wait 3600 s"):
        submit(account)
    assert len(sandbox.creates()) == 1 and only_row(account).state == State.UNSENT


def test_cancel_ends_the_waiting_for_a_slot_with_the_hosts_own_exception(sandbox: Sandbox, account: Account) -> None:
    sandbox.misbehave("create", "code:1303:retry-after=50")
    watch = Watch("waiting for a free slot, try 2 in")

    async def in_time() -> None:
        await asyncio.wait_for(submit_request(account, request(), 1, watch), 25)

    with pytest.raises(Cancelled):
        run(in_time())
    assert len(sandbox.creates()) == 1 and not sandbox.tasks
    assert submit(account).task_id in sandbox.tasks


@pytest.mark.parametrize("fault", ["code:5001", "unavailable:retry-after=0"])
def test_maintenance_is_waited_for_three_times(sandbox: Sandbox, account: Account, fault: str) -> None:
    sandbox.misbehave("create", *[fault] * 3)
    assert submit(account).task_id in sandbox.tasks
    sandbox.misbehave("create", *[fault] * 4)
    with pytest.raises(UnavailableError):
        submit(account, take=2)
    assert len(sandbox.creates()) == 8 and len(sandbox.tasks) == 1


# The table: refused


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("code:1002", SetupError),
        ("code:1102", BalanceError),
        ("code:1201", GraphError),
        ("code:1301", GraphError),
        ("code:1201:http=200", GraphError),
        ("code:1301:http=500", GraphError),
        ("gateway:model_not_found", GraphError),
        ("gateway:insufficient_user_quota", BalanceError),
        ("gateway:param_429", GraphError),
        ("gateway:fail_to_fetch_task:1102", BalanceError),
        ("redirect:https://elsewhere.example/", SetupError),
    ],
)
def test_a_refusal_is_an_error_at_once_and_the_graph_may_be_run_again(
    sandbox: Sandbox, account: Account, fault: str, kind: type[KlingError]
) -> None:
    sandbox.misbehave("create", fault)
    with pytest.raises(kind) as caught:
        submit(account)
    row = only_row(account)
    assert row.state == State.REFUSED and row.error and caught.value.external_task_id == row.external_task_id
    assert [request.method for request in sandbox.received] == ["POST"] and not sandbox.tasks
    again = submit(account)
    assert again.external_task_id == row.external_task_id and not again.reused
    assert only_row(account).state == State.ACCEPTED and only_row(account).error == ""


# The table: the answer is lost

LOST_AFTER = [
    "drop-after",
    "reset-after",
    "status-after:500",
    "status-after:502",
    "status-after:504",
    "status-after:524",
    "status-after:408",
    "json-status-after:500",
    "truncated-after",
    "empty-after",
    "garbage-after",
    "object-after",
    "null-after",
    "no-task-id-after",
    "other-task-after",
    *(f"odd-id-after:{name}" for name in ODD_IDS),
    "code-after:5000",
    "code-after:5002",
]


@pytest.mark.parametrize("fault", LOST_AFTER)
def test_a_lost_answer_is_never_sent_again_but_looked_up(sandbox: Sandbox, patient: Account, fault: str) -> None:
    sandbox.misbehave("create", fault)
    submission = submit(patient)
    assert list(sandbox.tasks) == [submission.task_id] and not submission.reused
    assert [request.method for request in sandbox.received] == ["POST", "GET"]
    row = only_row(patient)
    assert (row.state, row.task_id) == (State.ACCEPTED, submission.task_id)


def test_an_answer_that_never_comes_is_looked_up(sandbox: Sandbox, state: Path) -> None:
    sandbox.misbehave("create", "hang-after")
    with opened(sandbox.base_url, state, PATIENT, create_timeout=2) as account:
        submission = submit(account)
    assert list(sandbox.tasks) == [submission.task_id]
    assert [request.method for request in sandbox.received] == ["POST", "GET"]


def test_a_lookup_that_fails_too_is_repeated(sandbox: Sandbox, patient: Account) -> None:
    sandbox.misbehave("create", "drop-after")
    sandbox.misbehave("query", "drop", "status:502", "truncated", "code:5000", "code:1302", "object", "not-found")
    watch = Watch()
    assert submit(patient, watch=watch).task_id in sandbox.tasks
    assert [request.method for request in sandbox.received] == ["POST"] + ["GET"] * 8
    assert any("looking the task up" in line for line in watch.lines)


def test_a_lookup_that_keeps_failing_ends_in_outcome_unknown_and_the_next_run_finds_the_task(
    sandbox: Sandbox, account: Account, patient: Account
) -> None:
    sandbox.misbehave("create", "status-after:502")
    sandbox.misbehave("query", *["status:502"] * 500)
    with pytest.raises(OutcomeUnknown, match="HTTP 502") as caught:
        submit(account)
    row = only_row(account)
    assert row.state == State.UNKNOWN and "502" in row.error
    assert caught.value.external_task_id == row.external_task_id and row.external_task_id in str(caught.value)
    sandbox.clear_faults()
    found = submit(patient)
    assert found.reused and list(sandbox.tasks) == [found.task_id]
    assert len(sandbox.creates()) == 1


def test_a_lookup_that_is_refused_ends_in_outcome_unknown_at_once(sandbox: Sandbox, patient: Account) -> None:
    sandbox.misbehave("create", "drop-after")
    sandbox.misbehave("query", "code:1002")
    with pytest.raises(OutcomeUnknown):
        submit(patient)
    assert len(sandbox.received) == 2
    assert submit(patient).task_id in sandbox.tasks


def test_a_lookup_that_answers_another_task_is_not_believed(state: Path) -> None:
    def rename(line: str) -> None:
        for task in sandbox.tasks.values():
            task.external_task_id = "of somebody else"

    with Sandbox(log=rename) as sandbox, opened(sandbox.base_url, state) as account:
        sandbox.misbehave("create", "drop-after")
        # Relays have been seen to forget the name of a task, but not to give it another one.
        with pytest.raises(OutcomeUnknown):
            submit(account)
        assert only_row(account).state == State.UNKNOWN and len(sandbox.creates()) == 1
        with pytest.raises(UnavailableError, match="another task"):
            account.finder.adopt(only_row(account))


def test_a_lookup_that_answers_the_task_of_another_row_is_not_believed(sandbox: Sandbox, account: Account) -> None:
    other = submit(account)
    sandbox.misbehave("query", "shape:no_task_info")
    row = replace(only_row(account), external_task_id=other.task_id, fingerprint="another", state=State.UNKNOWN)
    with pytest.raises(UnavailableError, match="another task"):
        account.finder.adopt(row)
    assert only_row(account).external_task_id == other.external_task_id


def test_a_lookup_that_does_not_name_the_id_is_believed(sandbox: Sandbox, patient: Account) -> None:
    sandbox.misbehave("create", "drop-after")
    sandbox.misbehave("query", "shape:no_task_info")
    assert submit(patient).task_id in sandbox.tasks


def test_a_task_that_is_found_and_has_failed_is_said_and_made_anew_by_the_next_run(
    sandbox: Sandbox, state: Path
) -> None:
    sandbox.misbehave("create", "drop-after")
    sandbox.fail_next("Failure to pass the risk control system")
    sandbox.queued_for = sandbox.runs_for = 0
    with opened(sandbox.base_url, state, PATIENT) as account:
        with pytest.raises(TaskFailed, match="risk control") as caught:
            submit(account)
        assert only_row(account).state == State.FAILED and caught.value.task_id in sandbox.tasks
        second = submit(account)
    assert list(sandbox.tasks) == [caught.value.task_id, second.task_id] and not second.reused


# The table: the id exists


def test_a_task_that_exists_already_is_adopted(sandbox: Sandbox, account: Account, tmp_path: Path) -> None:
    first = submit(account)
    installation = (account.settings.state_dir / "installation_id").read_bytes()
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "installation_id").write_bytes(installation)
    with opened(sandbox.base_url, tmp_path / "lost") as without_a_ledger:
        again = submit(without_a_ledger)
        assert again.reused and again.task_id == first.task_id
        assert only_row(without_a_ledger).task_id == first.task_id
    assert list(sandbox.tasks) == [first.task_id]


def test_an_id_that_exists_but_is_not_found_is_never_sent_again_as_another(
    sandbox: Sandbox, account: Account, patient: Account
) -> None:
    sandbox.misbehave("create", "code:1201:message=External_task_id x already exists")
    with pytest.raises(OutcomeUnknown, match="already exists"):
        submit(account)
    assert only_row(account).state == State.UNKNOWN and len(sandbox.creates()) == 1
    assert submit(patient).task_id in sandbox.tasks


def test_a_lost_ledger_finds_every_attempt_again(sandbox: Sandbox, state: Path) -> None:
    sandbox.queued_for = sandbox.runs_for = 0
    sandbox.fail_next()
    with opened(sandbox.base_url, state) as account:
        failed = submit(account)
        account.ledger.fail(sandbox.base_url, failed.task_id, "risk control")
        good = submit(account)
    for path in state.glob("ledger.db*"):
        path.unlink()
    with opened(sandbox.base_url, state) as account:
        with pytest.raises(TaskFailed):
            submit(account)
        assert submit(account).task_id == good.task_id
    assert list(sandbox.tasks) == [failed.task_id, good.task_id]
