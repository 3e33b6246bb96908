"""What the pack adds to the start of ComfyUI."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .figures import Figure, milliseconds

SCRIPT = Path(__file__).with_name("load_once.py")


def measure(quick: bool) -> list[Figure]:
    """In a new process each time. Files are compiled beforehand, as they are after the first start."""
    with tempfile.TemporaryDirectory(prefix="kling-benchmark-") as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def load(*options: str) -> dict[str, Any]:
            command = [sys.executable, str(SCRIPT), *options]
            return dict(json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout))

        load()
        runs = [load() for _ in range(3 if quick else 21)]
        # The watching takes time itself.
        touched = load("--watch")["touched"]
    ours, others = (statistics.median(run[name] for run in runs) for name in ("seconds", "others"))
    loaded = f"pydantic, requests, asyncio and sqlite3 before it: {milliseconds(others)}"
    figures = [Figure("CPU time of loading the pack", ours * 1000, 40, "ms", loaded)]
    if memory := [run["memory"] for run in runs if run["memory"] is not None]:
        figures.append(Figure("memory of the loaded pack", statistics.median(memory) / 1e6, 6, "MB"))
    touching = "files, connections and processes touched while loading"
    return [*figures, Figure(touching, len(touched), 0, detail=", ".join(touched))]
