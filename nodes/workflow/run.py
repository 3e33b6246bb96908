"""Running a plan as ComfyUI runs a prompt: independent nodes side by side on one event loop.

One difference: a node that fails stops only what needs its result. A request that is already on its way is paid for, so
everything else is waited for, and all errors are told at the end.
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

Outputs = list[list[Any]]
"""For each output of a node the list of its values: one, unless lists are mapped over."""

HostFor = Callable[[PromptNode], AbstractContextManager[object]]


@dataclass(frozen=True)
class Plan:
    """What is to run.

    Attributes:
        order: the nodes, every one behind those that it needs.
        pnginfo: what the hidden input EXTRA_PNGINFO gets, None if the file had no drawn workflow.
        notes: lines for the user: what is skipped and why.
    """

    prompt: Prompt
    classes: Classes
    order: Sequence[PromptNode]
    pnginfo: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()


@dataclass
class Outcome:
    """What became of a run. It fills while the run goes on, so that an interrupted one has its results too."""

    outputs: dict[str, Outputs] = field(default_factory=dict)
    inputs: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Nodes that did not run, with the id of the node that failed before them."""


class Ended(Exception):
    """Raised by a host to end a node that has done all that is wanted of it: no error, and no result."""


class _LeftOut(Exception):
    """A node needs one that failed. Its argument is that node's id."""


async def run(plan: Plan, host_for: HostFor, outcome: Outcome, *, done: Callable[[PromptNode], None]) -> None:
    """Run every node of the plan; ``outcome`` takes results and errors.

    Args:
        host_for: gives the context in which one node runs.
        done: called for each node that has a result, at once.
    """
    runner = _Runner(plan, host_for, outcome)
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
                outcome.left_out[node_id] = error.args[0]
            elif error is not None and not isinstance(error, Ended):
                outcome.errors[node_id] = error


def _error(task: asyncio.Task[None]) -> BaseException | None:
    """What ended a task that is over; None if it went well, or still runs because the whole run is being ended."""
    if not task.done():
        return None
    return asyncio.CancelledError() if task.cancelled() else task.exception()


class _Runner:
    def __init__(self, plan: Plan, host_for: HostFor, outcome: Outcome) -> None:
        self._plan, self._host_for, self._outcome = plan, host_for, outcome

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
        self._outcome.inputs[node.id] = inputs
        with self._host_for(node):
            self._outcome.outputs[node.id] = _merge(await _map(cls, inputs), cls)
        done(node)

    def _inputs(self, node: PromptNode) -> dict[str, list[Any]]:
        """Every input as a list of values, as ComfyUI hands them to the mapping over lists."""
        known = self._plan.classes[node.class_type]
        inputs: dict[str, list[Any]] = {}
        for name, value in node.inputs.items():
            if name not in known.inputs:
                continue
            if is_link(value):
                outputs = self._outcome.outputs[str(value[0])]
                inputs[name] = outputs[value[1]] if value[1] < len(outputs) else [None]
            else:
                inputs[name] = [value]
        # In this order a file cannot put anything into a hidden input.
        for name, hidden in known.cls.INPUT_TYPES().get("hidden", {}).items():
            kind = hidden if isinstance(hidden, str) else hidden[0]
            if kind == "UNIQUE_ID":
                inputs[name] = [node.id]
            elif kind == "PROMPT":
                inputs[name] = [self._plan.prompt.as_api()]
            elif kind == "EXTRA_PNGINFO":
                inputs[name] = [{"workflow": self._plan.pnginfo} if self._plan.pnginfo is not None else None]
            else:
                inputs[name] = [None]
        return inputs


async def _map(cls: type[Any], inputs: Mapping[str, list[Any]]) -> list[Any]:
    """Call the node's function once, or once for each place of the longest list; short lists repeat their last."""
    function = getattr(cls(), cls.FUNCTION)
    if getattr(cls, "INPUT_IS_LIST", False):
        return [await _call(function, inputs)]
    count = max((len(values) for values in inputs.values()), default=1)
    if not all(inputs.values()):
        return []  # mapped over an empty list
    rows = [{name: values[min(k, len(values) - 1)] for name, values in inputs.items()} for k in range(count)]
    calls = [asyncio.ensure_future(_call(function, row)) for row in rows]
    if calls:
        await asyncio.wait(calls)  # and not gather: one that fails must not abandon the others
    errors = [call.exception() for call in calls]
    for error in errors:
        if error is not None:
            raise error
    return [call.result() for call in calls]


async def _call(function: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    result = function(**inputs)
    return await result if inspect.isawaitable(result) else result


def _merge(returned: Sequence[Any], cls: type[Any]) -> Outputs:
    """The outputs of all calls, one list for each output. What a node shows of itself (``ui``) has no place here."""
    rows = [row.get("result", ()) if isinstance(row, dict) else row for row in returned]
    rows = [row for row in rows if row is not None]
    if not rows:
        return [[] for _ in getattr(cls, "RETURN_TYPES", ())]
    spread = getattr(cls, "OUTPUT_IS_LIST", None) or [False] * len(rows[0])
    merged: Outputs = []
    for k, is_list in zip(range(len(rows[0])), spread, strict=False):
        merged.append([value for row in rows for value in row[k]] if is_list else [row[k] for row in rows])
    return merged
