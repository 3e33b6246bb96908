"""Reading refusals: every way in which Kling and its relays say no, and the error that each becomes.

Messages are those seen in the wild where there are any (the E and Q numbers name such cases).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodes.api.gateway import answer
from nodes.api.gateway.answer import Refusal
from nodes.api.gateway.codes import CODES, HTTP_STATUSES

REFUSALS: dict[str, tuple[dict[str, Any], Refusal]] = {
    "Kling": (
        {"code": 1303, "message": "parallel task over resource pack limit", "request_id": "9984d27b"},
        Refusal(1303, "parallel task over resource pack limit", "9984d27b"),
    ),
    "Kling with data null": ({"code": 1201, "message": "no", "data": None}, Refusal(1201, "no")),
    "numeric text": ({"code": "1201", "message": "no"}, Refusal(1201, "no")),
    "msg": ({"code": 1201, "msg": "no"}, Refusal(1201, "no")),
    "no message": ({"code": 1201}, Refusal(1201, "")),
    "message of another kind": ({"code": 1201, "message": ["no"]}, Refusal(1201, "")),
    "flat task error": (
        {"code": "invalid_request", "message": "prompt is required", "data": None},
        Refusal("invalid_request", "prompt is required"),
    ),
    "error object": (
        {"error": {"message": "Invalid token", "type": "new_api_error", "code": ""}},
        Refusal("new_api_error", "Invalid token"),
    ),
    "error object, code null": ({"error": {"message": "no", "type": "x", "code": None}}, Refusal("x", "no")),
    "error object, int code": ({"error": {"message": "no", "type": "x", "code": 400}}, Refusal(400, "no")),
    "error object, nothing else": ({"error": {"message": "no"}}, Refusal(None, "no")),
    "error object with a status beside it": ({"status": "error", "error": {"message": "no"}}, Refusal(None, "no")),
    "error object with a request's id": ({"id": "req_1", "error": {"message": "no"}}, Refusal(None, "no")),
    "code and error object": ({"code": 401, "error": {"message": "no"}}, Refusal(401, "no")),
    "error as text": ({"error": "Unauthorized"}, Refusal(None, "Unauthorized")),
    "error and message": ({"error": "invalid_key", "message": "Who?"}, Refusal(None, "invalid_key: Who?")),
    "Spring": (
        {"timestamp": 1, "status": 500, "error": "Internal Server Error", "path": "/kling"},
        Refusal(None, "Internal Server Error"),
    ),
    "AceData": (
        {"success": False, "error": {"code": "bad_request", "message": "no"}, "trace_id": "3f2a"},
        Refusal("bad_request", "no", "3f2a"),
    ),
    "success false": ({"success": False, "message": "not logged in"}, Refusal(None, "not logged in")),
    "FastAPI": ({"detail": "Insufficient credits"}, Refusal(None, "Insufficient credits")),
    "FastAPI list": ({"detail": [{"msg": "field required"}]}, Refusal(None, '[{"msg": "field required"}]')),
    "Kling as text in a flat error": (
        {
            "code": "fail_to_fetch_task",
            "message": '{"code":1201,"message":"model is not supported","request_id":"r"}',
            "data": None,
        },
        Refusal(1201, "model is not supported", "r"),
    ),
    "Kling as text in an error object": (
        {"error": {"message": '{"code":1303,"message":"busy"}', "type": "upstream_error"}, "request_id": "outer"},
        Refusal(1303, "busy", "outer"),
    ),
    "two relays deep": (
        {"code": "a", "message": json.dumps({"code": "b", "message": json.dumps({"code": 1102, "message": "no"})})},
        Refusal(1102, "no"),
    ),
    "text that only looks like JSON": ({"code": "a", "message": "{oops"}, Refusal("a", "{oops")),
    "JSON text without an error": ({"code": "a", "message": '{"b": 1}'}, Refusal("a", '{"b": 1}')),
    "saturated": (
        {"code": "fail_to_fetch_task", "message": "当前分组上游负载已饱和", "data": None},
        Refusal("fail_to_fetch_task", "当前分组上游负载已饱和"),
    ),
    "unknown code": ({"code": -1, "message": "no"}, Refusal(-1, "no")),
    "a message of many lines": ({"code": 1, "message": " a\n\n\x1b[2J b\x00 "}, Refusal(1, "a [2J b")),
    "half a surrogate pair": ({"code": 1, "message": "a\ud83d"}, Refusal(1, "a?")),
}


@pytest.mark.parametrize(("shape", "refusal"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_read_from_every_shape(shape: dict[str, Any], refusal: Refusal):
    assert answer.read_refusal(shape) == refusal
    assert not answer.names_task(shape)


@pytest.mark.parametrize("code", [0, "0", 200, "200", "success", "SUCCESS", "succeed", "SUCCEED", "ok", "OK", None, ""])
def test_these_codes_mean_success(code: object):
    assert answer.read_refusal({"code": code, "message": "", "data": {"task_id": "7"}}) is None


def test_a_message_that_nobody_would_read_is_cut():
    refusal = answer.read_refusal({"code": "c" * 999, "message": "m" * 100_000})
    assert refusal is not None
    assert len(refusal.message) < 510
    assert len(str(refusal.code)) < 70


def test_an_answer_without_an_error_gives_what_it_says():
    assert answer.message_in({"message": "Unauthorized"}) == 'it says "Unauthorized"'
    assert answer.message_in({}) == "it gives no reason"


# Errors


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_a_kling_code_decides_whatever_the_status(code: int, status: int):
    error = answer.as_error(Refusal(code, "words of the service", "r-1"), status)
    assert type(error) is CODES[code].error
    assert '"words of the service"' in error.message
    assert CODES[code].meaning in error.message
    assert error.message.endswith(CODES[code].advice)
    assert (error.code, error.http_status, error.request_id) == (code, status, "r-1")


@pytest.mark.parametrize("status", HTTP_STATUSES)
def test_without_a_known_code_the_status_decides(status: int):
    expected, advice = HTTP_STATUSES[status]
    for code in (None, "new_api_error", 77):
        error = answer.as_error(Refusal(code, "no"), status)
        assert type(error) is expected
        assert error.message == f'The gateway refused the request: "no". {advice}'


def test_a_parameter_error_sent_as_429_is_one_all_the_same():
    error = answer.as_error(Refusal(400, "aspect_ratio value '99:1' is invalid"), 429)
    assert type(error).__name__ == "GraphError"


@pytest.mark.parametrize("status", [200, 418, 500, 503])
def test_an_unknown_refusal_asks_to_try_again_later(status: int):
    error = answer.as_error(Refusal("x", ""), status)
    assert type(error).__name__ == "UnavailableError"
    assert error.message == "The gateway refused the request. Run again later."


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (200, "UnavailableError"),
        (302, "SetupError"),
        (307, "SetupError"),
        (400, "GraphError"),
        (401, "SetupError"),
        (402, "BalanceError"),
        (404, "UnavailableError"),
        (408, "UnavailableError"),
        (429, "UnavailableError"),
        (500, "UnavailableError"),
        (502, "UnavailableError"),
        (524, "UnavailableError"),
    ],
)
def test_a_query_that_brings_nothing_readable_is_judged_by_its_status(status: int, name: str):
    assert type(answer.as_unreadable("it is empty", status)).__name__ == name


# Not found, already there


@pytest.mark.parametrize(
    ("refusal", "proven"),
    [
        (Refusal(1201, "Task not found by id/external id: mf-auth-probe-nonexistent"), True),  # Q1
        (Refusal(1201, "task not found by id/external id: x"), True),
        (Refusal(1201, "Task not found"), False),
        (Refusal(1203, "The requested resource does not exist"), False),
        (Refusal("task_not_exist", "task_not_exist"), False),
        (Refusal("task_not_exist", ""), False),
        (Refusal("task_not_found", "task not found; external ids are not supported here"), False),
    ],
)
def test_an_unknown_task_is_recognised_and_only_kling_can_prove_it(refusal: Refusal, proven: bool):
    error = answer.not_found(refusal, 400)
    assert error is not None
    assert error.proven is proven
    assert error.code == refusal.code


@pytest.mark.parametrize(
    "refusal",
    [Refusal(1201, "model is not supported"), Refusal(1002, "access key not found"), Refusal("model_not_found", "")],
)
def test_other_refusals_are_no_unknown_task(refusal: Refusal):
    assert answer.not_found(refusal, 400) is None


@pytest.mark.parametrize(
    ("message", "taken"),
    [
        ("External_task_id boat-1 already exists", True),  # E11
        ("external_task_id boat-1 already exists.", True),
        ("upstream: External_task_id boat-1 already exists", True),
        ("external task id is duplicated", True),
        ("external_task_id value 'a b' is invalid", False),
        ("the task already exists", False),
        ("", False),
    ],
)
def test_a_taken_external_task_id_is_recognised(message: str, taken: bool):
    assert answer.already_exists(Refusal(1201, message)) is taken
