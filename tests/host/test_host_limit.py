"""The default limit in a real ComfyUI: sixty nodes, a list of sixty prompts, and the rest after it was raised."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from comfyui_server import ComfyUI
from graph import PLAIN

from nodes.sandbox import Sandbox

pytest_plugins = ["comfyui_server"]

PROMPTS = """
class SixtyPrompts:
    CATEGORY = "test"
    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "prompts"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def prompts(self):
        return ([f"Prompt {n}." for n in range(60)],)


NODE_CLASS_MAPPINGS = {"SixtyPrompts": SixtyPrompts}
"""
"""Another pack: whatever takes its list runs once for each entry."""


class WithPrompts(ComfyUI):
    def start(self) -> None:
        (self.directory / "custom_nodes" / "sixty_prompts.py").write_text(PROMPTS, encoding="utf-8")
        super().start()


def sender(**changes: Any) -> dict[str, Any]:
    return {"class_type": "KlingText2Video", "inputs": {**PLAIN, **changes}}


GRAPHS: dict[str, dict[str, Any]] = {
    "sixty nodes": {str(n): sender(prompt=f"Node {n}.") for n in range(60)},
    "a list": {"list": {"class_type": "SixtyPrompts", "inputs": {}}, "node": sender(prompt=["list", 0])},
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_twenty_of_sixty_are_made_and_the_rest_once_the_limit_is_raised(
    host_gateway: Sandbox, graph: dict[str, Any]
) -> None:
    before = set(host_gateway.tasks)
    with WithPrompts(host_gateway, {"KLING_MAX_TASKS_PER_HOUR": ""}) as comfyui:
        refused = comfyui.run(graph)["status"]
        assert refused["status_str"] == "error"
        (error,) = [data for name, data in refused["messages"] if name == "execution_error"]
        assert error["exception_type"] == "kling.LimitError"
        assert error["exception_message"].startswith("The limit of 20 new tasks in 60 minutes is reached")
        first = set(host_gateway.tasks) - before
        assert len(first) == 20
        raised = {"tasks_per_hour": 60, "units_per_day": 0}
        requests.post(f"{comfyui.url}/kling/limits", json=raised, timeout=30).raise_for_status()
        assert comfyui.run(graph)["status"]["status_str"] == "success"
    # Sixty in all: none of the first twenty was paid again.
    made = [task for task_id, task in host_gateway.tasks.items() if task_id not in before]
    assert len(made) == 60 == len({task.body["prompt"] for task in made})
