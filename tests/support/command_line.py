"""``python -m nodes`` as a user starts it, and nodes of a workflow file in the API format."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from conftest import ROOT
from graph import PLAIN


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "nodes", *map(str, arguments)]


def cli(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end. No traceback may ever come out of it."""
    done = subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def submit(**changes: Any) -> dict[str, Any]:
    return node("KlingText2Video", **(PLAIN | changes))
