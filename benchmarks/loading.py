"""What ComfyUI's start takes longer because of the pack."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .figures import Figure, with_unit

SCRIPT = Path(__file__).with_name("load_once.py")
MILLISECONDS, MEGABYTES = 20.0, 3.0


def measure(repetitions: int) -> list[Figure]:
    """In a new process each time. Files are compiled and cached beforehand, as they are after a first start."""
    with tempfile.TemporaryDirectory(prefix="kling-benchmark-") as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def load(*options: str) -> dict[str, Any]:
            command = [sys.executable, str(SCRIPT), *options]
            return dict(json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout))

        load()
        samples = [load() for _ in range(repetitions)]
        inside = [load("--as-in-comfyui") for _ in range(repetitions)]
        traced = load("--trace")
        traced_inside = load("--as-in-comfyui", "--trace")
        events = load("--watch")["events"]
    return [
        _time("loading the pack", samples),
        _time("(info) the same where asyncio and sqlite3 are loaded, as in ComfyUI", inside, target=False),
        _time("(info) loaded with the page, as in ComfyUI", inside, "with_page", target=False),
        _memory("memory of the pack", samples, traced),
        _memory(
            "(info) memory loaded with the page, as in ComfyUI", inside, traced_inside, "memory_with_page", target=False
        ),
        Figure(
            "files, connections, processes touched while loading",
            str(len(events)),
            target="0",
            met=not events,
            samples={"events": events},
        ),
    ]


def _time(name: str, samples: list[dict[str, Any]], of: str = "seconds", *, target: bool = True) -> Figure:
    taken = [sample[of] for sample in samples]
    others = [sample["others"] for sample in samples]
    ours, theirs = statistics.median(taken), statistics.median(others)
    return Figure(
        name,
        with_unit(ours, "ms"),
        f"pydantic and requests: {with_unit(theirs, 'ms')}",
        ours / theirs,
        f"<= {MILLISECONDS:g} ms" if target else "",
        ours * 1000 <= MILLISECONDS if target else None,
        {"measured": taken, "baseline": others},
    )


def _memory(
    name: str, samples: list[dict[str, Any]], traced: dict[str, Any], of: str = "memory", *, target: bool = True
) -> Figure:
    """Resident memory where the system tells it, else Python's own count, which leaves out C libraries."""
    resident = [sample[of] for sample in samples if sample[of] is not None]
    grown = statistics.median(resident) if resident else traced[of]
    return Figure(
        f"{name} ({'resident' if resident else 'tracemalloc'})",
        f"{grown / 1e6:.2f} MB",
        target=f"<= {MEGABYTES:g} MB" if target else "",
        met=grown / 1e6 <= MEGABYTES if target else None,
        samples={"resident": resident, "traced": [traced[of]]},
    )
