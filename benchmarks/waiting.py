"""A hundred nodes that wait for their videos cost little, and no thread each."""

from __future__ import annotations

import asyncio
import threading
import time

from nodes.api.running.threads import WORKERS
from nodes.video import KlingVideo

from . import fixtures
from .figures import Figure

NODES = 100
WATCHED = 120.0
"""Seconds. The nodes ask most often at first, and a video takes longer than this."""

CORE_SHARE = 5.0
"""Percent of a core."""


def measure(quick: bool) -> list[Figure]:
    """Nodes side by side on one event loop, with tasks that never end."""
    with fixtures.gateway(runs_for=86_400):
        share, threads = asyncio.run(_wait(10 if quick else WATCHED))
    name = f"{NODES} KlingVideo nodes waiting"
    return [
        Figure(f"{name}, CPU time", share, CORE_SHARE, "% of a core"),
        Figure(f"{name}, threads", threads, WORKERS),
    ]


async def _wait(seconds: float) -> tuple[float, int]:
    """The percentage of a core that waiting takes, and the threads beside the main one."""
    sent = await asyncio.gather(*(fixtures.submit() for _ in range(NODES)))
    waits = [asyncio.ensure_future(KlingVideo().fetch(task_id, 30, unique_id="1")) for task_id in sent]
    start, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - cpu) / (time.perf_counter() - start)
    threads = threading.active_count() - 1  # a pool keeps the threads that it once started
    if any(wait.done() for wait in waits):
        raise RuntimeError("a node has stopped waiting; the figure would be about something else")
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return share * 100, threads
