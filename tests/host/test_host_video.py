"""From a prompt to a saved video in a real ComfyUI: the whole way, and every way to be stopped in the middle of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfyui_server as comfy
import pytest
from comfyui_server import ComfyUI, until
from conftest import KEY, ROOT
from graph import PLAIN

from nodes.sandbox import Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["comfyui_server"]

LONG = 1e6
"""Seconds that a task runs which is not to end before the test says so."""

_FRAMES = """
import av, sys
with av.open(sys.argv[1]) as video:
    print(sum(1 for _ in video.decode(video=0)), video.format.name)
"""


@pytest.fixture(autouse=True)
def calm(host_gateway: Sandbox) -> Iterator[None]:
    """The gateway is as fast as ever after each test."""
    usual = host_gateway.queued_for, host_gateway.runs_for
    yield
    host_gateway.clear_faults()
    host_gateway.queued_for, host_gateway.runs_for = usual


def graph(prompt: str, **changes: object) -> dict[str, dict[str, Any]]:
    """Text to video to a file, in API format: nodes 1, 2 and 3."""
    return {
        "1": {"class_type": "KlingText2Video", "inputs": {**PLAIN, "prompt": prompt, **changes}},
        "2": {"class_type": "KlingVideo", "inputs": {"task_id": ["1", 0], "timeout_minutes": 30}},
        "3": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["2", 0], "filename_prefix": "kling/test", "format": "auto", "codec": "auto"},
        },
    }


def saved(comfyui: ComfyUI, entry: dict[str, Any]) -> Path:
    """The file that SaveVideo wrote."""
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    [file] = entry["outputs"]["3"]["images"]
    return comfyui.directory / "output" / file["subfolder"] / file["filename"]


def frames(video: Path) -> int:
    """How many pictures a player would show, by the library that ComfyUI itself reads videos with."""
    python = os.environ.get("COMFYUI_PYTHON") or sys.executable
    said = subprocess.run([python, "-c", _FRAMES, video], check=True, capture_output=True, text=True)
    count, kind = said.stdout.split()
    assert "mp4" in kind
    return int(count)


def last_message(entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name, data = entry["status"]["messages"][-1]
    return name, data


def questions(gateway: Sandbox) -> int:
    return sum(request.method == "GET" and "/videos/" in request.path for request in gateway.received)


def test_a_prompt_becomes_a_saved_video_that_plays(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.runs_for = 2.5
    with comfyui.listen() as events:
        prompt_id = comfyui.queue(graph("A kite over a harbour"), events.client_id)
        events.until("execution_success", prompt_id=prompt_id)
    entry = comfyui.wait(prompt_id)
    assert frames(saved(comfyui, entry)) > 10
    lines = events.lines("2")
    assert any(line.startswith("processing, ") for line in lines)
    assert lines[-1].startswith("done: ")
    states = [data["nodes"]["2"] for name, data in events.seen if name == "progress_state" and "2" in data["nodes"]]
    moving = [state["value"] / state["max"] for state in states if state["state"] == "running" and state["max"] > 1]
    assert len(set(moving)) > 1
    assert moving == sorted(moving)
    assert "the key was sent to a result URL" not in host_gateway.warnings


def test_neither_history_nor_file_nor_log_tells_a_secret(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    entry = comfyui.run(graph("Secrets"))
    video = saved(comfyui, entry).read_bytes()
    assert b"KlingVideo" in video, "the video should carry the workflow"
    host = host_gateway.origin.removeprefix("http://")
    for told in (video.decode("latin-1"), json.dumps(comfyui.get("/history")), comfyui.log()):
        assert KEY not in told
        assert host not in told
    assert str(comfyui.directory) not in json.dumps(entry["outputs"])


def test_a_second_run_with_another_name_downloads_nothing_again(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    first = graph("Twice saved")
    one = saved(comfyui, comfyui.run(first))
    files = sum(request.path.startswith("/files/") for request in host_gateway.received)
    first["3"]["inputs"]["filename_prefix"] = "kling/again"
    two = saved(comfyui, comfyui.run(first))
    assert one != two
    assert frames(two) == frames(one)
    assert sum(request.path.startswith("/files/") for request in host_gateway.received) == files


def test_a_typed_id_will_do(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    comfyui.run(graph("By hand", external_task_id="by-hand-1"))
    typed = graph("")
    del typed["1"]
    typed["2"]["inputs"]["task_id"] = "by-hand-1"
    assert frames(saved(comfyui, comfyui.run(typed))) > 10


def test_cancel_in_mid_wait_ends_the_node_and_the_next_run_picks_the_task_up(
    comfyui: ComfyUI, host_gateway: Sandbox
) -> None:
    host_gateway.queued_for, host_gateway.runs_for = 0, LONG
    made = len(host_gateway.creates())
    with comfyui.listen() as events:
        prompt_id = comfyui.queue(graph("Cancelled in mid-wait"), events.client_id)
        while not events.until("progress_text", node="2")["text"].startswith("processing"):
            pass
        comfyui.interrupt()
        events.until("execution_interrupted", prompt_id=prompt_id)
    assert last_message(comfyui.wait(prompt_id))[0] == "execution_interrupted"
    assert "stopped. Run again to continue for free" in events.lines("2")[-1]
    host_gateway.runs_for = 0
    assert frames(saved(comfyui, comfyui.run(graph("Cancelled in mid-wait")))) > 10
    assert len(host_gateway.creates()) == made + 1


def test_cancel_during_the_download_ends_the_node_and_the_next_run_goes_on(
    comfyui: ComfyUI, host_gateway: Sandbox
) -> None:
    host_gateway.queued_for = host_gateway.runs_for = 0
    host_gateway.misbehave("download", "slow:100")
    with comfyui.listen() as events:
        prompt_id = comfyui.queue(graph("Cancelled in the download"), events.client_id)
        while not events.until("progress_text", node="2")["text"].startswith("downloading"):
            pass
        comfyui.interrupt()
        events.until("execution_interrupted", prompt_id=prompt_id)
    assert "Run again to continue the download" in events.lines("2")[-1]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_in_mid_wait_loses_nothing(end: str, comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.queued_for, host_gateway.runs_for = 0, LONG
    made, before = len(host_gateway.creates()), questions(host_gateway)
    comfyui.queue(graph(f"Restarted by {end}"))
    until(lambda: questions(host_gateway) > before)
    getattr(comfyui, end)()
    host_gateway.runs_for = 0
    comfyui.start()
    assert frames(saved(comfyui, comfyui.run(graph(f"Restarted by {end}")))) > 10
    assert len(host_gateway.creates()) == made + 1


def test_a_failing_sibling_ends_the_wait_and_loses_nothing(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.queued_for, host_gateway.runs_for = 0, LONG
    waiting = graph("Waits beside one that fails")
    broken = {"9": {"class_type": "KlingVideo", "inputs": {"task_id": "no-such-task", "timeout_minutes": 30}}}
    broken["8"] = {"class_type": "PreviewAny", "inputs": {"source": ["9", 1]}}
    made = len(host_gateway.creates())
    with comfyui.listen() as events:
        prompt_id = comfyui.queue(waiting | broken, events.client_id)
        while not events.until("progress_text", node="2")["text"].startswith("processing"):
            pass
        host_gateway.misbehave("query", *["gateway:forbidden"])
        events.until("execution_error", prompt_id=prompt_id)
    host_gateway.clear_faults()
    host_gateway.runs_for = 0
    assert frames(saved(comfyui, comfyui.run(waiting))) > 10
    assert len(host_gateway.creates()) == made + 1


def test_after_a_failed_task_the_same_graph_makes_a_new_one(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.fail_next()
    made = len(host_gateway.creates())
    name, error = last_message(comfyui.run(graph("Fails once")))
    assert name == "execution_error"
    assert error["exception_type"] == "kling.TaskFailed"
    assert "Failure to pass the risk control system" in error["exception_message"]
    assert "Run KlingText2Video again to make a new task" in error["exception_message"]
    assert frames(saved(comfyui, comfyui.run(graph("Fails once")))) > 10
    assert len(host_gateway.creates()) == made + 2


def test_an_id_that_cannot_be_one_is_refused_before_the_run(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    before = len(host_gateway.received)
    typed = graph("")
    del typed["1"]
    typed["2"]["inputs"]["task_id"] = "  "
    with pytest.raises(comfy.Refused) as refused:
        comfyui.queue(typed)
    [error] = refused.value.node_errors["2"]["errors"]
    assert "KlingVideo, task_id: is empty. Connect task_id of KlingText2Video" in error["details"]
    assert len(host_gateway.received) == before


def test_many_videos_are_waited_for_side_by_side(comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.runs_for = 3
    many: dict[str, dict[str, Any]] = {}
    for i in range(40):
        for node, made in graph(f"One of many, number {i}").items():
            inputs = {k: [f"{i}-{v[0]}", v[1]] if isinstance(v, list) else v for k, v in made["inputs"].items()}
            many[f"{i}-{node}"] = {**made, "inputs": inputs}
    started = time.monotonic()
    entry = comfyui.run(many)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    assert time.monotonic() - started < 60, "one after another they would take 120 s"
    assert len([output for output in entry["outputs"].values() if "images" in output]) == 40


# -- in the browser


def test_the_node_shows_how_far_it_is_and_the_video_plays(page: Page, comfyui: ComfyUI, host_gateway: Sandbox) -> None:
    host_gateway.queued_for, host_gateway.runs_for = 0, LONG
    example = ROOT / "example_workflows" / "text_to_video_to_file.json"
    comfy.load(page, json.loads(example.read_text(encoding="utf-8")))
    prompt_id = comfy.press_run(page)
    page.get_by_text("processing, ").first.wait_for()
    picture(page, "in_progress")
    host_gateway.runs_for = 0
    assert comfyui.wait(prompt_id)["status"]["status_str"] == "success"
    page.locator("video").first.wait_for()
    picture(page, "done")


def picture(page: Page, name: str) -> None:
    """Keep a screenshot, where somebody wants to look at them."""
    if folder := os.environ.get("KLING_SCREENSHOTS"):
        page.wait_for_timeout(3000)
        page.screenshot(path=Path(folder) / f"video_{name}.png")
