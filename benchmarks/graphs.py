"""Graphs of many tasks, and the headless runner to run them."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Mapping
from typing import Any

from nodes import NODE_CLASS_MAPPINGS, host, workflow
from nodes.workflow.run import Results, run

INPUTS: dict[str, Any] = {
    "model_name": "kling-v3",
    "prompt": "A fox runs through fresh snow at dawn, seen from above, long shadows, calm",
    "negative_prompt": "text, blur",
    "mode": "std",
    "aspect_ratio": "16:9",
    "duration": 5,
    "sound": "off",
    "cfg_scale": 0.5,
    "watermark": False,
    "callback_url": "",
    "external_task_id": "",
}

_takes = itertools.count(1)


def inputs() -> dict[str, Any]:
    """The inputs of a KlingText2Video that nobody has run before."""
    return {**INPUTS, "take": next(_takes)}


Graph = dict[str, dict[str, Any]]
"""A graph in ComfyUI's API format."""


def many(count: int) -> Graph:
    """Independent nodes, all of them new."""
    return {str(n): {"class_type": "KlingText2Video", "inputs": inputs()} for n in range(count)}


def batch(count: int) -> Graph:
    """One node that gets a list on ``prompt``."""
    wired = {**inputs(), "prompt": ["1", 0]}
    return {
        "1": {"class_type": "BenchmarkPrompts", "inputs": {"count": count}},
        "2": {"class_type": "KlingText2Video", "inputs": wired},
    }


def empty(count: int) -> Graph:
    """Async nodes that do nothing, all of them new."""
    return {str(n): {"class_type": "BenchmarkEmpty", "inputs": {"number": next(_takes)}} for n in range(count)}


def waiting(count: int) -> Graph:
    """Pairs of a new task and a KlingVideo that waits for it."""
    graph = many(count)
    for n in range(count):
        graph[f"{n}v"] = {"class_type": "KlingVideo", "inputs": {"task_id": [str(n), 0], "timeout_minutes": 30}}
        graph[f"{n}e"] = {"class_type": "BenchmarkEnd", "inputs": {"video": [f"{n}v", 0]}}
    return graph


class BenchmarkPrompts:
    """A list of different prompts."""

    CATEGORY = "benchmark"
    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "prompts"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"count": ("INT", {"default": 1, "min": 1, "max": 1000})}}

    def prompts(self, count: int) -> tuple[list[str]]:
        """``count`` of them."""
        return ([f"Snow, view number {n}" for n in range(count)],)


class BenchmarkEmpty:
    """What a host takes for an async node by itself."""

    CATEGORY = "benchmark"
    RETURN_TYPES = ("INT",)
    FUNCTION = "nothing"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"number": ("INT", {"default": 1, "min": 1, "max": 1_000_000})}}

    async def nothing(self, number: int) -> tuple[int]:
        """Wait one turn of the event loop, so that the host has to come back for the result."""
        await asyncio.sleep(0)
        return (number,)


class BenchmarkEnd:
    """Wants a video, so that ComfyUI runs the node that brings it."""

    CATEGORY = "benchmark"
    RETURN_TYPES = ()
    FUNCTION = "take"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"video": ("VIDEO",)}}

    def take(self, video: object) -> tuple[()]:
        """Do nothing with it."""
        return ()


EXTRA = {cls.__name__: cls for cls in (BenchmarkPrompts, BenchmarkEmpty, BenchmarkEnd)}


def run_headless(graph: Mapping[str, Any], expected: int) -> None:
    """Run a graph as ``python -m nodes run`` does, from the graph to the last task_id.

    Raises:
        RuntimeError: not every task was made; the figure would be about something else.
    """
    plan = workflow.make_plan(workflow.read(graph, {**NODE_CLASS_MAPPINGS, **EXTRA}))
    outcome = Results()
    quiet = host.ConsoleHost(out=io.StringIO())
    asyncio.run(run(plan, lambda node: host.use(quiet), outcome, done=lambda node: None))
    ends = {node.id for node in plan.order if node.class_type != "BenchmarkPrompts"}
    results = {value for node in ends & outcome.outputs.keys() for value in outcome.outputs[node][0]}
    if outcome.errors or len(results) != expected:
        raise RuntimeError(f"{len(results)} of {expected} results: {list(outcome.errors.values())[:3]}")
