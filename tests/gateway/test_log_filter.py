"""What urllib3 logs of the pack's calls: no host and no link, while the calls of others are logged as ever."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from conftest import ROOT
from videos import CLIP
from watching import Watcher, open_gateway
from wire import ACCEPTED, BODY, client, free_port, http, sends_and_closes, wire

from nodes.api.errors import KlingError
from nodes.api.gateway.answer import Task
from nodes.api.gateway.outcome import Outcome
from nodes.api.video.download import download
from nodes.sandbox import Sandbox

ODD = ["Bad header without a colon", "HTTP/1.1 200 OK"]  # the latter as by servers that repeat their status line

pytest_plugins = ["watching"]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that reaches the root logger, as if ComfyUI had been started with --verbose DEBUG."""
    caplog.set_level(logging.DEBUG)
    return caplog


def said(log: pytest.LogCaptureFixture) -> str:
    return "\n".join(f"{record.getMessage()} {record.exc_text or ''}" for record in log.records)


def assert_others_are_logged(log: pytest.LogCaptureFixture) -> None:
    before = said(log)
    with wire(sends_and_closes(http(b"", ODD[0]))) as (url, _):
        requests.get(url, timeout=20)
        new = said(log).removeprefix(before)
        assert "Starting new HTTP connection" in new
        assert f"Failed to parse headers (url={url})" in new


@pytest.mark.parametrize("header", ODD)
def test_a_header_that_cannot_be_read_does_not_put_the_gateway_into_the_log(
    header: str, log: pytest.LogCaptureFixture
) -> None:
    with wire(sends_and_closes(http(ACCEPTED, "Connection: close", header))) as (url, received):
        ours = client(url)
        assert ours.create(BODY).outcome is Outcome.ACCEPTED
        assert ours.query("boat-1").task_id
        assert len(received) == 2
    assert "127.0.0.1" not in said(log)
    assert "kling" not in said(log)
    assert_others_are_logged(log)


@pytest.mark.parametrize("header", ODD)
def test_nor_the_signed_link_of_a_video(header: str, log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    def answer(talk: socket.socket) -> None:
        moves = b"/moved.mp4" in received[-1]
        talk.sendall(
            http(b"", "Location: /clip.mp4?Signature=SECRET", header, status="302 Found")
            if moves
            else http(CLIP, header)
        )

    with wire(answer) as (url, received):
        task = Task("1", url=url.replace("/kling", "/moved.mp4?Signature=SECRET"))
        path, _ = asyncio.run(download(open_gateway(url, tmp_path), task, tmp_path / "temp", Watcher(tmp_path)))
        assert path.read_bytes() == CLIP
        assert len(received) == 2
    assert not any(word in said(log) for word in ("127.0.0.1", ".mp4", "SECRET"))
    assert_others_are_logged(log)


def test_calls_that_fail_leave_no_host_and_others_are_logged_after_them(log: pytest.LogCaptureFixture) -> None:
    ours = client(f"http://127.0.0.1:{free_port()}/kling")
    assert ours.create(BODY).outcome is Outcome.NOT_SENT
    with pytest.raises(KlingError):
        ours.query("1")
    assert "127.0.0.1" not in said(log)
    assert_others_are_logged(log)


def test_others_are_logged_while_a_call_of_the_pack_is_under_way(
    sandbox: Sandbox, log: pytest.LogCaptureFixture
) -> None:
    def answer(talk: socket.socket) -> None:
        requests.get(f"{sandbox.origin}/of-another-pack", timeout=20)
        talk.sendall(http(ACCEPTED, ODD[0]))

    with wire(answer) as (url, _):
        assert client(url).create(BODY).outcome is Outcome.ACCEPTED
        assert "/of-another-pack" in said(log)
        assert urlsplit(url).netloc not in said(log)


def test_nothing_is_changed_by_loading_the_pack() -> None:
    code = "import logging, nodes.api.gateway.client, nodes.api.video.untrusted\n"
    code += "print([logging.getLogger(f'urllib3.{name}').filters for name in ('connection', 'connectionpool')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[], []]"
