"""What one POST came to, and whether it may be sent again: the questions that money hangs on, with literals.

The E numbers name answers that were seen in the wild or read in the source of a relay.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.api.gateway.codes import CODES
from nodes.api.gateway.outcome import Outcome, PostResult, RawAnswer, classify, pause_before_resend, retry_after
from nodes.api.pace import Pace

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)
TASK = {"task_id": "866889456698785798", "task_status": "submitted"}
HTML = b"<html><head><title>504 Gateway Time-out</title></head></html>"
CAMERA = "camera_control is only supported in std mode with 5s duration and kling-v1"


def reply(status: int, body: Any, **headers: str) -> RawAnswer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def gateway(message: str, code: object = "", type: str = "new_api_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "code": code}}


def flat(code: str, message: str = "") -> dict[str, Any]:
    return {"code": code, "message": message, "data": None}


def kling(code: int, message: str = "no") -> dict[str, Any]:
    return {"code": code, "message": message, "request_id": "r-1"}


# Accepted


@pytest.mark.parametrize(
    "body",
    [
        {"code": 0, "message": "SUCCEED", "data": TASK},
        {"code": "0", "data": TASK},
        {
            "code": "success",
            "message": "",
            "data": {"task_id": "866889456698785798", "status": "NOT_START", "data": None},
        },
        {"code": "OK", "data": TASK},
        {"id": "866889456698785798", "object": "video", "status": "queued"},
        {"task_id": "866889456698785798", "status": "queued", "error": None},
        {"data": TASK},
        {"code": 1, "message": "a code that nobody has heard of", "data": TASK},
        {"code": 0, "error": {"message": "ignore me"}, "data": TASK},
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_an_answer_that_names_a_task_means_that_one_was_made(status: int, body: dict[str, Any]):
    attempt = classify(reply(status, body))
    assert attempt.outcome is Outcome.ACCEPTED
    assert attempt.task is not None
    assert attempt.task.task_id == "866889456698785798"
    assert attempt.error is None


# Refused: nothing was made


REFUSED: dict[str, tuple[RawAnswer, str, int | str | None]] = {
    "E1 camera on kling-v1-6": (reply(400, kling(1201, CAMERA)), "GraphError", 1201),
    "E2 no money": (reply(429, kling(1102, "Account balance not enough")), "BalanceError", 1102),
    "E3 wrong key": (reply(401, kling(1002, "access key not found")), "SetupError", 1002),
    "E6 bad model": (reply(400, kling(1201, "model is not supported")), "GraphError", 1201),
    "E7 ratio": (reply(400, kling(1201, "aspect_ratio value '99:1' is invalid")), "GraphError", 1201),
    "E7 ratio as 429": (reply(429, kling(400, "aspect_ratio value '99:1' is invalid")), "GraphError", 400),
    "E7 ratio as 500": (reply(500, kling(1201, "aspect_ratio value '99:1' is invalid")), "GraphError", 1201),
    "E8 sound": (
        reply(400, kling(1201, "model/mode(kling-v2-6/std) is not supported with sound on")),
        "GraphError",
        1201,
    ),
    "E9 prompt": (reply(400, kling(1201, "prompt: size must be between 0 and 2500")), "GraphError", 1201),
    "E10 200 with a code": (reply(200, kling(1201, "duration value '99' is invalid")), "GraphError", 1201),
    "E12 gateway key": (reply(401, gateway("Invalid token (request id: x)")), "SetupError", "new_api_error"),
    "E13 no channel": (reply(503, gateway("no channel", "model_not_found")), "GraphError", "model_not_found"),
    "E13 no channel, told to retry": (
        reply(503, gateway("no channel", "model_not_found"), retry_after="5"),
        "GraphError",
        "model_not_found",
    ),
    "E14 quota": (
        reply(403, gateway("额度不足", "insufficient_user_quota")),
        "BalanceError",
        "insufficient_user_quota",
    ),
    "E14 quota, flat": (
        reply(403, flat("pre_consume_token_quota_failed", "quota")),
        "BalanceError",
        "pre_consume_token_quota_failed",
    ),
    "E15 blank prompt": (reply(400, flat("invalid_request", "prompt is required")), "GraphError", "invalid_request"),
    "E16 nested": (
        reply(400, flat("fail_to_fetch_task", json.dumps(kling(1201, "model is not supported")))),
        "GraphError",
        1201,
    ),
    "E16 nested, no money": (reply(429, flat("fail_to_fetch_task", json.dumps(kling(1102)))), "BalanceError", 1102),
    "429 of any other kind": (
        reply(429, flat("fail_to_fetch_task", "负载已饱和")),
        "UnavailableError",
        "fail_to_fetch_task",
    ),
    "429 of the gateway": (reply(429, gateway("10 requests in 1 minutes")), "UnavailableError", "new_api_error"),
    "429 with a pause": (reply(429, gateway("slow down"), retry_after="5"), "UnavailableError", "new_api_error"),
    "429 HTML": (reply(429, HTML, retry_after="5"), "UnavailableError", None),
    "wrong path": (
        reply(404, gateway("Invalid URL", "", "invalid_request_error")),
        "SetupError",
        "invalid_request_error",
    ),
    "404 HTML": (reply(404, HTML), "SetupError", None),
    "401 HTML": (reply(401, HTML), "SetupError", None),
    "403 empty": (reply(403, b""), "SetupError", None),
    "413 HTML": (reply(413, HTML), "GraphError", None),
    "401 text": (reply(401, {"message": "Unauthorized"}), "SetupError", None),
    "401 error as text": (reply(401, {"error": "Unauthorized"}), "SetupError", None),
    "402 detail": (reply(402, {"detail": "Insufficient credits"}), "BalanceError", None),
    "422 detail": (reply(422, {"detail": [{"msg": "field required"}]}), "GraphError", None),
    "200 success false": (reply(200, {"success": False, "message": "not logged in"}), "UnavailableError", None),
    "unknown code": (reply(400, kling(77)), "GraphError", 77),
    "no channel yet": (reply(500, flat("get_channel_failed")), "UnavailableError", "get_channel_failed"),
    "never built": (reply(500, flat("build_request_failed")), "GraphError", "build_request_failed"),
    "redirect": (reply(307, b""), "SetupError", None),
    "redirect with JSON": (reply(302, {}), "SetupError", None),
}


@pytest.mark.parametrize(("answer", "name", "code"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_ends_the_matter(answer: RawAnswer, name: str, code: int | str | None):
    attempt = classify(answer)
    assert attempt.outcome is Outcome.REFUSED
    assert attempt.error is not None
    assert type(attempt.error).__name__ == name
    assert attempt.error.code == code
    assert attempt.error.http_status == answer.status
    assert pause_before_resend(attempt, 1, 0, Pace()) is None


@pytest.mark.parametrize("code", sorted(set(CODES) - {1302, 1303, 5000, 5001, 5002}))
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500, 503])
def test_every_other_kling_code_is_a_refusal_whatever_the_status(code: int, status: int):
    assert classify(reply(status, kling(code))).outcome is Outcome.REFUSED


# Busy and closed: nothing was made, and waiting helps


@pytest.mark.parametrize(
    "answer",
    [
        reply(429, kling(1302, "API request too fast")),  # E4
        reply(429, kling(1303, "parallel task over resource pack limit")),  # E5
        reply(200, kling(1303)),
        reply(500, kling(1303)),
        reply(429, flat("fail_to_fetch_task", json.dumps(kling(1303)))),
        reply(429, {"error": {"message": json.dumps(kling(1302)), "type": "upstream_error"}}),
        reply(429, {"code": "1303", "message": "no", "data": None}),
    ],
    ids=str,
)
def test_no_free_slot_is_waited_for(answer: RawAnswer):
    attempt = classify(answer)
    assert attempt.outcome is Outcome.BUSY
    assert type(attempt.error).__name__ == "BusyError"
    assert attempt.retry_after is None


@pytest.mark.parametrize("status", [200, 500, 503])
def test_maintenance_is_waited_for_a_little(status: int):
    attempt = classify(reply(status, kling(5001)))
    assert attempt.outcome is Outcome.CLOSED
    assert type(attempt.error).__name__ == "UnavailableError"


@pytest.mark.parametrize("body", [b"", HTML, {}, {"message": "later"}, gateway("later"), flat("x"), kling(77)], ids=str)
def test_503_with_a_pause_is_maintenance_too(body: Any):
    attempt = classify(reply(503, body, retry_after="7"))
    assert attempt.outcome is Outcome.CLOSED
    assert attempt.retry_after == 7
    assert type(attempt.error).__name__ == "UnavailableError"


def test_the_pause_that_is_asked_for_is_kept():
    assert classify(reply(429, kling(1303), retry_after="12")).retry_after == 12


# Lost: a task may have been made


LOST = [
    # No body to go by.
    reply(200, b""),
    reply(200, b'{"code":0,"data":{"task_id":"86688'),
    reply(200, HTML),
    reply(200, b"null"),
    reply(200, {}),
    reply(200, {"code": 0, "message": "SUCCEED", "data": {}}),
    reply(200, {"code": "success", "data": None}),
    reply(200, {"code": 0, "data": {"task_status": "submitted"}}),
    reply(204, b""),
    reply(303, b""),
    *(reply(status, HTML) for status in (408, 500, 502, 503, 504, 520, 524, 599)),
    *(reply(status, b"") for status in (408, 500, 502, 503, 504)),
    reply(502, {}),
    reply(500, {"message": "boom"}),
    # The service does not know itself.
    *(reply(status, kling(code)) for code in (5000, 5002) for status in (200, 400, 500, 504)),
    reply(503, kling(5000), retry_after="5"),
    reply(500, flat("fail_to_fetch_task", json.dumps(kling(5000)))),
    reply(500, kling(5003)),
    reply(200, kling(5003)),
    # A relay's own failure, after it may have passed the request on.
    *(
        reply(status, flat(code))
        for code in ("do_request_failed", "unmarshal_response_failed", "read_response_body_failed")
        for status in (200, 400, 500)
    ),
    reply(502, flat("fail_to_fetch_task", "<html>502</html>")),
    reply(500, gateway("internal")),
    reply(504, gateway("timeout", "", "upstream_error")),
    # A body that repeats the status, or hides it.
    reply(500, {"code": 500, "message": "Internal Server Error"}),
    reply(504, {"code": 504, "message": "Gateway Timeout"}),
    reply(200, {"code": 500, "message": "Internal Server Error"}),
    reply(200, {"code": 504, "message": "timeout"}),
    reply(408, {"code": 408, "message": "timeout"}),
    reply(408, gateway("timeout")),
    reply(500, {"error": "Internal Server Error"}),
    reply(502, {"success": False, "message": "bad gateway"}),
    reply(500, {"detail": "Internal Server Error"}),
    reply(500, {"timestamp": 1, "status": 500, "error": "Internal Server Error"}),
    # It contradicts itself.
    reply(500, {"code": 0, "data": TASK}),
    reply(429, {"code": 1303, "message": "busy", "data": TASK}),
    reply(400, {"code": 1201, "message": "no", "data": TASK}),
    reply(302, {"code": 0, "data": TASK}),
]


@pytest.mark.parametrize("answer", LOST, ids=lambda answer: f"{answer.status} {answer.body[:60].decode()}")
def test_what_leaves_it_open_is_lost_and_never_sent_again(answer: RawAnswer):
    attempt = classify(answer)
    assert attempt.outcome is Outcome.LOST
    assert attempt.reason
    assert attempt.task is None
    for tries in (1, 2, 3):
        assert pause_before_resend(attempt, tries, 0, Pace()) is None


def test_an_answer_that_contradicts_itself_still_gives_the_task_id():
    attempt = classify(reply(500, {"code": 0, "data": TASK}))
    assert attempt.reason == "the gateway sent an HTTP 500 answer, but also named the task_id 866889456698785798"
    attempt = classify(reply(200, {"code": 1303, "message": "busy", "data": TASK}))
    assert "busy" in attempt.reason
    assert "866889456698785798" in attempt.reason


def test_a_lost_answer_says_what_arrived():
    assert classify(reply(504, HTML)).reason == (
        'the gateway sent an HTTP 504 answer, and it begins with "504 Gateway Time-out"'
    )
    assert classify(reply(200, b"")).reason == "the gateway sent an HTTP 200 answer, and it is empty"
    assert classify(reply(502, {"message": "boom"})).reason == 'the gateway sent an HTTP 502 answer, and it says "boom"'


# Exists


@pytest.mark.parametrize(
    "answer",
    [
        reply(400, kling(1201, "External_task_id boat-1 already exists")),  # E11
        reply(200, kling(1201, "External_task_id boat-1 already exists")),
        reply(400, flat("fail_to_fetch_task", json.dumps(kling(1201, "External_task_id boat-1 already exists")))),
        reply(400, flat("task_failed", "External_task_id boat-1 already exists")),
        reply(500, gateway("upstream: External_task_id boat-1 already exists")),
    ],
    ids=str,
)
def test_a_taken_external_task_id_means_that_a_task_is_there(answer: RawAnswer):
    attempt = classify(answer)
    assert attempt.outcome is Outcome.EXISTS
    assert pause_before_resend(attempt, 1, 0, Pace()) is None


# Retry-After


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("5", 5),
        (" 120 ", 120),
        ("999999999999", 999999999),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 12:00:30 -0000", 30),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30),
        ("Sunday, 01-Mar-26 12:01:00 GMT", 60),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("5 s", None),
        ("٥", None),
        ("²", None),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
        ("Sun, 01 Mar 99999 12:00:30 GMT", None),
        ("Sun, 01 Mar 2026 12:00:30 +9999999999", None),
        (f"Sun, 01 Mar 2026 12:00:30 +{'9' * 40}", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(text: str, seconds: float | None):
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_without_the_header_there_is_no_pause():
    assert retry_after({}) is None


def test_a_date_counts_from_the_present():
    soon = datetime.now(timezone.utc) + timedelta(seconds=100)
    pause = retry_after({"retry-after": soon.strftime("%a, %d %b %Y %H:%M:%S GMT")})
    assert pause is not None
    assert 90 < pause <= 100


@settings(deadline=None)
@given(
    st.one_of(st.text(max_size=40), st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} [\d:]{0,9} ?[+-]?\w*"))
)
def test_no_header_breaks_the_reader(text: str):
    pause = retry_after({"retry-after": text}, NOW)
    assert pause is None or pause >= 0


# May it be sent again?

PACE = Pace(
    connect_tries=3,
    connect_pause=1.0,
    slot_pause=2.0,
    slot_pause_most=60.0,
    slot_wait=600.0,
    closed_tries=3,
)


@pytest.mark.parametrize(
    ("outcome", "retry_after", "tries", "waited", "pause"),
    [
        # Never connected: three more times, longer each time.
        (Outcome.NOT_SENT, None, 1, 0, 1),
        (Outcome.NOT_SENT, None, 2, 1, 2),
        (Outcome.NOT_SENT, None, 3, 3, 4),
        (Outcome.NOT_SENT, None, 4, 7, None),
        # No free slot: doubling from 2 s to 60 s, for ten minutes.
        (Outcome.BUSY, None, 1, 0, 2),
        (Outcome.BUSY, None, 2, 2, 4),
        (Outcome.BUSY, None, 5, 30, 32),
        (Outcome.BUSY, None, 6, 62, 60),
        (Outcome.BUSY, None, 5000, 540, 60),
        (Outcome.BUSY, None, 5000, 541, None),
        # The gateway's word counts, as long as it stays within the ten minutes.
        (Outcome.BUSY, 10, 1, 0, 10),
        (Outcome.BUSY, 10, 9, 100, 10),
        (Outcome.BUSY, 120, 1, 0, 120),
        (Outcome.BUSY, 600, 1, 0, 600),
        (Outcome.BUSY, 601, 1, 0, None),
        (Outcome.BUSY, 10, 60, 595, None),
        (Outcome.BUSY, 0, 1, 0, 1),
        # Maintenance: the same, three times at most.
        (Outcome.CLOSED, None, 1, 0, 2),
        (Outcome.CLOSED, None, 3, 6, 8),
        (Outcome.CLOSED, 30, 2, 30, 30),
        (Outcome.CLOSED, None, 4, 14, None),
        (Outcome.CLOSED, 3600, 1, 0, None),
        # A task may exist, or it is settled.
        (Outcome.LOST, None, 1, 0, None),
        (Outcome.LOST, 1, 1, 0, None),
        (Outcome.EXISTS, None, 1, 0, None),
        (Outcome.REFUSED, 1, 1, 0, None),
        (Outcome.ACCEPTED, 1, 1, 0, None),
    ],
)
def test_the_pause_before_it_is_sent_again(
    outcome: Outcome, retry_after: float | None, tries: int, waited: float, pause: float | None
):
    assert pause_before_resend(PostResult(outcome, retry_after=retry_after), tries, waited, PACE) == pause


@settings(deadline=None)
@given(
    st.sampled_from(Outcome),
    st.one_of(st.none(), st.floats(0, 1e9)),
    st.integers(1, 10**6),
    st.floats(0, 1e6),
)
def test_only_what_made_nothing_is_ever_sent_again_and_never_for_longer_than_ten_minutes(
    outcome: Outcome, asked: float | None, tries: int, waited: float
):
    pause = pause_before_resend(PostResult(outcome, retry_after=asked), tries, waited, Pace())
    if pause is not None:
        assert outcome in (Outcome.NOT_SENT, Outcome.BUSY, Outcome.CLOSED)
        assert pause > 0
        assert outcome is Outcome.NOT_SENT or waited + pause <= 600
