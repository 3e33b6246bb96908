"""A video of 2 GB is not held in memory."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from nodes.video import KlingVideo

from . import fixtures
from .figures import Figure

SIZE = 2_000_000_000
STATUS = Path("/proc/self/status")


def measure(quick: bool) -> list[Figure]:
    """The most memory during the download, above the memory just before it. ``quick`` changes nothing."""
    if not STATUS.exists():
        print("download: skipped, only Linux tells the most memory of a process")
        return []
    with fixtures.gateway(big_file=SIZE), tempfile.TemporaryDirectory(prefix="kling-benchmark-") as temp:
        tempfile.tempdir = temp  # this process measures nothing else
        held = asyncio.run(_download())
    return [Figure(f"memory held by a download of {SIZE / 1e9:g} GB", held / 1e6, 50, "MB")]


async def _download() -> int:
    big, small = await fixtures.submit(), await fixtures.submit()
    await KlingVideo().fetch(small, 30)  # what any download needs is not counted
    before = _memory("VmRSS")
    path, _ = (await KlingVideo().fetch(big, 30))["result"]
    if path.stat().st_size != SIZE:
        raise RuntimeError(f"the file has {path.stat().st_size} bytes")
    return _memory("VmHWM") - before


def _memory(field: str) -> int:
    """Bytes of this process in memory: ``VmRSS`` for now, ``VmHWM`` for the most there ever were."""
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
