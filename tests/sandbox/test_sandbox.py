"""The sandbox as an honest service: what it refuses, what it accepts, what it tells of a task, the files it serves."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from bodies import SEED_EXAMPLE, SMALL, STILL
from clock import Clock
from conftest import ROOT

from nodes.sandbox import Sandbox

API = "/kling/v1/videos/text2video"
KEY = "sk-sandbox-test"
CLIP = ROOT / "nodes" / "sandbox" / "clip.mp4"


def shot(index: int, duration: str = "2", prompt: str = "A wave.") -> dict[str, object]:
    return {"index": index, "prompt": prompt, "duration": duration}


def story(*shots: dict[str, object], **changes: object) -> dict[str, object]:
    """A multi-shot body; its duration is the sum of the shots unless it is given."""
    body = {**SMALL, "model_name": "kling-v3", "multi_shot": True, "shot_type": "customize"}
    body["multi_prompt"] = list(shots)
    body["duration"] = str(sum(int(str(one["duration"])) for one in shots)) if shots else "5"
    del body["prompt"]
    return {**body, **changes}


def camera(kind: str, **axes: float) -> dict[str, object]:
    return {"camera_control": {"type": kind, "config": {**STILL, **axes}}}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def told(self) -> tuple[int, object, str]:
        return self.status, self.json["code"], self.json["message"]


def ask(sandbox: Sandbox, method: str, path: str, body: object = None, key: str | None = KEY, **headers: Any) -> Reply:
    connection = http.client.HTTPConnection(sandbox.origin.removeprefix("http://"), timeout=20)
    try:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, raw, fields | ({"Authorization": f"Bearer {key}"} if key else {}))
        answer = connection.getresponse()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def create(sandbox: Sandbox, body: object = None, **headers: Any) -> Reply:
    return ask(sandbox, "POST", API, SMALL if body is None else body, **headers)


def made(sandbox: Sandbox, body: object = None) -> str:
    return create(sandbox, body).json["data"]["task_id"]


def look(sandbox: Sandbox, name: str) -> Reply:
    return ask(sandbox, "GET", f"{API}/{quote(name, safe='')}")


def film(sandbox: Sandbox, task_id: str) -> str:
    """The path of a finished task's result."""
    url = look(sandbox, task_id).json["data"]["task_result"]["videos"][0]["url"]
    assert url.startswith(sandbox.origin)
    return url.removeprefix(sandbox.origin)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock):
    with Sandbox(queued_for=10, runs_for=20, clock=clock) as running:
        yield running


@pytest.fixture
def finished():
    """Every task is done at once."""
    with Sandbox(queued_for=0, runs_for=0) as running:
        yield running


# -- creating


def test_the_gateways_own_example_is_accepted_and_answered_in_its_words(sandbox: Sandbox) -> None:
    reply = create(sandbox, SEED_EXAMPLE)
    assert (reply.status, list(reply.json)) == (200, ["code", "message", "request_id", "data"])
    assert (reply.json["code"], reply.json["message"]) == (0, "SUCCEED")
    data = reply.json["data"]
    assert list(data) == ["task_id", "task_status", "task_info", "created_at", "updated_at"]
    assert data["task_id"].isdecimal() and len(data["task_id"]) == 18
    assert (data["task_status"], data["task_info"]) == ("submitted", {})
    assert data["created_at"] == data["updated_at"] > 10**12
    assert sandbox.warnings == []


ACCEPTED = {
    "an external id": {"external_task_id": "probe_1"},
    "an https callback": {"callback_url": "https://example.org/hook"},
    "a preset with six zeros": camera("down_back"),
    "zoom out as far as it goes": camera("simple", zoom=-10),
    "no cfg": {"cfg_scale": 0.0},
    "an integer cfg": {"cfg_scale": 1},
    "2500 characters": {"prompt": "x" * 2500},
    "2500 emoji": {"prompt": "\U0001f600" * 2500},
    "a watermark": {"watermark_info": {"enabled": True}},
    "the longest v3": {"model_name": "kling-v3", "duration": "15", "sound": "on"},
    "a camera on v3": {"model_name": "kling-v3", **camera("simple", pan=1)},
    "a pro of ten seconds": {"mode": "pro", "duration": "10"},
    "the six shots of the official sample": story(*(shot(i + 1, d) for i, d in enumerate("233331"))),
    "one shot": story(shot(1, "3", "x" * 512)),
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepts(sandbox: Sandbox, changes: dict[str, object]) -> None:
    body = changes if "multi_prompt" in changes else {**SMALL, **changes}
    assert create(sandbox, body).status == 200
    assert [task.body for task in sandbox.tasks.values()] == [body]


UNREADABLE = "Failed to resolve the request body"
CAMERA = "camera_control is only supported in std mode with 5s duration and kling-v1"
V3 = {"model_name": "kling-v3"}
# What is changed in the plain body (None: left out), and how the refusal begins. Behind "table" the rule is one of
# the gateway's table; behind "Kling" one that its readers cannot know, which makes a warning too.
REFUSED = [
    ("table", {"model_name": None}, "model_name: must not be null"),
    ("table", {"mode": None}, "mode: must not be null"),
    ("table", {"duration": None}, "duration: must not be null"),
    ("table", {"model_name": "kling-v2"}, "model is not supported"),
    ("table", {"model_name": "kling-v2-6"}, "model is not supported"),
    ("table", {"mode": "4k"}, "mode value '4k' is invalid"),
    ("table", {"prompt": "x" * 2501}, "prompt: size must be between 0 and 2500"),
    ("table", {"negative_prompt": "x" * 2501}, "negative_prompt: size must be between 0 and 2500"),
    ("table", {"sound": "loud"}, "sound value 'loud' is invalid"),
    ("table", {"sound": "on"}, "model/mode(kling-v1/std) is not supported with sound on"),
    ("table", {"camera_control": {"type": "down_back"}}, "camera_control.config: must not be null"),
    ("table", {"camera_control": {"config": STILL}}, "camera_control.type: must not be null"),
    ("table", {"watermark_info": {}}, "watermark_info.enabled: must not be null"),
    ("table", story(shot(1), shot_type=None), "shot_type value '' is invalid"),
    ("table", story(shot(1), shot_type="intelligence"), "shot_type value 'intelligence' is invalid"),
    ("table", story(), "multi_prompt: size must be between 1 and 6"),
    ("table", story(*(shot(i) for i in range(1, 8))), "multi_prompt: size must be between 1 and 6"),
    ("table", story({"index": 1, "duration": "3"}), "multi_prompt[0].prompt: must not be null"),
    ("table", story(shot(1), shot(2, "3", "x" * 513)), "multi_prompt[1].prompt: size must be between 0 and 512"),
    ("table", story(shot(1, "0"), shot(2, "5")), "multi_prompt[0].duration value '0' is invalid"),
    ("table", story(shot(1, "05")), "multi_prompt[0].duration value '05' is invalid"),
    ("table", story(shot(1, "3"), duration="5"), "multi_prompt: the shots' durations add up to 3"),
    ("Kling", {"duration": "99"}, "duration value '99' is invalid"),
    ("Kling", {"duration": "7"}, "duration value '7' is invalid"),
    ("Kling", V3 | {"duration": "2"}, "duration value '2' is invalid"),
    ("Kling", V3 | {"duration": "5.0"}, "duration value '5.0' is invalid"),
    ("Kling", {"prompt": " \n"}, "prompt: must not be blank"),
    ("Kling", {"prompt": None}, "prompt: must not be blank"),
    ("Kling", {"aspect_ratio": "99:1"}, "aspect_ratio value '99:1' is invalid"),
    ("Kling", {"cfg_scale": 1.01}, "cfg_scale value '1.01' is invalid"),
    ("Kling", {"cfg_scale": -(10**400)}, "cfg_scale value '-1000"),
    ("Kling", {"callback_url": "ftp://example.org"}, "callback_url value 'ftp://example.org' is invalid"),
    ("Kling", {"callback_url": "https://"}, "callback_url value 'https://' is invalid"),
    ("Kling", camera("simple", pan=1) | {"model_name": "kling-v1-6"}, CAMERA),
    ("Kling", camera("simple", pan=1) | {"model_name": "kling-v2-5-turbo"}, CAMERA),
    ("Kling", camera("simple", pan=1) | {"mode": "pro"}, CAMERA),
    ("Kling", camera("simple", pan=1) | {"duration": "10"}, CAMERA),
    ("Kling", camera("orbit", pan=1), "camera_control.type value 'orbit' is invalid"),
    ("Kling", camera("simple"), "camera_control.config value is invalid: exactly one axis must not be 0, got 0"),
    ("Kling", camera("simple", pan=1, zoom=1), "camera_control.config value is invalid: exactly one axis"),
    ("Kling", camera("simple", tilt=10.5), "camera_control.config.tilt value '10.5' is invalid"),
    ("Kling", camera("down_back", zoom=1), "camera_control.config value is invalid: type 'down_back' takes no zoom"),
    ("Kling", story(shot(1, "5"), model_name="kling-v1"), "model/mode(kling-v1/std) is not supported with multi_shot"),
    ("Kling", story(shot(0), shot(1)), "multi_prompt[0].index value '0' is invalid"),
    ("Kling", story(shot(1), shot(3)), "multi_prompt[1].index value '3' is invalid"),
    ("Kling", story(shot(1, "3", " ")), "multi_prompt[0].prompt: must not be blank"),
    ("Kling", story(shot(1, "2")), "duration value '2' is invalid"),
]


@pytest.mark.parametrize(("source", "changes", "message"), REFUSED)
def test_refuses(sandbox: Sandbox, source: str, changes: dict[str, object], message: str) -> None:
    body = changes if "shot_type" in changes else {**SMALL, **changes}
    reply = create(sandbox, {name: value for name, value in body.items() if value is not None})
    assert reply.told[:2] == (400, 1201) and reply.told[2].startswith(message)
    assert "data" not in reply.json and reply.json["request_id"]
    assert not sandbox.tasks
    assert any(message in warning for warning in sandbox.warnings) == (source == "Kling")


WRONG_TYPES = [
    {"sound": True},
    {"duration": 5},
    {"multi_shot": "false"},
    {"multi_shot": None},
    {"cfg_scale": "0.5"},
    {"cfg_scale": True},
    {"prompt": 7},
    {"negative_prompt": None},
    {"prompt": "half an emoji \ud83d"},
    {"multi_prompt": {}},
    {"multi_prompt": [{"index": 1.0}]},
    {"multi_prompt": [{"index": 1, "duration": 2}]},
    {"multi_prompt": [{"index": True}]},
    {"camera_control": []},
    {"camera_control": {"type": "simple", "config": {"pan": "1"}}},
    {"camera_control": {"type": "simple", "config": {"dolly": 1}}},
    {"watermark_info": {"enabled": "true"}},
    {"watermark_info": [True]},
    {"modelName": "kling-v1"},
    {"seed": 7},
]


@pytest.mark.parametrize("changes", WRONG_TYPES, ids=str)
def test_refuses_another_json_type_and_unknown_fields(sandbox: Sandbox, changes: dict[str, object]) -> None:
    reply = create(sandbox, {**SMALL, **changes})
    assert reply.told[:2] == (400, 1201) and reply.told[2].startswith(f"{UNREADABLE}: ")
    assert not sandbox.tasks


NO_JSON = [b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b'{"cfg_scale": NaN}', b"[" * 100_000, b"1" * 5000]


@pytest.mark.parametrize("raw", NO_JSON, ids=lambda raw: repr(raw[:20]))
def test_refuses_what_is_no_json_object(sandbox: Sandbox, raw: bytes) -> None:
    assert create(sandbox, raw).told == (400, 1200, UNREADABLE)
    assert sandbox.creates() == [] and sandbox.received[0].body == raw


def test_infinity_written_as_a_large_number_is_no_number(sandbox: Sandbox) -> None:
    raw = json.dumps(SMALL).replace('"duration"', '"cfg_scale": 1e999, "duration"').encode()
    assert create(sandbox, raw).told == (400, 1201, f"{UNREADABLE}: cfg_scale must be a JSON number")


NOTED = [
    (V3 | {"cfg_scale": 0.5}, "Kling ignores cfg_scale on kling-v3"),
    ({"cfg_scale": 0}, "drops cfg_scale 0"),
    ({"aspect_ratio": None}, "1:1"),
    ({"model_name": "kling-v2-master"}, "one quality tier"),
    ({"multi_prompt": []}, "Kling ignores multi_prompt"),
    (V3 | camera("simple", pan=1), "sources disagree"),
    ({"camera_control": {"type": "simple", "config": {"pan": 1}}}, "lacks axes"),
    ({"prompt": "é" * 1251}, "bytes in UTF-8"),
    ({"callback_url": "http://example.org/"}, "not https"),
    ({"external_task_id": "a b"}, "external_task_id"),
    ({"external_task_id": "x" * 65}, "external_task_id"),
    (story(shot(1, "3")), "bills a single shot"),
    (story(shot(1, "3")), "refuses a blank prompt"),
    (story(shot(1, "3"), prompt="A boat."), "Kling ignores prompt"),
]


@pytest.mark.parametrize(("changes", "note"), NOTED)
def test_notes_what_is_accepted_and_still_lost(sandbox: Sandbox, changes: dict[str, object], note: str) -> None:
    body = changes if "shot_type" in changes else {**SMALL, **changes}
    assert create(sandbox, {name: value for name, value in body.items() if value is not None}).status == 200
    assert any(note in warning for warning in sandbox.warnings), sandbox.warnings
    assert sandbox.received[0].warnings == tuple(sandbox.warnings)


def test_a_note_is_written_once(sandbox: Sandbox) -> None:
    for _ in range(3):
        create(sandbox, {**SMALL, "cfg_scale": 0})
    assert len(sandbox.warnings) == 1 and len(sandbox.received[2].warnings) == 1


# -- keys, routes, records


@pytest.mark.parametrize("headers", [{"key": None}, {"key": ""}, {"key": "sk-wrong"}, {"Authorization": "Basic abc"}])
def test_a_request_without_the_right_key_is_refused(headers: dict[str, Any]) -> None:
    with Sandbox(key=KEY) as sandbox:
        if "Authorization" in headers:
            headers = headers | {"key": None}
        for reply in (create(sandbox, b"no json", **headers), ask(sandbox, "GET", f"{API}/1", **headers)):
            assert (reply.status, reply.json["error"]["type"]) == (401, "new_api_error")
        assert create(sandbox).status == 200


def test_any_key_will_do_when_none_is_asked_for(sandbox: Sandbox) -> None:
    assert create(sandbox, key="whatever").status == 200
    assert create(sandbox, key=None).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "told"),
    [
        ("GET", API, 404, "Invalid URL (GET"),
        ("GET", "/kling/v1/videos/image2video/1", 404, "Invalid URL (GET"),
        ("GET", f"{API}/a/b", 404, "Invalid URL (GET"),
        ("POST", "/v1/videos/text2video", 404, "Invalid URL (POST"),
        ("PUT", API, 404, '"code": 1202'),
        ("POST", f"{API}/1", 404, '"code": 1202'),
        ("GET", "/files/1.mp4", 404, "Not Found"),
    ],
)
def test_other_routes(sandbox: Sandbox, method: str, path: str, status: int, told: str) -> None:
    reply = ask(sandbox, method, path)
    assert reply.status == status and told in reply.body.decode()


def test_records_every_request_in_order(sandbox: Sandbox) -> None:
    task_id = made(sandbox)
    look(sandbox, task_id)
    create(sandbox, {**SMALL, "mode": "x"})
    first, second, third = sandbox.received
    assert (first.method, first.path, first.status, first.task_id) == ("POST", API, 200, task_id)
    assert first.json == SMALL and first.headers["authorization"] == f"Bearer {KEY}"
    assert (second.method, second.path, second.json) == ("GET", f"{API}/{task_id}", None)
    assert (third.status, third.task_id) == (400, None)
    assert sandbox.creates() == [SMALL, {**SMALL, "mode": "x"}]
    assert KEY not in repr(sandbox.received)


def test_one_connection_serves_many_requests(sandbox: Sandbox) -> None:
    connection = http.client.HTTPConnection(sandbox.origin.removeprefix("http://"), timeout=20)
    ids = set()
    for _ in range(3):
        connection.request("POST", API, json.dumps(SMALL), {"Authorization": f"Bearer {KEY}"})
        used = connection.sock
        ids.add(json.load(connection.getresponse())["data"]["task_id"])
        assert connection.sock is used
    connection.close()
    assert len(ids) == 3


@pytest.mark.parametrize("raw", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"x" * 99_999])
def test_bytes_that_are_no_http_get_an_answer_and_a_closed_connection(sandbox: Sandbox, raw: bytes) -> None:
    host, port = sandbox.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as line:
        line.sendall(raw)
        assert line.recv(99).startswith(b"HTTP/1.1 400 ")


# -- external ids and slots


def test_a_task_is_found_by_either_id(sandbox: Sandbox) -> None:
    task_id = made(sandbox, {**SMALL, "external_task_id": "café/1?x=%2F"})
    for name in (task_id, "café/1?x=%2F"):
        data = look(sandbox, name).json["data"]
        assert (data["task_id"], data["task_info"]) == (task_id, {"external_task_id": "café/1?x=%2F"})


def test_an_external_id_is_taken_once(sandbox: Sandbox) -> None:
    body = {**SMALL, "external_task_id": "mine"}
    create(sandbox, body)
    assert create(sandbox, body).told == (400, 1201, "External_task_id mine already exists")
    assert len(sandbox.tasks) == 1


def test_fifty_at_once_with_one_external_id_make_one_task(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: create(sandbox, {**SMALL, "external_task_id": "mine"}), range(50)))
    assert sorted(reply.status for reply in replies) == [200] + [400] * 49
    assert len(sandbox.tasks) == 1 and len(sandbox.received) == 50


def test_fifty_at_once_make_fifty_tasks_with_fifty_ids(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(50) as pool:
        ids = list(pool.map(lambda _: made(sandbox), range(50)))
    assert set(ids) == set(sandbox.tasks) and len(sandbox.tasks) == 50


def test_a_plain_relay_knows_no_external_ids() -> None:
    with Sandbox(knows_external_ids=False) as relay:
        body = {**SMALL, "external_task_id": "mine"}
        assert made(relay, body) != made(relay, body)
        assert look(relay, "mine").told == (400, "task_not_exist", "task_not_exist")


def test_slots_are_free_again_when_a_task_ends(clock: Clock) -> None:
    with Sandbox(slots=2, queued_for=1, runs_for=2, clock=clock) as sandbox:
        assert [create(sandbox).status for _ in range(3)] == [200, 200, 429]
        assert create(sandbox).told == (429, 1303, "parallel task over resource pack limit")
        clock.now += 3
        assert create(sandbox).status == 200


# -- states


def test_a_task_walks_through_its_states(sandbox: Sandbox, clock: Clock) -> None:
    task_id = made(sandbox, {**SMALL, "watermark_info": {"enabled": True}})
    seen = []
    for _ in range(4):
        seen.append(look(sandbox, task_id).json["data"])
        clock.now += 10
    assert [data["task_status"] for data in seen] == ["submitted", "processing", "processing", "succeed"]
    assert [data["updated_at"] - data["created_at"] for data in seen] == [0, 10_000, 10_000, 30_000]
    assert not any("task_result" in data or "final_unit_deduction" in data for data in seen[:3])
    url = f"{sandbox.origin}/files/{task_id}.mp4"
    video = {"id": f"v-{task_id}", "url": url, "duration": "5.041", "watermark_url": f"{url}?watermark=1"}
    assert seen[3]["task_result"] == {"videos": [video]}
    assert seen[3]["watermark_info"] == {"enabled": True}


@pytest.mark.parametrize(
    ("changes", "units"),
    [({}, "1"), ({"mode": "pro"}, "3.5"), (V3 | {"duration": "7", "sound": "on"}, "6.3"), (V3, "3")],
)
def test_a_finished_task_says_what_it_cost(finished: Sandbox, changes: dict[str, object], units: str) -> None:
    task_id = made(finished, {**SMALL, **changes})
    assert look(finished, task_id).json["data"]["final_unit_deduction"] == units


def test_the_next_task_can_be_made_to_fail(sandbox: Sandbox, clock: Clock) -> None:
    sandbox.fail_next("Failure to pass the risk control system")
    bad, good = made(sandbox), made(sandbox)
    assert look(sandbox, bad).json["data"]["task_status"] == "submitted"
    clock.now += 30
    data = look(sandbox, bad).json["data"]
    assert (data["task_status"], data["task_status_msg"]) == ("failed", "Failure to pass the risk control system")
    assert "task_result" not in data
    assert look(sandbox, good).json["data"]["task_status"] == "succeed"


def test_an_unknown_id_is_told_as_kling_tells_it(sandbox: Sandbox) -> None:
    assert look(sandbox, "no/such").told == (400, 1201, "Task not found by id/external id: no/such")


# -- files


def test_the_result_is_a_real_mp4_and_needs_no_key(finished: Sandbox) -> None:
    reply = ask(finished, "GET", film(finished, made(finished)), key=None)
    assert (reply.status, reply.body) == (200, CLIP.read_bytes())
    assert reply.body[4:8] == b"ftyp" and len(reply.body) < 10_000
    assert (reply.headers["content-type"], reply.headers["accept-ranges"]) == ("video/mp4", "bytes")
    assert reply.headers["content-length"] == str(len(reply.body)) and reply.headers["etag"]
    assert finished.warnings == []


def test_a_key_that_reaches_a_result_url_is_noted(finished: Sandbox) -> None:
    ask(finished, "GET", film(finished, made(finished)))
    assert finished.warnings == ["the key was sent to a result URL"]


def test_there_is_no_file_before_the_end(sandbox: Sandbox, clock: Clock) -> None:
    task_id = made(sandbox)
    assert ask(sandbox, "GET", f"/files/{task_id}.mp4").status == 404
    clock.now += 30
    assert ask(sandbox, "GET", f"/files/{task_id}.mp4").status == 200


SIZE = CLIP.stat().st_size


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=100-", 206, 100, SIZE),
        ("bytes=-7", 206, SIZE - 7, SIZE),
        ("bytes=-999999", 206, 0, SIZE),
        (f"bytes=5-{10**15}", 206, 5, SIZE),
        (f"bytes={SIZE}-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=9-3", 200, 0, SIZE),
        ("bytes=0-1,4-5", 200, 0, SIZE),
        ("bytes=-", 200, 0, SIZE),
        ("lines=1-2", 200, 0, SIZE),
    ],
)
def test_ranges(finished: Sandbox, asked: str, status: int, start: int, stop: int) -> None:
    reply = ask(finished, "GET", film(finished, made(finished)), Range=asked)
    assert (reply.status, reply.body) == (status, CLIP.read_bytes()[start:stop])
    limits = {206: f"bytes {start}-{stop - 1}/{SIZE}", 416: f"bytes */{SIZE}"}
    assert reply.headers.get("content-range") == limits.get(status)


def test_if_range_with_another_tag_gets_the_whole_file(finished: Sandbox) -> None:
    path = film(finished, made(finished))
    tag = ask(finished, "GET", path).headers["etag"]
    assert ask(finished, "GET", path, Range="bytes=9-", If_Range=tag).status == 206
    assert ask(finished, "GET", path, Range="bytes=9-", If_Range='"old"').status == 200


def test_head_tells_the_size_and_sends_nothing(finished: Sandbox) -> None:
    reply = ask(finished, "HEAD", film(finished, made(finished)))
    assert (reply.status, reply.headers["content-length"], reply.body) == (200, str(SIZE), b"")


def test_a_big_file_is_made_up_while_it_is_sent(finished: Sandbox) -> None:
    finished.big_file(3_000_000_000)
    task_id = made(finished)
    path = film(finished, task_id)
    assert ask(finished, "HEAD", path).headers["content-length"] == "3000000000"
    assert ask(finished, "GET", path, Range="bytes=0-63").body[4:8] == b"ftyp"
    far = ask(finished, "GET", path, Range="bytes=2500000000-2500999999").body
    assert far == finished.file_part(task_id, 2_500_000_000, 2_501_000_000) and len(set(far)) > 200
    assert ask(finished, "GET", film(finished, made(finished))).body == CLIP.read_bytes()


def test_a_big_file_has_all_its_bytes(finished: Sandbox) -> None:
    finished.big_file(1_000_001)
    task_id = made(finished)
    body = ask(finished, "GET", film(finished, task_id)).body
    assert len(body) == finished.file_size(task_id) == 1_000_001
    assert body == finished.file_part(task_id, 0, 2_000_000)
    assert body[700_000:] == ask(finished, "GET", film(finished, task_id), Range="bytes=700000-").body


# -- running


def test_stop_ends_connections_that_hang_and_keeps_the_record() -> None:
    sandbox = Sandbox().start()
    sandbox.misbehave("create", "hang-after", "hang-before")
    with ThreadPoolExecutor(2) as pool:
        lost = [pool.submit(create, sandbox) for _ in range(2)]
        deadline = time.monotonic() + 20
        while len(sandbox.received) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        stopping = threading.Thread(target=sandbox.stop)
        stopping.start()
        stopping.join(10)
        assert not stopping.is_alive()
        assert all(isinstance(one.exception(10), ConnectionError) for one in lost)
    assert len(sandbox.received) == 2 and len(sandbox.tasks) == 1
    sandbox.stop()


def test_a_stopped_sandbox_refuses_connections_and_starts_again_where_it_was() -> None:
    sandbox = Sandbox().start()
    task_id, address = made(sandbox), sandbox.base_url
    sandbox.stop()
    with pytest.raises(ConnectionError):
        create(sandbox)
    with sandbox:
        assert sandbox.base_url == address
        assert look(sandbox, task_id).status == 200


def test_a_taken_port_is_an_error_at_once(sandbox: Sandbox) -> None:
    port = int(sandbox.origin.rpartition(":")[2])
    with pytest.raises(OSError):
        Sandbox(port=port).start()


def test_as_a_program_it_says_how_to_use_it_and_logs_without_the_key() -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "nodes", "sandbox", "--port=0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout
        lines = [program.stdout.readline()]
        url = lines[0].split()[-1]
        running = Sandbox(host="127.0.0.1", port=int(url.removesuffix("/kling").rpartition(":")[2]))
        assert running.base_url == url
        task_id = create(running).json["data"]["task_id"]
        ask(running, "GET", f"/{KEY}/%C3%A9")
        while lines[-1] and "-> 404" not in lines[-1]:
            lines.append(program.stdout.readline())
        program.terminate()
    told = "".join(lines)
    for text in (f"export KLING_BASE_URL={url} ", f'$env:KLING_BASE_URL = "{url}"', f"set KLING_BASE_URL={url}"):
        assert text in told
    assert f"POST {API} -> 200 task {task_id}\n" in lines
    assert "GET /***/%C3%A9 -> 404\n" in lines
    assert KEY not in told and told.isascii()
