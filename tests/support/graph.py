"""A graph as ComfyUI runs it: nodes made from their classes, fed with what widgets and wires hand over."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from types import ModuleType
from typing import Any

PLAIN: dict[str, Any] = {
    "model_name": "kling-v3",
    "prompt": "A paper boat on a river.",
    "negative_prompt": "",
    "mode": "std",
    "aspect_ratio": "16:9",
    "duration": 5,
    "sound": "off",
    "cfg_scale": 0.5,
    "take": 1,
    "watermark": False,
    "callback_url": "",
    "external_task_id": "",
}
"""What the widgets of a fresh KlingText2Video hold, and a prompt."""

STILL = dict.fromkeys(("horizontal", "vertical", "pan", "tilt", "roll", "zoom"), 0.0)


class Graph:
    """Runs nodes of a loaded pack, one at a time."""

    def __init__(self, pack: ModuleType) -> None:
        self.classes = pack.NODE_CLASS_MAPPINGS
        package = self.classes["KlingText2Video"].__module__.rpartition(".")[0]
        # The pack's own class: each way of loading it makes others.
        self.GraphError: type[Exception] = sys.modules[f"{package}.api.errors"].GraphError

    def run(self, node: str, **inputs: Any) -> Any:
        """What the function of a node gives back."""
        made = self.classes[node]()
        given = getattr(made, made.FUNCTION)(**inputs)
        return asyncio.run(given) if inspect.iscoroutine(given) else given

    def shot(self, prompt: Any = "A wave.", duration: Any = 5) -> Any:
        return self.run("KlingShot", prompt=prompt, duration=duration)[0]

    def storyboard(self, *shots: Any, **sockets: Any) -> Any:
        wired = {f"shot_{number}": shot for number, shot in enumerate(shots, 1)}
        return self.run("KlingMultiShot", **wired, **sockets)[0]

    def camera(self, type: Any = "simple", **axes: Any) -> Any:
        return self.run("KlingCameraControl", type=type, **{**STILL, **axes})[0]

    def submit(self, **changes: Any) -> tuple[str, dict[str, Any]]:
        """The task_id and the receipt of a plain graph with some inputs changed."""
        task_id, receipt = self.run("KlingText2Video", **{**PLAIN, **changes})["result"]
        return task_id, json.loads(receipt)

    def problems(self, **changes: Any) -> list[str]:
        """The lines above the last one of the error that a graph is refused with."""
        try:
            self.submit(**changes)
        except self.GraphError as error:
            *lines, last = str(error).splitlines()
            number = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
            assert last == f"The graph has {number}. Nothing was sent and nothing was paid."
            return lines
        raise AssertionError("the graph was accepted")
