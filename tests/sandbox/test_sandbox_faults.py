"""Every way in which the sandbox misbehaves, seen on the wire."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from conftest import ROOT

from nodes.sandbox import Sandbox
from nodes.sandbox.bodies import GATEWAY, KLING
from nodes.sandbox.faults import KINDS, ODD_IDS, kinds

API = "/kling/v1/videos/text2video"
KEY = "sk-sandbox-test"
CLIP = (ROOT / "nodes" / "sandbox" / "clip.mp4").read_bytes()
BODY = {"model_name": "kling-v1", "prompt": "A boat.", "mode": "std", "aspect_ratio": "16:9", "duration": "5"}


@dataclass
class Wire:
    """What came over the wire for one request, and how the connection ended: "open", "closed" or "reset"."""

    raw: bytes
    end: str

    @property
    def status(self) -> int | None:
        return int(self.raw.split(b" ", 2)[1]) if self.raw else None

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def json(self):
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        found = re.search(rb"\r\n" + name.encode() + rb": ([^\r]*)\r\n", self.raw, re.IGNORECASE)
        return found.group(1).decode() if found else None


def ask(sandbox: Sandbox, method: str, path: str, body: object = None, **headers: str) -> Wire:
    """One request on a connection of its own, read until it is complete by its length or the connection ends."""
    raw = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "sandbox", "Authorization": f"Bearer {KEY}", "Content-Length": str(len(raw)), **headers}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    host, port = sandbox.origin.removeprefix("http://").split(":")
    got = b""
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(head.encode() + b"\r\n" + raw)
        while not is_complete(got):
            try:
                more = line.recv(1 << 16)
            except ConnectionResetError:
                return Wire(got, "reset")
            if not more:
                return Wire(got, "closed")
            got += more
        # The answer is all there. Only a connection that is still open says something to this (and records nothing).
        try:
            line.sendall(b"?\r\n\r\n")
            return Wire(got, "open" if line.recv(1) else "closed")
        except ConnectionError:
            return Wire(got, "closed")


def is_complete(got: bytes) -> bool:
    length = re.search(rb"\r\nContent-Length: (\d+)\r\n(?s:.*?)\r\n\r\n|\r\nContent-Length: (\d+)\r\n\r\n", got)
    if length is None:
        return False
    return len(got.partition(b"\r\n\r\n")[2]) >= int(length.group(1) or length.group(2))


def give_up(sandbox: Sandbox) -> None:
    """A create whose client stops waiting, once the sandbox has it."""
    host, port = sandbox.origin.removeprefix("http://").split(":")
    before = len(sandbox.received)
    with socket.create_connection((host, int(port)), timeout=20) as line:
        raw = json.dumps(BODY)
        head = f"POST {API} HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(raw)}\r\n\r\n"
        line.sendall((head + raw).encode())
        deadline = time.monotonic() + 20
        while len(sandbox.received) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        line.settimeout(0.05)
        with pytest.raises(TimeoutError):
            line.recv(1)


def create(sandbox: Sandbox, *faults: str, **changes: object) -> Wire:
    sandbox.misbehave("create", *faults)
    return ask(sandbox, "POST", API, {**BODY, **changes})


@pytest.fixture
def sandbox():
    """Every task is done at once."""
    with Sandbox(queued_for=0, runs_for=0) as running:
        yield running


@pytest.fixture
def task_id(sandbox: Sandbox) -> str:
    return create(sandbox).json["data"]["task_id"]


def query(sandbox: Sandbox, task_id: str, *faults: str) -> Wire:
    sandbox.misbehave("query", *faults)
    return ask(sandbox, "GET", f"{API}/{task_id.replace('/', '%2F')}")


def download(sandbox: Sandbox, task_id: str, *faults: str, **headers: str) -> Wire:
    sandbox.misbehave("download", *faults)
    return ask(sandbox, "GET", f"/files/{task_id}.mp4", **headers)


# -- answers that are lost: kind, status on the wire (None: not one byte), how the body looks, how it ends

LOST = [
    ("drop", None, "", "closed"),
    ("reset", None, "", "reset"),
    ("hang:0.05", None, "", "closed"),
    ("status:500", 500, "<!DOCTYPE html>", "open"),
    ("status:502", 502, "<!DOCTYPE html>", "open"),
    ("status:524", 524, "<!DOCTYPE html>", "open"),
    ("status:200", 200, "<!DOCTYPE html>", "open"),
    ("json-status:500", 500, '{"code": "do_request_failed"', "open"),
    ("json-status:504", 504, '{"code": "do_request_failed"', "open"),
    ("truncated", 200, '{"code": 0', "closed"),
    ("empty", 200, "", "open"),
    ("garbage", 200, "\0", "open"),
    ("object", 200, "{}", "open"),
    ("null", 200, "null", "open"),
    ("no-task-id", 200, '{"code": 0, "message": "SUCCEED"', "open"),
    ("other-task", 200, '{"code": 0, "message": "SUCCEED"', "open"),
    ("other-task:778", 200, '{"code": 0, "message": "SUCCEED"', "open"),
    *((f"odd-id:{name}", 200, '{"code": 0, "message": "SUCCEED"', "open") for name in ODD_IDS),
    ("code:5000", 500, '{"code": 5000', "open"),
    ("code:5002:message=backlog", 504, '{"code": 5002, "message": "backlog"', "open"),
    ("code:1201:http=200", 200, '{"code": 1201', "open"),
]


def assert_lost(sandbox: Sandbox, wire: Wire, status: int | None, start: str, end: str) -> None:
    assert (wire.status, wire.end) == (status, end)
    assert wire.body.decode("latin-1").startswith(start)
    assert end == "closed" or not any(f'"{task_id}"'.encode() in wire.body for task_id in sandbox.tasks)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("kind", "status", "start", "end"), LOST)
def test_a_lost_answer_to_a_create(
    sandbox: Sandbox, kind: str, status: int | None, start: str, end: str, when: str
) -> None:
    name, colon, argument = kind.partition(":")
    fault = f"{name}-{when}{colon}{argument}"
    assert_lost(sandbox, create(sandbox, fault, external_task_id="mine"), status, start, end)
    assert [task.external_task_id for task in sandbox.tasks.values()] == (["mine"] if when == "after" else [])
    (request,) = sandbox.received
    assert (request.status, request.fault) == (status, fault)
    assert request.task_id == (next(iter(sandbox.tasks)) if when == "after" else None)
    assert create(sandbox, external_task_id="mine").status == (400 if when == "after" else 200)


@pytest.mark.parametrize(("kind", "status", "start", "end"), LOST)
def test_a_lost_answer_to_a_query(
    sandbox: Sandbox, task_id: str, kind: str, status: int | None, start: str, end: str
) -> None:
    assert_lost(sandbox, query(sandbox, task_id, kind), status, start, end)
    assert query(sandbox, task_id).json["data"]["task_status"] == "succeed"


def test_a_truncated_answer_promises_more_than_it_sends(sandbox: Sandbox) -> None:
    wire = create(sandbox, "truncated-after")
    assert len(wire.body) < int(wire.header("content-length") or 0)


def test_a_hang_without_seconds_ends_when_the_client_leaves_or_the_sandbox_stops(sandbox: Sandbox) -> None:
    sandbox.misbehave("create", "hang-after", "hang-before")
    give_up(sandbox)
    give_up(sandbox)
    assert [request.status for request in sandbox.received] == [None, None]
    assert len(sandbox.tasks) == 1
    sandbox.stop()


# -- answers that are spoken


@pytest.mark.parametrize("code", KLING)
def test_a_kling_code_comes_with_its_http_status(sandbox: Sandbox, code: int) -> None:
    wire = create(sandbox, f"code:{code}")
    assert (wire.status, wire.json["code"], wire.json["message"]) == (KLING[code][0], code, KLING[code][1])
    assert wire.json["request_id"] and "data" not in wire.json and not sandbox.tasks


def test_an_unknown_kling_code_can_be_said_too(sandbox: Sandbox) -> None:
    wire = create(sandbox, "code:9999")
    assert (wire.status, wire.json["code"]) == (400, 9999)


@pytest.mark.parametrize("kind", ["code:1302", "unavailable"])
def test_retry_after(sandbox: Sandbox, kind: str) -> None:
    fixed = "Wed, 21 Oct 2015 07:28:00 GMT"
    seen = [
        create(sandbox, f"{kind}{option}").header("retry-after")
        for option in ("", ":retry-after=2", f":retry-after={fixed}", ":retry-after=soon", ":retry-after=date+30")
    ]
    assert seen[:4] == [None, "2", fixed, "soon"]
    assert 25 <= parsedate_to_datetime(str(seen[4])).timestamp() - time.time() <= 31


def test_unavailable_is_a_503_that_is_no_json(sandbox: Sandbox) -> None:
    wire = create(sandbox, "unavailable:retry-after=1")
    assert wire.status == 503 and wire.body.startswith(b"<!DOCTYPE html>") and not sandbox.tasks


# The status, and the error's own words as the gateway family spells them; an object, or flat when it has no type.
GATEWAY_ANSWERS = {
    "invalid_token": (401, "new_api_error", ""),
    "one_api_error": (401, "one_api_error", ""),
    "exhausted": (401, "new_api_error", ""),
    "forbidden": (403, "new_api_error", "access_denied"),
    "bad_request": (400, "new_api_error", ""),
    "null_code": (400, "new_api_error", None),
    "int_code": (400, "new_api_error", 400),
    "model_not_found": (503, "new_api_error", "model_not_found"),
    "provider_not_found": (503, "", "provider_not_found"),
    "user_rate_limit": (429, "new_api_error", ""),
    "invalid_url": (404, "invalid_request_error", ""),
    "insufficient_user_quota": (403, "new_api_error", "insufficient_user_quota"),
    "insufficient_user_quota_flat": (403, "", "insufficient_user_quota"),
    "pre_consume_token_quota_failed": (403, "new_api_error", "pre_consume_token_quota_failed"),
    "pre_consume_token_quota_failed_flat": (403, "", "pre_consume_token_quota_failed"),
    "invalid_request": (400, "", "invalid_request"),
    "task_not_exist": (400, "", "task_not_exist"),
    "task_not_exist_404": (404, "", "task_not_exist"),
    "task_failed": (400, "", "task_failed"),
    "fail_to_fetch_task": (400, "", "fail_to_fetch_task"),
    "fail_to_fetch_task:1303": (429, "", "fail_to_fetch_task"),
    "upstream_saturated": (429, "", "fail_to_fetch_task"),
    "build_request_failed": (500, "", "build_request_failed"),
    "do_request_failed": (500, "", "do_request_failed"),
    "unmarshal_response_failed": (500, "", "unmarshal_response_failed"),
    "get_channel_failed": (500, "", "get_channel_failed"),
    "read_response_body_failed": (500, "", "read_response_body_failed"),
    "code_200": (200, "", 1201),
    "code_200:1102": (200, "", 1102),
    "param_429": (429, "", 400),
    "acedata": (400, None, None),
    "fastapi": (402, None, None),
    "fastapi_list": (422, None, None),
}


@pytest.mark.parametrize("name", GATEWAY_ANSWERS)
@pytest.mark.parametrize("on", ["create", "query"])
def test_gateway_answers(sandbox: Sandbox, on: str, name: str) -> None:
    status, kind, code = GATEWAY_ANSWERS[name]
    fault = f"gateway:{name}"
    wire = create(sandbox, fault) if on == "create" else query(sandbox, "1", fault)
    assert wire.status == status and not sandbox.tasks
    if kind is not None:
        error = wire.json["error"] if kind else wire.json
        assert (error.get("type", ""), error["code"]) == (kind, code)
        assert isinstance(error["message"], str)


def test_every_gateway_answer_is_checked() -> None:
    assert {name.partition(":")[0] for name in GATEWAY_ANSWERS} == set(GATEWAY)


def test_a_kling_error_as_a_string_inside_another(sandbox: Sandbox) -> None:
    inner = json.loads(create(sandbox, "gateway:fail_to_fetch_task:1102").json["message"])
    assert (inner["code"], inner["message"]) == (1102, "Account balance not enough")


@pytest.mark.parametrize(("kind", "status"), [("", 401), (":gateway", 401), (":kling", 401), (":html", 502)])
def test_an_error_that_repeats_the_key(sandbox: Sandbox, kind: str, status: int) -> None:
    wire = create(sandbox, f"echo-key{kind}")
    assert wire.status == status and KEY.encode() in wire.body and not sandbox.tasks


@pytest.mark.parametrize("on", ["create", "query", "download"])
def test_a_redirect(sandbox: Sandbox, task_id: str, on: str) -> None:
    fault = "redirect:http://127.0.0.1:1/x?a=b:c"
    calls = {"create": lambda: create(sandbox, fault), "query": lambda: query(sandbox, task_id, fault)}
    wire = calls.get(on, lambda: download(sandbox, task_id, fault))()
    assert (wire.status, wire.header("location"), wire.body) == (307, "http://127.0.0.1:1/x?a=b:c", b"")


@pytest.mark.parametrize("on", ["create", "query"])
def test_slow_is_late_and_correct(sandbox: Sandbox, task_id: str, on: str) -> None:
    began = time.monotonic()
    wire = create(sandbox, "slow:0.1") if on == "create" else query(sandbox, task_id, "slow:0.1")
    assert time.monotonic() - began >= 0.1
    assert (wire.status, wire.json["code"], wire.end) == (200, 0, "open")


def test_latency_delays_the_answer_and_not_the_task() -> None:
    with Sandbox(latency=0.1) as sandbox:
        began = time.monotonic()
        assert create(sandbox).status == 200
        assert time.monotonic() - began >= 0.1
        sandbox.latency = 60
        give_up(sandbox)
        assert len(sandbox.tasks) == 2


def test_a_good_answer_on_a_connection_that_then_closes(sandbox: Sandbox) -> None:
    wire = create(sandbox, "then-close")
    assert (wire.status, wire.end, wire.header("connection")) == (200, "closed", None)
    assert len(sandbox.tasks) == 1


def test_a_query_can_say_not_found_and_not_yet(sandbox: Sandbox, task_id: str) -> None:
    wire = query(sandbox, task_id, "not-found")
    assert (wire.status, wire.json["code"]) == (400, 1201)
    assert wire.json["message"] == f"Task not found by id/external id: {task_id}"
    data = query(sandbox, task_id, "processing").json["data"]
    assert data["task_status"] == "processing" and "task_result" not in data and "final_unit_deduction" not in data
    assert query(sandbox, task_id).json["data"]["task_status"] == "succeed"


def test_the_list_can_misbehave(sandbox: Sandbox) -> None:
    sandbox.misbehave("list", "status:503", "object")
    assert [ask(sandbox, "GET", API).status for _ in range(3)] == [503, 200, 404]


# -- shapes of good answers


def test_shapes_of_a_create(sandbox: Sandbox) -> None:
    got = {}
    for shape in KINDS_OF_CREATE_SHAPES:
        wire = create(sandbox, f"shape:{shape}", external_task_id=f"mine-{shape}")
        assert wire.status == 200
        got[shape] = wire.json
        task = list(sandbox.tasks.values())[-1]
        assert query(sandbox, task.task_id).json["data"]["task_id"] == task.task_id
        assert query(sandbox, f"mine-{shape}").json["data"]["task_id"] == task.task_id
    assert got["wrapper"]["code"] == "success" and got["wrapper"]["data"]["status"] == "SUBMITTED"
    assert got["wrapper"]["data"]["data"]["data"]["task_status"] == "submitted"
    assert got["wrapper"]["data"]["task_id"].startswith("task_")
    assert got["openai"]["id"] == got["openai"]["task_id"] and got["openai"]["status"] == "queued"
    assert not {"code", "data"} & set(got["openai"])
    assert (got["doc"]["status"], got["doc"]["task_id"].isdecimal()) == ("queued", True)
    assert got["extras"]["task_id"] == got["extras"]["data"]["task_id"]
    assert (got["extras"]["message"], len(str(got["extras"]["data"]["created_at"]))) == ("", 10)
    assert list(got["plugin"]) == ["code", "data"] and "created_at" not in got["plugin"]["data"]
    assert isinstance(got["number_id"]["data"]["task_id"], int)
    assert len(str(got["seconds"]["data"]["created_at"])) == 10
    assert got["string_times"]["data"]["created_at"].isdecimal()
    assert got["string_code"]["code"] == "0"
    assert "task_info" not in got["no_task_info"]["data"]
    assert got["blank_message"]["message"] == ""
    assert got["task_id"]["data"]["task_id"].startswith("task_")
    assert "/" in got["base64_id"]["data"]["task_id"]
    assert got["prefixed_id"]["data"]["task_id"].startswith("kling-v1")
    assert set(got) == set(KINDS_OF_CREATE_SHAPES)


KINDS_OF_CREATE_SHAPES = (
    *("wrapper", "openai", "doc", "extras", "plugin", "number_id", "seconds", "string_times", "string_code"),
    *("no_task_info", "blank_message", "task_id", "base64_id", "prefixed_id"),
)

# shape -> what a client has to look at in the answer about a finished task, {url} being its result's.
QUERY_SHAPES: dict[str, Callable[[Any, str], bool]] = {
    "wrapper": lambda a, url: (a["code"], a["data"]["status"], a["data"]["result_url"]) == ("success", "SUCCESS", url),
    "wrapper_fail_reason": lambda a, url: a["data"]["fail_reason"] == url and a["data"]["data"] is None,
    "wrapper_null": lambda a, url: a == {"code": "success", "message": "", "data": None},
    "openai": lambda a, url: (a["status"], a["metadata"]["url"], a["seconds"]) == ("completed", url, "5"),
    "doc": lambda a, url: (a["status"], a["url"]) == ("completed", url),
    "extras": lambda a, url: a["data"]["task_result"]["images"] is None and video(a) | {"id": ""} == video(a),
    "plugin": lambda a, url: set(a) == {"code", "data"} and video(a)["url"] == url,
    "number_id": lambda a, url: isinstance(a["data"]["task_id"], int),
    "seconds": lambda a, url: len(str(a["data"]["updated_at"])) == 10,
    "string_times": lambda a, url: a["data"]["updated_at"].isdecimal(),
    "string_code": lambda a, url: a["code"] == "0" and video(a)["url"] == url,
    "no_task_info": lambda a, url: "task_info" not in a["data"],
    "blank_message": lambda a, url: a["message"] == "",
    "succeeded": lambda a, url: a["data"]["task_status"] == "succeeded",
    "unknown_status": lambda a, url: a["data"]["task_status"] == "UNKNOWN",
    "videos_null": lambda a, url: a["data"]["task_result"] == {"videos": None},
    "videos_empty": lambda a, url: a["data"]["task_result"] == {"videos": []},
    "no_result": lambda a, url: a["data"]["task_status"] == "succeed" and "task_result" not in a["data"],
    "no_url": lambda a, url: set(video(a)) == {"id", "duration"},
    "blank_url": lambda a, url: video(a)["url"] == "",
    "odd_url": lambda a, url: video(a)["url"].startswith("file:"),
    "number_duration": lambda a, url: video(a)["duration"] == 5.041,
    "url_in_task_info": lambda a, url: a["data"]["task_info"]["video_url"] == url and "task_result" not in a["data"],
    "final_balance": lambda a, url: a["data"]["final_balance_deduction"]["list_price"] == "0.14",
}


def video(answer: dict[str, Any]) -> dict[str, Any]:
    return answer["data"]["task_result"]["videos"][0]


@pytest.mark.parametrize("shape", QUERY_SHAPES)
def test_shapes_of_a_query(sandbox: Sandbox, task_id: str, shape: str) -> None:
    honest = query(sandbox, task_id).json
    wire = query(sandbox, task_id, f"shape:{shape}")
    assert wire.status == 200 and wire.json != honest
    assert QUERY_SHAPES[shape](wire.json, video(honest)["url"]), wire.json
    assert video(query(sandbox, task_id).json) == video(honest)


@pytest.mark.parametrize("shape", QUERY_SHAPES)
def test_a_shape_can_be_asked_for_in_any_state(sandbox: Sandbox, shape: str) -> None:
    sandbox.fail_next("no luck")
    task_id = create(sandbox).json["data"]["task_id"]
    assert query(sandbox, task_id, f"shape:{shape}").status == 200
    sandbox.queued_for = 1e9
    assert query(sandbox, task_id, f"shape:{shape}").status == 200
    assert query(sandbox, "unknown", f"shape:{shape}").status == 400


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("wrapper", lambda answer: (answer["data"]["status"], answer["data"]["fail_reason"])),
        ("openai", lambda answer: (answer["status"].upper(), answer["error"]["message"])),
    ],
)
def test_shapes_of_a_failed_task(sandbox: Sandbox, shape: str, reason) -> None:
    sandbox.fail_next("no luck")
    task_id = create(sandbox).json["data"]["task_id"]
    assert reason(query(sandbox, task_id, f"shape:{shape}").json) in (("FAILURE", "no luck"), ("FAILED", "no luck"))


def test_a_refusal_keeps_its_own_shape(sandbox: Sandbox) -> None:
    assert create(sandbox, "shape:openai", mode="4k").json["code"] == 1201


# -- downloads


def test_downloads_that_break_off(sandbox: Sandbox, task_id: str) -> None:
    for kind, end in (("drop:100", "closed"), ("reset:100", "reset"), ("drop:0", "closed")):
        wire = download(sandbox, task_id, kind)
        assert (wire.status, wire.header("content-length"), wire.end) == (200, str(len(CLIP)), end)
        # A reset may overtake what was sent before it.
        assert wire.body == CLIP[: int(kind.partition(":")[2])] or (end == "reset" and CLIP.startswith(wire.body))
    assert download(sandbox, task_id, "drop:50", Range="bytes=100-").body == CLIP[100:150]
    assert download(sandbox, task_id, Range="bytes=100-").body == CLIP[100:]


def test_downloads_that_answer_something_else(sandbox: Sandbox, task_id: str) -> None:
    wire = download(sandbox, task_id, "html")
    assert (wire.status, wire.header("content-type")) == (200, "text/html; charset=utf-8")
    assert download(sandbox, task_id, "status:403").status == 403
    assert download(sandbox, task_id, "unavailable:retry-after=1").header("retry-after") == "1"
    wire = download(sandbox, task_id, "empty")
    assert (wire.status, wire.header("content-length"), wire.body) == (200, "0", b"")
    wire = download(sandbox, task_id, "short")
    assert (wire.status, wire.body, wire.end) == (200, CLIP[: len(CLIP) // 2], "open")
    assert download(sandbox, task_id, "hang:0.05") == Wire(b"", "closed")
    assert download(sandbox, task_id).body == CLIP


def test_a_download_without_a_length_ends_with_the_connection(sandbox: Sandbox, task_id: str) -> None:
    wire = download(sandbox, task_id, "no-length")
    assert (wire.header("content-length"), wire.body, wire.end) == (None, CLIP, "closed")


def test_a_range_can_be_ignored(sandbox: Sandbox, task_id: str) -> None:
    wire = download(sandbox, task_id, "ignore-range", Range="bytes=100-")
    assert (wire.status, wire.body, wire.header("content-range")) == (200, CLIP, None)


@pytest.mark.parametrize("size", [None, 200_000])
def test_a_file_can_change_between_two_requests(sandbox: Sandbox, size: int | None) -> None:
    if size:
        sandbox.big_file(size)
    task_id = create(sandbox).json["data"]["task_id"]
    old = download(sandbox, task_id)
    tag = old.header("etag") or ""
    part = download(sandbox, task_id, "changed", **{"Range": "bytes=100-", "If-Range": tag})
    assert part.status == 200 and part.header("etag") != tag
    assert len(part.body) == len(old.body) and part.body != old.body
    assert download(sandbox, task_id).body == part.body
    assert download(sandbox, task_id, Range="bytes=100-").body == part.body[100:]


def test_a_slow_download_is_complete_and_takes_its_time(sandbox: Sandbox, task_id: str) -> None:
    began = time.monotonic()
    assert download(sandbox, task_id, "slow:40000").body == CLIP
    assert time.monotonic() - began >= len(CLIP) / 40_000 * 0.9


def test_a_download_can_stall(sandbox: Sandbox, task_id: str) -> None:
    sandbox.misbehave("download", "stall:64")
    host, port = sandbox.origin.removeprefix("http://").split(":")
    line = http.client.HTTPConnection(host, int(port), timeout=20)
    line.request("GET", f"/files/{task_id}.mp4")
    answer = line.getresponse()
    assert answer.read(64) == CLIP[:64]
    line.sock.settimeout(0.05)
    with pytest.raises(TimeoutError):
        answer.read(1)
    line.close()


# -- queueing


def test_faults_are_met_in_order_and_each_once(sandbox: Sandbox, task_id: str) -> None:
    sandbox.misbehave("query", "status:500", "status:502")
    sandbox.misbehave("query", "code:1302")
    assert create(sandbox).status == 200
    assert [query(sandbox, task_id).status for _ in range(4)] == [500, 502, 429, 200]


def test_faults_can_be_cleared(sandbox: Sandbox, task_id: str) -> None:
    sandbox.misbehave("create", "drop-before")
    sandbox.misbehave("query", "drop")
    sandbox.clear_faults()
    assert create(sandbox).status == query(sandbox, task_id).status == 200


@pytest.mark.parametrize(
    ("on", "kind", "says"),
    [
        ("create", "explode", "drop-before"),
        ("create", "drop", "drop-before"),
        ("query", "drop-before", "not-found"),
        ("upload", "drop", "create, query, list, download"),
        ("create", "status-after", "status-after:CODE"),
        ("create", "status-after:99", "status-after:CODE"),
        ("create", "status-after:204", "status-after:CODE"),
        ("create", "drop-after:1", "written drop-after"),
        ("create", "hang-after:", "hang-after[:SECONDS]"),
        ("create", "hang-after:soon", "hang-after[:SECONDS]"),
        ("create", "slow:-1", "slow:SECONDS"),
        ("create", "slow:nan", "slow:SECONDS"),
        ("create", "code:x", "code:CODE"),
        ("create", "code:1302:later=2", "retry-after=..."),
        ("create", "code:1302:retry-after=a\nb", "retry-after=..."),
        ("create", "code:1302:retry-after=date+x", "code:CODE"),
        ("create", "gateway:nobody", "invalid_token"),
        ("create", "shape:round", "wrapper"),
        ("query", "shape:base64_id", "wrapper_fail_reason"),
        ("create", "echo-key:loud", "gateway, kling, html"),
        ("create", "redirect", "redirect:URL"),
        ("create", "redirect:http://x\r\ny: z", "redirect:URL"),
        ("download", "slow:0", "slow:BYTES_PER_SECOND"),
        ("download", "drop", "drop:BYTES"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused_with_what_there_is(
    sandbox: Sandbox, on: str, kind: str, says: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        sandbox.misbehave(on, "slow:1", kind)
    assert create(sandbox).status == 200
    with pytest.raises(ValueError, match="create, query, list, download"):
        sandbox.misbehave("upload")


def test_all_kinds_are_listed() -> None:
    assert {"drop-before", "hang-after[:SECONDS]", "shape:NAME", "then-close"} <= set(kinds("create"))
    assert {"drop", "not-found", "processing"} <= set(kinds("query"))
    assert {"drop:BYTES", "slow:BYTES_PER_SECOND", "changed", "short"} <= set(kinds("download"))


def test_every_kind_for_a_create_is_seen_on_the_wire() -> None:
    lost = {kind.partition(":")[0] for kind, *_ in LOST}
    spoken = {"code", "gateway", "unavailable", "redirect", "echo-key", "slow", "then-close", "shape"}
    assert set(KINDS["create"]) == {f"{name}-{when}" for name in lost for when in ("before", "after")} | spoken
    assert set(KINDS["query"]) == lost | spoken | {"not-found", "processing"}
