"""What bad input gets: one message with every problem in it, each with node, field, value, limit and way out."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from graph import PLAIN, Graph

from nodes.sandbox import Sandbox

# During the run

Bad = tuple[dict[str, Any], str, str]
_VISIBLE = (
    "only visible ASCII characters other than / \\ ? # % are allowed, no spaces and not only dots."
    " Change it, or leave it empty to have one made."
)
BAD: list[Bad] = [
    ({"prompt": ""}, "prompt", "is blank. Write what the video shows, or connect a KlingMultiShot."),
    ({"prompt": " \n\u200b"}, "prompt", "is blank. Write what the video shows, or connect a KlingMultiShot."),
    ({"prompt": "x" * 2501}, "prompt", "has 2501 characters; at most 2500 are allowed. Shorten it by 1."),
    ({"prompt": "😀" * 2501}, "prompt", "has 2501 characters; at most 2500 are allowed. Shorten it by 1."),
    ({"prompt": 5}, "prompt", "is 5 (int); it must be text. Correct the value."),
    (
        {"prompt": "a\ud83d"},
        "prompt",
        "has U+D83D at position 2, half of a surrogate pair, which cannot be sent. Delete it.",
    ),
    ({"prompt": "a\x00"}, "prompt", "has the character U+0000 at position 2, which cannot be sent. Delete it."),
    (
        {"negative_prompt": "x" * 2600},
        "negative_prompt",
        "has 2600 characters; at most 2500 are allowed. Shorten it by 100.",
    ),
    (
        {"negative_prompt": "\x1b[0m"},
        "negative_prompt",
        "has the character U+001B at position 1, which cannot be sent. Delete it.",
    ),
    ({"mode": "4k"}, "mode", "is '4k'; allowed: std or pro. Choose one of these."),
    ({"mode": None}, "mode", "is missing. Set a value."),
    ({"sound": True}, "sound", "is True; allowed: on or off. Choose one of these."),
    ({"aspect_ratio": "4:3"}, "aspect_ratio", "is '4:3'; allowed: 16:9, 9:16 or 1:1. Choose one of these."),
    (
        {"duration": 16},
        "duration",
        "is 16 s; kling-v3 makes 3 to 15 s, in whole seconds. Change it.",
    ),
    (
        {"duration": 2},
        "duration",
        "is 2 s; kling-v3 makes 3 to 15 s, in whole seconds. Change it.",
    ),
    (
        {"duration": 5.5},
        "duration",
        "is 5.5 s; kling-v3 makes 3 to 15 s, in whole seconds. Change it.",
    ),
    (
        {"duration": math.nan},
        "duration",
        "is 'nan' s; kling-v3 makes 3 to 15 s, in whole seconds. Change it.",
    ),
    (
        {"duration": True},
        "duration",
        "is 'True' s; kling-v3 makes 3 to 15 s, in whole seconds. Change it.",
    ),
    (
        {"duration": "five"},
        "duration",
        "is 'five' s; kling-v3 makes 3 to 15 s, in whole seconds. Change it.",
    ),
    (
        {"model_name": "kling-v1", "duration": 6},
        "duration",
        "is 6 s; kling-v1 makes 5 or 10 s, in whole seconds. Change it, or set model_name to kling-v3.",
    ),
    (
        {"model_name": "kling-v1", "sound": "on"},
        "sound",
        "is on; kling-v1 cannot make sound. Set it to off, or set model_name to kling-v3.",
    ),
    ({"cfg_scale": 1.5}, "cfg_scale", "is 1.5; the maximum is 1. Lower it."),
    ({"cfg_scale": -0.1}, "cfg_scale", "is -0.1; the minimum is 0. Raise it."),
    ({"cfg_scale": math.nan}, "cfg_scale", "is nan; it must be a finite number. Enter one."),
    ({"cfg_scale": math.inf}, "cfg_scale", "is inf; it must be a finite number. Enter one."),
    ({"cfg_scale": "0.5"}, "cfg_scale", "is '0.5' (str); it must be a number. Correct the value."),
    ({"watermark": "yes"}, "watermark", "is 'yes' (str); it must be true or false. Correct the value."),
    ({"take": 0}, "take", "is 0; the minimum is 1. Raise it."),
    ({"take": 10**30}, "take", f"is {10**30}; the maximum is 999999. Lower it."),
    ({"take": 1.0}, "take", "is 1.0 (float); it must be a whole number. Correct the value."),
    ({"take": True}, "take", "is True (bool); it must be a whole number. Correct the value."),
    ({"take": "1"}, "take", "is '1' (str); it must be a whole number. Correct the value."),
    (
        {"callback_url": "me.example"},
        "callback_url",
        "is 'me.example'; it must be an http or https URL that Kling can reach, or empty. Correct or clear it.",
    ),
    ({"callback_url": 5}, "callback_url", "is 5 (int); it must be text. Correct the value."),
    (
        {"external_task_id": "a b"},
        "external_task_id",
        f"is 'a b'; {_VISIBLE}",
    ),
    (
        {"external_task_id": "a/b"},
        "external_task_id",
        f"is 'a/b'; {_VISIBLE}",
    ),
    ({"external_task_id": "x" * 65}, "external_task_id", "has 65 characters; at most 64 are allowed. Shorten it by 1."),
    ({"external_task_id": 7}, "external_task_id", "is 7 (int); it must be text. Correct the value."),
    (
        {"camera_control": "simple"},
        "camera_control",
        "is 'simple' (str); only a KlingCameraControl can be connected here.",
    ),
    ({"multi_shot": [1]}, "multi_shot", "is [1] (list); only a KlingMultiShot can be connected here."),
]


def in_words(bad: Bad) -> str:
    return " ".join(f"{name}={ascii(value)[:20]}" for name, value in bad[0].items())


@pytest.mark.parametrize("bad", BAD, ids=in_words)
def test_a_bad_value_is_refused_with_node_field_value_limit_and_way_out(graph: Graph, gateway: Sandbox, bad: Bad):
    changes, field, told = bad
    assert graph.problems(**changes) == [f"- KlingText2Video, {field}: {told}"]
    assert gateway.received == []


# A value that is not there stands for a wire, before the run.
@pytest.mark.parametrize("bad", [bad for bad in BAD if bad[0] != {"mode": None}], ids=in_words)
def test_what_widgets_alone_can_tell_is_said_before_the_run(graph: Graph, bad: Bad):
    changes, field, told = bad
    validate = graph.classes["KlingText2Video"].VALIDATE_INPUTS
    with pytest.raises(Exception) as caught:
        validate(**{**PLAIN, **changes}, unique_id="7")
    assert str(caught.value).splitlines()[:-1] == [f"- KlingText2Video, {field}: {told}"]


def test_an_unknown_model_is_refused_with_those_that_there_are(graph: Graph, gateway: Sandbox):
    assert graph.problems(model_name="kling-v2-6") == [
        "- KlingText2Video, model_name: is 'kling-v2-6'; allowed: kling-v1, kling-v1-6, kling-v2-master,"
        " kling-v2-1-master, kling-v2-5-turbo, kling-v3. Choose one of these. If the gateway offers the other one, add"
        " its name to KLING_EXTRA_MODELS in the environment and restart ComfyUI."
    ]
    assert gateway.received == []


def test_problems_of_shots_name_the_socket_and_the_position(graph: Graph, gateway: Sandbox):
    board = graph.storyboard(
        shot_1=graph.shot("x" * 513, 2),
        shot_3=graph.shot(" ", 0),
        shot_4=graph.shot("A\x07.", 16),
        shot_6=graph.shot(5, "x"),
    )
    assert graph.problems(multi_shot=board) == [
        "- KlingShot at shot_1 (shot 1), prompt: has 513 characters; at most 512 are allowed. Shorten it by 1.",
        "- KlingShot at shot_4 (shot 3), prompt: has the character U+0007 at position 2, which cannot be sent."
        " Delete it.",
        "- KlingShot at shot_6 (shot 4), prompt: is 5 (int); it must be text. Correct the value.",
        "- KlingShot at shot_3 (shot 2), prompt: is blank. Write what happens in this shot.",
        "- KlingShot at shot_3 (shot 2), duration: is 0 s; whole seconds from 1 to 15 are allowed. Correct the value.",
        "- KlingShot at shot_6 (shot 4), duration: is 'x' s; whole seconds from 1 to 15 are allowed."
        " Correct the value.",
    ]
    assert gateway.received == []


@pytest.mark.parametrize("duration", [-1, 0, 0.5, True, "5 s", None])
def test_a_shot_below_one_second_or_of_no_length_is_refused(graph: Graph, gateway: Sandbox, duration: Any):
    (line,) = graph.problems(multi_shot=graph.storyboard(graph.shot(), graph.shot(duration=duration)))
    assert line.startswith("- KlingShot at shot_2 (shot 2), duration: is ")
    assert gateway.received == []


@pytest.mark.parametrize(("lengths", "total"), [([1], 1), ([1, 1], 2), ([10, 6], 16), ([15] * 6, 90)])
def test_a_storyboard_outside_the_models_lengths_is_refused(
    graph: Graph, gateway: Sandbox, lengths: list[int], total: int
):
    board = graph.storyboard(*(graph.shot(duration=length) for length in lengths))
    assert graph.problems(multi_shot=board) == [
        f"- KlingMultiShot, sum of the shots' durations: is {total} s; kling-v3 makes 3 to 15 s, in whole seconds."
        " Change the shots."
    ]
    assert gateway.received == []


def test_no_shot_is_refused(graph: Graph, gateway: Sandbox):
    assert graph.problems(multi_shot=graph.storyboard()) == [
        "- KlingMultiShot, shots: has 0 shots; 1 to 6 are allowed. Connect at least shot_1."
    ]
    assert gateway.received == []


def test_a_seventh_shot_in_a_workflow_edited_by_hand_is_refused_and_not_left_out(graph: Graph, gateway: Sandbox):
    board = graph.storyboard(*(graph.shot(duration=1) for _ in range(7)))
    assert graph.problems(multi_shot=board) == [
        "- KlingMultiShot, shots: has 7 shots; 1 to 6 are allowed. Disconnect 1."
    ]
    assert gateway.received == []


@pytest.mark.parametrize("stranger", ["A wave.", 5, {}, {"prompt": "A."}])
def test_what_is_no_shot_is_refused_at_its_socket(graph: Graph, gateway: Sandbox, stranger: Any):
    lines = graph.problems(multi_shot=graph.storyboard(shot_1=graph.shot(), shot_5=stranger))
    assert lines
    assert all(line.startswith("- KlingShot at shot_5 (shot 2), ") for line in lines)
    assert gateway.received == []


@pytest.mark.parametrize(
    ("type", "axes", "line"),
    [
        ("simple", {}, "type and axes: needs exactly one axis that is not 0 for type simple; here all six are 0."),
        (
            "simple",
            {"pan": 1, "roll": -2.5},
            "type and axes: needs exactly one axis that is not 0 for type simple; here pan 1, roll -2.5.",
        ),
        ("simple", {"zoom": 10.1}, "zoom: is 10.1; the maximum is 10. Lower it."),
        ("simple", {"tilt": -11}, "tilt: is -11; the minimum is -10. Raise it."),
        ("simple", {"tilt": math.nan}, "tilt: is nan; it must be a finite number. Enter one."),
        ("simple", {"tilt": -math.inf}, "tilt: is -inf; it must be a finite number. Enter one."),
        ("simple", {"tilt": "5"}, "tilt: is '5' (str); it must be a number. Correct the value."),
        ("simple", {"tilt": None}, "tilt: is None (NoneType); it must be a number. Correct the value."),
        (
            "spin",
            {"tilt": 5},
            "type: is 'spin'; allowed: simple, down_back, forward_up, right_turn_forward or left_turn_forward.",
        ),
        (None, {}, "type: is None; allowed: simple, down_back"),
    ],
)
def test_a_bad_camera_move_is_refused(graph: Graph, gateway: Sandbox, type: Any, axes: dict[str, Any], line: str):
    (told,) = graph.problems(model_name="kling-v1", camera_control=graph.camera(type, **axes))
    assert told.startswith(f"- KlingCameraControl, {line}")
    assert gateway.received == []


def test_everything_wrong_is_said_in_one_message(graph: Graph, gateway: Sandbox):
    lines = graph.problems(
        model_name="kling-v1-6",
        negative_prompt="x" * 2501,
        mode="max",
        sound="on",
        cfg_scale=7,
        take=-1,
        watermark=1,
        callback_url="ftp://a",
        external_task_id="?",
        aspect_ratio="21:9",
        camera_control=graph.camera(pan=1, tilt=20),
        multi_shot=graph.storyboard(graph.shot("", 1), graph.shot("A.", 1)),
    )
    assert [line[2:].partition(":")[0] for line in lines] == [
        "KlingText2Video, take",
        "KlingShot at shot_1 (shot 1), prompt",
        "KlingText2Video, negative_prompt",
        "KlingText2Video, cfg_scale",
        "KlingText2Video, mode",
        "KlingCameraControl, tilt",
        "KlingText2Video, aspect_ratio",
        "KlingText2Video, watermark",
        "KlingText2Video, callback_url",
        "KlingText2Video, external_task_id",
        "KlingText2Video, multi_shot",
        "KlingMultiShot, sum of the shots' durations",
        "KlingText2Video, sound",
        "KlingCameraControl, type and axes",
    ]
    assert gateway.received == []


# Before the run


@pytest.mark.parametrize("name", [*PLAIN, "camera_control", "multi_shot"])
def test_a_wired_input_is_left_to_the_run(graph: Graph, name: str):
    assert graph.classes["KlingText2Video"].VALIDATE_INPUTS(**{**PLAIN, name: None}, unique_id="7") is True


def test_everything_may_be_wired(graph: Graph):
    wired = dict.fromkeys([*PLAIN, "camera_control", "multi_shot"])
    assert graph.classes["KlingText2Video"].VALIDATE_INPUTS(**wired, unique_id="7") is True


def before_the_run(graph: Graph, **changes: Any) -> list[str]:
    with pytest.raises(Exception) as caught:
        graph.classes["KlingText2Video"].VALIDATE_INPUTS(**{**PLAIN, **changes})
    return str(caught.value).splitlines()[:-1]


def test_a_wired_storyboard_with_an_old_model_is_said_before_the_run(graph: Graph):
    (line,) = before_the_run(graph, model_name="kling-v2-master", multi_shot=None)
    assert line.startswith("- KlingText2Video, multi_shot: needs kling-v3; with kling-v2-master the gateway may")


def test_a_wired_camera_move_that_cannot_be_is_said_before_the_run(graph: Graph):
    (line,) = before_the_run(graph, model_name="kling-v1-6", camera_control=None)
    assert line.startswith("- KlingText2Video, camera_control: is not possible with kling-v1-6.")
    (line,) = before_the_run(graph, model_name="kling-v1", mode="pro", camera_control=None)
    assert line.startswith("- KlingText2Video, camera_control: needs mode std and 5 s with kling-v1,")


def test_with_a_wired_storyboard_prompt_and_duration_do_not_matter(graph: Graph):
    validate = graph.classes["KlingText2Video"].VALIDATE_INPUTS
    assert validate(**{**PLAIN, "prompt": "", "duration": 99, "multi_shot": None}) is True


def test_a_wire_does_not_hide_other_problems(graph: Graph):
    lines = before_the_run(graph, prompt=None, model_name=None, cfg_scale=2, callback_url="x")
    assert [line.partition(":")[0] for line in lines] == [
        "- KlingText2Video, cfg_scale",
        "- KlingText2Video, callback_url",
    ]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("A wave.", True),
        ("😀" * 512, True),
        (None, True),
        ("x" * 513, "has 513 characters; at most 512 are allowed. Shorten it by 1."),
        ("", "is empty. Write what happens."),
        ("\u200b", "is blank. Write what happens in this shot."),
        ("a\ud800", "has U+D800 at position 2, half of a surrogate pair, which cannot be sent. Delete it."),
        ("a\x01", "has the character U+0001 at position 2, which cannot be sent. Delete it."),
        (5, "is 5 (int); it must be text. Correct the value."),
    ],
    ids=ascii,
)
def test_a_shot_is_checked_before_the_run(graph: Graph, prompt: Any, told: bool | str):
    assert graph.classes["KlingShot"].VALIDATE_INPUTS(prompt=prompt) == told


def test_the_host_checks_the_ranges_that_no_node_names(graph: Graph):
    # Naming an argument in VALIDATE_INPUTS switches off the host's own check of it.
    assert list(inspect.signature(graph.classes["KlingShot"].VALIDATE_INPUTS).parameters) == ["prompt"]
    assert not hasattr(graph.classes["KlingCameraControl"], "VALIDATE_INPUTS")
    assert not hasattr(graph.classes["KlingMultiShot"], "VALIDATE_INPUTS")
