"""What a request body must look like, written by hand from the gateway's page and Kling's documents.

It shares nothing with the pack or the sandbox, so that a mistake in either of them is not repeated here. ``check``
judges the bodies that this pack sends: they carry more than the page requires, and never null or an empty text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from nodes.sandbox import Sandbox

AXES = ["horizontal", "vertical", "pan", "tilt", "roll", "zoom"]
FIVE_OR_TEN = ["5", "10"]
UP_TO_FIFTEEN = ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"]


def text(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def when(condition: dict[str, Any], **then: Any) -> dict[str, Any]:
    return {"if": {"properties": condition, "required": list(condition)}, "then": {"properties": then}}


SHOT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["index", "prompt", "duration"],
    "properties": {
        "index": {"type": "integer", "minimum": 1, "maximum": 6},
        "prompt": {**text(512), "pattern": r"\S"},
        "duration": {"type": "string", "pattern": r"^([1-9]|1[0-5])$"},
    },
}
CAMERA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type", "config"],
    "properties": {
        "type": {"enum": ["simple", "down_back", "forward_up", "right_turn_forward", "left_turn_forward"]},
        "config": {
            "type": "object",
            "additionalProperties": False,
            "required": AXES,
            "properties": {axis: {"type": "number", "minimum": -10, "maximum": 10} for axis in AXES},
        },
    },
}
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": [
        "model_name",
        "multi_shot",
        "mode",
        "sound",
        "aspect_ratio",
        "cfg_scale",
        "duration",
        "watermark_info",
        "external_task_id",
    ],
    "properties": {
        "model_name": {
            "enum": [
                "kling-v1",
                "kling-v1-6",
                "kling-v2-master",
                "kling-v2-1-master",
                "kling-v2-5-turbo",
                "kling-v3",
            ]
        },
        "prompt": {**text(2500), "pattern": r"\S"},
        "multi_shot": {"type": "boolean"},
        "shot_type": {"const": "customize"},
        "multi_prompt": {"type": "array", "minItems": 1, "maxItems": 6, "items": SHOT},
        "negative_prompt": text(2500),
        "cfg_scale": {"type": "number", "minimum": 0, "maximum": 1},
        "mode": {"enum": ["std", "pro"]},
        "sound": {"enum": ["on", "off"]},
        "camera_control": CAMERA,
        "aspect_ratio": {"enum": ["16:9", "9:16", "1:1"]},
        "duration": {"enum": UP_TO_FIFTEEN},
        "watermark_info": {
            "type": "object",
            "additionalProperties": False,
            "required": ["enabled"],
            "properties": {"enabled": {"type": "boolean"}},
        },
        "callback_url": {"type": "string", "pattern": r"^[hH][tT][tT][pP][sS]?://[^\s/]"},
        "external_task_id": {"type": "string", "pattern": r"^[!-~]{1,64}$", "not": {"pattern": r"[/\\?#%]"}},
    },
    "if": {"properties": {"multi_shot": {"const": True}}},
    "then": {
        "required": ["shot_type", "multi_prompt"],
        "properties": {"prompt": False, "model_name": {"const": "kling-v3"}},
    },
    "else": {"required": ["prompt"], "properties": {"shot_type": False, "multi_prompt": False}},
    "allOf": [
        when(
            {"model_name": {"not": {"const": "kling-v3"}}},
            duration={"enum": FIVE_OR_TEN},
            sound={"const": "off"},
        ),
        when({"model_name": {"pattern": "^kling-(v1-6|v2)"}}, camera_control=False),
        when(
            {"model_name": {"const": "kling-v1"}, "camera_control": True},
            mode={"const": "std"},
            duration={"const": "5"},
        ),
    ],
}

_VALIDATOR = Draft202012Validator(SCHEMA)


def check(body: Any) -> list[str]:
    """Everything that is wrong with a body; empty when it is right."""
    problems = [f"{error.json_path}: {error.message[:200]}" for error in _VALIDATOR.iter_errors(body)]
    if isinstance(body, dict) and not problems:
        problems += _beyond_a_schema(body)
    return problems


def _beyond_a_schema(body: dict[str, Any]) -> Iterator[str]:
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except ValueError as error:
        yield f"it cannot be written as JSON: {error}"
    shots = body.get("multi_prompt", [])
    if [shot["index"] for shot in shots] != list(range(1, len(shots) + 1)):
        yield "multi_prompt: the shots are not numbered from 1"
    if shots and sum(int(shot["duration"]) for shot in shots) != int(body["duration"]):
        yield "multi_prompt: the shots do not add up to the duration"
    camera = body.get("camera_control")
    if camera:
        moving = sum(value != 0 for value in camera["config"].values())
        if moving != (camera["type"] == "simple"):
            yield f"camera_control: {moving} axes are not 0 with type {camera['type']}"


def assert_all_bodies_fit(sandbox: Sandbox) -> None:
    """Every body that this pack has sent is right, unless the sandbox refused it of its own accord.

    Bodies that a test posts by other means, or that it breaks on purpose to be refused, are its own business.
    """
    for request in sandbox.received:
        ours = request.headers.get("user-agent", "").startswith("ComfyUI-Kling/")
        if request.method == "POST" and ours and (request.task_id or request.fault):
            assert check(request.json) == [], request.json
