"""Reading answers: every shape that Kling and its relays are known to give, and every way to refuse.

Values are those seen in the wild where there are any (the C, E and Q numbers name such cases).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.api.gateway import answer
from nodes.api.gateway.answer import Task, TaskStatus, Unreadable
from nodes.sandbox.faults import ODD_IDS

URL = "https://p1.a.kwimgs.com/bs2/v.mp4"


def kling(status: str = "submitted", **more: Any) -> dict[str, Any]:
    data = {"task_id": "866889456698785798", "task_status": status, **more}
    return {"code": 0, "message": "SUCCEED", "request_id": "3d67a2e2", "data": data}


def wrapper(status: str, **more: Any) -> dict[str, Any]:
    """New-API's generic task around Kling's envelope."""
    inner = {
        "task_id": "task_x",
        "platform": "50",
        "status": status,
        "progress": "50%",
        "submit_time": 1774711071,
        **more,
    }
    return {"code": "success", "message": "", "data": inner}


def done(**video: Any) -> dict[str, Any]:
    return {"task_result": {"videos": [{"id": "v", "url": URL, "duration": "5.1", **video}]}}


# Tasks: one row for each shape

SHAPES: dict[str, tuple[dict[str, Any], Task]] = {
    "C1 native": (
        {
            "code": 0,
            "message": "SUCCEED",
            "request_id": "3d67a2e2-cec7-4571-ba0d-556668ff7e82",
            "data": {
                "task_id": "866889456698785798",
                "task_status": "submitted",
                "task_info": {"external_task_id": "text_probe_1"},
                "created_at": 1774711071284,
                "updated_at": 1774711071284,
            },
        },
        Task(
            "866889456698785798",
            TaskStatus.SUBMITTED,
            external_task_id="text_probe_1",
            created_at=1774711071284,
            request_id="3d67a2e2-cec7-4571-ba0d-556668ff7e82",
        ),
    ),
    "C2 native, kling-v3": (
        {
            "code": 0,
            "message": "SUCCEED",
            "request_id": "c0656403-1e6e-4b7e-b8f8-2cdd2595f2b9",
            "data": {
                "task_id": "867283741759111202",
                "task_status": "submitted",
                "task_info": {"external_task_id": "text2video_kling_v3_final-1774805076"},
                "created_at": 1774805076166,
                "updated_at": 1774805076166,
            },
        },
        Task(
            "867283741759111202",
            TaskStatus.SUBMITTED,
            external_task_id="text2video_kling_v3_final-1774805076",
            created_at=1774805076166,
            request_id="c0656403-1e6e-4b7e-b8f8-2cdd2595f2b9",
        ),
    ),
    "C3 the gateway's example": (
        {
            "code": 0,
            "message": "SUCCEED",
            "request_id": "603e2a28-fb89-4146-ae33-412d74012a6d",
            "data": {
                "task_id": "831922345719271433",
                "task_status": "submitted",
                "task_info": {},
                "created_at": 1766374262370,
                "updated_at": 1766374262370,
            },
        },
        Task(
            "831922345719271433",
            TaskStatus.SUBMITTED,
            created_at=1766374262370,
            request_id="603e2a28-fb89-4146-ae33-412d74012a6d",
        ),
    ),
    "C4 no task_info": (
        {"code": 0, "data": {"task_id": "829611643369439283", "task_status": "submitted", "created_at": 1765823347996}},
        Task("829611643369439283", TaskStatus.SUBMITTED, created_at=1765823347996),
    ),
    "C6 OpenAI video object": (
        {
            "id": "task_a",
            "task_id": "task_a",
            "object": "video",
            "model": "kling-v1",
            "status": "queued",
            "progress": 0,
            "created_at": 1774711071,
        },
        Task("task_a", TaskStatus.SUBMITTED, created_at=1774711071000, model="kling-v1"),
    ),
    "a time beyond SQLite's numbers": (
        {"code": 0, "data": {"task_id": "1", "task_status": "submitted", "created_at": 10**19}},
        Task("1", TaskStatus.SUBMITTED),
    ),
    "a time without end": (
        {"code": 0, "data": {"task_id": "1", "task_status": "submitted", "created_at": "9" * 5000}},
        Task("1", TaskStatus.SUBMITTED),
    ),
    "OpenAI video object, id alone": (
        {"id": "task_a", "object": "video", "status": "in_progress"},
        Task("task_a", TaskStatus.PROCESSING),
    ),
    "OpenAI video object, completed": (
        {"id": "task_a", "status": "completed", "seconds": "5", "metadata": {"url": URL}},
        Task("task_a", TaskStatus.SUCCEED, url=URL),
    ),
    "OpenAI video object, failed": (
        {
            "id": "task_a",
            "task_id": "task_a",
            "status": "failed",
            "error": {"message": "no luck", "code": "task_failed"},
        },
        Task("task_a", TaskStatus.FAILED, reason="no luck"),
    ),
    "Q2 failed by moderation": (
        kling("failed", task_status_msg="Failure to pass the risk control system"),
        Task(
            "866889456698785798",
            TaskStatus.FAILED,
            reason="Failure to pass the risk control system",
            request_id="3d67a2e2",
        ),
    ),
    "Q3 succeed": (
        kling("succeed", **done(duration="5"), final_unit_deduction="1.01"),
        Task("866889456698785798", TaskStatus.SUCCEED, url=URL, request_id="3d67a2e2", charged=1.01),
    ),
    "Q4 native with extras": (
        {
            "code": 0,
            "message": "",
            "request_id": "73f73d37-e27a-4644-8cc1-9753b8c758fe",
            "task_id": "task_315wt4t0YE3Y4WwN6ygeeGgxbAIBnyfP",
            "data": {
                "task_id": "task_315wt4t0YE3Y4WwN6ygeeGgxbAIBnyfP",
                "task_status": "succeed",
                "task_result": {
                    "images": None,
                    "videos": [{"id": "", "url": "http://v.example/a.mp4", "watermark_url": "", "duration": "5.042"}],
                },
                "created_at": 1775872087,
                "updated_at": 1775872159,
            },
        },
        Task(
            "task_315wt4t0YE3Y4WwN6ygeeGgxbAIBnyfP",
            TaskStatus.SUCCEED,
            url="http://v.example/a.mp4",
            created_at=1775872087000,
            request_id="73f73d37-e27a-4644-8cc1-9753b8c758fe",
        ),
    ),
    "Q5 wrapper with the URL in fail_reason": (
        wrapper("SUCCESS", fail_reason="https://v.example/v.mp4", data=None),
        Task("task_x", TaskStatus.SUCCEED, url="https://v.example/v.mp4", created_at=1774711071000),
    ),
    "wrapper with result_url": (
        wrapper("SUCCESS", fail_reason="", result_url=URL),
        Task("task_x", TaskStatus.SUCCEED, url=URL, created_at=1774711071000),
    ),
    "wrapper around Kling's envelope": (
        wrapper("SUCCESS", data=kling("succeed", **done())),
        Task("task_x", TaskStatus.SUCCEED, url=URL, created_at=1774711071000, request_id="3d67a2e2"),
    ),
    "wrapper that has given the task up": (
        wrapper("FAILURE", fail_reason="timed out", data=kling("processing")),
        Task("task_x", TaskStatus.FAILED, reason="timed out", created_at=1774711071000, request_id="3d67a2e2"),
    ),
    "wrapper in progress": (
        wrapper("IN_PROGRESS", data=kling("processing")),
        Task("task_x", TaskStatus.PROCESSING, created_at=1774711071000, request_id="3d67a2e2"),
    ),
    "New-API's documented flat form": (
        {
            "task_id": "t",
            "status": "completed",
            "url": URL,
            "format": "mp4",
            "metadata": {"duration": 5},
            "error": {"code": 0},
        },
        Task("t", TaskStatus.SUCCEED, url=URL),
    ),
    "New-API's flat form, failed": (
        {"task_id": "t", "status": "failed", "url": "", "error": {"code": 5, "message": "too dark"}},
        Task("t", TaskStatus.FAILED, reason="too dark"),
    ),
    "later New-API": (
        {"code": 0, "data": {"task_id": "task_y", "task_status": "processing", "task_status_msg": ""}},
        Task("task_y", TaskStatus.PROCESSING),
    ),
    "KuAi: URL in task_info": (
        kling("succeed", task_info={"video_url": URL}),
        Task("866889456698785798", TaskStatus.SUCCEED, url=URL, request_id="3d67a2e2"),
    ),
    "KuAi: reason in task_info": (
        kling("failed", task_info={"error": "no face"}),
        Task("866889456698785798", TaskStatus.FAILED, reason="no face", request_id="3d67a2e2"),
    ),
    "an envelope whose own status is about the call": (
        {"status": "success", "code": 0, "data": {"task_id": "7", "task_status": "processing"}},
        Task("7", TaskStatus.PROCESSING),
    ),
    "an envelope with a status and the id twice": (
        {"status": 200, "task_id": "7", "data": {"task_id": "7", "task_status": "processing"}},
        Task("7", TaskStatus.PROCESSING),
    ),
    "Q8 base64-like id": (
        {"code": 0, "data": {"task_id": "CjNQtmctxFMAAAAAAGZ1Vw", "task_status": "submitted"}},
        Task("CjNQtmctxFMAAAAAAGZ1Vw"),
    ),
    "Q8 18 digits as a number": (
        {"code": 0, "data": {"task_id": 866889456698785798, "task_status": "submitted"}},
        Task("866889456698785798"),
    ),
    "a stray prefix glued on": (
        {"code": 0, "data": {"task_id": " kling-v1825380683199176793 ", "task_status": "submitted"}},
        Task("kling-v1825380683199176793"),
    ),
    "code as text": ({"code": "0", "data": {"task_id": "7"}}, Task("7")),
    "times as text": ({"data": {"task_id": "7", "created_at": "1774711071284"}}, Task("7", created_at=1774711071284)),
    "times as text in seconds": (
        {"data": {"task_id": "7", "created_at": "1774711071"}},
        Task("7", created_at=1774711071000),
    ),
    "a time that is none": ({"data": {"task_id": "7", "created_at": "yesterday"}}, Task("7")),
    "a time with a fraction": ({"data": {"task_id": "7", "created_at": 1774711071.5}}, Task("7")),
    "no status yet": ({"code": 0, "data": {"task_id": "7"}}, Task("7", TaskStatus.SUBMITTED)),
    "task_info null": ({"code": 0, "data": {"task_id": "7", "task_info": None}}, Task("7")),
    "an id that cannot be one, then one that can": ({"data": {"task_id": "7\0", "data": {"task_id": "8"}}}, Task("8")),
    "a request_id that cannot be one": ({"request_id": "r\n1", "data": {"task_id": "7"}}, Task("7")),
    "an external id beside the task_id": (
        {"data": {"task_id": "7", "external_task_id": "mine"}},
        Task("7", external_task_id="mine"),
    ),
    "the external id in Kling's answer inside a relay's": (
        {"data": {"task_id": "task_x", "data": {"data": {"task_id": "7", "task_info": {"external_task_id": "mine"}}}}},
        Task("task_x", external_task_id="mine"),
    ),
}


@pytest.mark.parametrize(("shape", "task"), SHAPES.values(), ids=SHAPES)
def test_a_task_is_read_from_every_shape(shape: dict[str, Any], task: Task):
    assert answer.read_refusal(shape) is None
    assert answer.names_task(shape)
    assert answer.read_task(answer.parse(json.dumps(shape).encode())) == task


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["submitted", "SUBMITTED", "NOT_START", "QUEUED", "queued", "pending"], TaskStatus.SUBMITTED),
        (["processing", "IN_PROGRESS", "in_progress", "running"], TaskStatus.PROCESSING),
        (["succeed", "succeeded", "SUCCESS", "completed"], TaskStatus.SUCCEED),
        (["failed", "FAILURE", "error", "fail", "canceled", "Cancelled", "EXPIRED"], TaskStatus.FAILED),
    ],
)
def test_the_words_of_all_relays_are_understood(words: list[str], status: str):
    assert {answer.read_task(kling(word)).status for word in words} == {status}
    assert {answer.read_task(wrapper(word)).status for word in words} == {status}


@pytest.mark.parametrize("word", ["UNKNOWN", "timeout", "paused", "审核中"])
def test_an_unknown_word_is_kept_as_it_is(word: str):
    assert answer.read_task(kling(word)).status == word


def test_a_word_that_could_forge_a_line_is_shown_on_one_line():
    assert answer.read_task(kling("\x1b[31mpaused\n999\u202e")).status == "[31mpaused 999"
    assert len(answer.read_task(kling("long " * 5000)).status) < 50


@pytest.mark.parametrize("name", ODD_IDS)
def test_what_cannot_be_an_id_is_none(name: str):
    shape = answer.parse(json.dumps({"code": 0, "data": {"task_id": ODD_IDS[name]}}).encode())
    assert not answer.names_task(shape)
    with pytest.raises(answer.Unreadable):
        answer.read_task(shape)


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"task_result": None},
        {"task_result": {}},
        {"task_result": {"videos": None}},
        {"task_result": {"videos": []}},
        {"task_result": {"videos": [None, "x"]}},
        {"task_result": {"videos": [{"id": "v"}]}},
        done(url=""),
        done(url=None),
        done(url=5),
        done(url="file:///clip.mp4"),
        done(url="v.mp4"),
    ],
    ids=str,
)
def test_a_task_that_succeeded_without_a_usable_url_has_none(result: dict[str, Any]):
    task = answer.read_task(kling("succeed", **result))
    assert (task.status, task.url) == (TaskStatus.SUCCEED, None)


def test_the_first_video_that_has_a_url_counts():
    videos = [{"url": ""}, {"url": URL}, {"url": "https://b.example"}]
    assert answer.read_task(kling("succeed", task_result={"videos": videos})).url == URL


def test_the_official_place_of_the_url_wins_over_others():
    shape = wrapper("SUCCESS", result_url="https://old.example", data=kling("succeed", **done()))
    assert answer.read_task(shape).url == URL


@pytest.mark.parametrize("status", ["submitted", "processing", "failed", "UNKNOWN"])
def test_a_url_before_success_is_none(status: str):
    assert answer.read_task(kling(status, **done())).url is None


def test_a_reason_is_given_for_failed_tasks_only_and_fits_on_a_line():
    assert answer.read_task(kling("succeed", task_status_msg="ok")).reason == ""
    assert answer.read_task(kling("failed", task_status_msg="too\n\x1b[31mdark")).reason == "too [31mdark"
    assert len(answer.read_task(kling("failed", task_status_msg="x" * 9999)).reason) < 2100


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"code": "success", "data": None},
        {"code": 0, "data": {}},
        {"code": 0, "data": []},
        {"code": 0, "data": "7"},
        {"code": 0, "data": {"task_id": ""}},
        {"code": 0, "data": {"task_id": None}},
        {"code": 0, "data": {"task_id": True}},
        {"code": 0, "data": {"task_id": 8.66889456698785798e17}},
        {"code": 0, "data": {"task_id": ["7"]}},
        {"id": 5, "message": "welcome"},
    ],
    ids=str,
)
def test_without_a_task_id_there_is_no_task(shape: dict[str, Any]):
    assert not answer.names_task(shape)
    with pytest.raises(Unreadable, match="it contains no task_id"):
        answer.read_task(shape)


# Bodies


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b'{"code": 0, "data": {"task', 'it begins with "{"code": 0, "data": {"task"'),
        (b"[]", 'it begins with "[]"'),
        (b"null", 'it begins with "null"'),
        (b"5", 'it begins with "5"'),
        (b'"text"', 'it begins with ""text""'),
        (b"Bad gateway", 'it begins with "Bad gateway"'),
        (b"<html><head><title>502 Bad Gateway</title><style>a{}</style></head></html>", '"502 Bad Gateway"'),
        (b"<!DOCTYPE html><script>var a = '<b>';</script><h1>Sign in</h1>", 'it begins with "Sign in"'),
        (b"\x00\xff\xfe", "it begins with"),
        (b"[" * 200_000, "it begins with"),
        (b'{"a":' * 200_000, "it begins with"),
        (b'{"task_id": ' + b"9" * 5000 + b"}", "it begins with"),
    ],
)
def test_what_is_no_json_object_is_described_by_its_first_words(body: bytes, found: str):
    with pytest.raises(Unreadable) as caught:
        answer.parse(body)
    assert found in str(caught.value)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_is_read_in_every_encoding_that_json_may_have(encoding: str):
    assert answer.parse('{"message": "余额不足"}'.encode(encoding)) == {"message": "余额不足"}


# Anything at all

_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["code", "message", "data", "error", "task_id", "id", "status", "task_status", "detail"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["code", "message", "data", "error", "task_id", "status", "detail"]), _json))
def test_no_json_object_breaks_the_reader(body: dict[str, Any]):
    refusal = answer.read_refusal(body)
    if refusal:
        str(answer.as_error(refusal, 400)).encode("utf-8")
    if answer.names_task(body):
        task = answer.read_task(body)
        assert task.task_id == task.task_id.strip() != ""
        repr(task).encode("utf-8")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes):
    try:
        assert isinstance(answer.parse(body), dict)
    except Unreadable as unreadable:
        str(unreadable).encode("utf-8")
