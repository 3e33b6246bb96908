"""The sandbox as a program of its own: ``python -m nodes sandbox``."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from .gateway import Sandbox


def serve(
    port: int,
    *,
    host: str = "127.0.0.1",
    out: TextIO | None = None,
    latency: float = 0.0,
    queued_for: float = 2.0,
    runs_for: float = 6.0,
    key: str | None = None,
    until: threading.Event | None = None,
) -> None:
    """Runs a sandbox until Ctrl-C (or until `until` is set), and prints one line for every request.

    Raises OSError when the port is taken.
    """
    stream = sys.stdout if out is None else out
    stopped = threading.Event() if until is None else until

    def say(text: str) -> None:
        # A console may have a narrow code page, and a path from outside may hold anything.
        stream.write(text.encode("ascii", "backslashreplace").decode("ascii") + "\n")
        stream.flush()

    sandbox = Sandbox(host=host, port=port, key=key, latency=latency, queued_for=queued_for, runs_for=runs_for, log=say)
    try:
        with sandbox:
            say(HOW_TO.format(url=sandbox.base_url, key="any-text" if key is None else "THE-KEY-YOU-CHOSE"))
            while not stopped.wait(0.2):  # without a time-out, Windows would not hear Ctrl-C
                pass
    except KeyboardInterrupt:
        pass
    say(f"Stopped. Tasks made, at no cost: {len(sandbox.tasks)}")


HOW_TO = """\
Sandbox gateway: {url}
Nothing here costs anything. Point the pack at it, in the shell that starts ComfyUI or the runner:
  sh          export KLING_BASE_URL={url} KLING_API_KEY={key}
  PowerShell  $env:KLING_BASE_URL = "{url}"; $env:KLING_API_KEY = "{key}"
  cmd         set KLING_BASE_URL={url}
              set KLING_API_KEY={key}
Ctrl-C ends it."""
