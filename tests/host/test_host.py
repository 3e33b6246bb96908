"""The pack inside a real ComfyUI, driven over its API and in a real browser: see comfyui_server.py."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import comfyui_server as comfy
import pytest
from comfyui_server import PACK, ComfyUI, until
from conftest import KEY, ROOT
from example_bodies import EXAMPLES
from graph import PLAIN

from nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from nodes.sandbox import Sandbox
from nodes.sandbox.wire import Received

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["comfyui_server"]

Graph = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def calm(host_gateway: Sandbox) -> Iterator[None]:
    """The gateway is in a good mood again after each test."""
    yield
    host_gateway.clear_faults()
    host_gateway.latency = 0


# -- what ComfyUI makes of the pack


def test_loading_the_pack_adds_one_line_to_the_log_and_no_complaint(comfyui: ComfyUI) -> None:
    ours = [line for line in comfyui.log().splitlines() if "kling" in line.lower()]
    assert len(ours) == 1
    assert re.search(rf"seconds: .*{PACK}$", ours[0])


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_object_info_says_what_the_class_says(comfyui: ComfyUI, name: str) -> None:
    node: Any = NODE_CLASS_MAPPINGS[name]
    info = comfyui.get(f"/object_info/{name}")[name]
    inputs = node.INPUT_TYPES()
    assert info["input"] == json.loads(json.dumps(inputs))
    assert info["input_order"] == {kind: list(names) for kind, names in inputs.items()}
    assert (info["output"], info["output_name"]) == (list(node.RETURN_TYPES), list(node.RETURN_NAMES))
    assert info["output_tooltips"] == list(node.OUTPUT_TOOLTIPS)
    assert info["display_name"] == NODE_DISPLAY_NAME_MAPPINGS[name]
    assert info["description"] == node.DESCRIPTION != ""
    assert info["category"] == "Kling"
    assert info["output_node"] is getattr(node, "OUTPUT_NODE", False)
    assert info["python_module"] == f"custom_nodes.{PACK}"


def test_templates_are_offered_with_a_picture_each(comfyui: ComfyUI) -> None:
    offered = comfyui.get("/api/workflow_templates")[PACK]
    assert {*EXAMPLES} <= {*offered}
    for name in offered:
        served = comfyui.read(f"/api/workflow_templates/{PACK}/{name}.json")
        assert json.loads(served) == example(name)
        assert comfyui.read(f"/api/workflow_templates/{PACK}/{name}.jpg").startswith(b"\xff\xd8")


# -- examples in the browser


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_opens_runs_and_is_left_as_it_was(
    page: Page, comfyui: ComfyUI, host_gateway: Sandbox, name: str
) -> None:
    saved = example(name)
    saved_as = f"my_{name}"
    folder = comfyui.directory / "user" / "default" / "workflows"
    folder.mkdir(exist_ok=True)
    (folder / f"{saved_as}.json").write_text(json.dumps(saved), encoding="utf-8")
    before = len(comfy.console(page))
    page.evaluate(
        """async ([workflow, name]) => {
            await window.app.extensionManager.workflow.syncWorkflows()
            await window.app.loadGraphData(workflow, true, true, name)
        }""",
        [saved, saved_as],
    )
    assert complaints(page, before) == []
    opened = comfy.exported(page)
    assert without_version(opened) == without_version(saved)

    entry = comfyui.wait(comfy.press_run(page))

    assert entry["status"]["status_str"] == "success"
    body = host_gateway.creates()[-1]
    assert re.fullmatch(r"comfyui-[0-9a-f]{32}", body.pop("external_task_id"))
    assert body == EXAMPLES[name]
    task = list(host_gateway.tasks.values())[-1]
    page.get_by_text(task.task_id).first.wait_for()
    if "save" in {node["type"][:4].lower() for node in saved["nodes"]}:
        [video] = [output["images"][0] for output in entry["outputs"].values() if "images" in output]
        assert (comfyui.directory / "output" / video["subfolder"] / video["filename"]).stat().st_size > 1000
    assert complaints(page, before) == []
    # What the run showed must neither be saved nor ask to be saved.
    assert comfy.exported(page) == opened
    assert page.evaluate(
        """() => {
            const open = window.app.extensionManager.workflow.activeWorkflow
            open.changeTracker.checkState()
            return [open.path, open.isModified]
        }"""
    ) == [f"workflows/{saved_as}.json", False]


def test_braces_in_a_prompt_arrive_as_they_were_written(page: Page, comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    prompt = "A {red|blue} kite\nover the sea // at noon"
    comfy.load(page, changed(example("text_to_video"), prompt=prompt))
    comfyui.wait(comfy.press_run(page))
    assert host_gateway.creates()[-1]["prompt"] == prompt


def test_neither_history_nor_image_nor_log_tells_a_secret(page: Page, comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    comfy.load(page, changed(example("multi_shot"), negative_prompt="secrets"))
    page.evaluate("""() => {
        const [image, save] = ['EmptyImage', 'SaveImage'].map(type => window.LiteGraph.createNode(type))
        window.app.graph.add(image)
        window.app.graph.add(save)
        image.connect(0, save, 0)
    }""")
    prompt_id = comfy.press_run(page)
    entry = comfyui.wait(prompt_id)
    [image] = [output["images"][0] for output in entry["outputs"].values() if "images" in output]
    picture = (comfyui.directory / "output" / image["filename"]).read_bytes()
    assert b"KlingMultiShot" in picture, "the image should carry the workflow"
    history = json.dumps(comfyui.get("/history"))
    assert prompt_id in history
    host = host_gateway.origin.removeprefix("http://")
    for told in (picture.decode("latin-1"), history):
        assert KEY not in told
        assert host not in told
        assert str(comfyui.directory) not in told
    assert KEY not in comfyui.log()
    assert host not in comfyui.log()


def test_the_page_names_every_problem_of_a_graph(page: Page, host_gateway: Sandbox) -> None:
    comfy.load(page, changed(example("text_to_video"), model_name="kling-v1", prompt=" ", sound="on", duration=7))
    before = len(host_gateway.received)
    with pytest.raises(comfy.Refused):
        comfy.press_run(page)
    page.get_by_text("3 problems").first.wait_for()
    assert len(host_gateway.received) == before


# -- validation before anything runs


def test_a_graph_with_problems_is_refused_with_one_error_that_names_all(
    comfyui: ComfyUI, host_gateway: Sandbox
) -> None:
    before = len(host_gateway.received)
    with pytest.raises(comfy.Refused) as refused:
        comfyui.queue({"7": text2video(" ", model_name="kling-v1", sound="on", duration=7)})
    [error] = refused.value.node_errors["7"]["errors"]
    for named in ("prompt", "sound", "duration"):
        assert f"KlingText2Video, {named}: " in error["details"]
    assert len(host_gateway.received) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("model_name", "kling-v9"), ("mode", "4k"), ("aspect_ratio", "2:1"), ("sound", "loud")],
        *[("duration", 99), ("duration", 2), ("cfg_scale", 1.5), ("take", 0)],
        *[("callback_url", "ftp://example.org"), ("external_task_id", "a b"), ("negative_prompt", "x" * 2501)],
    ],
)
def test_a_value_out_of_range_is_refused_before_it_runs(
    comfyui: ComfyUI, host_gateway: Sandbox, name: str, value: object
) -> None:
    before = len(host_gateway.received)
    with pytest.raises(comfy.Refused) as refused:
        comfyui.queue({"7": text2video("A kite", **{name: value})})
    assert name in json.dumps(refused.value.node_errors["7"]["errors"])
    assert len(host_gateway.received) == before


def test_a_blank_shot_is_refused_once_and_by_name(comfyui: ComfyUI) -> None:
    graph = storyboard(("A kite", 3), (" ", 3))
    with pytest.raises(comfy.Refused) as refused:
        comfyui.queue(graph)
    [error] = refused.value.node_errors["shot2"]["errors"]
    assert "prompt" in error["details"]


def test_a_problem_between_nodes_stops_the_run_before_anything_is_sent(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    before = len(host_gateway.received)
    entry = comfyui.run(storyboard(("A kite", 9), ("It rises", 9)))
    error = failure(entry)
    assert error["node_type"] == "KlingText2Video"
    assert "18" in error["exception_message"]
    assert len(host_gateway.received) == before


# -- submitting


def test_the_node_shows_what_it_does_and_what_came_of_it(comfyui: ComfyUI) -> None:
    graph = {"7": text2video("A kite over a harbour")}
    with comfyui.listen() as events:
        prompt_id = comfyui.queue(graph, events.client_id)
        shown = events.until("executed", node="7", prompt_id=prompt_id)["output"]["kling"][0]
        events.until("execution_success", prompt_id=prompt_id)
    first, *_, last = events.lines("7")
    assert first == "sending"
    assert shown["task_id"] in last
    assert shown["reused"] is False


def test_another_take_is_another_task_and_the_same_take_is_not(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    made = []
    for take in (1, 2, 1):
        entry = comfyui.run({"7": text2video("A kite over dunes", take=take)})
        made.append(submission(entry, "7"))
    assert made[0]["task_id"] == made[2]["task_id"] != made[1]["task_id"]
    assert [one["reused"] for one in made] == [False, False, True]


def test_two_nodes_with_the_same_request_make_one_task(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.latency = 0.5
    before = len(posts(host_gateway))
    entry = comfyui.run({"7": text2video("Twins"), "8": text2video("Twins")})
    assert submission(entry, "7")["task_id"] == submission(entry, "8")["task_id"]
    assert len(posts(host_gateway)) == before + 1


def test_many_nodes_submit_side_by_side(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.latency = 4
    graph = {str(i): text2video(f"Kite number {i}") for i in range(32)}
    started = time.monotonic()
    entry = comfyui.run(graph)
    assert time.monotonic() - started < 60, "one after another they would take 128 s"
    assert len({submission(entry, node)["task_id"] for node in graph}) == 32


def test_a_refused_sibling_loses_no_task(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    graph = {str(i): text2video(f"Sibling {i}") for i in range(8)}
    before = len(posts(host_gateway))
    # The answers to the others are still under way when one is refused and ComfyUI ends the run.
    host_gateway.latency = 0.5
    host_gateway.misbehave("create", "code:1301", *["slow:8"] * 7)
    entry = comfyui.run(graph)
    assert "1301" in failure(entry)["exception_message"]
    made = {request.task_id for request in posts(host_gateway)[before:] if request.task_id}
    assert made
    assert not made <= recorded(comfyui), "the answers should still be under way"
    until(lambda: made <= recorded(comfyui))

    again = comfyui.run(graph)

    results = [submission(again, node) for node in graph]
    assert made <= {one["task_id"] for one in results if one["reused"]}
    tasks = [request for request in posts(host_gateway)[before:] if request.task_id]
    assert {one["task_id"] for one in results} == {request.task_id for request in tasks}
    assert len(tasks) == len({request.json["external_task_id"] for request in tasks}) == 8, "each was paid once"


def test_cancel_while_the_request_is_under_way_ends_the_node_and_keeps_the_task(
    comfyui: ComfyUI, host_gateway: Sandbox
) -> None:
    graph = {"7": text2video("Cancelled in flight")}
    before = len(posts(host_gateway))
    host_gateway.latency = 12
    with comfyui.listen() as events:
        prompt_id = comfyui.queue(graph, events.client_id)
        until(lambda: len(posts(host_gateway)) > before)
        comfyui.interrupt()
        events.until("execution_interrupted", prompt_id=prompt_id)
    assert ended_by(comfyui.wait(prompt_id)) == "execution_interrupted"
    [task_id] = [request.task_id for request in posts(host_gateway)[before:]]
    assert task_id not in recorded(comfyui), "the answer should still be under way"
    until(lambda: task_id in recorded(comfyui))

    again = comfyui.run(graph)

    assert submission(again, "7")["task_id"] == task_id
    assert submission(again, "7")["reused"] is True
    assert len(posts(host_gateway)) == before + 1


def test_running_again_at_once_after_cancel_waits_for_the_first_answer(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    graph = {"7": text2video("Cancelled and run again")}
    before = len(posts(host_gateway))
    host_gateway.latency = 2
    prompt_id = comfyui.queue(graph)
    until(lambda: len(posts(host_gateway)) > before)
    comfyui.interrupt()
    assert ended_by(comfyui.wait(prompt_id)) == "execution_interrupted"
    again = comfyui.run(graph)
    [sent] = posts(host_gateway)[before:]
    assert submission(again, "7")["task_id"] == sent.task_id


def test_cancel_while_it_waits_for_a_slot_ends_the_node_and_sends_no_more(
    comfyui: ComfyUI, host_gateway: Sandbox
) -> None:
    graph = {"7": text2video("Patience")}
    before = len(posts(host_gateway))
    host_gateway.misbehave("create", "code:1303:retry-after=30")
    with comfyui.listen() as events:
        prompt_id = comfyui.queue(graph, events.client_id)
        while "slot" not in events.until("progress_text", node="7")["text"]:
            pass
        pressed = time.monotonic()
        comfyui.interrupt()
        events.until("execution_interrupted", prompt_id=prompt_id)
    assert time.monotonic() - pressed < 20, "the gateway asks to wait 30 s"
    assert ended_by(comfyui.wait(prompt_id)) == "execution_interrupted"
    assert len(posts(host_gateway)) == before + 1
    again = comfyui.run(graph)
    assert submission(again, "7")["reused"] is False
    assert len(posts(host_gateway)) == before + 2


def test_a_crash_in_mid_request_loses_no_task(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    graph = {"7": text2video("Killed in flight")}
    before = len(posts(host_gateway))
    host_gateway.latency = 60
    comfyui.queue(graph)
    until(lambda: len(posts(host_gateway)) > before)
    comfyui.kill()
    host_gateway.latency = 0
    comfyui.start()
    again = comfyui.run(graph)
    [sent] = posts(host_gateway)[before:]
    assert submission(again, "7")["task_id"] == sent.task_id
    assert sent.task_id in recorded(comfyui)


# -- graphs


def text2video(prompt: str, **changes: object) -> dict[str, Any]:
    return {"class_type": "KlingText2Video", "inputs": {**PLAIN, "prompt": prompt, **changes}}


def storyboard(*shots: tuple[str, int]) -> Graph:
    made: Graph = {
        f"shot{i}": {"class_type": "KlingShot", "inputs": {"prompt": prompt, "duration": seconds}}
        for i, (prompt, seconds) in enumerate(shots, 1)
    }
    wires = {f"shot_{i}": [f"shot{i}", 0] for i, _ in enumerate(shots, 1)}
    made["multi"] = {"class_type": "KlingMultiShot", "inputs": wires}
    made["video"] = text2video("", multi_shot=["multi", 0])
    return made


def example(name: str) -> dict[str, Any]:
    text = (ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def changed(workflow: dict[str, Any], **inputs: object) -> dict[str, Any]:
    """The workflow with other values in its KlingText2Video."""
    [node] = [node for node in workflow["nodes"] if node["type"] == "KlingText2Video"]
    names = list(NODE_CLASS_MAPPINGS["KlingText2Video"].INPUT_TYPES()["required"])  # type: ignore[attr-defined]
    for name, value in inputs.items():
        node["widgets_values"][names.index(name)] = value
    return workflow


def without_version(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow without what front ends of different versions write differently."""
    nodes = []
    for node in workflow["nodes"]:
        kept = {"widgets_values": [], **node}
        kept.pop("widgets_values_named", None)
        kept["properties"] = {k: v for k, v in node["properties"].items() if k != "Node name for S&R"}
        # ComfyUI's own nodes get other widgets with its versions; ours must not.
        nodes.append(kept if node["type"].startswith("Kling") else {name: node[name] for name in ("id", "type")})
    extra = {k: v for k, v in workflow["extra"].items() if k != "frontendVersion"}
    return {**workflow, "nodes": nodes, "extra": extra}


# -- answers


def posts(gateway: Sandbox) -> list[Received]:
    return [request for request in gateway.received if request.method == "POST"]


def submission(entry: dict[str, Any], node: str) -> dict[str, Any]:
    """What a KlingText2Video showed after the run."""
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    [shown] = entry["outputs"][node]["kling"]
    return dict(shown)


def ended_by(entry: dict[str, Any]) -> str:
    """The name of the last thing that happened to a prompt."""
    return str(entry["status"]["messages"][-1][0])


def failure(entry: dict[str, Any]) -> dict[str, Any]:
    name, error = entry["status"]["messages"][-1]
    assert name == "execution_error"
    assert KEY not in json.dumps(error)
    return dict(error)


def recorded(comfyui: ComfyUI) -> set[str]:
    """The task_ids in the ledger."""
    with closing(sqlite3.connect(f"{(comfyui.state_dir / 'ledger.db').as_uri()}?mode=ro", uri=True)) as ledger:
        return {row[0] for row in ledger.execute("SELECT task_id FROM submissions WHERE state = 'accepted'")}


def complaints(page: Page, before: int) -> list[str]:
    """Warnings and errors in the console from then on.

    Two are the host's own: a new front end asks an old server for account, and looks up the models of the first graph.
    """
    lines = [line for line in comfy.console(page)[before:] if line.startswith(("warning", "error"))]
    return [line for line in lines if not any(known in line for known in ("Jobs API", "/api/jobs", "huggingface.co"))]
