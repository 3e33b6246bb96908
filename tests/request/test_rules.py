"""The rules between fields: what each model can do, what a storyboard is, how a camera moves.

The table of models is written out here once more, from the documents: the pack's own one is under test.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from bodies import GIVEN
from bodies import story as of_shots
from body_schema import check
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nodes.api.request.body import Text2VideoRequest
from nodes.api.request.capabilities import DURATIONS, MODELS, with_ability

OLD = ["kling-v1", "kling-v1-6", "kling-v2-master", "kling-v2-1-master", "kling-v2-5-turbo"]
ALL = [*OLD, "kling-v3"]
NO_CAMERA = ["kling-v1-6", "kling-v2-master", "kling-v2-1-master", "kling-v2-5-turbo"]
PRESETS = ["down_back", "forward_up", "right_turn_forward", "left_turn_forward"]
AXES = ["horizontal", "vertical", "pan", "tilt", "roll", "zoom"]


def entered(duration: str) -> str:
    """A number stands in a message as the user sees it on the node; anything else in quotes."""
    return repr(duration) if duration.strip("0123456789.-") or not duration else duration


def plain(**changes: Any) -> dict[str, Any]:
    return {**GIVEN, **changes}


def story(*durations: str, **changes: Any) -> dict[str, Any]:
    shots = [{"index": i, "prompt": "A wave.", "duration": duration} for i, duration in enumerate(durations, 1)]
    return of_shots(*shots, **changes)


def problems(body: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
    try:
        Text2VideoRequest.model_validate(body)
    except ValidationError as error:
        return {detail["loc"]: detail["msg"] for detail in error.errors()}
    return {}


def camera(type: str = "simple", /, **axes: Any) -> dict[str, Any]:
    return {"type": type, "config": axes}


# What the models can do


def test_the_table_knows_the_models_that_the_gateway_lists():
    assert list(MODELS) == ALL


def test_what_each_model_can_do():
    facts = {
        name: (list(model.durations), model.sound, model.multi_shot, model.camera_control, model.cfg_scale)
        for name, model in MODELS.items()
    }
    assert facts == {
        "kling-v1": ([5, 10], False, False, "yes", True),
        "kling-v1-6": ([5, 10], False, False, "no", True),
        "kling-v2-master": ([5, 10], False, False, "no", False),
        "kling-v2-1-master": ([5, 10], False, False, "no", False),
        "kling-v2-5-turbo": ([5, 10], False, False, "no", False),
        "kling-v3": ([3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], True, True, "disputed", False),
    }
    assert list(DURATIONS) == list(range(3, 16))
    assert with_ability("multi_shot") == ["kling-v3"]
    assert with_ability("cfg_scale") == ["kling-v1", "kling-v1-6"]


def test_every_combination_is_judged_as_the_documents_have_it():
    cameras = {"none": None, "simple": camera(zoom=1), "preset": camera("down_back")}
    for model, mode, seconds, sound, (kind, move) in product(
        ALL, ["std", "pro"], range(1, 18), ["on", "off"], cameras.items()
    ):
        new = model == "kling-v3"
        right = (seconds in range(3, 16) if new else seconds in (5, 10)) and (new or sound == "off")
        if kind != "none":
            right = right and (new or (model, mode, seconds) == ("kling-v1", "std", 5))
        body = plain(model_name=model, mode=mode, duration=str(seconds), sound=sound, camera_control=move)
        assert (problems(body) == {}) is right, body


@pytest.mark.parametrize("model", OLD)
def test_models_before_v3_make_5_or_10_seconds(model: str):
    assert problems(plain(model_name=model, duration="6")) == {
        ("duration",): f"is 6 s; {model} makes 5 or 10 s, in whole seconds. Change it, or set model_name to kling-v3."
    }


@pytest.mark.parametrize(
    "duration",
    ["2", "16", "0", "-5", "5.0", " 5", "05", "5s", "", "５", "1e1", "1_0", "five", "\ud800"],
    ids=ascii,
)
def test_v3_makes_whole_seconds_from_3_to_15(duration: str):
    assert problems(plain(duration=duration)) == {
        ("duration",): f"is {entered(duration)} s; kling-v3 makes 3 to 15 s, in whole seconds. Change it."
    }


@pytest.mark.parametrize("model", OLD)
def test_only_v3_makes_sound(model: str):
    assert problems(plain(model_name=model, sound="on")) == {
        ("sound",): f"is on; {model} cannot make sound. Set it to off, or set model_name to kling-v3."
    }


@pytest.mark.parametrize("model", OLD)
def test_only_v3_makes_storyboards(model: str):
    assert problems(story("2", "3", model_name=model)) == {
        ("multi_shot",): f"needs kling-v3; with {model} the gateway may drop the shots and still bill a video."
        " Set model_name to kling-v3, or disconnect the multi-shot."
    }


@pytest.mark.parametrize("model", NO_CAMERA)
@pytest.mark.parametrize("move", [camera(zoom=1), camera("forward_up")], ids=["simple", "preset"])
def test_these_models_take_no_camera_move(model: str, move: dict[str, Any]):
    assert problems(plain(model_name=model, camera_control=move)) == {
        ("camera_control",): f"is not possible with {model}. Disconnect it, or set model_name to kling-v1 (std, 5 s)."
    }


@pytest.mark.parametrize(("mode", "duration"), [("pro", "5"), ("std", "10"), ("pro", "10")])
def test_v1_takes_a_camera_move_with_std_and_5_seconds_only(mode: str, duration: str):
    body = plain(model_name="kling-v1", mode=mode, duration=duration, camera_control=camera(pan=-3))
    assert problems(body) == {
        ("camera_control",): f"needs mode std and 5 s with kling-v1, not {mode} and {entered(duration)} s."
        " Change them, or disconnect it."
    }


@pytest.mark.parametrize("mode", ["std", "pro"])
def test_v3_takes_a_camera_move_because_sources_disagree(mode: str):
    assert problems(plain(mode=mode, duration="15", camera_control=camera("down_back"))) == {}


@pytest.mark.parametrize("model", ALL)
def test_every_model_takes_cfg_scale_and_silence(model: str):
    assert problems(plain(model_name=model, cfg_scale=0.7, sound="off")) == {}


# Camera moves


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("value", [-10, -0.1, 0.1, 10.0])
def test_a_simple_move_is_along_one_axis(axis: str, value: float):
    assert problems(plain(camera_control=camera(**{axis: value}))) == {}


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(
    ("value", "told"),
    [(-10.1, "is -10.1; the minimum is -10. Raise it."), (11, "is 11; the maximum is 10. Lower it.")],
)
def test_an_axis_has_limits(axis: str, value: float, told: str):
    assert problems(plain(camera_control=camera(**{axis: value}))) == {("camera_control", "config", axis): told}


@pytest.mark.parametrize(
    ("axes", "there"),
    [
        ({}, "all six are 0"),
        (dict.fromkeys(AXES, 0.0), "all six are 0"),
        ({"pan": 1, "zoom": -2.5}, "pan 1, zoom -2.5"),
        (dict.fromkeys(AXES, 1), "horizontal 1, vertical 1, pan 1, tilt 1, roll 1, zoom 1"),
    ],
)
def test_a_simple_move_along_none_or_several_axes_is_refused(axes: dict[str, float], there: str):
    assert problems(plain(camera_control=camera(**axes))) == {
        ("camera_control", "config"): f"needs exactly one axis that is not 0 for type simple; here {there}."
        " Set exactly one axis, or choose a ready-made move as type."
    }


@pytest.mark.parametrize("type", PRESETS)
def test_a_ready_made_move_needs_no_axis(type: str):
    assert problems(plain(camera_control={"type": type})) == {}


# Storyboards


@pytest.mark.parametrize(
    "durations", [["3"], ["15"], ["1", "1", "1"], ["2", "3", "3", "3", "3", "1"], ["1"] * 6, ["10", "5"]]
)
def test_one_to_six_shots_of_3_to_15_seconds_in_all(durations: list[str]):
    assert problems(story(*durations, duration=str(sum(map(int, durations))))) == {}


@pytest.mark.parametrize(("durations", "total"), [(["1", "1"], "2"), (["10", "6"], "16"), (["15"] * 6, "90")])
def test_a_sum_beyond_the_models_lengths_is_refused(durations: list[str], total: str):
    assert problems(story(*durations, duration=total)) == {
        ("duration",): f"is {total} s; kling-v3 makes 3 to 15 s, in whole seconds. Change the shots."
    }


def test_a_sum_that_is_not_the_duration_is_refused():
    assert problems(story("2", "3", duration="6")) == {
        ("duration",): "is 6 s, but the shots add up to 5 s. Make them equal."
    }


@pytest.mark.parametrize("duration", ["0", "-1", "1.5", "", "05", "100", "x"])
def test_a_shot_has_whole_seconds_from_1(duration: str):
    assert problems(story("5", duration)) == {
        ("multi_prompt", 1, "duration"): f"is {entered(duration)} s; whole seconds from 1 to 15 are allowed."
        " Correct the value."
    }


def test_no_shot_and_seven_shots_are_refused():
    assert problems(story()) == {("multi_prompt",): "has 0 shots; 1 to 6 are allowed. Connect at least shot_1."}
    told = problems(story(*["1"] * 7, duration="7"))
    assert told == {("multi_prompt",): "has 7 shots; 1 to 6 are allowed. Disconnect 1."}


def test_shots_are_numbered_from_1():
    body = story("2", "3")
    body["multi_prompt"] = body["multi_prompt"][::-1]
    assert problems(body) == {
        ("multi_prompt", 0, "index"): "is 2; it must be 1. Renumber the shots.",
        ("multi_prompt", 1, "index"): "is 1; it must be 2. Renumber the shots.",
    }


def test_a_storyboard_needs_its_shots_and_their_type():
    assert problems(plain(multi_shot=True, prompt=None)) == {
        ("shot_type",): "is missing; multi_shot needs 'customize'. Add it.",
        ("multi_prompt",): "is missing; multi_shot needs 1 to 6 shots. Connect at least shot_1.",
    }


def test_a_prompt_is_not_sent_along_with_a_storyboard():
    assert problems(story("5", prompt="A boat.")) == {("prompt",): "is not used when multi_shot is true. Leave it out."}
    assert problems(story("5", prompt="")) == {}


def test_shots_are_not_sent_without_multi_shot():
    body = story("5", multi_shot=False, prompt="A boat.")
    told = "is only allowed when multi_shot is true. Leave it out, or set multi_shot to true."
    assert problems(body) == {("shot_type",): told, ("multi_prompt",): told}


# Whatever is accepted is right

_text = st.one_of(st.text(max_size=20), st.sampled_from(["", " ", "x" * 513, "y" * 2501, "\ud800", "\x00", "\u200b"]))
_number = st.one_of(st.integers(-12, 12), st.floats(-12, 12), st.sampled_from([float("nan"), float("inf"), True, "1"]))
_seconds = st.one_of(st.integers(0, 17).map(str), st.sampled_from(["05", "5.0", 5, None, "x"]))
_config = st.dictionaries(st.sampled_from([*AXES, "speed"]), _number, max_size=2)
_camera = st.fixed_dictionaries({"type": st.sampled_from(["simple", *PRESETS, "spin"]), "config": _config})
_lengths = st.lists(st.integers(1, 5).map(str), min_size=1, max_size=6)
_right = st.one_of(
    st.builds(plain, prompt=st.text("ab 雨😀\n", min_size=1, max_size=20)),
    st.builds(plain, model_name=st.sampled_from(ALL), mode=st.sampled_from(["std", "pro"]), camera_control=_camera),
    _lengths.map(lambda lengths: story(*lengths, duration=str(sum(map(int, lengths))))),
)
_spoilt = st.fixed_dictionaries(
    {},
    optional={
        "model_name": st.sampled_from([*ALL, "kling-v2-6", None]),
        "mode": st.sampled_from(["std", "pro", "4k"]),
        "duration": _seconds,
        "prompt": _text,
        "multi_shot": st.sampled_from([True, False, "true", None]),
        "shot_type": st.sampled_from(["customize", "intelligence", None]),
        "multi_prompt": st.one_of(
            st.lists(st.builds(dict, index=st.integers(0, 3), prompt=_text, duration=_seconds), max_size=8),
            st.lists(st.sampled_from([None, 3, "A.", {}]), max_size=2),
        ),
        "negative_prompt": _text,
        "cfg_scale": _number,
        "sound": st.sampled_from(["on", "off", True]),
        "camera_control": st.one_of(_camera, st.sampled_from([None, "simple", {}, []])),
        "aspect_ratio": st.sampled_from(["16:9", "1:1", "4:3"]),
        "watermark_info": st.sampled_from([{"enabled": True}, {"enabled": 1}, {}]),
        "callback_url": st.one_of(_text, st.just("https://a.example/b")),
        "external_task_id": st.text("ab-./ é", max_size=66),
    },
)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A right body in which a few fields, or none, have been replaced by anything."""
    body, spoilt = draw(_right), draw(_spoilt)
    names = draw(st.lists(st.sampled_from(sorted(spoilt)), max_size=2)) if spoilt else []
    return {**body, **{name: spoilt[name] for name in names}}


@settings(deadline=None)
@given(bodies())
def test_an_accepted_body_is_right_and_a_refused_one_is_told_why(body: dict[str, Any]):
    try:
        sent = Text2VideoRequest.model_validate(body).body()
    except ValidationError as error:
        assert all(detail["loc"] and detail["msg"][-1] in '."' for detail in error.errors())
    else:
        assert check({"external_task_id": "x", **sent}) == []


@settings(deadline=None)
@given(bodies())
def test_a_sent_body_is_accepted_again_and_stays_the_same(body: dict[str, Any]):
    try:
        sent = Text2VideoRequest.model_validate(body).body()
    except ValidationError:
        return
    assert Text2VideoRequest.model_validate(sent).body() == sent
