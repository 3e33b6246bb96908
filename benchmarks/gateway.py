"""The sandbox in a process of its own, so that the client's processor time and threads are the client's alone."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-benchmark-0123456789"


class Gateway:
    """A running sandbox.

    Args:
        latency: seconds before a POST is answered.
        runs_for: seconds until a task has its video.
        big_file: bytes of the first task's video; 0 for the small clip.
    """

    def __init__(self, *, latency: float = 0.0, runs_for: float = 0.0, big_file: int = 0) -> None:
        options = (f"--latency={latency}", f"--runs-for={runs_for}", f"--big-file={big_file}")
        command = [sys.executable, "-m", "benchmarks.gateway", *options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.base_url = self._process.stdout.readline().strip()
        self.url = f"{self.base_url}/v1/videos/text2video"

    def close(self) -> None:
        """End the process; it ends with its standard input."""
        self._process.communicate()


@contextmanager
def running(*, latency: float = 0.0, runs_for: float = 0.0, big_file: int = 0) -> Iterator[Gateway]:
    """A gateway, with this process pointed at it and an empty state directory."""
    with tempfile.TemporaryDirectory(prefix="kling-benchmark-", ignore_cleanup_errors=True) as state:
        gateway = Gateway(latency=latency, runs_for=runs_for, big_file=big_file)
        before = dict(os.environ)
        os.environ |= {"KLING_BASE_URL": gateway.base_url, "KLING_API_KEY": KEY, "KLING_STATE_DIR": state}
        try:
            yield gateway
        finally:
            os.environ.clear()
            os.environ.update(before)
            gateway.close()


def main() -> None:
    """Serve until standard input ends; the base URL is the only line of output."""
    from nodes.sandbox import Sandbox

    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float)
    parser.add_argument("--runs-for", type=float)
    parser.add_argument("--big-file", type=int)
    options = parser.parse_args()
    with Sandbox(latency=options.latency, queued_for=0, runs_for=options.runs_for) as sandbox:
        if options.big_file:
            sandbox.big_file(options.big_file)
        print(sandbox.base_url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
