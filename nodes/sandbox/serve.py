"""The sandbox as a separate program: ``python -m nodes sandbox``."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping
from typing import Final

from .gateway import Sandbox
from .relay import Relay

FAMILIES: Final[Mapping[str, type[Sandbox]]] = {"kling": Sandbox, "new-api": Relay}


def serve(port: int, *, host: str, latency: float, family: str = "kling") -> None:
    """Run a sandbox until Ctrl-C, and print one line for every request.

    Args:
        latency: seconds before a POST is answered.
        family: one of FAMILIES: what the gateway behaves like.

    Raises:
        OSError: the port is taken.
    """

    def say(text: str) -> None:
        # A request's path may contain any character. A console may not be able to show it, or may obey it.
        # In one piece: the sandbox's thread writes lines as well.
        sys.stdout.write(re.sub(r"[^\n -~]", lambda found: ascii(found[0])[1:-1], text) + "\n")
        sys.stdout.flush()

    sandbox = FAMILIES[family](host=host, port=port, latency=latency, queued_for=2.0, runs_for=6.0, log=say)
    try:
        with sandbox:
            say(HOW_TO.format(url=sandbox.base_url))
            while True:
                time.sleep(0.2)  # short, because Windows notices Ctrl-C only in between
    except KeyboardInterrupt:
        pass
    say(f"Stopped. Tasks made at no cost: {len(sandbox.tasks)}")


HOW_TO = """\
Sandbox gateway: {url}
Nothing here costs anything. To use it, set these in the shell that starts ComfyUI or the runner:
  sh          export KLING_BASE_URL={url} KLING_API_KEY=any-text
  PowerShell  $env:KLING_BASE_URL = "{url}"; $env:KLING_API_KEY = "any-text"
  cmd         set KLING_BASE_URL={url}
              set KLING_API_KEY=any-text
Press Ctrl-C to stop."""
