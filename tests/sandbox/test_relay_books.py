"""The books of a relay in the sandbox: what stands in them, who is shown what and when, and how they go wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import fault_matrix
import pytest
import requests
from clock import Clock
from relay_talk import API, KEY, ask, create, made, query, rows, task_ids

from nodes.sandbox import Books, Relay, Sandbox
from nodes.sandbox.book_faults import RELAY_KINDS
from nodes.sandbox.rules import MODELS

LOG = "/api/log/token"
USAGE = "/api/usage/token/"


# -- rows


def test_a_task_has_a_row() -> None:
    with Relay() as relay:
        answer = create(relay, model_name="kling-v3", mode="pro", duration="3")
        (row,) = ask(relay, LOG).json()["data"]
        other = json.loads(row.pop("other"))
        assert row == {
            "created_at": answer.json()["created_at"],
            "type": 2,
            "content": "操作 generate, 计算参数：seconds: 3.00",
            "token_name": "sandbox",
            "model_name": "kling-v3",
            "quota": 168_000,  # 2.4 units of USD 0.14
            "group": "default",
            "use_time": 1,
            "request_id": answer.headers["X-Oneapi-Request-Id"],
        }
        assert other == {
            "is_task": True,
            "request_path": API,
            "model_price": 0.336,
            "group_ratio": 1.0,
            "task_id": answer.json()["id"],
        }


def test_the_newest_come_first_and_not_all_come() -> None:
    with Relay(books=Books(most_rows=3)) as relay:
        made_ids = [made(relay) for _ in range(5)]
        assert task_ids(relay) == made_ids[:1:-1]
        relay.sell_elsewhere(at=time.time() - 3600)
        assert task_ids(relay) == made_ids[:1:-1]
        ahead = relay.sell_elsewhere(at=time.time() + 3600)
        assert task_ids(relay)[0] == ahead


def test_rows_can_come_seconds_late() -> None:
    clock = Clock()
    with Relay(books=Books(late_seconds=5), clock=clock) as relay:
        task_id = made(relay)
        assert rows(relay) == []
        clock.now += 5
        assert task_ids(relay) == [task_id]


def test_rows_can_come_some_looks_late() -> None:
    with Relay(books=Books(late_looks=2)) as relay:
        task_id = made(relay)
        assert [task_ids(relay) for _ in range(3)] == [[], [], [task_id]]


@pytest.mark.parametrize(
    ("books", "has"),
    [(Books(task_ids=False), (False, True)), (Books(request_ids=False), (True, False)), (Books(), (True, True))],
)
def test_ids_can_be_missing(books: Books, has: tuple[bool, bool]) -> None:
    with Relay(books=books) as relay:
        assert made(relay)
        (row,) = rows(relay)
        assert ("task_id" in row["other"], "request_id" in row) == has


def test_with_logging_off_only_old_rows_are_left() -> None:
    with Relay() as relay:
        old = made(relay)
        relay.books.logging = False
        assert made(relay) != old
        assert create(relay, duration="7").status_code == 400
        assert task_ids(relay) == [old]
    with Relay(books=Books(logging=False)) as relay:
        assert made(relay)
        assert rows(relay) == []


def test_a_failed_task_is_paid_back_once() -> None:
    with Relay(queued_for=0, runs_for=0) as relay:
        relay.fail_next()
        task_id = made(relay)
        assert made(relay)
        for _ in range(2):
            refund = [row for row in rows(relay) if row["type"] == 6]
            assert [(row["other"]["task_id"], row["quota"]) for row in refund] == [(task_id, 70_000)]
        assert ask(relay, USAGE).json()["data"]["total_used"] == 70_000


def test_or_not() -> None:
    with Relay(queued_for=0, runs_for=0, books=Books(refunds=False)) as relay:
        relay.fail_next()
        assert made(relay)
        assert [row["type"] for row in rows(relay)] == [2]


def test_what_kling_refused_has_a_row_without_a_charge() -> None:
    with Relay() as relay:
        answer = create(relay, duration="7")
        (row,) = rows(relay)
        assert (row["type"], row["quota"], row["other"]) == (5, 0, {})
        assert row["request_id"] == answer.headers["X-Oneapi-Request-Id"]


def test_rows_of_others_and_any_row() -> None:
    with Relay() as relay:
        ours = made(relay)
        theirs = relay.sell_elsewhere("kling-v3", path="/kling/v1/videos/image2video", request_id="x", quota="many")
        relay.add_row(type=1, quota=5_000_000, content="top-up")
        relay.add_row(other="no JSON")
        data = ask(relay, LOG).json()["data"]
        assert (data[0]["other"], data[1]["type"], data[1]["quota"]) == ("no JSON", 1, 5_000_000)
        assert (data[2]["model_name"], data[2]["request_id"], data[2]["quota"]) == ("kling-v3", "x", "many")
        assert json.loads(data[2]["other"])["request_path"].endswith("image2video")
        assert [json.loads(row["other"])["task_id"] for row in data[2:]] == [theirs, ours]
        assert data[2]["created_at"] == pytest.approx(data[3]["created_at"], abs=60)


# -- whose books


def test_each_key_sees_its_own() -> None:
    with Relay() as relay:
        first, second = create(relay, key="sk-1").json()["id"], create(relay, key="sk-2").json()["id"]
        relay.sell_elsewhere(key="sk-3")
        assert (task_ids(relay, "sk-1"), task_ids(relay, "sk-2"), task_ids(relay)) == ([first], [second], [])
        relay.books.of_every_key = True
        assert len(task_ids(relay, "sk-1")) == 3


@pytest.mark.parametrize("path", [LOG, USAGE])
def test_an_unknown_key_is_told_so_with_a_200(path: str) -> None:
    with Relay(key=KEY) as relay:
        answer = ask(relay, path, key="sk-other")
        assert (answer.status_code, answer.json()["success"]) == (200, False)
        assert ask(relay, path, key=None).status_code == 401
        assert ask(relay, path).status_code == 200


def test_the_key_is_not_in_a_url() -> None:
    with Relay(key=KEY) as relay:
        assert ask(relay, f"{LOG}?key={KEY}", key=None).status_code == 401


# -- the other books


def test_the_quota_that_is_left() -> None:
    with Relay(books=Books(granted=1_000_000, group_ratio=0.5)) as relay:
        assert made(relay)
        answer = ask(relay, USAGE).json()
        assert (answer["code"], answer["message"]) == (True, "ok")
        figures = [answer["data"][f"total_{name}"] for name in ("granted", "used", "available")]
        assert figures == [1_000_000, 35_000, 965_000]
        assert answer["data"]["unlimited_quota"] is False


def test_the_status_needs_no_key() -> None:
    with Relay(books=Books(quota_per_unit=1000)) as relay:
        data = ask(relay, "/api/status", key=None).json()["data"]
        assert (data["quota_per_unit"], data["quota_display_type"], data["version"]) == (1000, "USD", relay.version)


def test_the_models_of_a_key() -> None:
    with Relay(key=KEY, models=("kling-v1", "kling-v9")) as relay:
        assert [model["id"] for model in ask(relay, "/v1/models").json()["data"]] == ["kling-v1", "kling-v9"]
        assert ask(relay, "/v1/models", key="sk-other").status_code == 401
    with Relay() as relay:
        assert {model["id"] for model in ask(relay, "/v1/models").json()["data"]} == set(MODELS)


def test_log_and_usage_share_a_limit() -> None:
    clock = Clock()
    with Relay(clock=clock) as relay:
        assert [ask(relay, path).status_code for path in (LOG, USAGE) * 10] == [200] * 20
        assert [ask(relay, path).status_code for path in (LOG, USAGE)] == [429, 429]
        assert [ask(relay, path).status_code for path in ("/api/status", "/v1/models")] == [200, 200]
        assert query(relay, made(relay)).status_code == 200
        clock.now += 1200
        assert ask(relay, LOG).status_code == 200
    with Relay(books=Books(calls=1, window=5), clock=clock) as relay:
        assert [ask(relay, LOG).status_code for _ in range(2)] == [200, 429]
        clock.now += 5
        assert ask(relay, LOG).status_code == 200


# -- faults

# What is different in the answer, told by the answer and the time at which the task was made.
WRONG: dict[str, Callable[[requests.Response, int], bool]] = {
    "html": lambda answer, _: answer.text.startswith("<!DOCTYPE html>"),
    "unauthorized": lambda answer, _: (answer.status_code, answer.json()["success"]) == (401, False),
    "unknown-key": lambda answer, _: (answer.status_code, answer.json()["success"]) == (200, False),
    "limited": lambda answer, _: (answer.status_code, answer.content) == (429, b""),
    "huge:3000000": lambda answer, _: len(answer.content) > 3_000_000 and len(answer.json()["data"]) == 1,
    "data:null": lambda answer, _: answer.json()["data"] is None,
    "data:text": lambda answer, _: answer.json()["data"] == "text",
    "row:quota=-5": lambda answer, _: answer.json()["data"][0]["quota"] == -5,
    "row:quota=many": lambda answer, _: answer.json()["data"][0]["quota"] == "many",
    "row:other=no JSON": lambda answer, _: answer.json()["data"][0]["other"] == "no JSON",
    "other:task_id=true": lambda answer, _: json.loads(answer.json()["data"][0]["other"])["task_id"] is True,
    "ahead:60": lambda answer, at: answer.json()["data"][0]["created_at"] == at + 60,
    "status:502": lambda answer, _: answer.status_code == 502,
    "gateway:invalid_token": lambda answer, _: "Invalid token" in answer.json()["error"]["message"],
}


@pytest.mark.parametrize("fault", WRONG)
def test_one_look_goes_wrong_and_the_next_does_not(fault: str) -> None:
    with Relay() as relay:
        answer = create(relay)
        relay.misbehave("books", fault)
        assert WRONG[fault](ask(relay, LOG), answer.json()["created_at"])
        assert task_ids(relay) == [answer.json()["id"]]


def test_a_look_can_bring_nothing_at_all() -> None:
    with Relay() as relay:
        assert made(relay)
        relay.misbehave("books", "drop", "reset", "hang:0.05", "truncated")
        for _ in range(4):
            with pytest.raises(requests.RequestException):
                ask(relay, LOG)
        assert len(rows(relay)) == 1


def test_a_row_gone_wrong_can_stand_beside_right_ones() -> None:
    with Relay() as relay:
        task_id = made(relay)
        relay.misbehave("books", *["slow:0"], "row:quota=null")
        assert len(rows(relay)) == 1
        assert rows(relay)[0]["other"]["task_id"] == task_id


def test_the_other_books_go_wrong_by_their_own_names() -> None:
    with Relay() as relay:
        for on, path in (("usage", USAGE), ("status", "/api/status"), ("models", "/v1/models")):
            relay.misbehave(on, "data:[]", "status:500", "html")
            answers: list[Any] = [ask(relay, path) for _ in range(4)]
            assert answers[0].json()["data"] == []
            assert [answer.status_code for answer in answers] == [200, 500, 200, 200]
            assert answers[2].text.startswith("<") and answers[3].json()["data"]


def test_a_gateway_without_books_has_no_faults_for_them() -> None:
    with Sandbox() as sandbox:
        with pytest.raises(ValueError, match=r"known: create, query, list, download$"):
            sandbox.misbehave("books", "html")
        assert ask(sandbox, LOG).status_code == 404


@pytest.mark.parametrize("fault", ["row:quota", "row:=1", "other", "ahead:soon", "huge:-1", "no-task-id"])
def test_a_fault_that_is_written_wrongly_is_refused(fault: str) -> None:
    with Relay() as relay, pytest.raises(ValueError, match="fault"):
        relay.misbehave("books", fault)


def test_the_matrix_tries_every_fault_of_the_books() -> None:
    assert {fault.partition(":")[0] for fault in fault_matrix.BOOKS} == set(RELAY_KINDS["books"])
