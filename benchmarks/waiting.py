"""What a hundred nodes that wait for their videos cost."""

from __future__ import annotations

import asyncio
import io
import statistics
import threading
import time

from nodes import host
from nodes.api.running.threads import WORKERS
from nodes.text2video import KlingText2Video
from nodes.video import KlingVideo

from . import gateway, graphs
from .figures import Figure

NODES = 100
WATCHED, FIRST = 120.0, 30.0
"""Seconds: less than a video takes, and the part of it in which the questions come most often."""

CORE_SHARE = 0.05


def measure(repetitions: int) -> list[Figure]:
    """Nodes side by side on one event loop, with tasks that never end."""
    with gateway.running(runs_for=86_400), host.use(host.ConsoleHost(out=io.StringIO())):
        results = [asyncio.run(_wait()) for _ in range(repetitions)]
    firsts, shares, threads = zip(*results, strict=True)
    share, first = statistics.median(shares), statistics.median(firsts)
    return [
        Figure(
            f"{NODES} KlingVideo nodes waiting {WATCHED:g} s, processor time",
            f"{share:.2%} of a core",
            "one core",
            share,
            f"< {CORE_SHARE:.0%}",
            share < CORE_SHARE,
            {"measured": shares},
        ),
        Figure(f"(info) the first {FIRST:g} s of it", f"{first:.2%} of a core", "one core", first),
        Figure(
            f"{NODES} KlingVideo nodes waiting, threads",
            str(max(threads)),
            f"the pool: {WORKERS}",
            max(threads) / WORKERS,
            "<= 1",
            max(threads) <= WORKERS,
            {"measured": threads},
        ),
    ]


async def _wait() -> tuple[float, float, int]:
    """The share of a core that waiting takes, first and in all, and the most threads beside the main one."""
    submit = KlingText2Video().submit
    sent = await asyncio.gather(*(submit(unique_id="1", **graphs.inputs()) for _ in range(NODES)))
    waits = [
        asyncio.ensure_future(KlingVideo().fetch(one["result"][0], timeout_minutes=30, unique_id=str(number)))
        for number, one in enumerate(sent)
    ]
    start, cpu = time.perf_counter(), time.process_time()
    most, first, share = 0, 0.0, 0.0
    while (elapsed := time.perf_counter() - start) < WATCHED:
        await asyncio.sleep(0.05)
        most = max(most, threading.active_count() - 1)
        share = (time.process_time() - cpu) / (time.perf_counter() - start)
        if elapsed < FIRST:
            first = share
    if any(wait.done() for wait in waits):
        raise RuntimeError("a node has stopped to wait; the figure would be about something else")
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return first, share, most
