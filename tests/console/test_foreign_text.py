"""Text from strangers on a terminal: it forges no line, turns none around, and hides nothing."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from command_line import cli, node, submit
from conftest import KEY, ROOT
from videos import says, scripted

from nodes.api.errors import GraphError
from nodes.api.printable import printable
from nodes.sandbox import Sandbox

ATTACK = "77\x1b[2J\x1b]0;title\x07\r\n999999\x9b1A\u2028\u2029\u202e\u2066\u200f\u061c\u200b\ufeff\u2060\u00ad\u200d"
"""Clears a screen, names a window, forges a line, moves the cursor, turns text around, and hides."""


def is_safe(text: str) -> bool:
    """Whether a terminal shows it as it is: only line breaks are left of what it obeys or hides."""
    return not {unicodedata.category(c) for c in text if c not in "\r\n"} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def saved(directory: Path, **nodes: object) -> Path:
    file = directory / "workflow.json"
    file.write_text(json.dumps({name.removeprefix("n"): entry for name, entry in nodes.items()}), "utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb\n", "a\\u001b[2Jb\\u000a"),
        ("\x00\x7f\x80\x9f\r\t", "\\u0000\\u007f\\u0080\\u009f\\u000d\\u0009"),
        ("\u202a\u202e\u2066\u2069\u200e\u200f\u061c", "\\u202a\\u202e\\u2066\\u2069\\u200e\\u200f\\u061c"),
        ("\u2028\u2029\u200b\u200c\u2060\ufeff", "\\u2028\\u2029\\u200b\\u200c\\u2060\\ufeff"),
        ("\ud800 \U000e0041", "\\ud800 \\udb40\\udc41"),
        *((text, text) for text in ("", "plain", "一只猫　在海上", "naïve é", "🎬 ❤️ 👍🏽", "👩🏽‍🚀 👨‍👩‍👧 🏳️‍🌈 ❤️‍🔥")),
        # A joiner in anything but an emoji is invisible, and makes two ids look alike.
        ("7\u200d7 \u200d👩 👩\u200d", "7\\u200d7 \\u200d👩 👩\\u200d"),
    ],
)
def test_what_is_invisible_is_written_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_breaks_of_our_own_stay() -> None:
    assert printable("- one\n- two\r\x1b", keep="\n") == "- one\n- two\\u000d\\u001b"


def test_an_error_shows_its_ids_on_its_own_line() -> None:
    error = GraphError("- one\n- two", task_id=ATTACK, request_id=ATTACK, code=ATTACK, external_task_id=ATTACK)
    assert is_safe(str(error))
    assert str(error).count("\n") == 1


def test_the_words_of_a_gateway(tmp_path: Path) -> None:
    refusal = {"code": 1201, "message": f"no {ATTACK}", "request_id": ATTACK}
    with scripted(says(json.dumps(refusal).encode(), status="400 Bad Request")) as gateway:
        file = saved(tmp_path, n1=node("KlingVideo", task_id="815", timeout_minutes=1))
        where = {"KLING_BASE_URL": f"{gateway.url}/kling", "KLING_API_KEY": KEY}
        done = cli("run", file, "--output", tmp_path, **where)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert "no 77" in done.stderr
    assert is_safe(done.stderr)
    assert not [line for line in done.stderr.splitlines() if line.startswith("999999")]


def test_ids_that_an_older_version_has_recorded(tmp_path: Path, gateway: Sandbox) -> None:
    file = saved(tmp_path, n1=submit())
    assert cli("run", file).returncode == 0
    with closing(sqlite3.connect(tmp_path / "state" / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE submissions SET task_id = ?, request_id = ?", (ATTACK, ATTACK))
    done = cli("run", file)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert done.stdout.startswith("77\\u001b[2J")
    for arguments in (("tasks",), ("tasks", "--json"), ("tasks", "--sum"), ("tasks", "recover"), ("run", file)):
        done = cli(*arguments)
        assert is_safe(done.stdout + done.stderr)
    assert json.loads(cli("tasks", "--json").stdout)[0]["task_id"] == ATTACK


def test_names_in_a_workflow(tmp_path: Path, gateway: Sandbox) -> None:
    titled = submit() | {"_meta": {"title": f"海浪 🎬 {ATTACK}"}}
    unknown = node(f"Save{ATTACK}", video=["1", 0])
    done = cli("run", saved(tmp_path, n1=titled, n2=unknown, **{f"n3{ATTACK}": submit(take=2, **{ATTACK: 1})}))
    assert done.returncode == 0, done.stderr
    assert is_safe(done.stdout + done.stderr)
    assert 'KlingText2Video "海浪 🎬 77\\u001b' in done.stderr
    assert sorted(done.stdout.split()) == sorted(gateway.tasks)


@pytest.mark.skipif(sys.platform == "win32", reason="no such file names on Windows")
def test_file_names_that_a_pattern_of_the_shell_has_found(tmp_path: Path, gateway: Sandbox) -> None:
    odd = tmp_path / "a\x1b[2J\n\u202e\u200b.json"
    odd.write_bytes(saved(tmp_path, n1=submit()).read_bytes())
    for arguments in (("run", odd, odd), ("run", f"{odd}x"), ("tasks", odd), ("run", odd, "--output", f"{odd}/x")):
        done = cli(*arguments)
        assert done.returncode == 2
        assert is_safe(done.stdout + done.stderr), arguments
        assert "001b[2J" in done.stderr or "\\x1b[2J" in done.stderr


def test_the_log_of_the_sandbox() -> None:
    program = "from nodes.sandbox.serve import serve; serve(0, host='127.0.0.1', latency=0)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, stdout=-1
    )
    assert process.stdout
    try:
        _, _, port = process.stdout.readline().split()[-1].decode().removesuffix("/kling").rpartition(":")
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as asking:
            asking.sendall(b"GET /kling/\x1b[2J/\xc2\x9b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while asking.recv(4096):
                pass
        line = b""
        while b"GET" not in line:
            line = process.stdout.readline()
            assert line
        assert is_safe(line.decode())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
