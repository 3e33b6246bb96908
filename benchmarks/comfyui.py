"""Many at once, and waiting, inside a real ComfyUI: only when COMFYUI_PATH names one (see CONTRIBUTING.md)."""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import bare, gateway, graphs
from .figures import Figure, compared, side_by_side
from .gateway import ROOT
from .graphs import EXTRA
from .many import LATENCY
from .waiting import CORE_SHARE, NODES, WATCHED

if TYPE_CHECKING:
    from comfy import ComfyUI

_CLASSES = "\n\n".join(inspect.getsource(cls) for cls in EXTRA.values())
_NAMES = ", ".join(f'"{name}": {name}' for name in EXTRA)
PACK = f"""
from __future__ import annotations
import asyncio
from typing import Any

{_CLASSES}
NODE_CLASS_MAPPINGS = {{{_NAMES}}}
"""
"""A second pack: the benchmark's own nodes."""


def measure(repetitions: int) -> list[Figure]:
    """Many at once by ComfyUI's own time stamps, then a hundred nodes that wait."""
    if not os.environ.get("COMFYUI_PATH"):
        print("comfyui: left out; COMFYUI_PATH names no checkout of ComfyUI")
        return []
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]
    from comfy import ComfyUI

    class WithBenchmarkNodes(ComfyUI):
        def start(self) -> None:
            folder = self.directory / "custom_nodes" / "benchmark"
            folder.mkdir()
            (folder / "__init__.py").write_text(PACK, encoding="utf-8")
            super().start()

    with gateway.running(latency=LATENCY) as service, WithBenchmarkNodes(service) as host:
        figures = _at_once(host, service, repetitions)
    if not Path("/proc/self/stat").exists():
        print("comfyui: the processor time of another process is known on Linux alone; waiting is left out")
        return figures
    with gateway.running(runs_for=86_400) as service, WithBenchmarkNodes(service) as host:
        return [*figures, *_waiting(host)]


def _at_once(host: ComfyUI, service: gateway.Gateway, repetitions: int) -> list[Figure]:
    taken: dict[str, list[float]] = {}

    def timed(name: str, graph: Callable[[int], graphs.Graph], count: int) -> Callable[[], None]:
        samples = taken.setdefault(name, [])
        return lambda: samples.append(_seconds(host.run(graph(count))))

    host.run(graphs.many(1))
    calls = {
        "one": lambda: bare.post(service),
        "32": timed("32", graphs.many, 32),
        "batch": timed("batch", graphs.batch, 32),
        "128": timed("128", graphs.many, 128),
        "empty": timed("empty", graphs.empty, 32),
    }
    one = side_by_side(repetitions, calls, time.perf_counter)["one"]

    def net(name: str) -> list[float]:
        return [ours - empty for ours, empty in zip(taken[name], taken["empty"], strict=True)]

    of = "one requests.post"
    return [
        compared("32 nodes at once, ComfyUI, less its own time", net("32"), one, unit="s", of=of, limit=1.5),
        compared("a batch of 32, ComfyUI, less its own time", net("batch"), one, unit="s", of=of, limit=1.5),
        compared("(info) 128 nodes at once, ComfyUI, less its time for 32", net("128"), one, unit="s", of=of),
        compared("(info) 32 empty async nodes, ComfyUI", taken["empty"], one, unit="s", of=of),
    ]


def _seconds(entry: Mapping[str, Any]) -> float:
    """From the start of a prompt to its end.

    Raises:
        RuntimeError: it did not end well.
    """
    stamps = {name: data["timestamp"] for name, data in entry["status"]["messages"]}
    if "execution_success" not in stamps:
        raise RuntimeError(f"ComfyUI: {entry['status']}")
    return float(stamps["execution_success"] - stamps["execution_start"]) / 1000


def _waiting(host: ComfyUI) -> list[Figure]:
    """ComfyUI's share of a core while nodes wait, and while nothing runs at all."""
    process = host._process
    assert process
    idle = _share(process.pid, 10)
    prompt_id = host.queue(graphs.waiting(NODES))
    time.sleep(3)  # by then all are submitted
    busy = _share(process.pid, WATCHED)
    if host.get(f"/history/{prompt_id}"):
        raise RuntimeError("the nodes have stopped to wait; the figure would be about something else")
    host.interrupt()
    host.wait(prompt_id)
    return [
        Figure(
            f"{NODES} KlingVideo nodes waiting {WATCHED:g} s in ComfyUI, processor time",
            f"{busy - idle:.2%} of a core",
            f"ComfyUI idle, taken off: {idle:.2%}",
            busy - idle,
            f"< {CORE_SHARE:.0%}",
            busy - idle < CORE_SHARE,
            {"measured": [busy], "baseline": [idle]},
        )
    ]


def _share(pid: int, seconds: float) -> float:
    start, before = time.perf_counter(), _processor_time(pid)
    time.sleep(seconds)
    return (_processor_time(pid) - before) / (time.perf_counter() - start)


def _processor_time(pid: int) -> float:
    """User and system time of a process with all its threads, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
