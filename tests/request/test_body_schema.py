"""The yardstick itself: it takes what is right and finds what is not."""

from __future__ import annotations

from typing import Any

import pytest
from bodies import SENT, STILL
from body_schema import SCHEMA, check
from jsonschema import Draft202012Validator

PLAIN = {**SENT, "model_name": "kling-v1", "external_task_id": "boat-1"}
STORY: dict[str, Any] = {
    **{name: value for name, value in PLAIN.items() if name != "prompt"},
    "model_name": "kling-v3",
    "multi_shot": True,
    "shot_type": "customize",
    "multi_prompt": [
        {"index": 1, "prompt": "A wave.", "duration": "2"},
        {"index": 2, "prompt": "A gull.", "duration": "3"},
    ],
}


def camera(type: str, **axes: float) -> dict[str, Any]:
    return {"camera_control": {"type": type, "config": {**STILL, **axes}}}


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        STORY,
        {**PLAIN, **camera("simple", zoom=-10)},
        {**PLAIN, **camera("down_back")},
        {**PLAIN, "negative_prompt": "fog", "callback_url": "http://a.example/b", "prompt": "😀" * 2500},
        {**PLAIN, "model_name": "kling-v3", "sound": "on", "duration": "15", "cfg_scale": 0},
    ],
)
def test_right_bodies_have_no_problem(body: dict[str, Any]):
    assert check(body) == []


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (PLAIN, {"model_name": "kling-v2-6"}),
        (PLAIN, {"model_name": None}),
        (PLAIN, {"prompt": ""}),
        (PLAIN, {"prompt": " \n"}),
        (PLAIN, {"prompt": "x" * 2501}),
        (PLAIN, {"prompt": "\ud800"}),
        (PLAIN, {"negative_prompt": ""}),
        (PLAIN, {"multi_shot": 0}),
        (PLAIN, {"shot_type": "customize"}),
        (PLAIN, {"multi_prompt": []}),
        (PLAIN, {"cfg_scale": 1.1}),
        (PLAIN, {"cfg_scale": True}),
        (PLAIN, {"cfg_scale": float("nan")}),
        (PLAIN, {"sound": "on"}),
        (PLAIN, {"sound": False}),
        (PLAIN, {"duration": 5}),
        (PLAIN, {"duration": "7"}),
        (PLAIN, {"duration": "05"}),
        (PLAIN, {"aspect_ratio": "4:3"}),
        (PLAIN, {"watermark_info": {}}),
        (PLAIN, {"callback_url": ""}),
        (PLAIN, {"callback_url": "ftp://a.example"}),
        (PLAIN, {"external_task_id": ""}),
        (PLAIN, {"external_task_id": "a b"}),
        (PLAIN, {"external_task_id": "a/b"}),
        (PLAIN, {"external_task_id": "x" * 65}),
        (PLAIN, {"seed": 1}),
        (PLAIN, camera("simple")),
        (PLAIN, camera("simple", pan=1, zoom=1)),
        (PLAIN, camera("simple", pan=10.5)),
        (PLAIN, camera("down_back", pan=1)),
        (PLAIN, {"camera_control": {"type": "down_back"}}),
        (PLAIN, {"mode": "pro", **camera("down_back")}),
        (PLAIN, {"duration": "10", **camera("down_back")}),
        (PLAIN, {"model_name": "kling-v1-6", **camera("down_back")}),
        (PLAIN, {"model_name": "kling-v2-5-turbo", **camera("down_back")}),
        (STORY, {"prompt": "A boat."}),
        (STORY, {"shot_type": "intelligence"}),
        (STORY, {"model_name": "kling-v1"}),
        (STORY, {"duration": "6"}),
        (STORY, {"multi_prompt": STORY["multi_prompt"][::-1]}),
        (STORY, {"multi_prompt": []}),
        (STORY, {"multi_prompt": [{"index": 1, "prompt": "A wave.", "duration": 5}]}),
        (STORY, {"multi_prompt": [{"index": 1, "prompt": "x" * 513, "duration": "5"}]}),
        (STORY, {"multi_prompt": [{"index": 1, "prompt": " ", "duration": "5"}]}),
    ],
)
def test_wrong_bodies_have_one(body: dict[str, Any], changes: dict[str, Any]):
    assert check({**body, **changes}) != []


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_a_body_without_a_field_that_is_always_sent_is_wrong(name: str):
    assert check({key: value for key, value in PLAIN.items() if key != name}) != []


def test_what_is_no_object_is_wrong():
    assert check([PLAIN]) != []
