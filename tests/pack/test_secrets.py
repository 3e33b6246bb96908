"""The key and the host: whatever fails, neither may stand in anything that is shown, logged or kept.

The failing runs are in a process of their own (noisy_run.py). All that it prints is searched, and every file that
it leaves behind.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import KEY, PYTHONPATH, TESTS
from environment import Environment
from graph import Graph
from noisy_run import FINE, GONE

from nodes.sandbox import Sandbox

FAULTS = [
    FINE,
    GONE,
    "echo-key:gateway",
    "echo-key:kling",
    "echo-key:html",
    "code:1002",
    "code:1303:retry-after=9999",
    "code:5001:retry-after=9999",
    "drop-after",
    "reset-before",
    "truncated-after",
    "garbage-after",
    "status-after:502",
    "json-status-after:500",
    "gateway:exhausted",
    "gateway:fail_to_fetch_task:1201",
    "redirect:https://evil.example/x",
]


@dataclass
class Ran:
    """All that a process has shown and kept."""

    out: str
    err: str
    files: bytes

    def words(self) -> str:
        """What is said by the pack and by what it calls, up to DEBUG. Not the insides of its objects."""
        return self.out.partition("--- insides")[0] + self.err


def run(key: str, state: Path, *faults: str) -> Ran:
    environment = {
        **os.environ,
        "KLING_API_KEY": key,
        "KLING_STATE_DIR": str(state),
        "PYTHONPATH": PYTHONPATH,
        "PYTHONIOENCODING": "utf-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, str(TESTS / "support" / "noisy_run.py"), *faults],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.stdout.endswith("--- end\n"), done.stderr
    files = b"".join(path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file())
    return Ran(done.stdout, done.stderr, files)


def spellings(key: str) -> set[str]:
    """The key, and how it would look on its way through JSON, a URL, a page, a repr, a pattern or base64."""
    coded = base64.b64encode(key.encode()).decode().rstrip("=")
    return {
        key,
        json.dumps(key)[1:-1],
        quote(key, safe=""),
        key.replace("&", "&amp;"),
        repr(key)[1:-1],
        re.escape(key),
        coded,
    }


def assert_secret(ran: Ran, key: str) -> None:
    for spelling in spellings(key):
        assert spelling not in ran.out + ran.err
        assert spelling.encode() not in ran.files
    assert key[:8] not in ran.out + ran.err
    assert not re.search(r"127\.0\.0\.1|localhost|evil\.example", ran.words())


def test_no_failing_run_shows_or_keeps_the_key_or_shows_the_host(tmp_path: Path):
    ran = run(KEY, tmp_path / "state", *FAULTS)
    assert ran.out.count("--- ") == len(FAULTS) + 2
    assert '"task_id"' in ran.out.partition("--- 1")[0]
    assert all(f"{error}(" in ran.out for error in ("SetupError", "GraphError", "BusyError", "OutcomeUnknown"))
    assert b"boat-0" in ran.files
    assert_secret(ran, KEY)


@pytest.mark.parametrize("key", ["0123456789abcdefABCDEF", "a+b/c==\"&'<x>\\n~"])
def test_a_key_of_any_form_is_cut_out_of_what_a_gateway_repeats(tmp_path: Path, key: str):
    ran = run(key, tmp_path / "state", *(fault for fault in FAULTS if fault.startswith("echo-key")))
    assert ran.out.count("Invalid token: ***") > 2
    assert_secret(ran, key)


def test_the_search_would_find_them():
    for shown in (
        KEY,
        "at http://127.0.0.1:80/kling",
        KEY[:12],
        re.escape(KEY),
        base64.b64encode(KEY.encode()).decode(),
    ):
        with pytest.raises(AssertionError):
            assert_secret(Ran(shown, "", b""), KEY)
        with pytest.raises(AssertionError):
            assert_secret(Ran("", shown, b""), KEY)
    with pytest.raises(AssertionError):
        assert_secret(Ran("", "", KEY.encode()), KEY)


def failure(graph: Graph) -> str:
    with pytest.raises(Exception) as caught:
        graph.submit()
    return f"{caught.value} {caught.value!r}"


def test_a_bad_base_url_is_not_repeated(graph: Graph, gateway: Sandbox, environment: Environment):
    environment.set("KLING_BASE_URL", f"https://user:{KEY}@gw.example/kling")
    shown = failure(graph)
    assert "KLING_BASE_URL may contain only a host and a path" in shown
    assert KEY not in shown and "gw.example" not in shown


def test_a_bad_key_is_not_repeated(graph: Graph, gateway: Sandbox, environment: Environment):
    environment.set("KLING_API_KEY", f"{KEY} x")
    shown = failure(graph)
    assert "KLING_API_KEY has a space" in shown
    assert KEY not in shown
    assert gateway.received == []


def test_a_state_directory_that_cannot_be_used_is_not_named(
    graph: Graph, gateway: Sandbox, tmp_path: Path, environment: Environment
):
    (tmp_path / "a-file").write_text("", encoding="utf-8")
    environment.set("KLING_STATE_DIR", str(tmp_path / "a-file" / "state"))
    shown = failure(graph)
    assert "so nothing may be sent" in shown
    assert str(tmp_path) not in shown
    assert gateway.received == []
