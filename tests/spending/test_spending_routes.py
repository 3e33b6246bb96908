"""The routes of limits, spending and rehearsal, over real HTTP."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from environment import Environment
from graph import PLAIN, Graph
from served import call, serving

from nodes import NODE_CLASS_MAPPINGS
from nodes.routes import add_routes
from nodes.sandbox import Sandbox

pytest_plugins = ["served"]


@pytest.fixture(autouse=True)
def owner(environment: Environment) -> None:
    environment.unset("KLING_MAX_TASKS_PER_HOUR")


def sender(**changes: Any) -> dict[str, Any]:
    return {"class_type": "KlingText2Video", "inputs": {**PLAIN, **changes}}


def test_limits_are_read_and_saved(server: str, directory: Path, environment: Environment) -> None:
    assert call(server, "GET", "/kling/limits").json() == {
        "tasks_per_hour": 20,
        "units_per_day": 0,
        "environment": [],
    }
    saved = call(server, "POST", "/kling/limits", {"tasks_per_hour": 3, "units_per_day": 40})
    assert saved.json() == {"tasks_per_hour": 3, "units_per_day": 40, "environment": []}
    assert json.loads((directory / "limits.json").read_text(encoding="utf-8"))["tasks_per_hour"] == 3
    environment.set("KLING_MAX_TASKS_PER_HOUR", "9")
    told = call(server, "GET", "/kling/limits").json()
    assert (told["tasks_per_hour"], told["environment"]) == (9, ["KLING_MAX_TASKS_PER_HOUR"])


@pytest.mark.parametrize("body", [{}, {"tasks_per_hour": -1, "units_per_day": 0}, {"tasks_per_hour": "x"}, [], "x"])
def test_what_cannot_be_a_limit_is_refused(server: str, directory: Path, body: object) -> None:
    answer = call(server, "POST", "/kling/limits", body)
    assert answer.status_code == 400 and answer.json()["error"]
    assert not (directory / "limits.json").exists()


@pytest.mark.parametrize("path", ["/kling/limits", "/kling/spending", "/kling/rehearsal"])
def test_other_websites_may_not(server: str, path: str) -> None:
    strange = {"Origin": "https://evil.example"}
    for method in ("POST",) if path.endswith("rehearsal") else ("GET",):
        assert call(server, method, path, headers=strange).status_code == 403


def test_what_was_spent_is_told(server: str, gateway: Sandbox, pack: Any, directory: Path) -> None:
    graph = Graph(pack)
    task_id, _ = graph.submit()
    graph.run("KlingVideo", task_id=task_id, timeout_minutes=1)
    told = call(server, "GET", "/kling/spending").json()
    assert (told["tasks"], told["tasks_per_hour"], told["units"]) == (1, 20, None)
    paid = {"model_name": "kling-v3", "mode": "std", "sound": "off", "seconds": 5, "units": 3}
    assert told["last_paid"] == [paid]


def test_a_run_is_rehearsed_without_a_request(server: str, gateway: Sandbox, pack: Any) -> None:
    Graph(pack).submit()
    before = len(gateway.received)
    shot = {"class_type": "KlingShot", "inputs": {"prompt": "A wave.", "duration": 12}}
    board = {"class_type": "KlingMultiShot", "inputs": {"shot_1": ["5", 0]}}
    prompt = {
        "1": sender(),
        "2": sender(take=2),
        "3": sender(prompt=["9", 0]),
        "4": sender(multi_shot=["6", 0]),
        "5": shot,
        "6": board,
        "9": {"class_type": "SomebodyElses", "inputs": {}},
    }
    told = call(server, "POST", "/kling/rehearsal", {"prompt": {k: v for k, v in prompt.items() if k not in "39"}})
    assert told.json() == {"new": 2, "reused": 1, "units": 10.2, "unsure": 0}
    # One node that cannot be looked at makes all of them unsure: mistakes are found for the whole prompt.
    assert call(server, "POST", "/kling/rehearsal", {"prompt": prompt}).json()["unsure"] == 4
    assert call(server, "POST", "/kling/rehearsal", {"prompt": {}}).json()["unsure"] == 0
    assert call(server, "POST", "/kling/rehearsal", {"prompt": []}).status_code == 400
    assert len(gateway.received) == before


def test_a_rehearsal_leaves_the_event_loop_of_the_server_free(gateway: Sandbox, directory: Path) -> None:
    ran_in = []

    class Probe:
        RETURN_TYPES = ("STRING",)
        FUNCTION = "run"

        @classmethod
        def INPUT_TYPES(cls) -> dict[str, Any]:
            return {"required": {}}

        def run(self) -> tuple[str]:
            ran_in.append(threading.current_thread().name)
            return ("A wave.",)

    catalogue = {**NODE_CLASS_MAPPINGS, "Probe": Probe}
    prompt = {"1": {"class_type": "Probe", "inputs": {}}, "2": sender(prompt=["1", 0])}
    with serving(lambda routes: add_routes(routes, lambda: directory, catalogue)) as server:
        told = call(server, "POST", "/kling/rehearsal", {"prompt": prompt}).json()
    assert (told["new"], told["unsure"]) == (1, 0)
    assert [name.rpartition("_")[0] for name in ran_in] == ["kling-route"]
