"""Many tasks at once, and waiting, inside a real ComfyUI: only if COMFYUI_PATH names one (see CONTRIBUTING.md)."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from . import fixtures
from .at_once import LATENCY, NODES
from .figures import Figure, clocked, ratio, side_by_side
from .waiting import CORE_SHARE, WATCHED
from .waiting import NODES as WAITING_NODES

if TYPE_CHECKING:
    from comfyui_server import ComfyUI

ROOT = Path(__file__).resolve().parents[1]

PROMPTS = '''
class BenchmarkPrompts:
    """A list of different prompts: whatever takes it runs once for each."""

    CATEGORY = "benchmark"
    RETURN_TYPES = ("STRING",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "prompts"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 1})}}

    def prompts(self, count):
        return ([f"Snow, view number {n}" for n in range(count)],)


NODE_CLASS_MAPPINGS = {"BenchmarkPrompts": BenchmarkPrompts}
'''
"""A second pack in one file."""


def measure(quick: bool) -> list[Figure]:
    """Many at once by ComfyUI's own time stamps, then nodes that wait."""
    if not os.environ.get("COMFYUI_PATH"):
        print("comfyui: skipped, COMFYUI_PATH is not set")
        return []
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "support")]
    from comfyui_server import ComfyUI

    class WithPrompts(ComfyUI):
        def start(self) -> None:
            (self.directory / "custom_nodes" / "benchmark.py").write_text(PROMPTS, encoding="utf-8")
            super().start()

    with fixtures.gateway(latency=LATENCY) as base_url, WithPrompts(SimpleNamespace(base_url=base_url)) as comfyui:
        figures = _at_once(comfyui, base_url, 3 if quick else 7)
    if sys.platform != "linux":
        print("comfyui: waiting is skipped, only Linux tells the CPU time of another process")
        return figures
    with fixtures.gateway(runs_for=86_400) as base_url, WithPrompts(SimpleNamespace(base_url=base_url)) as comfyui:
        return [*figures, _waiting(comfyui, 10 if quick else WATCHED)]


def _at_once(comfyui: ComfyUI, base_url: str, repetitions: int) -> list[Figure]:
    def batch() -> dict[str, Any]:
        prompts = {"class_type": "BenchmarkPrompts", "inputs": {"count": NODES}}
        node = {"class_type": "KlingText2Video", "inputs": {**fixtures.inputs(), "prompt": ["prompts", 0]}}
        return {"prompts": prompts, "node": node}

    _seconds(comfyui, fixtures.graph(1))  # opens the ledger
    calls = {
        "one": clocked(time.perf_counter, lambda: fixtures.plain_post(base_url, fixtures.body())),
        "nodes": lambda: _seconds(comfyui, fixtures.graph(NODES)),
        "batch": lambda: _seconds(comfyui, batch()),
    }
    seconds = side_by_side(repetitions, calls)
    return [
        ratio(f"{NODES} nodes at once, ComfyUI", seconds["nodes"], seconds["one"], 1.5, "one requests.post"),
        ratio(f"a batch of {NODES}, ComfyUI", seconds["batch"], seconds["one"], 1.5, "one requests.post"),
    ]


def _seconds(comfyui: ComfyUI, graph: dict[str, Any]) -> float:
    """From the start of a prompt to its end, ComfyUI's own time included.

    Raises:
        RuntimeError: it failed.
    """
    status = comfyui.run(graph)["status"]
    stamps = {name: data["timestamp"] for name, data in status["messages"]}
    if "execution_success" not in stamps:
        raise RuntimeError(f"ComfyUI: {status}")
    return float(stamps["execution_success"] - stamps["execution_start"]) / 1000


def _waiting(comfyui: ComfyUI, seconds: float) -> Figure:
    """ComfyUI's share of a core while nodes wait."""
    graph = fixtures.graph(WAITING_NODES)
    for n in range(WAITING_NODES):
        graph[f"video {n}"] = {"class_type": "KlingVideo", "inputs": {"task_id": [str(n), 0], "timeout_minutes": 30}}
        saved = {"video": [f"video {n}", 0], "filename_prefix": "benchmark", "format": "auto", "codec": "auto"}
        graph[f"save {n}"] = {"class_type": "SaveVideo", "inputs": saved}
    prompt_id = comfyui.queue(graph)
    time.sleep(3)  # by then all tasks are submitted
    before = _cpu_time(comfyui)
    time.sleep(seconds)
    share = (_cpu_time(comfyui) - before) / seconds * 100
    if comfyui.get(f"/history/{prompt_id}"):
        raise RuntimeError("the nodes have stopped waiting; the figure would be about something else")
    comfyui.interrupt()
    comfyui.wait(prompt_id)
    name = f"{WAITING_NODES} KlingVideo nodes waiting in ComfyUI, CPU time"
    return Figure(name, share, CORE_SHARE, "% of a core")


def _cpu_time(comfyui: ComfyUI) -> float:
    """User and system time of ComfyUI with all its threads, in seconds."""
    assert comfyui._process
    stat = Path(f"/proc/{comfyui._process.pid}/stat").read_text(encoding="utf-8")
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
