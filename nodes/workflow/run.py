"""Runs a plan as ComfyUI runs a prompt: independent nodes run side by side on one event loop.

There is one difference: a node that fails stops only the nodes that need its result. A request that is already on its
way will be paid, so the run waits for all other nodes and reports all errors at the end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from .classes import Classes
from .prompt import Prompt, PromptNode, is_link

Outputs = Sequence[Any]
"""The value of each output of a node."""

HostFor = Callable[[PromptNode], AbstractContextManager[object]]


@dataclass(frozen=True)
class Plan:
    """What is to run.

    Attributes:
        order: the nodes, each after those that it needs.
        notes: lines for the user: what is skipped and why.
    """

    prompt: Prompt
    classes: Classes
    order: Sequence[PromptNode]
    notes: Sequence[str] = ()


@dataclass
class Results:
    """The results of a run so far. An interrupted run keeps them.

    Attributes:
        inputs, outputs: by node id, of every node that ran.
        left_out: nodes that did not run, with the id of the node that failed before them.
    """

    outputs: dict[str, Outputs] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Ended(Exception):
    """Raised by a host to end a node that has nothing left to do. It is not an error, and there is no result."""


class _LeftOut(Exception):
    """A node needs one that failed. The argument is the failed node's id."""


async def run(plan: Plan, host_for: HostFor, results: Results, *, done: Callable[[PromptNode], None]) -> None:
    """Run every node of the plan.

    Args:
        host_for: returns the context in which a node runs.
        results: filled during the run.
        done: called for each node as soon as it has a result.
    """
    runner = _Runner(plan, host_for, results)
    tasks: dict[str, asyncio.Task[None]] = {}
    for node in plan.order:
        needs = {source: tasks[source] for source, _ in node.links().values() if source in tasks}
        tasks[node.id] = asyncio.create_task(runner.run_node(node, needs, done))
    try:
        if tasks:
            await asyncio.wait(tasks.values())
    finally:
        for node_id, task in tasks.items():
            error = _error(task)
            if isinstance(error, _LeftOut):
                results.left_out[node_id] = error.args[0]
            elif error is not None and not isinstance(error, Ended):
                results.errors[node_id] = error


def _error(task: asyncio.Task[None]) -> BaseException | None:
    """The error that ended a task. None if it succeeded, or if it still runs while the whole run is being stopped."""
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception()


class _Runner:
    def __init__(self, plan: Plan, host_for: HostFor, results: Results) -> None:
        self._plan, self._host_for, self._results = plan, host_for, results

    async def run_node(
        self, node: PromptNode, needs: Mapping[str, asyncio.Task[None]], done: Callable[[PromptNode], None]
    ) -> None:
        if needs:
            await asyncio.wait(needs.values())
        for source, task in needs.items():
            error = _error(task)
            if error is not None:
                raise _LeftOut(error.args[0] if isinstance(error, _LeftOut) else source)
        cls = self._plan.classes[node.class_type].cls
        inputs = self._inputs(node)
        self._results.inputs[node.id] = inputs
        with self._host_for(node):
            returned = getattr(cls(), cls.FUNCTION)(**inputs)
            if inspect.isawaitable(returned):
                returned = await returned
        # What a node shows (``ui``) is not needed here.
        self._results.outputs[node.id] = returned["result"] if isinstance(returned, dict) else returned
        done(node)

    def _inputs(self, node: PromptNode) -> dict[str, Any]:
        known = self._plan.classes[node.class_type]
        inputs = {
            name: self._results.outputs[str(value[0])][value[1]] if is_link(value) else value
            for name, value in node.inputs.items()
            if name in known.inputs
        }
        # Hidden inputs come last, so that a file cannot set them.
        for name, kind in known.cls.INPUT_TYPES().get("hidden", {}).items():
            inputs[name] = node.id if kind == "UNIQUE_ID" else None
        return inputs
