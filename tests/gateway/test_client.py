"""One HTTP call over a real socket: where the key goes, and what is known when something breaks."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import KEY
from environment import Environment
from wire import ACCEPTED, BODY, client, http, sends, wire

from nodes.api.errors import KlingError, TaskNotFound
from nodes.api.gateway.client import Client
from nodes.api.gateway.outcome import Outcome
from nodes.api.version import VERSION
from nodes.sandbox import Sandbox


@pytest.fixture
def ours(sandbox: Sandbox) -> Client:
    """A client of the sandbox."""
    return client(sandbox.base_url)


# What is sent


def test_a_create_is_one_post_with_the_key_in_its_header_and_the_body_as_it_is(sandbox: Sandbox, ours: Client):
    attempt = ours.create(BODY)
    assert attempt.outcome is Outcome.ACCEPTED
    (request,) = sandbox.received
    assert (request.method, request.path) == ("POST", "/kling/v1/videos/text2video")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"] == f"ComfyUI-Kling/{VERSION}"
    assert request.headers["content-length"] == str(len(request.body))
    assert request.json == BODY
    assert "Ein Boot im Fluß 🚣".encode() in request.body


def test_the_task_of_an_accepted_create_is_given(sandbox: Sandbox, ours: Client):
    task = ours.create(BODY).task
    assert task is not None
    assert [task.task_id] == list(sandbox.tasks)
    assert (task.status, task.external_task_id) == ("submitted", "boat-1")


def test_a_query_is_one_get_without_a_body(sandbox: Sandbox, ours: Client):
    task_id = next(iter(_made(sandbox, ours)))
    assert ours.query(task_id).task_id == task_id
    request = sandbox.received[-1]
    assert (request.method, request.path, request.body) == ("GET", f"/kling/v1/videos/text2video/{task_id}", b"")
    assert "content-type" not in request.headers
    assert request.headers["authorization"] == f"Bearer {KEY}"


def _made(sandbox: Sandbox, ours: Client) -> dict[str, Any]:
    assert ours.create(BODY).outcome is Outcome.ACCEPTED
    return dict(sandbox.tasks)


def test_a_task_is_found_by_either_id(sandbox: Sandbox, ours: Client):
    (task_id,) = _made(sandbox, ours)
    assert ours.query("boat-1").task_id == ours.query(task_id).task_id == task_id


@pytest.mark.parametrize(
    ("task_id", "segment"),
    [
        ("Cj/1+A==", "Cj%2F1%2BA%3D%3D"),
        ("a?b#c%20d", "a%3Fb%23c%2520d"),
        ("../../../etc", "..%2F..%2F..%2Fetc"),
        ("雨 1", "%E9%9B%A8%201"),
        ("a\r\nHost: b", "a%0D%0AHost%3A%20b"),
        ("a\ud800", "a%3F"),
    ],
    ids=ascii,
)
def test_an_id_stays_one_segment_of_the_path(sandbox: Sandbox, ours: Client, task_id: str, segment: str):
    with pytest.raises(TaskNotFound):
        ours.query(task_id)
    assert sandbox.received[-1].path == f"/kling/v1/videos/text2video/{segment}"


# Where the key goes


def test_a_netrc_file_does_not_replace_the_key(sandbox: Sandbox, tmp_path: Path, environment: Environment):
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login mallory password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    environment.set("HOME", str(tmp_path))
    environment.set("NETRC", str(netrc))
    # 127.1 is this computer, but not by a name that the client takes for it: so it heeds the environment.
    base_url = sandbox.base_url.replace("127.0.0.1", "127.1")
    assert requests.utils.get_netrc_auth(base_url) == ("mallory", "secret")
    for url in (base_url, sandbox.base_url):
        client(url).create({**BODY, "external_task_id": url[-9:-6]})
        assert sandbox.received[-1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_by_a_create(status: int):
    with Sandbox() as other:
        moved = http(b"", f"Location: {other.base_url}/v1/videos/text2video", status=f"{status} Moved")
        with wire(sends(moved)) as (url, received):
            attempt = client(url).create(BODY)
        assert attempt.outcome is Outcome.REFUSED
        assert type(attempt.error).__name__ == "SetupError"
        assert "redirects to another address" in str(attempt.error)
        assert len(received) == 1
        assert other.received == []


def test_a_redirect_to_a_result_is_not_followed_and_leaves_the_outcome_open():
    with Sandbox() as other:
        result = http(b"", f"Location: {other.base_url}/v1/videos/text2video/1", status="303 See Other")
        with wire(sends(result)) as (url, received):
            assert client(url).create(BODY).outcome is Outcome.LOST
        assert len(received) == 1
        assert other.received == []


def test_a_redirect_is_not_followed_by_a_query(sandbox: Sandbox, ours: Client):
    with Sandbox() as other:
        sandbox.misbehave("query", f"redirect:{other.base_url}")
        with pytest.raises(KlingError, match="redirects to another address") as caught:
            ours.query("1")
        assert type(caught.value).__name__ == "SetupError"
        assert other.received == []
        assert other.base_url not in str(caught.value)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_is_not_asked_for_a_gateway_on_this_computer(
    sandbox: Sandbox, ours: Client, name: str, environment: Environment
):
    with Sandbox() as proxy:
        environment.set(name, proxy.origin)
        assert ours.create(BODY).outcome is Outcome.ACCEPTED
        assert proxy.received == []
        # Elsewhere it is: the same address by a name that is not known to be this computer.
        with pytest.raises(KlingError):
            client(sandbox.base_url.replace("127.0.0.1", "127.1")).query("1")
        assert len(proxy.received) == 1


def test_a_cookie_is_not_kept():
    with wire(sends(http(ACCEPTED, "Set-Cookie: session=1; Path=/"))) as (url, received):
        ours = client(url)
        ours.create(BODY)
        ours.create(BODY)
    assert len(received) == 2
    assert b"cookie" not in received[1].lower()


# Kept connections


def test_connections_are_kept_for_the_next_call():
    talks = set()

    def answer(talk: socket.socket) -> None:
        talks.add(talk.getpeername())
        talk.sendall(http(ACCEPTED))

    with wire(answer) as (url, received):
        ours = client(url)
        assert [ours.create(BODY).outcome for _ in range(3)] == [Outcome.ACCEPTED] * 3
    assert (len(received), len(talks)) == (3, 1)


def test_a_request_does_not_go_over_a_connection_that_was_idle_while_others_were_in_use():
    """Something on the way may have dropped it without a word, and the POST would be lost."""
    answered: list[tuple[str, tuple[str, int]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answered.append((self.command, self.client_address))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.wfile.write(http(ACCEPTED))

        do_POST = do_GET

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        ours = client(f"http://127.0.0.1:{server.server_port}", idle_max=0.1)
        ours.create(BODY)
        for _ in range(6):
            time.sleep(0.05)
            ours.query("866889456698785798")
        ours.create(BODY)
        server.shutdown()
    assert [method for method, _ in answered] == ["POST", *["GET"] * 6, "POST"]
    assert answered[-1][1] not in [address for _, address in answered[:-1]]


# The key in an answer

ODD_KEY = "sk-0123/4567+89ab=cdef"


@pytest.mark.parametrize(
    "spelled", [ODD_KEY, ODD_KEY.replace("/", "\\/"), ODD_KEY.replace("+", "\\u002B"), ODD_KEY.upper()]
)
def test_the_key_is_cut_out_of_every_field_however_json_spells_it(spelled: str):
    words = f'"code": "bad {spelled}", "message": "no {spelled}", "request_id": "{spelled}"'
    with wire(sends(http(f"{{{words}}}".encode(), status="401 Unauthorized"))) as (url, _):
        attempt = client(url, ODD_KEY).create(BODY)
    assert attempt.error
    assert str(attempt.error).count("***") == 3
    assert "4567" not in repr(vars(attempt.error)) + str(attempt.error)


@pytest.mark.parametrize("key", ["data", "task", "SUCCEED", "8668"])
def test_a_key_that_is_a_common_word_changes_no_id(key: str):
    with wire(sends(http(ACCEPTED))) as (url, _):
        attempt = client(url, key).create(BODY)
    assert attempt.task and attempt.task.task_id == "866889456698785798"
