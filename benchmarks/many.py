"""Many tasks at once take about as long as one answer, in the headless runner."""

from __future__ import annotations

import asyncio
import io
import time
from concurrent.futures import ThreadPoolExecutor

from nodes import host
from nodes.text2video import KlingText2Video

from . import bare, gateway, graphs
from .figures import Figure, compared, side_by_side
from .graphs import run_headless

LATENCY = 0.5
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128)


def measure(repetitions: int) -> list[Figure]:
    """Independent nodes and batches, and beside them what the gateway and bare threads take."""
    with gateway.running(latency=LATENCY) as service, ThreadPoolExecutor(32) as threads:
        calls = {
            "one": lambda: bare.post(service),
            "empty": lambda: run_headless(graphs.empty(32), 32),
            "32": lambda: run_headless(graphs.many(32), 32),
            "batch": lambda: run_headless(graphs.batch(32), 32),
            "128": lambda: run_headless(graphs.many(128), 128),
            "gateway": lambda: bare.flood(service, 128),
            "threads": lambda: list(threads.map(bare.post, [service] * 32)),
        }
        run_headless(graphs.many(1), 1)
        taken = side_by_side(repetitions, calls, time.perf_counter)
    rows = [
        ("32 nodes at once, headless", "32", 1.5),
        ("a batch of 32, headless", "batch", 1.5),
        ("128 nodes at once, headless", "128", 3.0),
        ("(info) 32 empty async nodes, headless", "empty", None),
        ("(info) 32 threads with requests.post alone", "threads", None),
        ("(info) 128 bare sockets: the gateway itself", "gateway", None),
    ]
    of = "one requests.post"
    return [compared(name, taken[key], taken["one"], unit="s", of=of, limit=limit) for name, key, limit in rows]


def curve(repetitions: int) -> dict[str, dict[int, float]]:
    """Wall time in seconds by number of tasks: this pack, one after another, and ideal (one answer's time)."""
    with gateway.running(latency=LATENCY) as service:
        run_headless(graphs.many(1), 1)
        calls = {str(n): lambda n=n: run_headless(graphs.many(n), n) for n in COUNTS}
        taken = side_by_side(repetitions, {"one": lambda: bare.post(service), **calls}, time.perf_counter)
        one_by_one = asyncio.run(_one_by_one(max(COUNTS)))
    medians = {name: sorted(samples)[len(samples) // 2] for name, samples in taken.items()}
    return {
        "one after another": {n: one_by_one[n - 1] for n in COUNTS},
        "this pack": {n: medians[str(n)] for n in COUNTS},
        "ideal": dict.fromkeys(COUNTS, medians["one"]),
    }


async def _one_by_one(count: int) -> list[float]:
    """When each of so many tasks was accepted, in seconds from the start, if none starts before the last is done."""
    node, times = KlingText2Video(), []
    start = time.perf_counter()
    with host.use(host.ConsoleHost(out=io.StringIO())):
        for _ in range(count):
            await node.submit(unique_id="1", **graphs.inputs())
            times.append(time.perf_counter() - start)
    return times
