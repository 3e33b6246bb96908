"""One deadline for a whole call, from connecting to the last byte, however slowly a server sends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from environment import Environment
from wire import ACCEPTED, BODY, certified, client, http, needs_openssl, wire

from nodes.api.gateway.outcome import Outcome

LIMIT = 0.5
HANGS = 10
"""Seconds. A call that takes longer does not keep to LIMIT, whatever the machine is doing."""


@pytest.fixture
def given_up() -> Iterator[threading.Event]:
    """Set when the test has ended, so that no server goes on for longer."""
    event = threading.Event()
    yield event
    event.set()


class Drips:
    """Sends ``head``, then ``drop`` again and again: often enough that no single read waits as long as LIMIT."""

    def __init__(self, given_up: threading.Event, drop: bytes, head: bytes = b"", *, most: int = 400) -> None:
        self._given_up, self._drop, self._head, self._most = given_up, drop, head, most

    def __call__(self, talk: socket.socket) -> None:
        talk.sendall(self._head)
        for _ in range(self._most):
            if self._given_up.wait(LIMIT / 10):
                return
            talk.sendall(self._drop)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "status line": (b"H", b""),
    "header": (b"a", b"HTTP/1.1 200 OK\r\nX: "),
    "headers": (b"X: 1\r\n", b"HTTP/1.1 200 OK\r\n"),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    "short body": (b" ", http(b"", length=250)),
    "long body": (b" ", http(b"", length=100_000)),
    "body to the end": (b" ", b"HTTP/1.0 200 OK\r\n\r\n" + ACCEPTED),
    "chunk size": (b"0", CHUNKED),
    "chunk extension": (b"a", CHUNKED + b"5;"),
    "chunk": (b" ", CHUNKED + b"ff\r\n"),
    "chunks": (b"1\r\n \r\n", CHUNKED),
    "trailer": (b"a", CHUNKED + b"%x\r\n%s\r\n0\r\nX: " % (len(ACCEPTED), ACCEPTED)),
    "trailers": (b"X: 1\r\n", CHUNKED + b"%x\r\n%s\r\n0\r\n" % (len(ACCEPTED), ACCEPTED)),
}


@pytest.mark.parametrize(("drop", "head"), DRIPS.values(), ids=DRIPS)
def test_an_answer_that_drips_is_given_up_when_the_time_is_over(
    drop: bytes, head: bytes, given_up: threading.Event
) -> None:
    with wire(Drips(given_up, drop, head)) as (url, _):
        began = time.monotonic()
        attempt = client(url, create_timeout=LIMIT).create(BODY)
        assert time.monotonic() - began < HANGS
        given_up.set()
    assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "no answer in time")


def test_so_is_one_over_a_connection_that_was_used_before(given_up: threading.Event) -> None:
    drips, talks = Drips(given_up, b"a", b"HTTP/1.1 200 OK\r\nX: "), []

    def answer(talk: socket.socket) -> None:
        talks.append(talk)
        talk.sendall(http(ACCEPTED)) if len(talks) == 1 else drips(talk)

    with wire(answer) as (url, _):
        ours = client(url, create_timeout=LIMIT)
        assert ours.create(BODY).outcome is Outcome.ACCEPTED
        began = time.monotonic()
        attempt = ours.create(BODY)
        assert time.monotonic() - began < HANGS
        given_up.set()
    assert talks[0] is talks[1]
    assert attempt.outcome is Outcome.LOST


@needs_openssl
def test_so_is_one_over_tls(given_up: threading.Event, tmp_path: Path, environment: Environment) -> None:
    context, certificate = certified(tmp_path)
    environment.set("REQUESTS_CA_BUNDLE", str(certificate))
    with wire(Drips(given_up, b"a", b"HTTP/1.1 200 OK\r\nX: "), context=context) as (url, received):
        began = time.monotonic()
        attempt = client(url, create_timeout=2).create(BODY)
        assert time.monotonic() - began < HANGS
        given_up.set()
    assert len(received) == 1
    assert (attempt.outcome, attempt.reason) == (Outcome.LOST, "no answer in time")


@needs_openssl
def test_after_an_answer_over_tls_in_pieces_the_connection_is_used_again(
    tmp_path: Path, environment: Environment
) -> None:
    context, certificate = certified(tmp_path)
    environment.set("REQUESTS_CA_BUNDLE", str(certificate))
    talks = set()

    def answer(talk: socket.socket) -> None:
        talks.add(talk)
        for i in range(0, len(whole := http(ACCEPTED)), 7):
            talk.sendall(whole[i : i + 7])

    with wire(answer, context=context) as (url, _):
        ours = client(url)
        assert [ours.create(BODY).outcome for _ in range(3)] == [Outcome.ACCEPTED] * 3
    assert len(talks) == 1


def test_a_tls_handshake_that_drips_means_that_nothing_was_sent(given_up: threading.Event) -> None:
    # The server's first record announces 16 KB.
    with wire(Drips(given_up, b"\0", b"\x16\x03\x03\x40\x00"), listens=False) as (url, _):
        began = time.monotonic()
        attempt = client(url.replace("http:", "https:"), create_timeout=LIMIT).create(BODY)
        assert time.monotonic() - began < HANGS
        given_up.set()
    assert attempt.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 "])
def test_a_proxy_that_drips_means_that_nothing_was_sent(
    head: bytes, given_up: threading.Event, environment: Environment
) -> None:
    with wire(Drips(given_up, b"2", head)) as (url, received):
        environment.set("HTTPS_PROXY", url)
        began = time.monotonic()
        attempt = client("https://gateway.example/kling", create_timeout=LIMIT).create(BODY)
        assert time.monotonic() - began < HANGS
        given_up.set()
    assert [request.split()[0] for request in received] == [b"CONNECT"]
    assert attempt.outcome is Outcome.NOT_SENT


def test_no_address_of_a_host_is_tried_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have any number of addresses that do not answer, and each takes its time."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            # The queue is full, so a third one gets no answer on Linux. Elsewhere it is refused or accepted.
            second.setblocking(False)
            second.connect_ex(address)
            one = (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **options: [one] * 100)
            began = time.monotonic()
            attempt = client(f"http://gateway.example:{address[1]}", create_timeout=LIMIT).create(BODY)
            assert time.monotonic() - began < HANGS
    assert attempt.outcome is not Outcome.ACCEPTED
