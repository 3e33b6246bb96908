"""What is heeded of the environment: what it held when the pack was loaded, and passwords of ``.netrc`` never."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from conftest import KEY, ROOT
from environment import Environment
from graph import Graph
from watching import Watcher, close_all, open_gateway
from wire import ACCEPTED, BODY, certified, client, free_port, http, needs_openssl, sends, sends_and_closes, wire

from nodes.api.errors import KlingError, TaskNotFound, UnavailableError
from nodes.api.gateway.answer import Task
from nodes.api.gateway.outcome import Outcome
from nodes.api.gateway.proxies import proxies_for
from nodes.api.settings import is_loopback
from nodes.api.video.download import download
from nodes.api.video.transfer import max_bytes
from nodes.sandbox import Sandbox

CLIP = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom\x00\x00\x00\x10mdat\x01\x02\x03\x04\x05\x06\x07\x08"


@pytest.fixture(autouse=True)
def own_environment(environment: Environment) -> Iterator[None]:
    """No certificates of the developer's; and every ledger that a test has opened is closed after it."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "no_proxy", "NO_PROXY"):
        environment.unset(name)
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
    name: str, tmp_path: Path, environment: Environment
) -> None:
    context, certificate = certified(tmp_path)
    environment.set(name, str(certificate))
    # Heeding one thing of the environment must not bring the proxy back.
    environment.set("https_proxy", f"http://127.0.0.1:{free_port()}")
    with wire(sends_and_closes(http(ACCEPTED, "Connection: close")), context=context) as (url, received):
        ours = client(url)
        attempt = ours.create(BODY)
        assert (attempt.outcome, attempt.reason) == (Outcome.ACCEPTED, "")
        assert ours.query("boat-1").task_id
        assert len(received) == 2


@needs_openssl
def test_and_for_a_video(tmp_path: Path, environment: Environment) -> None:
    context, certificate = certified(tmp_path)
    environment.set("https_proxy", f"http://127.0.0.1:{free_port()}")
    with wire(sends(http(CLIP)), context=context) as (url, received):
        link = url.replace("/kling", "/clip.mp4")
        with pytest.raises(UnavailableError, match="the secure connection failed"):
            fetched(url, link, tmp_path / "without")
        environment.set("REQUESTS_CA_BUNDLE", str(certificate))
        assert fetched(url, link, tmp_path / "with").read_bytes() == CLIP
        assert len(received) == 1


@needs_openssl
def test_certificates_that_are_not_there_are_no_secret_to_tell(tmp_path: Path, environment: Environment) -> None:
    context, _ = certified(tmp_path)
    missing = str(tmp_path / "not-there.pem")
    environment.set("REQUESTS_CA_BUNDLE", missing)
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
def test_a_password_from_netrc_goes_to_nobody(host: str, tmp_path: Path, environment: Environment) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login mallory password secret\n", encoding="utf-8")
    netrc.chmod(0o600)
    environment.set("NETRC", str(netrc))
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


# A node that writes os.environ from a workflow


def test_it_chooses_no_gateway_key_or_ledger(
    graph: Graph, gateway: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox() as stranger:
        monkeypatch.setenv("KLING_BASE_URL", stranger.base_url)
        monkeypatch.setenv("KLING_API_KEY", "sk-of-the-stranger-0123456789")
        monkeypatch.setenv("KLING_STATE_DIR", str(tmp_path / "elsewhere"))
        graph.submit()
        assert stranger.received == []
    assert [request.headers["authorization"] for request in gateway.received] == [f"Bearer {KEY}"]
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_it_raises_no_limit(
    graph: Graph, gateway: Sandbox, environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment.set("HOME", str(tmp_path))
    environment.set("USERPROFILE", str(tmp_path))
    environment.set("KLING_STATE_DIR", "~/mine")
    environment.set("KLING_MAX_TASKS_PER_HOUR", "1")
    environment.set("KLING_MAX_VIDEO_MB", "3")
    graph.submit()
    monkeypatch.setenv("KLING_MAX_TASKS_PER_HOUR", "0")
    monkeypatch.setenv("KLING_MAX_VIDEO_MB", "9")
    for home in ("HOME", "USERPROFILE"):  # a new ledger would count from 0
        monkeypatch.setenv(home, str(tmp_path / "elsewhere"))
    with pytest.raises(Exception, match="The limit of 1 new task in 60 minutes is reached"):
        graph.submit(take=2)
    assert len(gateway.creates()) == 1
    assert max_bytes() == 3 << 20


def test_it_adds_no_model(graph: Graph, gateway: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KLING_EXTRA_MODELS", "kling-v99")
    assert "kling-v99" not in graph.classes["KlingText2Video"].INPUT_TYPES()["required"]["model_name"][0]
    with pytest.raises(Exception, match="is 'kling-v99'; allowed: kling-v1, "):
        graph.submit(model_name="kling-v99")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_it_puts_no_proxy_in_between(name: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    # The sandbox by a name that is not known to be this computer: there, a proxy would be used.
    ours = client(sandbox.base_url.replace("127.0.0.1", "127.1"))
    with Sandbox() as proxy:
        monkeypatch.setenv(name, proxy.origin)
        with pytest.raises(TaskNotFound):
            ours.query("1")
        assert proxy.received == []
    assert len(sandbox.received) == 1


def test_it_changes_neither_the_proxy_nor_who_is_asked_without_one(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox() as proxy, Sandbox() as other:
        environment.set("HTTP_PROXY", proxy.origin)
        monkeypatch.setenv("http_proxy", other.origin)
        monkeypatch.setenv("no_proxy", "*")
        with pytest.raises(KlingError):
            client("http://gateway.example/kling").query("1")
        assert (len(proxy.received), len(other.received)) == (1, 0)


@needs_openssl
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_it_makes_no_certificate_trusted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = certified(tmp_path)
    monkeypatch.setenv(name, str(certificate))
    with wire(sends(http(ACCEPTED)), context=context) as (url, received):
        attempt = client(url).create(BODY)
        with pytest.raises(UnavailableError, match="the secure connection failed"):
            fetched(url, url.replace("/kling", "/clip.mp4"), tmp_path)
    assert (attempt.outcome, received) == (Outcome.NOT_SENT, [])


# What the pack is loaded with


def test_a_variable_that_cannot_be_used_does_not_keep_the_pack_from_loading() -> None:
    bad = {"BASE_URL": "ftp://x", "API_KEY": "a b", "STATE_DIR": "~nobody-here/x", "EXTRA_MODELS": "a/b"}
    numbers = dict.fromkeys(("MAX_TASKS_PER_HOUR", "MAX_UNITS_PER_DAY", "MAX_VIDEO_MB"), "lots")
    ours = {f"KLING_{name}": value for name, value in {**bad, **numbers}.items()}
    load = "import nodes; nodes.NODE_CLASS_MAPPINGS['KlingText2Video'].INPUT_TYPES()"
    subprocess.run([sys.executable, "-c", load], cwd=ROOT, env={**os.environ, **ours}, check=True)


PROXY = {"http": "http://proxy.example:1", "https": "http://proxy.example:2"}


@pytest.mark.parametrize(
    ("variables", "url", "used"),
    [
        ({"http_proxy": PROXY["http"]}, "http://gateway.example/", "http://proxy.example:1"),
        ({"http_proxy": PROXY["http"]}, "https://gateway.example/", None),
        ({"HTTPS_PROXY": PROXY["https"]}, "https://gateway.example/", "http://proxy.example:2"),
        ({"ALL_PROXY": PROXY["http"]}, "https://gateway.example/", "http://proxy.example:1"),
        ({"http_proxy": PROXY["http"]}, "http://localhost:8188/", None),
        ({"http_proxy": PROXY["http"]}, "http://[::1]/", None),
        ({"http_proxy": PROXY["http"], "no_proxy": "*"}, "http://gateway.example/", None),
        ({"http_proxy": PROXY["http"], "NO_PROXY": "a.example, .Example"}, "http://gateway.example/", None),
        ({"http_proxy": PROXY["http"], "no_proxy": "gateway.example"}, "http://gateway.example/", None),
        ({"http_proxy": PROXY["http"], "no_proxy": "gateway.example"}, "http://cdn.gateway.example/", None),
        ({"http_proxy": PROXY["http"], "no_proxy": "way.example,,"}, "http://gateway.example/", PROXY["http"]),
        ({"http_proxy": PROXY["http"], "no_proxy": "gateway.example:81"}, "http://gateway.example:81/", None),
        ({"http_proxy": PROXY["http"], "no_proxy": "gateway.example:81"}, "http://gateway.example/", PROXY["http"]),
        ({"http_proxy": PROXY["http"], "no_proxy": "10.0.0.0/8"}, "http://10.1.2.3/", None),
        ({"http_proxy": PROXY["http"], "no_proxy": "10.0.0.0/8"}, "http://11.1.2.3/", PROXY["http"]),
        ({"http_proxy": PROXY["http"], "no_proxy": "10.1.2.3"}, "http://10.1.2.3/", None),
        ({"http_proxy": ""}, "http://gateway.example/", None),
    ],
)
def test_a_proxy_is_used_for_whom_requests_would_use_it(
    variables: dict[str, str], url: str, used: str | None, environment: Environment
) -> None:
    for name, value in variables.items():
        environment.set(name, value)
    assert requests.utils.select_proxy(url, proxies_for(url)) == used
    if not is_loopback(urlsplit(url).hostname or ""):
        assert requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) == used


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no lower-case names")
def test_a_lower_case_name_wins_even_with_nothing_in_it(environment: Environment) -> None:
    environment.set("HTTP_PROXY", PROXY["http"])
    environment.set("http_proxy", PROXY["https"])
    assert proxies_for("http://gateway.example/")["http"] == PROXY["https"]
    environment.set("http_proxy", "")
    assert "http" not in proxies_for("http://gateway.example/")
