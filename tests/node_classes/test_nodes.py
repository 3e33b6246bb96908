"""The nodes as ComfyUI uses them: what they show, what they check before a run, what they hand on and send."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from bodies import SENT
from body_schema import check
from conftest import KEY
from environment import Environment
from graph import PLAIN, STILL, Graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.api.request.body import CameraConfig, Shot, Text2VideoRequest
from nodes.api.request.capabilities import MODELS
from nodes.sandbox import Sandbox
from nodes.sandbox.rules import ONE_TIER

OURS = ["KlingShot", "KlingMultiShot", "KlingCameraControl", "KlingText2Video"]


@pytest.fixture
def classes(graph: Graph) -> dict[str, Any]:
    """The node classes by id."""
    return graph.classes


def widgets(node: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    types = node.INPUT_TYPES()
    return {**types["required"], **types.get("optional", {})}


# What they show


def test_every_input_has_a_help_text(classes: dict[str, Any]):
    for node in classes.values():
        for name, (_, options) in widgets(node).items():
            text = options.get("tooltip", "")
            assert len(text) > 8 and text.endswith("."), f"{node.__name__}.{name}"


def test_every_node_and_output_is_described(classes: dict[str, Any]):
    for node in classes.values():
        assert node.CATEGORY == "Kling"
        assert node.DESCRIPTION and not node.DESCRIPTION.startswith((" ", "\n"))
        assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
        assert all(text.endswith(".") for text in node.OUTPUT_TOOLTIPS)
        assert "kling" in " ".join(node.SEARCH_ALIASES)
        assert any(not alias.isascii() for alias in node.SEARCH_ALIASES)
        assert callable(getattr(node, node.FUNCTION))


def test_limits_and_help_of_widgets_are_those_of_the_request(classes: dict[str, Any]):
    fields = Text2VideoRequest.model_fields
    text2video = widgets(classes["KlingText2Video"])
    assert text2video["model_name"] == (
        list(MODELS),
        {"default": "kling-v3", "tooltip": fields["model_name"].description},
    )
    for name in ("mode", "aspect_ratio", "sound"):
        choices, options = text2video[name]
        assert tuple(choices) == get_args(fields[name].annotation)
        assert options["tooltip"] == fields[name].description
    for name in ("prompt", "negative_prompt", "callback_url", "external_task_id", "cfg_scale", "duration"):
        assert text2video[name][1]["tooltip"] == fields[name].description
    assert (text2video["cfg_scale"][1]["min"], text2video["cfg_scale"][1]["max"]) == limits(fields["cfg_scale"])
    shot = widgets(classes["KlingShot"])
    assert (shot["duration"][1]["min"], shot["duration"][1]["max"]) == limits(Shot.model_fields["duration"])
    for axis, field in CameraConfig.model_fields.items():
        options = widgets(classes["KlingCameraControl"])[axis][1]
        assert (options["min"], options["max"]) == limits(field) == (-10, 10)
        assert options["tooltip"] == field.description


def limits(field: Any) -> tuple[float, float]:
    found = {name: getattr(c, name) for c in field.metadata for name in ("ge", "le") if hasattr(c, name)}
    return found["ge"], found["le"]


def test_help_texts_name_the_limits(classes: dict[str, Any]):
    text2video = widgets(classes["KlingText2Video"])
    assert "2500 characters" in text2video["prompt"][1]["tooltip"]
    assert "3 to 15" in text2video["duration"][1]["tooltip"]
    assert "512 characters" in widgets(classes["KlingShot"])["prompt"][1]["tooltip"]
    assert "64" in text2video["external_task_id"][1]["tooltip"]
    assert "paid" in text2video["take"][1]["tooltip"]


def test_help_texts_say_what_costs_more(classes: dict[str, Any]):
    text2video = widgets(classes["KlingText2Video"])
    assert "costs more" in text2video["mode"][1]["tooltip"] and "costs more" in text2video["sound"][1]["tooltip"]
    assert all(f"{model} " in text2video["mode"][1]["tooltip"] for model in ONE_TIER)


def test_no_text_is_drawn_anew_with_every_click(classes: dict[str, Any]):
    for node in classes.values():
        for kind, options in widgets(node).values():
            assert kind != "STRING" or not options.get("multiline") or options["dynamicPrompts"] is False


def test_nothing_is_randomised_after_a_click(classes: dict[str, Any]):
    for node in classes.values():
        for name, (_, options) in widgets(node).items():
            assert not options.get("control_after_generate")
            assert name not in ("seed", "noise_seed")


def test_defaults_make_a_valid_request_once_there_is_a_prompt(graph: Graph, gateway: Sandbox):
    required = graph.classes["KlingText2Video"].INPUT_TYPES()["required"]
    defaults = {name: options["default"] for name, (_, options) in required.items()}
    assert {**defaults, "prompt": PLAIN["prompt"]} == PLAIN
    graph.submit(**{**defaults, "prompt": "A boat."})
    assert len(gateway.creates()) == 1


# What they hand on


def test_a_shot_is_handed_on_as_it_is(graph: Graph):
    shot = graph.shot("A wave.", 7)
    assert (shot.prompt, shot.duration) == ("A wave.", 7)
    with pytest.raises(Exception, match="frozen"):
        shot.prompt = "Another."


def test_gaps_between_shots_close_up_in_the_order_of_the_sockets(graph: Graph):
    first, second, third = graph.shot("1"), graph.shot("2"), graph.shot("3")
    board = graph.storyboard(shot_6=third, shot_1=first, shot_3=second, shot_2=None)
    assert board.shots == (first, second, third)
    assert board.sockets == (1, 3, 6)


def test_a_ready_made_move_forgets_the_sliders(graph: Graph):
    move = graph.camera("down_back", pan=5, zoom=-3)
    assert (move.type, move.config.model_dump()) == ("down_back", STILL)
    assert graph.camera("simple", pan=5.5).config.model_dump() == {**STILL, "pan": 5.5}


# What they send

BODY = {**SENT, "prompt": PLAIN["prompt"]}


def sent(sandbox: Sandbox) -> dict[str, Any]:
    """The one body that was sent, without the id that was minted for it."""
    body: dict[str, Any] = dict(*sandbox.creates())
    assert check(body) == []
    minted = body.pop("external_task_id")
    assert minted.startswith("comfyui-") and len(minted) == 40
    return body


def test_a_plain_graph_becomes_this_body(graph: Graph, gateway: Sandbox):
    graph.submit()
    assert sent(gateway) == BODY


def test_every_widget_reaches_the_body(graph: Graph, gateway: Sandbox):
    given = {
        "model_name": "kling-v3",
        "prompt": "雨 ☔",
        "negative_prompt": "fog",
        "mode": "pro",
        "aspect_ratio": "1:1",
        "duration": 15,
        "sound": "on",
        "cfg_scale": 1,
        "watermark": True,
        "callback_url": " https://me.example/hook ",
        "external_task_id": " boat-1 ",
    }
    graph.submit(**given)
    (body,) = gateway.creates()
    assert body == {
        **{name: given[name] for name in given if name != "watermark"},
        "multi_shot": False,
        "duration": "15",
        "watermark_info": {"enabled": True},
        "callback_url": "https://me.example/hook",
        "external_task_id": "boat-1",
    }
    assert check(body) == []


def test_a_camera_move_becomes_this_body(graph: Graph, gateway: Sandbox):
    graph.submit(model_name="kling-v1", camera_control=graph.camera("simple", zoom=2.0))
    zoom = {"type": "simple", "config": {**dict.fromkeys(STILL, 0), "zoom": 2}}
    assert sent(gateway) == {**BODY, "model_name": "kling-v1", "camera_control": zoom}


def test_a_ready_made_move_becomes_six_zeros(graph: Graph, gateway: Sandbox):
    graph.submit(model_name="kling-v1", camera_control=graph.camera("forward_up", zoom=2.0))
    assert sent(gateway)["camera_control"] == {"type": "forward_up", "config": dict.fromkeys(STILL, 0)}


def test_a_storyboard_becomes_this_body_whatever_prompt_and_duration_hold(graph: Graph, gateway: Sandbox):
    board = graph.storyboard(shot_1=graph.shot("One.", 2), shot_4=graph.shot("Two.", 4), shot_6=graph.shot("Three.", 1))
    graph.submit(multi_shot=board, prompt="x" * 3000, duration=99)
    assert sent(gateway) == {
        **{name: value for name, value in BODY.items() if name != "prompt"},
        "multi_shot": True,
        "shot_type": "customize",
        "multi_prompt": [
            {"index": 1, "prompt": "One.", "duration": "2"},
            {"index": 2, "prompt": "Two.", "duration": "4"},
            {"index": 3, "prompt": "Three.", "duration": "1"},
        ],
        "duration": "7",
    }


# What they give back


def test_the_task_id_is_given_and_the_receipt_holds_all_there_is_to_know(graph: Graph, gateway: Sandbox):
    given = graph.run("KlingText2Video", **PLAIN)
    (task,) = gateway.tasks.values()
    task_id, text = given["result"]
    receipt = json.loads(text)
    assert task_id == task.task_id
    assert list(receipt) == [
        *("task_id", "external_task_id", "request_id", "created_at", "reused"),
        *("estimate", "charged", "notes", "request"),
    ]
    assert receipt["task_id"] == task_id
    assert receipt["external_task_id"] == task.external_task_id == receipt["request"]["external_task_id"]
    assert receipt["created_at"] == task.created_at
    assert len(receipt["request_id"]) == 36
    assert receipt["reused"] is False
    assert receipt["estimate"] == {"units": 3, "list_price_usd": 0.42, "price_list_of": "2026-09"}
    assert receipt["charged"] is None
    assert receipt["notes"] == []
    assert receipt["request"] == task.body
    names = ("task_id", "external_task_id", "reused", "estimate", "charged", "notes")
    assert given["ui"] == {"kling": [{**{name: receipt[name] for name in names}, "reported_to": None}]}


def test_the_receipt_holds_neither_key_nor_host(graph: Graph, gateway: Sandbox):
    text = json.dumps(graph.run("KlingText2Video", **PLAIN))
    assert KEY not in text
    assert "127.0.0.1" not in text
    assert "Authorization" not in text


def test_the_same_graph_and_take_is_the_same_task(graph: Graph, gateway: Sandbox):
    first, receipt = graph.submit()
    again, later = graph.submit()
    assert again == first
    assert (receipt["reused"], later["reused"]) == (False, True)
    assert {**later, "reused": False} == receipt
    assert len(gateway.creates()) == 1


def test_another_take_is_another_task(graph: Graph, gateway: Sandbox):
    assert graph.submit(take=1)[0] != graph.submit(take=2)[0]
    assert [check(body) for body in gateway.creates()] == [[], []]
    assert len(gateway.tasks) == 2


def test_what_is_not_used_does_not_make_another_task(graph: Graph, gateway: Sandbox):
    board = graph.storyboard(graph.shot())
    first, receipt = graph.submit(multi_shot=board)
    again, _ = graph.submit(multi_shot=graph.storyboard(shot_5=graph.shot()), prompt="Other.", duration=9)
    assert again == first
    assert receipt["notes"] == ["The storyboard is used. The prompt and duration of KlingText2Video are not."]


def test_receipt_and_node_name_the_host_that_the_result_is_reported_to(graph: Graph, gateway: Sandbox):
    url = "https://me:secret@Hooks.Example:8443/in?a=1"
    shown = graph.run("KlingText2Video", **{**PLAIN, "callback_url": url})
    note = "callback_url: Kling reports the status of this task and the link to its video to hooks.example."
    assert json.loads(shown["result"][1])["notes"] == shown["ui"]["kling"][0]["notes"] == [note]
    assert shown["ui"]["kling"][0]["reported_to"] == "hooks.example"
    # A letter of another alphabet must not make it look like a host that the user knows.
    assert "to xn--kling-8ve.example." in graph.submit(callback_url="https://kling\u0430.example/")[1]["notes"][0]


def test_notes_say_what_is_not_wrong_but_worth_knowing(graph: Graph, gateway: Sandbox):
    assert graph.submit(camera_control=graph.camera(pan=1))[1]["notes"] == [
        "Sources disagree on whether kling-v3 supports camera_control. It may be ignored."
    ]
    assert graph.submit(model_name="kling-v1", camera_control=graph.camera(pan=1))[1]["notes"] == []
    assert graph.submit(prompt="雨" * 833)[1]["notes"] == []
    assert graph.submit(prompt="雨" * 834)[1]["notes"] == [
        "The prompt has more than 2500 bytes. Some relays count bytes and may cut or refuse it."
    ]
    assert len(graph.submit(prompt="雨" * 834, negative_prompt="😀" * 2500)[1]["notes"]) == 2


def test_a_task_is_run_anew_only_when_one_has_failed(classes: dict[str, Any]):
    changed = classes["KlingText2Video"].IS_CHANGED
    assert changed(**PLAIN) == changed(**{**PLAIN, "prompt": "Other."})


def test_without_a_key_nothing_is_sent(graph: Graph, gateway: Sandbox, environment: Environment):
    environment.unset("KLING_API_KEY")
    with pytest.raises(Exception, match="No API key is set") as caught:
        graph.submit()
    assert type(caught.value).__name__ == "SetupError"
    assert gateway.received == []


def test_problems_of_the_graph_are_said_before_a_missing_key(graph: Graph, environment: Environment):
    assert graph.problems(prompt="") != []


def test_a_refusal_of_the_gateway_carries_its_words_and_ids(graph: Graph, gateway: Sandbox):
    gateway.misbehave("create", "code:1301")
    with pytest.raises(Exception, match="Content safety policy was triggered by the prompt") as caught:
        graph.submit()
    assert type(caught.value).__name__ == "GraphError"
    assert "Change the prompt" in str(caught.value)
    assert "external_task_id comfyui-" in str(caught.value)
    assert "request_id" in str(caught.value)


# Any graph

_junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["x" * 2501, "\ud800", "\x00", " ", [], {}, b"a", "16", "0.5"]),
)
_prose = st.text(max_size=12)
_axes = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(STILL, st.one_of(st.floats(-11, 11), st.integers(-10, 10), _junk))
)
_one_axis = st.builds(lambda axis, value: {axis: value}, st.sampled_from(sorted(STILL)), st.floats(-10, 10))
_shot = st.one_of(st.tuples(st.text(min_size=1, max_size=9), st.integers(1, 4)), st.tuples(_junk, _junk))
INPUTS = st.fixed_dictionaries(
    {},
    optional={
        "model_name": st.sampled_from(["kling-v1", "kling-v1-6", "kling-v2-5-turbo", "kling-v3"]),
        "prompt": _prose,
        "negative_prompt": _prose,
        "mode": st.sampled_from(["std", "pro"]),
        "aspect_ratio": st.sampled_from(["16:9", "9:16", "1:1"]),
        "duration": st.integers(1, 17),
        "sound": st.sampled_from(["on", "off"]),
        "cfg_scale": st.floats(-0.1, 1.1),
        "take": st.integers(0, 3),
        "watermark": st.booleans(),
        "callback_url": st.sampled_from(["", "https://a.example", "a.example"]),
        "external_task_id": st.text("ab-/ ", max_size=4),
    },
)
SPOILT = st.dictionaries(st.sampled_from(sorted(PLAIN)), _junk, max_size=1)
MOVES = st.one_of(
    st.none(),
    st.none(),
    st.tuples(st.sampled_from(["simple", "down_back"]), _one_axis),
    st.tuples(st.sampled_from(["simple", "forward_up", "spin", None]), _axes),
)
BOARDS = st.one_of(st.none(), st.dictionaries(st.integers(1, 7), _shot, max_size=4))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(INPUTS, SPOILT, MOVES, BOARDS)
def test_an_accepted_graph_sends_a_right_body_and_a_refused_one_nothing(
    graph: Graph, gateway: Sandbox, inputs: Any, spoilt: Any, move: Any, board: Any
):
    wired = {**inputs, **spoilt}
    if move:
        wired["camera_control"] = graph.camera(move[0], **move[1])
    if board is not None:
        shots = {f"shot_{number}": graph.shot(*shot) for number, shot in board.items()}
        wired["multi_shot"] = graph.storyboard(**shots)
    before = len(gateway.received)
    try:
        task_id, receipt = graph.submit(**wired)
    except graph.GraphError as error:
        if "was used before, for another request" in str(error):
            return
        *lines, last = str(error).splitlines()
        assert lines and last.startswith("The graph has ") and last.endswith("Nothing was sent and nothing was paid.")
        assert all(line.startswith("- Kling") and ": " in line and line.endswith((".", "here.")) for line in lines)
        str(error).encode("utf-8")
        assert len(gateway.received) == before
        return
    assert check(receipt["request"]) == []
    assert gateway.tasks[task_id].body == receipt["request"]
    # One POST at most, and none for what is known already.
    assert len(gateway.received) - before == (0 if receipt["reused"] else 1)
