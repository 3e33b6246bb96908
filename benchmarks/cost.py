"""The processor time of one submission, from the call of the node to its task_id."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping, Sequence

from nodes import host
from nodes.api.pace import Pace
from nodes.api.running.threads import WORKERS, in_thread
from nodes.text2video import KlingText2Video

from . import bare, gateway, graphs
from .figures import Figure, apart, compared, side_by_side

BLOCK = 25
"""Submissions in one sample: the clock of processor time is too coarse for one."""

PROCESSES = 7
"""One process may keep a ratio that is a tenth off for as long as it lives: its threads have settled on other cores."""


def measure(repetitions: int) -> list[Figure]:
    """One after another against a gateway that answers at once, in blocks of ours and of theirs."""
    rounds = (apart(_measure_once, repetitions) for _ in range(PROCESSES))
    alone, among_threads = zip(*rounds, strict=True)
    name = "processor time of one submission"
    return [_figure(name, alone, 1.5), _figure(f"(info) the same after {WORKERS} at once", among_threads)]


def _measure_once(repetitions: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """The blocks of ours and of theirs, with as few threads as there may be and with all of the pool."""
    with gateway.running() as service, host.use(host.ConsoleHost(out=io.StringIO())):
        node, record, loop = KlingText2Video(), bare.Record(), asyncio.new_event_loop()

        async def submit(count: int) -> None:
            for _ in range(count):
                await node.submit(unique_id="1", **graphs.inputs())

        # What is the same for both, made beforehand: the baseline is sending and writing, not making a body.
        bodies = [bare.body() for _ in range(BLOCK * (2 * repetitions + 1))]

        def plain() -> None:
            for _ in range(BLOCK):
                record.post(service, bodies.pop())

        def ours() -> None:
            loop.run_until_complete(submit(BLOCK))

        ours()  # opens the ledger and the connection
        plain()
        calls = {"ours": ours, "plain": plain}
        alone = side_by_side(repetitions, calls, time.process_time, block=BLOCK)
        loop.run_until_complete(_fill_the_pool())
        among_threads = side_by_side(repetitions, calls, time.process_time, block=BLOCK)
        loop.close()
    return alone, among_threads


async def _fill_the_pool() -> None:
    """Have all threads alive that a graph with many nodes leaves behind: they take turns from then on."""
    here, pace = host.ConsoleHost(), Pace()
    await asyncio.gather(*(in_thread(here, pace, time.sleep, 0.3) for _ in range(WORKERS)))


def _figure(name: str, rounds: Sequence[Mapping[str, Sequence[float]]], limit: float | None = None) -> Figure:
    ours, plain = ([each for taken in rounds for each in taken[side]] for side in ("ours", "plain"))
    return compared(name, ours, plain, unit="ms", of="requests.post and 2 commits", limit=limit)
