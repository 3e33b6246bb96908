"""The processor time of one submission, from the call of the node to its task_id."""

from __future__ import annotations

import asyncio
import io
import time

from nodes import host
from nodes.text2video import KlingText2Video

from . import bare, gateway, graphs
from .figures import Figure, compared, side_by_side

BLOCK = 25
"""Submissions in one sample: the clock of processor time is too coarse for one."""


def measure(repetitions: int) -> list[Figure]:
    """One after another against a gateway that answers at once, in blocks of ours and of theirs."""
    with gateway.running() as service, host.use(host.ConsoleHost(out=io.StringIO())):
        node, record, loop = KlingText2Video(), bare.Record(), asyncio.new_event_loop()

        async def submit(count: int) -> None:
            for _ in range(count):
                await node.submit(unique_id="1", **graphs.inputs())

        # What is the same for both, made beforehand: the baseline is sending and writing, not making a body.
        bodies = [bare.body() for _ in range(BLOCK * (repetitions + 1))]

        def plain() -> None:
            for _ in range(BLOCK):
                record.post(service, bodies.pop())

        def ours() -> None:
            loop.run_until_complete(submit(BLOCK))

        ours()  # opens the ledger and the connection
        plain()
        taken = side_by_side(repetitions, {"ours": ours, "plain": plain}, time.process_time)
        loop.close()
    each = {name: [block / BLOCK for block in blocks] for name, blocks in taken.items()}
    name = "processor time of one submission"
    return [compared(name, each["ours"], each["plain"], unit="ms", of="requests.post and 2 commits", limit=1.5)]
