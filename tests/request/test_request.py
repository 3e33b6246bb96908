"""The request model: which values each field takes, what is said of the others, and what goes over the wire."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from bodies import GIVEN, SEED_EXAMPLE, SENT, STILL, story
from body_schema import check
from pydantic import ValidationError

from nodes.api.request.body import CameraConfig, CameraControl, Shot, Text2VideoRequest


def item(index: int = 1, prompt: Any = "A wave.", duration: Any = "5") -> dict[str, Any]:
    return {"index": index, "prompt": prompt, "duration": duration}


def sent(**changes: Any) -> dict[str, Any]:
    return Text2VideoRequest.model_validate({**GIVEN, **changes}).body()


def problems(body: Any) -> dict[tuple[str | int, ...], str]:
    """What is wrong with a body, by location."""
    with pytest.raises(ValidationError) as caught:
        Text2VideoRequest.model_validate(body)
    return {detail["loc"]: detail["msg"] for detail in caught.value.errors()}


# The gateway's own example


def test_the_gateways_example_is_accepted_and_every_value_given_back():
    example = dict(SEED_EXAMPLE)
    given_back = Text2VideoRequest.model_validate(example).model_dump()
    assert {name: given_back[name] for name in example} == example
    assert given_back["multi_shot"] is False


def test_the_gateways_example_is_sent_without_its_empty_texts():
    example = dict(SEED_EXAMPLE)
    body = Text2VideoRequest.model_validate(example).body()
    for name in ("negative_prompt", "callback_url", "external_task_id"):
        del example[name]
    assert body == {**example, "multi_shot": False, "watermark_info": {"enabled": False}}


# The wire form


def test_a_plain_request_carries_what_the_gateway_requires_and_nothing_empty():
    assert sent() == SENT


def test_a_storyboard_carries_its_shots_and_no_prompt():
    body = Text2VideoRequest.model_validate(story(item(1, duration="2"), item(2, "A gull.", "3"))).body()
    assert body == {
        "model_name": "kling-v3",
        "multi_shot": True,
        "shot_type": "customize",
        "multi_prompt": [
            {"index": 1, "prompt": "A wave.", "duration": "2"},
            {"index": 2, "prompt": "A gull.", "duration": "3"},
        ],
        "cfg_scale": 0.5,
        "mode": "std",
        "sound": "off",
        "aspect_ratio": "16:9",
        "duration": "5",
        "watermark_info": {"enabled": False},
    }
    assert type(body["multi_prompt"]) is list


def test_everything_that_is_set_is_sent_as_it_is():
    given = {
        "negative_prompt": " fog ",
        "cfg_scale": 0.0,
        "mode": "pro",
        "sound": "on",
        "aspect_ratio": "9:16",
        "duration": "15",
        "watermark_info": {"enabled": True},
        "callback_url": "https://me.example/hook?a=1",
        "external_task_id": "boat-1",
        "prompt": "Ein Boot\n\tim Fluß 🚣",
    }
    body = sent(**given)
    assert {name: body[name] for name in given} == given
    assert check(body) == []


@pytest.mark.parametrize("empty", [{"negative_prompt": ""}, {"callback_url": ""}, {"external_task_id": ""}])
def test_empty_texts_and_nulls_are_left_out(empty: dict[str, str]):
    nulls = dict.fromkeys(("negative_prompt", "callback_url", "external_task_id", "camera_control", "shot_type"))
    assert sent(**{**nulls, **empty}) == sent()


def test_types_on_the_wire_are_those_of_the_gateways_table():
    camera = {"type": "simple", "config": {**STILL, "zoom": 2.5}}
    body = json.loads(json.dumps(sent(camera_control=camera, cfg_scale=1)))
    assert body["multi_shot"] is False
    assert body["duration"] == "5"
    assert type(body["cfg_scale"]) is float
    assert body["watermark_info"] == {"enabled": False}
    assert body["camera_control"] == camera


def test_whole_axes_are_sent_as_integers_and_others_as_they_are():
    config = sent(camera_control={"type": "simple", "config": {**STILL, "pan": 3.0}})["camera_control"]["config"]
    assert config == {**STILL, "pan": 3}
    assert {type(value) for value in config.values()} == {int}
    config = sent(camera_control={"type": "simple", "config": {"tilt": -0.1}})["camera_control"]["config"]
    assert config == {**STILL, "tilt": -0.1}


@pytest.mark.parametrize("type", ["down_back", "forward_up", "right_turn_forward", "left_turn_forward"])
def test_a_ready_made_move_carries_six_zeros_whatever_the_axes_say(type: str):
    camera = {"type": type, "config": {"pan": 5, "zoom": -0.5}}
    assert sent(camera_control=camera)["camera_control"] == {"type": type, "config": STILL}
    assert sent(camera_control={"type": type})["camera_control"] == {"type": type, "config": STILL}


# Lengths


@pytest.mark.parametrize("letter", ["x", "é", "雨", "😀", "\U0010ffff"])
@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_2500_characters_are_allowed_whatever_they_are(name: str, letter: str):
    assert sent(**{name: letter * 2500})[name] == letter * 2500


@pytest.mark.parametrize("letter", ["x", "😀"])
@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_2501_characters_are_too_many(name: str, letter: str):
    assert problems({**GIVEN, name: letter * 2501}) == {
        (name,): "has 2501 characters; at most 2500 are allowed. Shorten it by 1."
    }


@pytest.mark.parametrize("letter", ["x", "😀"])
def test_a_shot_has_512_characters_at_most(letter: str):
    body = Text2VideoRequest.model_validate(story(item(prompt=letter * 512))).body()
    assert body["multi_prompt"][0]["prompt"] == letter * 512
    assert problems(story(item(prompt=letter * 515))) == {
        ("multi_prompt", 0, "prompt"): "has 515 characters; at most 512 are allowed. Shorten it by 3."
    }


@pytest.mark.parametrize(
    "blank", ["", " ", "\n\t ", "\u3000", "\u200b", "\ufeff", " \u2060\u200d\n", "\u00ad"], ids=ascii
)
def test_a_prompt_with_nothing_to_see_is_blank(blank: str):
    assert problems({**GIVEN, "prompt": blank}) == {
        ("prompt",): "is blank. Write what the video shows, or connect a KlingMultiShot."
    }
    (told,) = problems(story(item(prompt=blank))).items()
    assert told[0] == ("multi_prompt", 0, "prompt")
    assert told[1].endswith("Write what happens.") or told[1].endswith("Write what happens in this shot.")


def test_a_family_emoji_is_not_blank_and_may_hold_joiners():
    assert sent(prompt="👨‍👩‍👧")["prompt"] == "👨‍👩‍👧"


def test_a_missing_prompt_is_blank():
    body = {name: value for name, value in GIVEN.items() if name != "prompt"}
    assert list(problems(body)) == [("prompt",)]
    assert list(problems({**body, "prompt": None})) == [("prompt",)]


# Characters


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("character", ["\ud800", "\udfff", "\ude00"], ids=ascii)
def test_half_of_a_surrogate_pair_is_found_with_its_position(name: str, character: str):
    told = problems({**GIVEN, name: f"ab{character}c"})[(name,)]
    assert f"U+{ord(character):04X} at position 3" in told
    assert told.endswith("Delete it.")


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x08", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f", "\x85", "\x9f"])
@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "callback_url"])
def test_control_characters_are_found_with_their_position(name: str, character: str):
    told = problems({**GIVEN, name: f"http{character}"})[(name,)]
    assert f"U+{ord(character):04X} at position 5, which cannot be sent. Delete it." in told


@pytest.mark.parametrize("character", ["\ud83d", "\x01"], ids=ascii)
def test_characters_of_shots_are_looked_at_too(character: str):
    told = problems(story(item(1, duration="2"), item(2, f"wave{character}", "3")))
    assert list(told) == [("multi_prompt", 1, "prompt")]
    assert "at position 5" in told["multi_prompt", 1, "prompt"]


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\r\nb", "“quoted”", "a\u2028b", "مرحبا", "a\u200db"], ids=ascii)
def test_other_characters_are_sent_unchanged(text: str):
    assert sent(prompt=text)["prompt"] == text


# Kinds of values


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("model_name", 3, "allowed: kling-v1, kling-v1-6, "),
        ("model_name", ["kling-v3"], "allowed: kling-v1, "),
        ("prompt", 5, "it must be text"),
        ("prompt", ["a"], "it must be text"),
        ("prompt", b"a", "it must be text"),
        ("multi_shot", "false", "true or false"),
        ("multi_shot", 0, "true or false"),
        ("cfg_scale", "0.5", "a number"),
        ("cfg_scale", True, "a number"),
        ("cfg_scale", None, "a number"),
        ("mode", 1, "allowed: std or pro"),
        ("sound", True, "allowed: on or off"),
        ("sound", None, "allowed: on or off"),
        ("aspect_ratio", 1.78, "allowed: 16:9, 9:16 or 1:1"),
        ("duration", 5, "it must be text"),
        ("duration", 5.0, "it must be text"),
        ("duration", None, "it must be text"),
        ("callback_url", 5, "it must be text"),
        ("external_task_id", 5, "it must be text"),
        ("shot_type", 1, "allowed: customize"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_it_should_be(name: str, value: object, wanted: str):
    told = problems({**GIVEN, name: value})[(name,)]
    assert told.startswith(f"is {value!r}")
    assert wanted in told


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("simple", ("camera_control",)),
        (5, ("camera_control",)),
        ({"type": "simple", "config": [1]}, ("camera_control", "config")),
        ({"type": "simple", "config": {"zoom": "1"}}, ("camera_control", "config", "zoom")),
        ({"type": "simple", "config": {"zoom": True}}, ("camera_control", "config", "zoom")),
        ({"type": "simple", "config": {"zoom": 1, "speed": 1}}, ("camera_control", "config", "speed")),
        ({"type": "simple", "config": {"zoom": 1}, "more": 1}, ("camera_control", "more")),
        ({"type": 5}, ("camera_control", "type")),
    ],
)
def test_a_camera_of_another_shape_is_refused_at_its_place(value: object, place: tuple[str, ...]):
    assert place in problems({**GIVEN, "camera_control": value})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("A wave.", ("multi_prompt",)),
        (5, ("multi_prompt",)),
        ([5], ("multi_prompt", 0)),
        (["A wave."], ("multi_prompt", 0)),
        ([{"index": "1", "prompt": "A wave.", "duration": "5"}], ("multi_prompt", 0, "index")),
        ([{"index": 1, "prompt": 5, "duration": "5"}], ("multi_prompt", 0, "prompt")),
        ([{"index": 1, "prompt": "A wave.", "duration": 5}], ("multi_prompt", 0, "duration")),
        ([{"index": 1, "prompt": "A wave."}], ("multi_prompt", 0, "duration")),
        ([{**item(), "sound": "on"}], ("multi_prompt", 0, "sound")),
    ],
)
def test_shots_of_another_shape_are_refused_at_their_place(value: object, place: tuple[str | int, ...]):
    assert place in problems(story(multi_prompt=value))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(value: float):
    assert problems({**GIVEN, "cfg_scale": value}) == {
        ("cfg_scale",): f"is {value}; it must be a finite number. Enter one."
    }
    camera = {"type": "simple", "config": {"pan": value}}
    assert problems({**GIVEN, "camera_control": camera}) == {
        ("camera_control", "config", "pan"): f"is {value}; it must be a finite number. Enter one."
    }


@pytest.mark.parametrize("name", ["model_name", "mode", "duration"])
def test_a_missing_field_is_named(name: str):
    assert problems({key: value for key, value in GIVEN.items() if key != name}) == {
        (name,): "is missing. Set a value."
    }


def test_an_unknown_field_is_named():
    assert problems({**GIVEN, "seed": 1}) == {("seed",): "is not a field of this request. Remove it."}


@pytest.mark.parametrize("body", [None, 5, "text", [GIVEN]])
def test_what_is_no_object_is_refused(body: object):
    assert list(problems(body)) == [()]


# Ranges and texts with a form


@pytest.mark.parametrize("value", [0, 0.0, 0.25, 1, 1.0])
def test_cfg_scale_is_from_0_to_1(value: float):
    assert sent(cfg_scale=value)["cfg_scale"] == value


@pytest.mark.parametrize(
    ("value", "told"),
    [(-0.01, "is -0.01; the minimum is 0. Raise it."), (1.01, "is 1.01; the maximum is 1. Lower it.")],
)
def test_cfg_scale_has_limits(value: float, told: str):
    assert problems({**GIVEN, "cfg_scale": value}) == {("cfg_scale",): told}


@pytest.mark.parametrize(
    "url",
    ["http://a.example", "https://a.example/b?c=d#e", "HTTPS://A.example", "https://[::1]:8000/x", "http://user@h/"],
)
def test_a_callback_may_be_any_http_url(url: str):
    assert sent(callback_url=url)["callback_url"] == url


@pytest.mark.parametrize(
    "url",
    [
        "a.example/hook",
        "ftp://a.example",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "https:///path",
        "http:a.example",
        "https://a b.example",
        "https://a.example/\nHost: b",
        "https://a.example:99999",
        "https://[::1",
        " ",
    ],
)
def test_a_callback_that_is_no_http_url_is_refused(url: str):
    told = problems({**GIVEN, "callback_url": url})
    assert list(told) == [("callback_url",)]
    assert "it must be an http or https URL" in told["callback_url",]
    assert told["callback_url",].endswith("Correct or clear it.")


@pytest.mark.parametrize("own_id", ["a", "x" * 64, "boat-1_2.3:4", "!\"$&'()*+,;<=>@[]^`{|}~"])
def test_an_external_task_id_may_be_64_visible_characters(own_id: str):
    assert sent(external_task_id=own_id)["external_task_id"] == own_id


@pytest.mark.parametrize(
    "own_id", ["a b", " a", "a\n", "a\tb", "a/b", "a\\b", "a?b", "a#b", "a%20b", "ä", "雨", "😀", ".", "..", "..."]
)
def test_an_external_task_id_that_cannot_be_looked_up_is_refused(own_id: str):
    told = problems({**GIVEN, "external_task_id": own_id})
    assert list(told) == [("external_task_id",)]
    assert told["external_task_id",].endswith("leave it empty to have one made.")


def test_an_external_task_id_has_64_characters_at_most():
    assert problems({**GIVEN, "external_task_id": "x" * 70}) == {
        ("external_task_id",): "has 70 characters; at most 64 are allowed. Shorten it by 6."
    }


def test_a_long_value_is_shown_shortened_and_on_one_line():
    told = problems({**GIVEN, "callback_url": "x" * 5000 + "\n"})["callback_url",]
    assert len(told) < 200
    assert "\n" not in told
    assert "xxx..." in told


# All at once


def test_all_problems_are_reported_at_once():
    body = {
        "model_name": "kling-v9",
        "prompt": "x" * 2501,
        "negative_prompt": "\x00",
        "cfg_scale": 2,
        "sound": "loud",
        "aspect_ratio": "4:3",
        "duration": 5,
        "watermark_info": {"enabled": "yes"},
        "callback_url": "here",
        "external_task_id": "a/b",
        "camera_control": {"type": "simple", "config": {"pan": 11, "tilt": "up"}},
        "shot_type": "intelligence",
        "extra": 1,
    }
    assert set(problems(body)) == {
        ("model_name",),
        ("prompt",),
        ("negative_prompt",),
        ("cfg_scale",),
        ("mode",),
        ("sound",),
        ("aspect_ratio",),
        ("duration",),
        ("watermark_info", "enabled"),
        ("callback_url",),
        ("external_task_id",),
        ("camera_control", "config", "pan"),
        ("camera_control", "config", "tilt"),
        ("shot_type",),
        ("extra",),
    }


def test_a_problem_in_one_shot_does_not_hide_those_of_the_others():
    body = story(item(1, "x" * 513, "2"), item(2, " ", "0"), item(3, "\x00", "x"), item(5, "A wave.", "2"), 7)
    assert set(problems(body)) == {
        ("multi_prompt", 0, "prompt"),
        ("multi_prompt", 1, "prompt"),
        ("multi_prompt", 1, "duration"),
        ("multi_prompt", 2, "prompt"),
        ("multi_prompt", 2, "duration"),
        ("multi_prompt", 3, "index"),
        ("multi_prompt", 4),
    }


def test_a_problem_of_a_field_does_not_hide_those_between_others():
    body = {**GIVEN, "model_name": "kling-v1", "sound": "on", "duration": "7", "cfg_scale": 5, "prompt": ""}
    assert set(problems(body)) == {("sound",), ("duration",), ("cfg_scale",), ("prompt",)}


def test_an_axis_beyond_its_limit_does_not_hide_that_there_are_two():
    camera = {"type": "simple", "config": {"pan": 11, "zoom": 5}}
    told = problems({**GIVEN, "camera_control": camera})
    assert set(told) == {("camera_control", "config", "pan"), ("camera_control", "config")}
    assert "here pan 11, zoom 5" in told["camera_control", "config"]


# Models


def test_requests_and_their_parts_cannot_be_changed():
    request = Text2VideoRequest.model_validate(GIVEN)
    for part, name in ((request, "prompt"), (request.watermark_info, "enabled"), (CameraConfig(), "pan")):
        with pytest.raises(ValidationError):
            setattr(part, name, 1)


def test_parts_may_be_given_as_models():
    camera = CameraControl(type="simple", config=CameraConfig(roll=2))
    assert sent(camera_control=camera)["camera_control"]["config"] == {**STILL, "roll": 2}
    with pytest.raises(ValidationError):
        Shot(prompt="A wave.", duration=0)


def test_errors_never_show_the_whole_input():
    with pytest.raises(ValidationError) as caught:
        Text2VideoRequest.model_validate({**GIVEN, "prompt": "PRIVATE " * 1000, "duration": "6.5"})
    assert "PRIVATE" not in str(caught.value)
