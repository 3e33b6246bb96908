"""Make one task, download its video, and print as JSON how much the peak of memory has grown by that."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path

from nodes import host
from nodes.text2video import KlingText2Video
from nodes.video import KlingVideo

from . import graphs
from .download import SIZE


def memory(kind: str) -> int:
    """Bytes of this process in memory: ``VmRSS`` for now, ``VmHWM`` for the most there ever were."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) * 1024


async def main() -> None:
    """Two tasks: the small one beforehand loads all that a download needs."""

    async def make() -> str:
        return str((await KlingText2Video().submit(unique_id="1", **graphs.inputs()))["result"][0])

    async def fetch(task_id: str) -> Path:
        return Path((await KlingVideo().fetch(task_id, timeout_minutes=30, unique_id="1"))["result"][0])

    with host.use(host.ConsoleHost(out=io.StringIO())):
        big, small = await make(), await make()
        await fetch(small)
        before, start = memory("VmRSS"), time.perf_counter()
        path = await fetch(big)
        seconds = time.perf_counter() - start
    if path.stat().st_size != SIZE:
        raise RuntimeError(f"the file has {path.stat().st_size} bytes")
    print(json.dumps({"held": memory("VmHWM") - before, "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(main())
