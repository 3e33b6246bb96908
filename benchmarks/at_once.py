"""Many tasks at once take about as long as one answer, in the headless runner."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext

from nodes import NODE_CLASS_MAPPINGS, workflow
from nodes.workflow.run import Results, run

from . import fixtures
from .figures import Figure, clocked, ratio, side_by_side

NODES = 32
LATENCY = 0.5
"""Seconds until the gateway answers a POST."""


def measure(quick: bool) -> list[Figure]:
    """From the graph to the last task_id."""
    with fixtures.gateway(latency=LATENCY) as base_url:
        _run(1)  # opens the ledger
        calls = {
            "one": clocked(time.perf_counter, lambda: fixtures.plain_post(base_url, fixtures.body())),
            "all": clocked(time.perf_counter, lambda: _run(NODES)),
        }
        seconds = side_by_side(3 if quick else 7, calls)
    return [ratio(f"{NODES} nodes at once, headless", seconds["all"], seconds["one"], 1.5, "one requests.post")]


def _run(count: int) -> None:
    """Run a graph as ``python -m nodes run`` does."""
    plan = workflow.make_plan(workflow.read(fixtures.graph(count), NODE_CLASS_MAPPINGS))
    results = Results()
    asyncio.run(run(plan, lambda node: nullcontext(), results, done=lambda node: None))
    made = {outputs[0] for outputs in results.outputs.values()}
    if len(made) != count:
        raise RuntimeError(f"{len(made)} of {count} tasks: {list(results.errors.values())[:3]}")
