"""One HTTP call over a real socket: where the key goes, and what is known when something breaks."""

from __future__ import annotations

import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from wire import ACCEPTED, BODY, KEY, client, free_port, http, sends, wire

from nodes.api.attempt import Outcome
from nodes.api.client import VERSION, Client
from nodes.api.errors import KlingError, TaskNotFound
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


def test_a_netrc_file_does_not_replace_the_key(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login mallory password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
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
    sandbox: Sandbox, ours: Client, name: str, monkeypatch: pytest.MonkeyPatch
):
    with Sandbox() as proxy:
        monkeypatch.setenv(name, proxy.origin)
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


def test_a_kept_connection_that_the_gateway_has_dropped_is_not_used_again(sandbox: Sandbox, ours: Client):
    assert ours.create(BODY).outcome is Outcome.ACCEPTED
    sandbox.stop()
    sandbox.start()
    assert ours.create({**BODY, "external_task_id": "boat-2"}).outcome is Outcome.ACCEPTED


def test_a_gateway_that_was_restarted_is_found_again(sandbox: Sandbox, ours: Client):
    assert ours.create(BODY).outcome is Outcome.ACCEPTED
    sandbox.stop()
    assert ours.create(BODY).outcome is Outcome.NOT_SENT
    sandbox.start()
    assert ours.create({**BODY, "external_task_id": "boat-2"}).outcome is Outcome.ACCEPTED


def test_many_threads_share_one_client(sandbox: Sandbox, ours: Client, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    bodies = [{**BODY, "external_task_id": f"boat-{number}"} for number in range(96)]
    with ThreadPoolExecutor(32) as pool:
        tasks = [attempt.task for attempt in pool.map(ours.create, bodies)]
    assert [task.external_task_id for task in tasks if task] == [body["external_task_id"] for body in bodies]
    assert len({task.task_id for task in tasks if task}) == 96
    assert caplog.records == []


# Queries that bring nothing


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("drop", "UnavailableError"),
        ("reset", "UnavailableError"),
        ("truncated", "UnavailableError"),
        ("empty", "UnavailableError"),
        ("garbage", "UnavailableError"),
        ("object", "UnavailableError"),  # Q6
        ("null", "UnavailableError"),
        ("no-task-id", "UnavailableError"),
        ("shape:wrapper_null", "UnavailableError"),  # Q6
        ("status:502", "UnavailableError"),
        ("status:404", "UnavailableError"),
        ("status:429", "UnavailableError"),
        ("status:401", "SetupError"),
        ("unavailable", "UnavailableError"),
        ("code:5000", "UnavailableError"),
        ("code:5001", "UnavailableError"),
        ("code:1302", "BusyError"),
        ("code:1002", "SetupError"),
        ("code:1203", "TaskNotFound"),
        ("gateway:invalid_token", "SetupError"),
        ("gateway:invalid_url", "SetupError"),
        ("gateway:task_not_exist", "TaskNotFound"),
        ("gateway:task_not_exist_404", "TaskNotFound"),
        ("gateway:user_rate_limit", "UnavailableError"),
        ("gateway:upstream_saturated", "UnavailableError"),
        ("not-found", "TaskNotFound"),
    ],
)
def test_a_query_that_fails_says_whether_asking_again_may_help(sandbox: Sandbox, ours: Client, fault: str, name: str):
    (task_id,) = _made(sandbox, ours)
    sandbox.misbehave("query", fault)
    with pytest.raises(KlingError) as caught:
        ours.query(task_id)
    assert type(caught.value).__name__ == name
    assert ours.query(task_id).task_id == task_id


def test_a_query_without_a_gateway_may_be_asked_again():
    with pytest.raises(KlingError, match="could not be asked: the connection was refused") as caught:
        client(f"http://127.0.0.1:{free_port()}/kling").query("1")
    assert type(caught.value).__name__ == "UnavailableError"


@pytest.mark.parametrize(("knows", "proven"), [(True, True), (False, False)])
def test_only_a_gateway_that_knows_external_ids_can_prove_that_there_is_no_task(knows: bool, proven: bool):
    with Sandbox(knows_external_ids=knows) as sandbox, pytest.raises(TaskNotFound) as caught:
        client(sandbox.base_url).query("boat-9")
    assert caught.value.proven is proven
