"""The sandbox as a New-API relay: its ids, its answers, its headers, and the faults of both families on it."""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime

import fault_matrix
import pytest
import requests
from bodies import SMALL
from clock import Clock
from relay_talk import API, KEY, STORYBOARD, ask, create, fetch, made, query, rows

from nodes.sandbox import Books, Relay
from nodes.sandbox.bodies import SATURATED
from nodes.sandbox.relay import CREATE_SHAPES

OWN_ID = re.compile(r"task_[A-Za-z0-9]{32}")


# -- ids and answers


def test_a_create_is_answered_with_a_video_object_and_an_id_of_the_relays_own() -> None:
    with Relay() as relay:
        answer = create(relay, model_name="kling-v1-6", external_task_id="mine").json()
        (task_id,) = relay.tasks
        assert OWN_ID.fullmatch(task_id)
        created_at = relay.tasks[task_id].created_at // 1000
        assert answer == {
            "id": task_id,
            "task_id": task_id,
            "object": "video",
            "model": "kling-v1-6",
            "status": "queued",
            "progress": 0,
            "created_at": created_at,
        }


def test_or_with_klings_envelope() -> None:
    with Relay(create_shape="native") as relay:
        answer = create(relay, external_task_id="mine").json()
        assert answer["code"] == 0 and OWN_ID.fullmatch(answer["data"]["task_id"])
        assert answer["data"]["task_info"] == {"external_task_id": "mine"}


@pytest.mark.parametrize("asked", ["mine", "Kling's own id", "task_" + "0" * 32, "831922345719271433"])
def test_no_id_but_its_own_is_known(asked: str) -> None:
    with Relay() as relay:
        task_id = made(relay, external_task_id="mine")
        if asked == "Kling's own id":
            asked = query(relay, task_id).json()["data"]["data"]["data"]["task_id"]
        answer = query(relay, asked)
        assert (answer.status_code, answer.json()["code"]) == (400, "task_not_exist")
        assert answer.json() == {"code": "task_not_exist", "message": "task_not_exist", "data": None}


def test_an_external_id_can_be_used_again() -> None:
    with Relay() as relay:
        assert made(relay, external_task_id="mine") != made(relay, external_task_id="mine")


@pytest.mark.parametrize(("age", "word"), [(0, "SUBMITTED"), (10, "IN_PROGRESS"), (30, "SUCCESS")])
def test_a_query_is_answered_with_the_relays_task_and_klings_answer_in_it(age: float, word: str) -> None:
    clock = Clock()
    with Relay(queued_for=10, runs_for=20, clock=clock) as relay:
        task_id = made(relay, external_task_id="mine")
        clock.now += age
        answer = query(relay, task_id).json()
        assert (answer["code"], answer["data"]["task_id"], answer["data"]["status"]) == ("success", task_id, word)
        inner = answer["data"]["data"]["data"]
        assert inner["task_info"] == {"external_task_id": "mine"}
        assert inner["task_id"].isdecimal() and inner["task_id"] != task_id
        assert inner["task_id"] == query(relay, task_id).json()["data"]["data"]["data"]["task_id"]
        if word == "SUCCESS":
            assert fetch("GET", answer["data"]["result_url"]).content[4:8] == b"ftyp"
        assert ("result_url" in answer["data"]) == (word == "SUCCESS")


def test_klings_answer_can_be_left_out() -> None:
    with Relay(inner_answer=False, queued_for=0, runs_for=0) as relay:
        task = query(relay, made(relay, external_task_id="mine")).json()["data"]
        assert task["data"] is None and task["result_url"].endswith(".mp4") and "mine" not in json.dumps(task)


def test_a_task_that_failed_says_why() -> None:
    with Relay(queued_for=0, runs_for=0) as relay:
        relay.fail_next("Failure to pass the risk control system")
        task = query(relay, made(relay)).json()["data"]
        assert (task["status"], task["fail_reason"]) == ("FAILURE", "Failure to pass the risk control system")


@pytest.mark.parametrize("options", [{"create_shape": "kling"}, {"storyboards": "kept"}])
def test_an_option_that_does_not_exist_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="known: "):
        Relay(**options)  # type: ignore[arg-type]


# -- what it refuses


def test_a_strange_key_is_refused() -> None:
    with Relay(key=KEY) as relay:
        for answer in (create(relay, key="sk-other"), ask(relay, f"{API}/x", key="sk-other")):
            request_id = answer.headers["X-Oneapi-Request-Id"]
            told = {"message": f"Invalid token (request id: {request_id})", "type": "new_api_error", "code": ""}
            assert (answer.status_code, answer.json()) == (401, {"error": told})


def test_what_kling_refuses_is_passed_on_as_text() -> None:
    with Relay() as relay:
        answer = create(relay, duration="7")
        assert (answer.status_code, answer.json()["code"]) == (400, "fail_to_fetch_task")
        assert json.loads(answer.json()["message"])["message"] == "duration value '7' is invalid"
        assert relay.tasks == {}


def test_a_full_queue_looks_like_any_other_429_of_kling() -> None:
    with Relay(slots=1) as relay:
        assert made(relay)
        answer = create(relay)
        assert (answer.status_code, answer.json()["message"]) == (429, SATURATED)


def test_a_model_without_a_channel_is_refused_before_kling_is_asked() -> None:
    with Relay(models=("kling-v1",)) as relay:
        answer = create(relay, model_name="kling-v3")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_not_found")
        assert create(relay).status_code == 200
        assert ask(relay, API, body=["no object"]).status_code == 400


@pytest.mark.parametrize("body", [{**SMALL, "prompt": " "}, STORYBOARD])
def test_a_blank_prompt_is_refused_even_with_a_storyboard(body: dict[str, object]) -> None:
    with Relay() as relay:
        answer = ask(relay, API, body=body)
        told = {"code": "invalid_request", "message": "prompt is required", "data": None}
        assert (answer.status_code, answer.json(), relay.tasks) == (400, told, {})


@pytest.mark.parametrize(
    ("storyboards", "prompt"), [("dropped", None), ("dropped", "All shots."), ("refused", "All shots.")]
)
def test_a_storyboard_can_be_dropped_without_a_word(storyboards: str, prompt: str | None) -> None:
    with Relay(storyboards=storyboards) as relay:
        assert ask(relay, API, body=STORYBOARD | ({"prompt": prompt} if prompt else {})).status_code == 200
        (task,) = relay.tasks.values()
        assert not {"multi_shot", "multi_prompt", "shot_type"} & set(task.body)
        assert (task.body["prompt"], task.body["duration"]) == (prompt or "", "6")
        assert relay.creates()[0]["multi_shot"] is True


def test_or_be_passed_on() -> None:
    with Relay(storyboards="passed") as relay:
        assert ask(relay, API, body=STORYBOARD).status_code == 200
        (task,) = relay.tasks.values()
        assert task.body["multi_prompt"] == STORYBOARD["multi_prompt"]


def test_its_defaults_are_not_klings() -> None:
    with Relay() as relay:
        body = {name: value for name, value in SMALL.items() if name != "aspect_ratio"}
        assert ask(relay, API, body={**body, "cfg_scale": 0}).status_code == 200
        (task,) = relay.tasks.values()
        assert task.body["aspect_ratio"] == "1:1" and "cfg_scale" not in task.body


# -- headers


def test_every_answer_has_the_headers_of_the_family() -> None:
    with Relay() as relay:
        answers = [
            create(relay),
            create(relay, key=""),
            create(relay, duration="7"),
            query(relay, "unknown"),
            ask(relay, API),
            ask(relay, "/nowhere"),
            *(ask(relay, path) for path in ("/api/log/token", "/api/usage/token/", "/api/status", "/v1/models")),
        ]
        ids = [answer.headers["X-Oneapi-Request-Id"] for answer in answers]
        assert len(set(ids)) == len(ids) and [request.request_id for request in relay.received] == ids
        assert {answer.headers["X-New-Api-Version"] for answer in answers} == {relay.version}
        assert all(parsedate_to_datetime(answer.headers["Date"]).tzinfo for answer in answers)


def test_the_version_can_be_left_out() -> None:
    with Relay(version=None) as relay:
        assert "X-New-Api-Version" not in create(relay).headers


@pytest.mark.parametrize("takes", [True, False])
def test_an_inbound_request_id_can_be_taken_over(takes: bool) -> None:
    with Relay(takes_request_ids=takes) as relay:
        answer = ask(relay, API, body=SMALL, X_Oneapi_Request_Id="ours-1")
        assert (answer.headers["X-Oneapi-Request-Id"] == "ours-1") == takes
        assert (rows(relay)[0]["request_id"] == "ours-1") == takes
        assert create(relay).headers["X-Oneapi-Request-Id"] != "ours-1"


def test_a_wrong_clock_shows_everywhere() -> None:
    with Relay(clock_offset=-86400, clock=Clock()) as relay, Relay(clock=Clock()) as right:
        answer, correct = create(relay), create(right)
        times = [parsedate_to_datetime(one.headers["Date"]).timestamp() for one in (answer, correct)]
        assert times[0] - times[1] == pytest.approx(-86400, abs=60)
        assert answer.json()["created_at"] == pytest.approx(times[0], abs=1)
        assert rows(relay)[0]["created_at"] == answer.json()["created_at"]
        assert query(relay, answer.json()["id"]).json()["data"]["submit_time"] == answer.json()["created_at"]


# -- tasks of others


def test_a_task_of_another_program_can_be_asked_for_but_is_none_of_ours() -> None:
    with Relay() as relay:
        theirs = relay.sell_elsewhere("kling-v3", external_task_id="theirs")
        task = query(relay, theirs).json()["data"]
        assert (task["task_id"], task["status"]) == (theirs, "SUBMITTED")
        assert task["data"]["data"]["task_info"] == {"external_task_id": "theirs"}
        assert relay.tasks == {}
        old = relay.sell_elsewhere(at=1_700_000_000)
        assert query(relay, old).json()["data"]["status"] == "SUCCESS"


def test_or_only_a_row() -> None:
    with Relay() as relay:
        theirs = relay.sell_elsewhere(task=False)
        assert query(relay, theirs).json()["code"] == "task_not_exist"
        assert rows(relay)[0]["other"]["task_id"] == theirs


# -- faults


@pytest.mark.parametrize("create_shape", CREATE_SHAPES)
def test_after_every_fault_of_a_create_the_books_have_what_was_made(create_shape: str) -> None:
    with Relay(create_shape=create_shape, books=Books(calls=None, most_rows=1000)) as relay:
        for fault in fault_matrix.CREATE:
            if fault in ("hang-before", "hang-after"):  # as with hang:0.05, but never ending
                continue
            before = len(relay.tasks)
            relay.misbehave("create", fault)
            try:
                answer = create(relay)
            except requests.RequestException:
                assert re.match("drop|reset|hang|truncated", fault)
            else:
                assert relay.received[-1].request_id == answer.headers["X-Oneapi-Request-Id"]
            name = fault.partition(":")[0]
            is_made = name.endswith("-after") or name in ("shape", "slow", "then-close")
            assert (len(relay.tasks) - before, fault) == (is_made, fault)
            if is_made:
                newest = rows(relay)[0]
                assert (newest["other"]["task_id"], newest["request_id"]) == (
                    relay.received[-2].task_id,
                    relay.received[-2].request_id,
                )
        assert [row["other"]["task_id"] for row in reversed(rows(relay))] == list(relay.tasks)


def test_a_fault_keeps_the_relays_shape() -> None:
    with Relay(queued_for=0, runs_for=0) as relay:
        relay.misbehave("create", "no-task-id-after", "odd-id-after:boolean", "odd-id-before:list", "no-task-id-before")
        answers = [create(relay).json() for _ in range(4)]
        assert [answer["object"] for answer in answers] == ["video"] * 4
        assert [answer.get("id") for answer in answers] == [None, True, ["88"], None]
        task_id = made(relay)
        relay.misbehave("query", "no-task-id", "odd-id:list", "processing", "other-task", "other-task:888")
        tasks = [query(relay, task_id).json()["data"] for _ in range(5)]
        assert [task.get("task_id") for task in tasks] == [None, ["88"], task_id, "777", "888"]
        assert [task["status"] for task in tasks] == [*["SUCCESS"] * 2, "IN_PROGRESS", *["SUCCESS"] * 2]
        assert tasks[3]["data"]["data"]["task_info"] == {"external_task_id": "comfyui-of-somebody-else"}


def test_a_shape_is_kling_s_answer_with_the_relays_id() -> None:
    with Relay(queued_for=0, runs_for=0) as relay:
        relay.misbehave("create", "shape:task_id", "shape:wrapper")
        native, wrapped = create(relay).json(), create(relay).json()
        assert [native["data"]["task_id"], wrapped["data"]["task_id"]] == list(relay.tasks)
        relay.misbehave("query", "shape:plugin", "shape:wrapper_fail_reason")
        task_id = native["data"]["task_id"]
        assert query(relay, task_id).json()["data"]["task_status"] == "succeed"
        assert query(relay, task_id).json()["data"]["fail_reason"].endswith(".mp4")


def test_every_fault_of_a_query_works() -> None:
    with Relay(queued_for=0, runs_for=0) as relay:
        task_id = made(relay)
        for fault in fault_matrix.QUERY:
            relay.misbehave("query", fault)
            try:
                answer = query(relay, task_id)
            except requests.RequestException:
                assert re.match("drop|reset|hang|truncated", fault)
            else:
                assert answer.headers["X-Oneapi-Request-Id"]
        assert query(relay, task_id).json()["data"]["status"] == "SUCCESS"


def test_a_download_can_break_off() -> None:
    with Relay(queued_for=0, runs_for=0) as relay:
        task_id = made(relay)
        url = query(relay, task_id).json()["data"]["result_url"]
        relay.misbehave("download", "status:502", "drop:100")
        assert fetch("GET", url).status_code == 502
        with pytest.raises(requests.RequestException):
            fetch("GET", url)
        assert len(fetch("GET", url).content) == relay.file_size(task_id)
