"""What is heeded of the environment that requests reads: certificates always, proxies abroad, passwords never."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import KEY
from watching import Watcher, close_all, open_gateway
from wire import ACCEPTED, BODY, certified, client, free_port, http, needs_openssl, sends, sends_and_closes, wire

from nodes.api.errors import UnavailableError
from nodes.api.gateway.answer import Task
from nodes.api.gateway.outcome import Outcome
from nodes.api.video.download import download

CLIP = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom\x00\x00\x00\x10mdat\x01\x02\x03\x04\x05\x06\x07\x08"


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No certificates of the developer's; and every ledger that a test has opened is closed after it."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
    close_all()


def fetched(base_url: str, link: str, temp: Path) -> Path:
    jobs = open_gateway(base_url, temp)
    path, _ = asyncio.run(download(jobs, Task("1", url=link), temp / "temp", Watcher(temp)))
    return path


# Certificates


@needs_openssl
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_from_the_environment_is_trusted_on_this_computer_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = certified(tmp_path)
    monkeypatch.setenv(name, str(certificate))
    # Heeding one thing of the environment must not bring the proxy back.
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    with wire(sends_and_closes(http(ACCEPTED, "Connection: close")), context=context) as (url, received):
        ours = client(url)
        attempt = ours.create(BODY)
        assert (attempt.outcome, attempt.reason) == (Outcome.ACCEPTED, "")
        assert ours.query("boat-1").task_id
        assert len(received) == 2


@needs_openssl
def test_and_for_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = certified(tmp_path)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{free_port()}")
    with wire(sends(http(CLIP)), context=context) as (url, received):
        link = url.replace("/kling", "/clip.mp4")
        with pytest.raises(UnavailableError, match="the secure connection failed"):
            fetched(url, link, tmp_path / "without")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert fetched(url, link, tmp_path / "with").read_bytes() == CLIP
        assert len(received) == 1


@needs_openssl
def test_certificates_that_are_not_there_are_no_secret_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = certified(tmp_path)
    missing = str(tmp_path / "not-there.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", missing)
    with wire(sends(http(CLIP)), context=context) as (url, received):
        attempt = client(url).create(BODY)
        assert attempt.outcome is Outcome.NOT_SENT
        assert missing not in attempt.reason
        with pytest.raises(UnavailableError, match="the secure connection failed") as caught:
            fetched(url, url.replace("/kling", "/clip.mp4"), tmp_path)
        assert missing not in str(caught.value)
        assert received == []


# Passwords


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1"])  # the last is not known to be this computer
def test_a_password_from_netrc_goes_to_nobody(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login mallory password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth(f"http://{host}/") == ("mallory", "secret")

    def answer(talk: socket.socket) -> None:
        moves = b"GET /moved" in received[-1]
        bodies = {True: http(b"", "Location: /clip.mp4", status="302 Found"), False: http(CLIP)}
        talk.sendall(http(ACCEPTED) if received[-1].startswith(b"POST") else bodies[moves])

    with wire(answer) as (url, received):
        url = url.replace("127.0.0.1", host)
        assert client(url).create(BODY).outcome is Outcome.ACCEPTED
        assert fetched(url, url.replace("/kling", "/moved"), tmp_path).read_bytes() == CLIP
        sent = [request.lower() for request in received]
    assert f"authorization: bearer {KEY}\r\n".encode() in sent[0]
    assert [request.split()[1] for request in sent[1:]] == [b"/moved", b"/clip.mp4"]
    assert not any(b"authorization" in request for request in sent[1:])
