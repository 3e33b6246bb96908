"""What the service and its relays answer: error bodies, and the shapes of successful answers.

The texts are those that Kling and relays of the New-API family are known to send.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from .wire import Answer

Body = dict[str, Any]

# ------------------------------------------------------------------------------------------------ error bodies

# Kling's service codes, each with its HTTP status and, where it is known, the text that was observed.
KLING: Final[Mapping[int, tuple[int, str]]] = {
    1000: (401, "Authentication failed"),
    1001: (401, "Authorization is empty"),
    1002: (401, "access key not found"),
    1003: (401, "Authorization is not valid yet"),
    1004: (401, "Authorization has expired"),
    1100: (429, "Account exception"),
    1101: (429, "Account in arrears"),
    1102: (429, "Account balance not enough"),
    1103: (403, "No permission for the requested resource"),
    1200: (400, "Request parameters are invalid"),
    1201: (400, "aspect_ratio value '99:1' is invalid, supported values: 16:9, 9:16, 1:1"),
    1202: (404, "The requested method is invalid"),
    1203: (404, "The requested resource does not exist"),
    1300: (400, "Platform policy was triggered"),
    1301: (400, "Content safety policy was triggered by the prompt"),
    1302: (429, "API request too fast"),
    1303: (429, "parallel task over resource pack limit"),
    1304: (429, "IP address is not on the allow-list"),
    5000: (500, "Internal server error"),
    5001: (503, "The service is under maintenance"),
    5002: (504, "Internal timeout"),
}


# json.dumps with an option makes an encoder for every call, and benchmarks run against this. So it is made once.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)


def to_json(value: object, status: int = 200) -> Answer:
    return Answer(status, _ENCODER.encode(value).encode("utf-8"))


def dressed(native: Body, dress: Callable[[Body], Body]) -> Answer:
    """A relay's answer: what Kling said, in the relay's own shape."""
    return replace(to_json(dress(native)), native=native, dress=dress)


def kling_body(code: int, message: str = "") -> Body:
    text = message or KLING.get(code, (400, f"Unexpected error {code}"))[1]
    return {"code": code, "message": text, "request_id": str(uuid4())}


def refusal(code: int, message: str = "") -> Answer:
    """Kling's own error envelope, with the HTTP status that belongs to the code."""
    return to_json(kling_body(code, message), KLING.get(code, (400, ""))[0])


def gateway_error(status: int, message: str, code: object = "", kind: str = "new_api_error") -> Answer:
    """The error object of the New-API / One-API family."""
    return to_json({"error": {"message": message, "type": kind, "code": code}}, status)


def flat(status: int, code: str, message: str) -> Answer:
    """The task error of the New-API family."""
    return to_json({"code": code, "message": message, "data": None}, status)


def invalid_token(request_id: str = "") -> Answer:
    return gateway_error(401, f"Invalid token (request id: {request_id or uuid4().hex})")


def invalid_url(method: str, path: str) -> Answer:
    text = f"Invalid URL ({method} {path})"
    return to_json({"error": {"message": text, "type": "invalid_request_error", "param": "", "code": ""}}, 404)


MASKED: Final = "上游请求失败，请联系管理员"
SATURATED: Final = "当前分组上游负载已饱和，请稍后再试"
NO_QUOTA: Final = "用户额度不足, 剩余额度: ＄0.000000"
NO_CHANNEL: Final = "No available channel for model kling-v3 under group default"
TOO_MANY: Final = "You have reached the limit: at most 10 requests in 1 minutes"
PRE_CONSUME: Final = "pre_consume_token_quota_failed"
MISSING: Final = {"loc": ["body", "duration"], "msg": "field required", "type": "value_error.missing"}
ACEDATA: Final = {"success": False, "error": {"code": "bad_request", "message": "no"}, "trace_id": "3f2a"}

# Called with a Kling code, for the shapes that contain one (`gateway:fail_to_fetch_task:1303`).
GATEWAY: Final[Mapping[str, Callable[[int], Answer]]] = {
    "invalid_token": lambda _: invalid_token(),
    "one_api_error": lambda _: gateway_error(401, "无效的令牌", kind="one_api_error"),
    "exhausted": lambda _: gateway_error(401, "[sk-abc***xyz] 该令牌额度已用尽"),
    "forbidden": lambda _: gateway_error(403, "The token has no access to this model", "access_denied"),
    "bad_request": lambda _: gateway_error(400, "Model name is not specified"),
    "null_code": lambda _: gateway_error(400, "Model name is not specified", None),
    "int_code": lambda _: gateway_error(400, "Model name is not specified", 400),
    "model_not_found": lambda _: gateway_error(503, NO_CHANNEL, "model_not_found"),
    "provider_not_found": lambda _: flat(503, "provider_not_found", "no channel: kling-video_kling-v3_std_7"),
    "user_rate_limit": lambda _: gateway_error(429, TOO_MANY),
    "invalid_url": lambda _: invalid_url("POST", "/v1/videos/text2video"),
    "insufficient_user_quota": lambda _: gateway_error(403, NO_QUOTA, "insufficient_user_quota"),
    "insufficient_user_quota_flat": lambda _: flat(403, "insufficient_user_quota", NO_QUOTA),
    "pre_consume_token_quota_failed": lambda _: gateway_error(403, "token quota is not enough", PRE_CONSUME),
    "pre_consume_token_quota_failed_flat": lambda _: flat(403, PRE_CONSUME, "token quota is not enough"),
    "invalid_request": lambda _: flat(400, "invalid_request", "prompt is required"),
    "task_not_exist": lambda _: flat(400, "task_not_exist", "task_not_exist"),
    "task_not_exist_404": lambda _: flat(404, "task_not_exist", ""),
    "task_failed": lambda code: flat(400, "task_failed", kling_body(code)["message"]),
    "fail_to_fetch_task": lambda code: flat(
        KLING.get(code, (400, ""))[0], "fail_to_fetch_task", json.dumps(kling_body(code))
    ),
    "upstream_saturated": lambda _: flat(429, "fail_to_fetch_task", SATURATED),
    "build_request_failed": lambda _: flat(500, "build_request_failed", "json: cannot unmarshal number"),
    "do_request_failed": lambda _: flat(500, "do_request_failed", MASKED),
    "unmarshal_response_failed": lambda _: flat(500, "unmarshal_response_failed", "invalid character '<'"),
    "get_channel_failed": lambda _: flat(500, "get_channel_failed", "no channel"),
    "read_response_body_failed": lambda _: flat(500, "read_response_body_failed", "unexpected EOF"),
    "code_200": lambda code: to_json(kling_body(code)),
    "param_429": lambda _: to_json({"code": 400, "message": KLING[1201][1]}, 429),
    "acedata": lambda _: to_json(ACEDATA, 400),
    "fastapi": lambda _: to_json({"detail": "Insufficient credits"}, 402),
    "fastapi_list": lambda _: to_json({"detail": [MISSING]}, 422),
}

# --------------------------------------------------------------------------------------- shapes of good answers

WRAPPER_WORDS: Final = {
    "submitted": "SUBMITTED",
    "processing": "IN_PROGRESS",
    "succeed": "SUCCESS",
    "failed": "FAILURE",
}
OPENAI_WORDS: Final = {
    "submitted": "queued",
    "processing": "in_progress",
    "succeed": "completed",
    "failed": "failed",
}
PERCENT: Final = {"submitted": 0, "processing": 50, "succeed": 100, "failed": 100}
PLUGIN_KEYS: Final = ("task_id", "task_status", "task_status_msg", "task_result")
END_KEYS: Final = ("task_result", "final_unit_deduction")


def _url(data: Body) -> str:
    videos = data.get("task_result", {}).get("videos", [])
    return str(videos[0]["url"]) if videos else ""


def with_(body: Body, **changes: object) -> Body:
    return {**body, "data": {**body["data"], **changes}}


def without(body: Body, *names: str) -> Body:
    return {**body, "data": {key: value for key, value in body["data"].items() if key not in names}}


def _times(body: Body, turn: Callable[[int], object]) -> Body:
    return with_(body, **{key: turn(body["data"][key]) for key in ("created_at", "updated_at")})


def _videos(body: Body, turn: Callable[[Body], Body]) -> Body:
    """Change the videos of a finished task. An unfinished task does not change."""
    videos = body["data"].get("task_result", {}).get("videos")
    return with_(body, task_result={"videos": [turn(video) for video in videos]}) if videos else body


def _result(body: Body, videos: object) -> Body:
    return with_(body, task_result={"videos": videos}) if _url(body["data"]) else body


def wrapper(body: Body, place: str = "result_url", inner_answer: Body | None = None) -> Body:
    """New-API's own task object, with Kling's envelope inside. Old versions had the URL in fail_reason."""
    data = body["data"]
    status, created, updated = data["task_status"], data["created_at"] // 1000, data["updated_at"] // 1000
    ids = {"task_id": data["task_id"]} if "task_id" in data else {}
    inner: Body = {
        **ids,
        "platform": "50",
        "status": WRAPPER_WORDS[status],
        "fail_reason": data.get("task_status_msg", ""),
        "progress": f"{PERCENT[status]}%",
        "submit_time": created,
        "start_time": created,
        "finish_time": updated if PERCENT[status] == 100 else 0,
        "created_at": created,
        "updated_at": updated,
        "properties": {},
        "data": inner_answer,
    }
    return {"code": "success", "message": "", "data": inner | ({place: _url(data)} if _url(data) else {})}


def openai(body: Body, model_name: str = "kling-v1") -> Body:
    """The video object with which New-API answers a create. It has no place for an external_task_id."""
    data = body["data"]
    status = data["task_status"]
    ids = {"id": data["task_id"], "task_id": data["task_id"]} if "task_id" in data else {}
    out: Body = {
        **ids,
        "object": "video",
        "model": model_name,
        "status": OPENAI_WORDS[status],
        "progress": PERCENT[status],
        "created_at": data.get("created_at", 0) // 1000,
    }
    if status == "succeed":
        out |= {"seconds": "5", "metadata": {"url": _url(data)}}
    if status == "failed":
        out["error"] = {"message": data["task_status_msg"], "code": "task_failed"}
    return out


def _doc(body: Body) -> Body:
    data = body["data"]
    return {
        "task_id": data["task_id"],
        "status": OPENAI_WORDS[data["task_status"]],
        "url": _url(data),
        "format": "mp4",
        "metadata": {"duration": 5, "fps": 24, "width": 640, "height": 360, "seed": 0},
        "error": {"code": 0, "message": data.get("task_status_msg", "")},
    }


def _extras(body: Body) -> Body:
    out = _videos(_times(body, lambda ms: ms // 1000), lambda video: {**video, "id": "", "watermark_url": ""})
    if _url(body["data"]):
        out["data"]["task_result"]["images"] = None
    return {**out, "message": "", "task_id": body["data"]["task_id"]}


def _plugin(body: Body) -> Body:
    known = {key: value for key, value in body["data"].items() if key in PLUGIN_KEYS}
    return {"code": 0, "data": {"task_status_msg": ""} | known}


def _number_id(body: Body) -> Body:
    name = body["data"]["task_id"]
    return with_(body, task_id=int(name)) if name.isdecimal() else body


def _url_in_task_info(body: Body) -> Body:
    url = _url(body["data"])
    return without(with_(body, task_info={"video_url": url}), "task_result") if url else body


SHAPES: Final[Mapping[str, Callable[[Body], Body]]] = {
    "wrapper": lambda body: wrapper(body, inner_answer=body),
    "openai": openai,
    "doc": _doc,
    "extras": _extras,
    "plugin": _plugin,
    "number_id": _number_id,
    "seconds": lambda body: _times(body, lambda ms: ms // 1000),
    "string_times": lambda body: _times(body, str),
    "string_code": lambda body: {**body, "code": "0"},
    "no_task_info": lambda body: without(body, "task_info"),
    "blank_message": lambda body: {**body, "message": ""},
}
CREATE_SHAPES: Final[Mapping[str, Callable[[Body], Body]]] = {
    **SHAPES,
    "task_id": lambda body: body,
    "base64_id": lambda body: body,
    "prefixed_id": lambda body: body,
}
QUERY_SHAPES: Final[Mapping[str, Callable[[Body], Body]]] = {
    **SHAPES,
    "wrapper_fail_reason": lambda body: wrapper(body, "fail_reason"),
    "wrapper_null": lambda body: {"code": "success", "message": "", "data": None},
    "succeeded": lambda body: with_(body, task_status="succeeded") if _url(body["data"]) else body,
    "unknown_status": lambda body: with_(body, task_status="UNKNOWN"),
    "videos_null": lambda body: _result(body, None),
    "videos_empty": lambda body: _result(body, []),
    "no_result": lambda body: without(body, "task_result"),
    "no_url": lambda body: _videos(body, lambda video: {"id": video["id"], "duration": video["duration"]}),
    "blank_url": lambda body: _videos(body, lambda video: {**video, "url": ""}),
    "odd_url": lambda body: _videos(body, lambda video: {**video, "url": "file:///clip.mp4"}),
    "number_duration": lambda body: _videos(body, lambda v: {**v, "duration": float(v["duration"])}),
    "url_in_task_info": _url_in_task_info,
    "final_balance": lambda body: with_(body, final_balance_deduction={"quota": "1", "list_price": "0.14"}),
}
# The kind of id that a create with such a shape returns. The task keeps this id.
ID_STYLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("task_id", "wrapper", "openai", "extras", "plugin"), "task"),
    "base64_id": "base64",
    "prefixed_id": "prefixed",
}


def id_style(kind: str) -> str:
    """The kind of id that a create with this fault returns. "" means Kling's own 18 digits."""
    return ID_STYLES.get(kind.removeprefix("shape:"), "")
