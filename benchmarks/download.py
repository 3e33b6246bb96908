"""A video of 2 GB must not be held in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import gateway
from .figures import Figure
from .gateway import ROOT

SIZE = 2_000_000_000
HELD = 50.0


def measure(repetitions: int) -> list[Figure]:
    """In a new process, because the most memory of a process is all that the system remembers."""
    if not Path("/proc/self/status").exists():
        print("download: the most memory of a process is known on Linux alone; left out")
        return []
    results = []
    for _ in range(repetitions):
        with gateway.running(big_file=SIZE), tempfile.TemporaryDirectory(prefix="kling-benchmark-") as temp:
            command = [sys.executable, "-m", "benchmarks.download_once"]
            environment = {**os.environ, "TMPDIR": temp}
            output = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True).stdout
            results.append(json.loads(output))
    most = max(result["held"] for result in results) / 1e6
    seconds = [result["seconds"] for result in results]
    return [
        Figure(
            f"memory held by a download of {SIZE / 1e9:g} GB",
            f"{most:.1f} MB",
            f"the file: {SIZE / 1e6:.0f} MB",
            most / (SIZE / 1e6),
            f"< {HELD:g} MB",
            most < HELD,
            {"held": [result["held"] for result in results], "seconds": seconds},
        )
    ]
