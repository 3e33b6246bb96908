"""KlingVideo as a node: its face, the ids that it takes, and the way from a prompt to a file with the real classes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import KEY
from environment import Environment
from fault_tools import Cancelled
from graph import PLAIN
from watching import Watcher, asked

from nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from nodes.api.errors import GraphError, SetupError, TaskFailed, UnavailableError
from nodes.host import use
from nodes.sandbox import Sandbox
from nodes.text2video import KlingText2Video
from nodes.video import KlingVideo


@pytest.fixture
def gateway(environment: Environment) -> Iterator[Sandbox]:
    """A gateway whose tasks are done at once, with the pack pointed at it."""
    with Sandbox(queued_for=0, runs_for=0) as running:
        environment.set("KLING_BASE_URL", running.base_url)
        environment.set("KLING_API_KEY", KEY)
        yield running


@pytest.fixture
def host(tmp_path: Path) -> Watcher:
    return Watcher(tmp_path / "temp")


def submit(host: Watcher, **changes: Any) -> str:
    with use(host):
        return str(asyncio.run(KlingText2Video().submit(**(PLAIN | changes)))["result"][0])


def fetch(host: Watcher, task_id: Any, minutes: Any = 30) -> dict[str, Any]:
    with use(host):
        return dict(asyncio.run(KlingVideo().fetch(task_id, minutes)))


def clip(gateway: Sandbox, task_id: str) -> bytes:
    return gateway.file_part(task_id, 0, gateway.file_size(task_id))


def test_its_inputs_are_in_the_order_that_saved_workflows_rely_on() -> None:
    inputs = KlingVideo.INPUT_TYPES()
    assert list(inputs["required"]) == ["task_id", "timeout_minutes"]
    assert inputs["required"]["task_id"][0] == "STRING"
    assert not inputs["required"]["task_id"][1].get("forceInput")
    limits = inputs["required"]["timeout_minutes"][1]
    assert (limits["default"], limits["min"], limits["max"]) == (30, 1, 1440)
    assert inputs["hidden"] == {"unique_id": "UNIQUE_ID"}
    assert (KlingVideo.RETURN_TYPES, KlingVideo.RETURN_NAMES) == (("VIDEO", "STRING"), ("video", "url"))


def test_it_says_what_it_is(pack: ModuleType) -> None:
    assert pack.NODE_CLASS_MAPPINGS["KlingVideo"].CATEGORY == "Kling"
    assert NODE_CLASS_MAPPINGS["KlingVideo"] is KlingVideo
    assert NODE_DISPLAY_NAME_MAPPINGS["KlingVideo"] == "Kling Gateway Video"
    assert KlingVideo.DESCRIPTION.startswith("Waits until a Kling task is done")
    assert all(len(tooltip) > 20 for tooltip in KlingVideo.OUTPUT_TOOLTIPS)
    assert all(len(entry[1]["tooltip"]) > 20 for entry in KlingVideo.INPUT_TYPES()["required"].values())


def test_from_a_prompt_to_a_file(gateway: Sandbox, host: Watcher) -> None:
    task_id = submit(host, model_name="kling-v1")  # the one that heeds every field
    returned = fetch(host, task_id)
    path, url = returned["result"]
    assert path.read_bytes() == clip(gateway, task_id)
    assert path.parent == host.temp_dir()
    assert url == f"{gateway.origin}/files/{task_id}.mp4"
    assert host.lines[-1] == f"done: {task_id}, 0.0 MB, 1 units charged"
    assert host.bar[-1] == 1
    assert not gateway.warnings


def test_what_goes_into_the_history_has_no_link(gateway: Sandbox, host: Watcher) -> None:
    task_id = submit(host)
    assert fetch(host, task_id)["ui"] == {"kling": [{"task_id": task_id, "charged": 3.0}]}


@pytest.mark.parametrize("kind", ["base64_id", "prefixed_id", "task_id"])
def test_ids_are_opaque(kind: str, gateway: Sandbox, host: Watcher) -> None:
    gateway.misbehave("create", f"shape:{kind}")
    task_id = submit(host)
    path, _ = fetch(host, f"  {task_id}\n")["result"]
    assert path.read_bytes() == clip(gateway, task_id)


def test_an_external_task_id_will_do(gateway: Sandbox, host: Watcher) -> None:
    task_id = submit(host, external_task_id="my-own-1")
    path, _ = fetch(host, "my-own-1")["result"]
    assert path == fetch(host, task_id)["result"][0]


@pytest.mark.parametrize(
    ("task_id", "words"),
    [
        ("", "is empty. Connect task_id of KlingText2Video"),
        (" \t\n ", "is empty"),
        (None, "is empty"),
        ("x" * 513, "has 513 characters; at most 512 are allowed"),
        ("123\n456", "control character at position 4"),
        ("12\x003", "control character at position 3"),
        ("12\ud800", "control character at position 3"),
        ("..", "only dots"),
    ],
)
def test_what_cannot_be_an_id_is_refused_before_the_run_and_in_it(
    task_id: Any, words: str, gateway: Sandbox, host: Watcher
) -> None:
    with pytest.raises(GraphError, match=r"^KlingVideo, task_id: ") as caught:
        fetch(host, task_id)
    assert words in str(caught.value)
    if task_id is not None:
        assert KlingVideo.VALIDATE_INPUTS(task_id) == str(caught.value)
    assert gateway.received == []


@pytest.mark.parametrize("task_id", [None, "827996385395363846", "x" * 512, "Cj/1+A==", "任务 1"])
def test_other_texts_and_wires_pass(task_id: str | None) -> None:
    assert KlingVideo.VALIDATE_INPUTS(task_id) is True


def test_after_a_failed_task_the_same_graph_makes_a_new_one(gateway: Sandbox, host: Watcher) -> None:
    gateway.fail_next("Failure to pass the risk control system")
    failed = submit(host)
    cached = KlingText2Video.IS_CHANGED(**PLAIN)
    assert submit(host) == failed
    assert KlingText2Video.IS_CHANGED(**PLAIN) == cached
    with pytest.raises(TaskFailed, match="Failure to pass the risk control system"):
        fetch(host, failed)
    # ComfyUI sees another value, so it runs KlingText2Video anew in place of handing out the id that failed.
    assert KlingText2Video.IS_CHANGED(**PLAIN) != cached
    new = submit(host)
    assert new != failed
    assert fetch(host, new)["result"][0].read_bytes() == clip(gateway, new)
    assert len(gateway.creates()) == 2


def test_at_the_end_of_its_time_it_names_the_task_and_the_next_run_takes_it_up(
    environment: Environment, host: Watcher
) -> None:
    with Sandbox(queued_for=0, runs_for=1e9) as slow:
        environment.set("KLING_BASE_URL", slow.base_url)
        environment.set("KLING_API_KEY", KEY)
        task_id = submit(host)
        with pytest.raises(UnavailableError, match=r"No video after 0\.001 min") as caught:
            fetch(host, task_id, minutes=0.001)
        assert task_id in str(caught.value)
        slow.runs_for = 0
        assert submit(host) == task_id
        assert fetch(host, task_id)["result"][0].read_bytes() == clip(slow, task_id)
        assert len(slow.creates()) == 1


def test_cancel_ends_it_with_the_hosts_own_interrupt(gateway: Sandbox, tmp_path: Path) -> None:
    host = Watcher(tmp_path)
    task_id = submit(host)
    gateway.misbehave("query", "hang")
    with pytest.raises(Cancelled):
        fetch(Watcher(tmp_path, lambda watcher: bool(asked(gateway))), task_id)


def test_a_wrong_limit_is_told_before_the_waiting(gateway: Sandbox, host: Watcher, environment: Environment) -> None:
    environment.set("KLING_MAX_VIDEO_MB", "two")
    with pytest.raises(SetupError, match="KLING_MAX_VIDEO_MB"):
        fetch(host, "1")
    assert gateway.received == []


def test_without_a_key_it_says_how_to_set_one(gateway: Sandbox, host: Watcher, environment: Environment) -> None:
    environment.unset("KLING_API_KEY")
    with pytest.raises(SetupError, match="No API key is set"):
        fetch(host, "1")
